"""How well a row's accuracy is known: means over seeds and messages, with intervals.

A row is run with several seeds, and every run answers the same test messages. Both were drawn: other
seeds would give other models, other messages another score. The model behind every interval here says
so: the score of seed ``s`` on message ``m`` is

    x[s, m] = mean + seed[s] + message[m] + rest[s, m]

with all three drawn at random (a crossed random-effects model; Searle, Casella and McCulloch, 1992,
*Variance Components*, chapter 4).

Where the seed decides the split as well (``--resplit``, or a file of one's own) no message is answered by
all models, so the unit is the split: see :func:`estimate_splits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .runs import Runs

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, as fractions.

    Attributes:
        se, df: the mean's standard error and its degrees of freedom.
        sd: the standard deviation of the seeds' own means.
        per_seed, per_message: the parts of the mean's variance that shrink with more seeds, and only with
            more messages.
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

    def at(self, level: float) -> Estimate:
        """The same mean with Student's interval of another level."""
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, self.df)) * self.se if self.se else 0.0
        return replace(self, low=self.mean - half, high=self.mean + half)

    @property
    def p(self) -> float:
        """Two-sided p of a mean of zero: below 0.05 where the 95 % interval leaves out zero."""
        from scipy.stats import t

        if not self.se:
            return 1.0 if self.mean == 0 else 0.0
        return 2 * float(t.sf(abs(self.mean) / self.se, self.df))

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(x: np.ndarray) -> Estimate:
    """The mean of ``x`` ``(S, N)``, seeds by messages, over seeds and messages that might have been drawn.

    Variance components by the method of moments; Student's t with Satterthwaite's (1946) degrees of freedom.
    """
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
    sd = float(np.std(of_seeds, ddof=1)) if S > 1 else math.nan
    parts = (S * per_seed + ms_rest / N, per_message)
    return Estimate(mean, mean, mean, math.sqrt(variance), df, sd, S, N, *parts).at(LEVEL)


def estimate_splits(x: np.ndarray, kept: np.ndarray, ratio: float) -> Estimate:
    """The mean of ``x`` ``(S, N)`` where every seed has a test set of its own, of which ``kept`` ``(S, N)`` counts.

    Student's t over the splits' means. Splits of one collection share messages, so the variance is that of
    Nadeau and Bengio (2003), ``var * (1 / S + ratio)``: only a larger collection would shrink the second part.

    Args:
        ratio: test messages to training messages.
    """
    S = len(x)
    means = np.array([one[those].mean() for one, those in zip(x, kept, strict=True)])  # (S,)
    var, mean = float(np.var(means, ddof=1)), float(means.mean())
    parts = (math.sqrt(var), S, round(float(kept.sum(1).mean())), var, var * ratio)
    return Estimate(mean, mean, mean, math.sqrt(var * (1 / S + ratio)), S - 1, *parts).at(LEVEL)


def over(x: np.ndarray, kept: np.ndarray, runs: Runs) -> Estimate:
    """The mean of ``x`` ``(S, N)`` where ``kept`` ``(S, N)``, by whichever model the runs' test sets ask for."""
    if runs.experiment.one_test_set or len(x) == 1:
        return estimate(x[:, kept.all(0)])
    N = kept.shape[1]
    return estimate_splits(x, kept, N / (runs.experiment.train_size or 3.5 * N))  # 70 % to train, 20 % to test


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
    added = np.concatenate([right, np.tile([0.0, 0.0, 1.0, 1.0], (S, 1))], axis=1)
    wide = over(added, np.concatenate([kept, np.ones((S, 4), bool)], axis=1), runs)
    return replace(over(right, kept, runs), low=max(0.0, wide.low), high=min(1.0, wide.high))


def proportion(right: np.ndarray) -> Estimate:
    """The share of right answers of one model, ``(N,)`` booleans, with the interval of :func:`accuracy`."""
    x = np.asarray(right, float)[None]
    wide = estimate(np.append(x, [[0.0, 0.0, 1.0, 1.0]], axis=1))
    return replace(estimate(x), low=max(0.0, wide.low), high=min(1.0, wide.high))
