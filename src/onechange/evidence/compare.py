"""What may be concluded from two rows: paired differences, tests, corrections.

Two rows are compared on the same seeds and the same messages, so what makes a message hard for both does
not count against either. Intervals follow the model of :mod:`~onechange.evidence.intervals`, with its part for
runs that did not start. A verdict on rows of which every run started speaks of runs that start: a row of which
five did and one in ten does not is taken for one that always does, and nothing in five runs can say otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..experiment.experiment import Experiment
from ..support.cache import root
from ..support.errors import UsageError
from ..support.signs import signed
from .intervals import Estimate, estimate, loss_of, over
from .runs import LEVEL, Runs, runs_of

DIFFER = "these two runs differ"
POWER = 0.8
SIZES = (0.005, 0.01, 0.02)
"""Differences, as fractions, for which it is said how many seeds they would take."""
MOST_SEEDS = 10_000
DRAWS = 9999
FLOOR = 1 / (1 + DRAWS)
"""The least p that a permutation test of ``DRAWS`` draws can say: nothing drawn was as extreme as what was seen."""


@dataclass(frozen=True)
class Comparison:
    """The difference between two rows, ``change`` minus ``base``, on the same seeds and messages.

    Attributes:
        base, change: what was compared.
        difference: the mean difference in test accuracy, with its interval.
        p: the larger of two, so that a finding has to pass both: Student's t of the interval's model (would
            other seeds and messages show it?), and a permutation test over messages, McNemar's exact test
            for one seed (do these models differ?). See :func:`difference`.
        adjusted: ``p`` after Holm's (1979) correction for all comparisons made together.
        family: how many these were.
        single: whether two trained models are compared, one of each row: what holds for them need not for the rows.
        stuck: of each of the two of which some runs did not start, how many, in words.
        starting: the difference on the seeds with which both started, where some did not and two or more did.
        elsewhere: over rotated splits, the difference with the interval for other training sets of these sizes.
    """

    base: str
    change: str
    difference: Estimate
    p: float
    adjusted: float
    family: int = 1
    single: bool = False
    stuck: tuple[str, ...] = ()
    starting: Estimate | None = None
    elsewhere: Estimate | None = None

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: the interval leaves out zero *and* the adjusted p is below 0.05."""
        return self.adjusted < 1 - LEVEL and self.difference.low * self.difference.high > 0

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``no difference could be shown``.

        Two single runs are never better or worse as rows: ``DIFFER`` is all that can be shown of them. With
        seeds that scatter by 1.3 points two runs of one and the same row would be told apart in one case of six.
        """
        if not self.shown:
            return "no difference could be shown"
        return DIFFER if self.single else "better" if self.difference.mean > 0 else "worse"

    def power(self, size: float, seeds: int) -> float:
        """How often so many seeds would show a difference of ``size`` (a fraction), corrected as this one was.

        Of Student's t with the variances found here, which are themselves uncertain, the more so from few seeds.
        """
        from scipy.stats import nct, t

        d = self.difference
        of_seeds = d.per_seed / seeds
        variance = of_seeds + d.per_message
        if variance == 0:
            return 1.0
        df = variance**2 / (of_seeds**2 / (seeds - 1) + d.per_message**2 / (d.messages - 1))
        border = float(t.isf((1 - LEVEL) / self.family / 2, df))
        found = float(nct.sf(border, df, size / math.sqrt(variance)))
        return 1.0 if math.isnan(found) else found  # far beyond the border SciPy gives up

    def seeds_for(self, size: float) -> int | None:
        """Seeds it would take to show a difference of ``size`` (a fraction), four times in five.

        ``None`` where that cannot be had: from one seed nothing is known of how seeds differ, and where
        the test messages are too few no number of seeds helps.
        """
        if self.difference.seeds < 2 or self.power(size, MOST_SEEDS) < POWER:
            return None
        return 2 + bisect_left(range(2, MOST_SEEDS), POWER, key=lambda seeds: self.power(size, seeds))

    def outlook(self, sizes: Sequence[float] = SIZES) -> str:
        """In words, the seeds that differences of some sizes (fractions) would take."""
        if self.difference.seeds < 2:
            return "one seed does not say how many a difference would take"
        if self.difference.se == 0:
            return "the two answer every message alike"
        words = []
        for size in sizes:
            n = self.seeds_for(size)
            points = f"{100 * size:g} point{'s' * (size != 0.01)}"
            words.append(f"{points}: about {n} seeds" if n else f"{points}: more test messages")
        return f"to show a difference of {', '.join(words)}"

    def __str__(self) -> str:
        d = self.difference
        p = self.said_p + f" (Holm, {self.family} comparisons)" * (self.family > 1)
        seeds = "over messages, this seed" if self.single else f"{d.seeds} seed{'s' * (d.seeds != 1)}"
        found = f"{points(d)}, {p}, {seeds}, {d.messages} messages: {self.verdict}"
        stuck = list(self.stuck)
        if self.starting is not None:
            stuck.append(f"on the {self.starting.seeds} seeds with which both did: {points(self.starting)}")
        if self.elsewhere is not None:
            stuck.append(f"for other training sets {_interval(self.elsewhere)}")
        return f"{self.change} against {self.base}: {found}" + f" ({'; '.join(stuck)})" * bool(stuck)

    @property
    def said_p(self) -> str:
        """``p = 0.012``; at the least that a permutation test of so many draws can say, ``p at most 0.0021``."""
        return f"p {'at most' if self.at_floor else '='} {self.adjusted:.2g}"

    @property
    def at_floor(self) -> bool:
        """Whether ``p`` is the smallest that the permutation test can give, so that it is at most that."""
        return self.p == FLOOR


def points(e: Estimate) -> str:
    """A difference with its interval, in points, for a terminal."""
    return f"{signed(100 * e.mean)} points {_interval(e)}"


def _interval(e: Estimate) -> str:
    return f"[{signed(100 * e.low)}, {signed(100 * e.high)}]"


def paired(a: Runs, b: Runs) -> tuple[Runs, Runs]:
    """Two rows on the seeds that both were run with.

    A row that has no seed (a baseline without a network) is set beside every seed of the other.

    Raises:
        UsageError: if they have no seed in common or read other test messages.
    """
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if a.fixed or b.fixed:
        seeds = list(b.seeds if a.fixed else a.seeds)
    if not seeds:
        raise UsageError(f"{a.row} and {b.row} were not run with the same seeds")
    split_alike = all(
        getattr(a.experiment, name) == getattr(b.experiment, name) for name in ("resplit", "folds", "balance")
    )
    if a.messages != b.messages or not split_alike:
        raise UsageError(f"{a.row} and {b.row} were not tested on the same messages")
    return a.of(seeds), b.of(seeds)


def difference(base: Runs, change: Runs, clean: bool = False) -> Comparison:
    """Compare two rows on the seeds that both were run with, message by message.

    A row that has no seed (a baseline without a network) is set beside every seed of the other. ``clean`` leaves
    out messages that stand in the training set of either.

    With one seed the interval is that of the answers with one more message on which only ``base`` is right and
    one more on which only ``change`` is (Bonett and Price, 2012): no disagreement in N messages is not none at all.

    Raises:
        UsageError: if they have no seed in common or read other test messages.
    """
    one, other = paired(base, change)
    d = other.right.astype(float) - one.right  # (S, N)
    kept = one.kept(clean) & other.kept(clean)
    alike = not d.any()  # of two rows that answer every message alike, none starts where the other does not
    losses = [] if alike else [*loss_of(other, kept), *(-loss for loss in loss_of(one, kept))]
    if len(d) == 1:
        found, p = of_one(d[0, kept[0]])
    else:
        found = over(d, kept, one, losses)  # by splits, no message is answered by all models
        p = max(swap_test(d[:, kept.all(0)]), found.p) if one.experiment.one_test_set else found.p
    single = len(d) == 1 and not (base.fixed and change.fixed)
    words = tuple(f"{row.row}: {row.stuck}" for row in (one, other) if row.stuck)
    both = began(one) & began(other)
    started = one.of([seed for seed, start in zip(one.seeds, both, strict=True) if start])
    starting = over(d[both], kept[both], started) if losses and both.sum() > 1 else None
    elsewhere = over(d, kept, one, losses, splits=True) if one.experiment.folds and len(d) > 1 else None
    return Comparison(base.label, change.label, found, p, p, 1, single, words, starting, elsewhere)


def began(runs: Runs) -> np.ndarray:
    """Which runs started, ``(S,)``; what has no seed has nothing to start."""
    return np.ones(len(runs.seeds), bool) if runs.fixed else runs.started


def of_one(d: np.ndarray) -> tuple[Estimate, float]:
    """The mean of one seed's differences ``(N,)`` of -1, 0 or 1, with Bonett and Price's interval and McNemar's p."""
    wide = estimate(np.append(d, [1.0, -1.0])[None])
    return replace(estimate(d[None]), se=wide.se, df=wide.df).at(LEVEL), swap_test(d[None])


def compare(
    base: Experiment | Runs, change: Experiment | Runs, seeds: int = 5, *, clean: bool = False, device: str = "auto"
) -> Comparison:
    """Compare two experiments: run both with ``seeds`` seeds (from the baseline's upwards) where that has not
    been done, and take the paired difference. Finished runs are kept in the cache.

    Runs of either can be given instead, such as those of :func:`~onechange.evidence.runs.stored`.

    Raises:
        UsageError: as for :func:`~onechange.training.train.run` and :func:`difference`.
    """
    from .study import Store, jobs_of, run_study

    names = _names(base, change)
    both = {name: e for name, e in zip(names, (base, change), strict=True) if isinstance(e, Experiment)}
    done = {name: e for name, e in zip(names, (base, change), strict=True) if isinstance(e, Runs)}
    if both:
        first = next(iter(both.values())).seed
        asked = next(iter(done.values())).seeds[:seeds] if done else list(range(first, first + seeds))
        done |= runs_of(run_study(jobs_of(both, asked), Store(root() / "runs"), device=device))
    return difference(done[names[0]], done[names[1]], clean)


def _names(base: Experiment | Runs, change: Experiment | Runs) -> tuple[str, str]:
    """What to call the two: a row's name, or the fields in which one differs from the other."""
    if isinstance(base, Runs) or isinstance(change, Runs):
        named = [x.row if isinstance(x, Runs) else " ".join(x.flags) or "1" for x in (base, change)]
        return named[0], named[1]
    changed = base.diff(change)
    words = [", ".join(f"{name}={pair[side]}" for name, pair in changed.items()) for side in (1, 0)]
    return words[0] or "the same", words[1] or "the same"


def swap_test(d: np.ndarray, draws: int = DRAWS) -> float:
    """Two-sided p of the mean of ``d`` ``(S, N)`` if each message's answers were as likely the other way round.

    With one seed this is McNemar's (1947) exact test; with more, the seeds' mean difference on a message
    changes sign at random, ``draws`` times (Fisher, 1935).
    """
    from scipy.stats import binomtest

    of_messages = d.mean(0)
    of_messages = of_messages[of_messages != 0]
    if len(of_messages) == 0:
        return 1.0
    if len(d) == 1:
        return float(binomtest(int((of_messages > 0).sum()), len(of_messages)).pvalue)
    signs = _signs(draws, d.shape[1])[:, : len(of_messages)]
    extreme = np.abs(signs @ of_messages) >= abs(of_messages.sum()) - 1e-9
    return float((1 + extreme.sum()) / (1 + draws))


@lru_cache(4)
def _signs(draws: int, n: int) -> np.ndarray:
    """The random signs, ``(draws, n)``: the same ones for every pair of rows."""
    return np.random.default_rng(0).integers(0, 2, (draws, n), dtype=np.int8) * 2 - 1


def holm(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons with ``adjusted`` for their number (Holm, 1979): how likely is *any* false finding?"""
    comparisons = list(comparisons)
    adjusted = adjust([c.p for c in comparisons])
    return [replace(c, adjusted=p, family=len(adjusted)) for c, p in zip(comparisons, adjusted, strict=True)]


def adjust(p: Sequence[float]) -> list[float]:
    """Holm's correction of any p, in the order in which they are given."""
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def against_baseline(rows: dict[str, Runs], clean: bool = False, base: str = "1") -> dict[str, Comparison]:
    """Every row against the baseline, corrected together."""
    others = [row for row in rows if row != base]
    return dict(zip(others, holm(difference(rows[base], rows[row], clean) for row in others), strict=True))


def agreement(rows: Sequence[Runs]) -> np.ndarray:
    """How often two rows are right or wrong on the same message with the same seed: ``(R, R)``, fractions."""
    pairs = [(one.right == other.right).mean() for a in rows for b in rows for one, other in [paired(a, b)]]
    return np.array(pairs).reshape(len(rows), len(rows))


def difficulty(rows: Sequence[Runs]) -> np.ndarray:
    """How often each test message is got wrong, every row counting alike: ``(N,)``, fractions."""
    return 1 - np.mean([row.right.mean(0) for row in rows], axis=0)
