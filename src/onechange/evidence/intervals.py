"""How well a row's accuracy is known: means over seeds and messages, with intervals.

A row is run with several seeds, and every run answers the same test messages. Both were drawn: other
seeds would give other models, other messages another score. The model behind every interval here says
so: the score of seed ``s`` on message ``m`` is

    x[s, m] = mean + seed[s] + message[m] + rest[s, m]

with all three drawn at random (a crossed random-effects model; Searle, Casella and McCulloch, 1992,
*Variance Components*, chapter 4).

Where the seed decides the split as well (``--resplit``, or a file of one's own) no message is answered by
all models, so the unit is the split: see :func:`estimate_splits`. Where it rotates the split (``--folds``) some
runs answer one message and others another: see :func:`estimate_folds`.

Where some runs of a row do not start (``Runs.started``) its seeds are of two kinds, and no normal distribution
describes them: Student's interval of 20 such seeds holds the mean too seldom, that of five far too seldom
(:mod:`~onechange.evidence.coverage` simulates it, and its table is stored). Their interval has a part for how
often runs start: see :class:`Stalls`. An interval of a row of which every run started speaks of runs that start;
how many of further ones may not is :attr:`~onechange.evidence.runs.Runs.may_stall`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from ..data.messages import fold, sizes
from ..support.signs import interval
from .runs import LEVEL, Runs, binomial_interval


@dataclass(frozen=True)
class Stalls:
    """How often runs do not start, and what that takes from a mean: ``loss`` times the share of such runs.

    Attributes:
        failed, seeds: so many of so many did not start.
        loss: by how much the mean of those that did lies above that of the others, a fraction; negative where
            it is what a difference's base loses.
    """

    failed: int
    seeds: int
    loss: float

    def at(self, level: float) -> tuple[float, float]:
        """How far below and how far above what was seen the mean might lie if only this share were uncertain.

        The ends of the share are Clopper and Pearson's (1934), which hold it whatever it is and however few seeds.
        """
        low, high = binomial_interval(self.failed, self.seeds, level)
        down, up = self.loss * (high - self.failed / self.seeds), self.loss * (self.failed / self.seeds - low)
        return (down, up) if self.loss > 0 else (-up, -down)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, as fractions.

    Attributes:
        se, df: the mean's standard error and its degrees of freedom.
        sd: the standard deviation of the seeds' own means.
        per_seed, per_message: the parts of the mean's variance that shrink with more seeds, and only with
            more messages.
        stalls: of each row of which some runs did not start and others did, how often. ``se`` and ``df`` are then
            those of the mean if the shares were known.
    """

    mean: float
    low: float
    high: float
    se: float
    df: float
    sd: float
    seeds: int
    messages: int
    per_seed: float
    per_message: float
    stalls: tuple[Stalls, ...] = ()

    def at(self, level: float) -> Estimate:
        """The same mean with an interval of another level: Student's.

        Where runs did not start, what the shares of such runs leave open is added to it on either side, as
        independent parts are: the root of the sum of squares (MOVER; Zou and Donner, 2008).
        """
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se if self.se else 0.0
        down, up = zip((half, half), *(stalls.at(level) for stalls in self.stalls), strict=True)
        return replace(self, low=self.mean - math.hypot(*down), high=self.mean + math.hypot(*up))

    @property
    def printed(self) -> str:
        """A difference in points with its interval, for a page."""
        return interval(100 * self.mean, 100 * self.low, 100 * self.high)

    @property
    def p(self) -> float:
        """Two-sided p of a mean of zero: below 0.05 where the 95 % interval leaves out zero."""
        return min(1.0, 2 * self._beyond(0.0))

    def below(self, x: float) -> float:
        """How much of the mean's distribution lies below ``x``, a fraction: that whose quantiles are intervals' ends.

        Of Student's t it is the posterior under the usual flat prior, and with the variance of
        :func:`estimate_splits` that of the Bayesian correlated t-test (Benavoli et al., 2017, JMLR 18).
        """
        return self._beyond(x) if x < self.mean else 1 - self._beyond(x)

    def _beyond(self, x: float) -> float:
        """How much of it lies on the side of ``x`` that is away from the mean."""
        from scipy.optimize import brentq

        if not self.stalls:
            return float(stdtr(self.df, -abs(self.mean - x) / self.se)) if self.se else float(self.mean == x)

        def past(tail: float) -> float:
            """By how much the end of the interval with such tails lies between ``x`` and the mean."""
            e = self.at(1 - 2 * tail)
            return e.low - x if x < self.mean else x - e.high

        if past(SMALLEST) > 0:
            return SMALLEST
        return 0.5 if past(0.5) <= 0 else float(brentq(past, SMALLEST, 0.5, xtol=1e-15))

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


SMALLEST = 1e-12  # of a tail that is looked for


def estimate(x: np.ndarray, kinds: int = 1) -> Estimate:
    """The mean of ``x`` ``(S, N)``, seeds by messages, over seeds and messages that might have been drawn.

    Variance components by the method of moments; Student's t with Satterthwaite's (1946) degrees of freedom.

    Args:
        kinds: of seeds, whose differences were taken out of ``x``: each takes one degree of freedom.
    """
    S, N = x.shape
    free = max(1, S - kinds)
    mean, of_seeds, of_messages = float(x.mean()), x.mean(1), x.mean(0)
    rest = x - of_seeds[:, None] - of_messages + mean
    ms_message = S * float(np.var(of_messages, ddof=1))
    ms_seed = N * float(((of_seeds - mean) ** 2).sum()) / free if S > 1 else 0.0
    ms_rest = float((rest**2).sum()) / (free * (N - 1)) if S > 1 else 0.0
    # The mean squares estimate sums of components: seed, N var_seed + var_rest; message, S var_message + var_rest.
    per_seed, per_message = max(0.0, ms_seed - ms_rest) / (S * N), max(0.0, ms_message - ms_rest) / (S * N)
    variance = per_seed + per_message + ms_rest / (S * N)
    doubt = ms_message**2 / (N - 1)
    doubt += ms_seed**2 / free + ms_rest**2 / (free * (N - 1)) if S > 1 else 0.0
    df = max(1.0, (variance * S * N) ** 2 / doubt) if doubt else 1.0
    sd = float(np.std(of_seeds, ddof=1)) if S > 1 else math.nan
    parts = (S * per_seed + ms_rest / N, per_message)
    return Estimate(mean, mean, mean, math.sqrt(variance), df, sd, S, N, *parts).at(LEVEL)


def estimate_splits(x: np.ndarray, kept: np.ndarray, ratio: float, kinds: int = 1) -> Estimate:
    """The mean of ``x`` ``(S, N)`` where every seed has a test set of its own, of which ``kept`` ``(S, N)`` counts.

    Student's t over the splits' means. Splits of one collection share messages, so the variance is that of
    Nadeau and Bengio (2003), ``var * (1 / S + ratio)``: only a larger collection would shrink the second part.

    Args:
        ratio: test messages to training messages.
        kinds: as for :func:`estimate`.
    """
    S, free = len(x), max(1, len(x) - kinds)
    means = means_of(x, kept)  # (S,)
    mean = float(means.mean())
    var = float(((means - mean) ** 2).sum()) / free
    parts = (math.sqrt(var), S, round(float(kept.sum(1).mean())), var, var * ratio)
    return Estimate(mean, mean, mean, math.sqrt(var * (1 / S + ratio)), free, *parts).at(LEVEL)


def estimate_folds(x: np.ndarray, kept: np.ndarray, tested: np.ndarray, kinds: int = 1) -> Estimate:
    """The mean of ``x`` ``(S, N)`` where run ``s`` answers the messages ``tested[s]``, of which ``kept`` counts.

    A run and a message are both drawn, and not every run meets every message: the variance is that of two ways of
    clustering at once (Cameron, Gelbach and Miller, 2011), runs and messages, less what both count; Student's t with
    the degrees of freedom of the runs. Training sets of such runs overlap, so this speaks of these messages and of
    further runs and messages beside them; for other training sets take :func:`estimate_splits`, which is wider.

    Args:
        tested: ``(S, N)`` whole numbers that name the messages.
        kinds: as for :func:`estimate`.
    """
    S, free, n = len(x), max(1, len(x) - kinds), int(kept.sum())
    mean = float(x[kept].mean())
    rest = np.where(kept, x - mean, 0.0)
    each = float((rest**2).sum()) / n**2
    of_runs = float((rest.sum(1) ** 2).sum()) / n**2 * S / free
    of_messages = float((np.bincount(tested.ravel(), rest.ravel()) ** 2).sum()) / n**2
    variance = max(of_runs + of_messages - each, of_runs, of_messages)  # a difference of sums may come out too small
    parts = (float(np.std(means_of(x, kept), ddof=1)), S, len(np.unique(tested[kept])), of_runs * S, of_messages - each)
    return Estimate(mean, mean, mean, math.sqrt(variance), free, *parts).at(LEVEL)


def tested_by(runs: Runs, n: int) -> np.ndarray:
    """Of runs with rotated splits which messages each of its columns ``(S, n)`` is; one beyond its test set is new."""
    own = np.array([fold(runs.made["n_messages"], seed)[2] for seed in runs.seeds])
    new = runs.made["n_messages"] + np.arange(n - own.shape[1])
    return np.concatenate([own, np.tile(new, (len(own), 1))], axis=1)


def means_of(x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of every seed the mean of ``x`` ``(S, N)`` where ``kept`` ``(S, N)``: ``(S,)``."""
    return np.array([one[those].mean() for one, those in zip(x, kept, strict=True)])


def over(
    x: np.ndarray, kept: np.ndarray, runs: Runs, losses: Sequence[np.ndarray] = (), splits: bool = False
) -> Estimate:
    """The mean of ``x`` ``(S, N)`` where ``kept`` ``(S, N)``, by whichever model the runs' test sets ask for.

    Args:
        losses: of :func:`loss_of`, one ``(S,)`` for each row of which some runs did not start. The scatter is then
            that of seeds about the mean of their kind, and the shares of the kinds have a part of their own.
        splits: of rotated splits, an interval that speaks of other training sets.
    """

    def found(x: np.ndarray, kinds: int) -> Estimate:
        """Over messages that all runs answer, over messages that some do, over splits."""
        if runs.experiment.one_test_set or len(x) == 1:
            return estimate(x[:, kept.all(0)], kinds)
        N = kept.shape[1]
        if runs.experiment.folds and not splits:
            return estimate_folds(x, kept, tested_by(runs, N), kinds)
        whole = sizes(runs.made["n_messages"])[0] if runs.experiment.folds else 3.5 * N  # 70 % of all, N 20
        return estimate_splits(x, kept, N / (runs.experiment.train_size or whole), kinds)

    e = found(x, 1)
    if not losses:
        return e
    alike = found(x + sum(losses)[:, None], 1 + len(losses))  # type: ignore[index]
    stalls = tuple(Stalls(int((loss != 0).sum()), len(loss), float(loss[loss != 0][0])) for loss in losses)
    return replace(e, se=alike.se, df=alike.df, stalls=stalls).at(LEVEL)


def loss_of(runs: Runs, kept: np.ndarray) -> list[np.ndarray]:
    """What each run lost by not starting, ``(S,)``: the same for all that did not, 0 for the others.

    An empty list where all runs started, or none did, and where the two kinds have the same mean.
    """
    if runs.fixed or runs.started.all() or not runs.started.any():
        return []
    means = means_of(runs.right.astype(float), kept)
    loss = float(means[runs.started].mean() - means[~runs.started].mean())
    return [np.where(runs.started, 0.0, loss)] if loss else []


def accuracy(runs: Runs, clean: bool = False) -> Estimate:
    """A row's test accuracy, its interval never empty and never past 0 or 1.

    The interval is that of the scores with two right and two wrong answers added (Agresti and Coull, 1998),
    so that no error in N messages does not read as certainty. ``clean`` leaves out the test messages that
    stand in the training set, word for word or after masking. A row with one seed, or with none, has an
    interval over messages alone.
    """
    right, kept = runs.right.astype(float), runs.kept(clean)
    S, left = len(right), int(kept.sum(1).min(initial=kept.shape[1]))
    if S == 0 or left < 2:
        return Estimate(*(math.nan,) * 6, S, left, math.nan, math.nan)
    losses = loss_of(runs, kept)
    added = np.concatenate([right, np.tile([0.0, 0.0, 1.0, 1.0], (S, 1))], axis=1)
    wide = over(added, np.concatenate([kept, np.ones((S, 4), bool)], axis=1), runs, losses)
    return replace(over(right, kept, runs, losses), low=max(0.0, wide.low), high=min(1.0, wide.high))


def accuracy_of_started(runs: Runs, clean: bool = False) -> Estimate:
    """The test accuracy of the runs that started, as :func:`accuracy` of all."""
    return accuracy(runs.of([seed for seed, began in zip(runs.seeds, runs.started, strict=True) if began]), clean)


def proportion(right: np.ndarray) -> Estimate:
    """The share of right answers of one model, ``(N,)`` booleans, with the interval of :func:`accuracy`."""
    x = np.asarray(right, float)[None]
    wide = estimate(np.append(x, [[0.0, 0.0, 1.0, 1.0]], axis=1))
    return replace(estimate(x), low=max(0.0, wide.low), high=min(1.0, wide.high))
