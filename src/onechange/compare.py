"""What may be concluded from runs: intervals over seeds and messages, paired differences, tests.

A row is run with several seeds, and every run answers the same test messages. Both were drawn: other
seeds would give other models, other messages another score. The model behind every interval here says
so: the score of seed ``s`` on message ``m`` is

    x[s, m] = mean + seed[s] + message[m] + rest[s, m]

with all three drawn at random (a crossed random-effects model; Searle, Casella and McCulloch, 1992,
*Variance Components*, chapter 4). Two rows are compared on the same seeds and the same messages, so what
makes a message hard for both does not count against either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .cache import root
from .errors import UsageError
from .experiment import Experiment
from .runs import Runs, runs_of

LEVEL = 0.95
POWER = 0.8
SIZES = (0.005, 0.01, 0.02)
"""Differences, as fractions, for which it is said how many seeds they would take."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, as fractions.

    ``sd`` is the standard deviation of the seeds' own means; ``per_seed`` and ``per_message`` are the
    parts of the mean's variance that shrink with more seeds, and only with more messages.
    """

    mean: float
    low: float
    high: float
    sd: float
    seeds: int
    messages: int
    per_seed: float
    per_message: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(x: np.ndarray) -> Estimate:
    """The mean of ``x`` ``(S, N)``, seeds by messages, over seeds and messages that might have been drawn.

    Variance components by the method of moments; Student's t with Satterthwaite's (1946) degrees of freedom.
    """
    from scipy.stats import t

    S, N = x.shape
    mean, of_seeds, of_messages = float(x.mean()), x.mean(1), x.mean(0)
    rest = x - of_seeds[:, None] - of_messages + mean
    ms_message = S * float(np.var(of_messages, ddof=1))
    ms_seed = N * float(np.var(of_seeds, ddof=1)) if S > 1 else 0.0
    ms_rest = float((rest**2).sum()) / ((S - 1) * (N - 1)) if S > 1 else 0.0
    # The mean squares estimate sums of components: seed, N var_seed + var_rest; message, S var_message + var_rest.
    per_seed, per_message = max(0.0, ms_seed - ms_rest) / (S * N), max(0.0, ms_message - ms_rest) / (S * N)
    variance = per_seed + per_message + ms_rest / (S * N)
    doubt = ms_message**2 / (N - 1)
    doubt += ms_seed**2 / (S - 1) + ms_rest**2 / ((S - 1) * (N - 1)) if S > 1 else 0.0
    df = max(1.0, (variance * S * N) ** 2 / doubt) if doubt else 1.0
    half = float(t.ppf((1 + LEVEL) / 2, df)) * math.sqrt(variance)
    sd = float(np.std(of_seeds, ddof=1)) if S > 1 else math.nan
    return Estimate(mean, mean - half, mean + half, sd, S, N, S * per_seed + ms_rest / N, per_message)


def accuracy(runs: Runs, clean: bool = False) -> Estimate:
    """A row's test accuracy, its interval never empty and never past 0 or 1.

    The interval is that of the scores with two right and two wrong answers added (Agresti and Coull, 1998),
    so that no error in N messages does not read as certainty. ``clean`` leaves out the test messages that
    stand in the training set, word for word or after masking.
    """
    right = runs.scores(clean)
    S = len(right)
    if S == 0 or right.shape[1] < 2:
        return Estimate(math.nan, math.nan, math.nan, math.nan, S, right.shape[1], math.nan, math.nan)
    added = np.concatenate([right, np.tile([0.0, 0.0, 1.0, 1.0], (S, 1))], axis=1)
    wide = estimate(added)
    return replace(estimate(right), low=max(0.0, wide.low), high=min(1.0, wide.high))


@dataclass(frozen=True)
class Comparison:
    """The difference between two rows, ``change`` minus ``base``, on the same seeds and messages.

    Attributes:
        base, change: what was compared.
        difference: the mean difference in test accuracy, with its interval.
        p: of a permutation test over messages: how often swapping the two rows' answers, message by
            message, gives a difference as large. With one seed, McNemar's exact test.
        adjusted: ``p`` after Holm's (1979) correction for all comparisons made together.
    """

    base: str
    change: str
    difference: Estimate
    p: float
    adjusted: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``no difference could be shown``: it is shown where the interval leaves
        out zero *and* the adjusted p is below 0.05."""
        shown = self.adjusted < 1 - LEVEL and self.difference.low * self.difference.high > 0
        return ("better" if self.difference.mean > 0 else "worse") if shown else "no difference could be shown"

    def seeds_for(self, size: float) -> int | None:
        """Seeds it would take to show a difference of ``size`` (a fraction), four times in five.

        ``None`` where no number of seeds would: the test messages are too few for so small a difference.
        """
        from scipy.stats import norm

        wanted = (size / float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))) ** 2  # the variance that allows it
        room = wanted - self.difference.per_message
        return None if room <= 0 else max(2, math.ceil(self.difference.per_seed / room))

    def outlook(self, sizes: Sequence[float] = SIZES) -> str:
        """In words, the seeds that differences of some sizes (fractions) would take."""
        words = []
        for size in sizes:
            n = self.seeds_for(size)
            points = f"{100 * size:g} point{'s' * (size != 0.01)}"
            words.append(f"{points}: {n} seeds" if n else f"{points}: more test messages")
        return f"to show a difference of {', '.join(words)}"

    def __str__(self) -> str:
        d = self.difference
        points = f"{100 * d.mean:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        return (
            f"{self.change} against {self.base}: {points}, p = {self.adjusted:.2g}, "
            f"{d.seeds} seeds, {d.messages} messages: {self.verdict}"
        )


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
    if a.messages != b.messages:
        raise UsageError(f"{a.row} and {b.row} were not tested on the same messages")
    return a.of(seeds), b.of(seeds)


def difference(base: Runs, change: Runs, clean: bool = False) -> Comparison:
    """Compare two rows on the seeds that both were run with, message by message.

    A row that has no seed (a baseline without a network) is set beside every seed of the other.

    Raises:
        UsageError: if they have no seed in common or read other test messages.
    """
    one, other = paired(base, change)
    d = other.scores(clean) - one.scores(clean)  # (S, N)
    p = swap_test(d)
    return Comparison(base.label, change.label, estimate(d), p, p)


def compare(
    base: Experiment | Runs, change: Experiment | Runs, seeds: int = 5, *, clean: bool = False, device: str = "auto"
) -> Comparison:
    """Compare two experiments: run both with ``seeds`` seeds (from the baseline's upwards) where that has not
    been done, and take the paired difference. Finished runs are kept in the cache.

    Runs of either can be given instead, such as those of :func:`~onechange.runs.stored`.

    Raises:
        UsageError: as for :func:`~onechange.train.run` and :func:`difference`.
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


def swap_test(d: np.ndarray, draws: int = 9999) -> float:
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
    adjusted, running = [0.0] * len(comparisons), 0.0
    for rank, i in enumerate(sorted(range(len(comparisons)), key=lambda i: comparisons[i].p)):
        running = max(running, min(1.0, (len(comparisons) - rank) * comparisons[i].p))
        adjusted[i] = running
    return [replace(c, adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]


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
