"""What of a row's scatter is the new layers' chance and what the order's: runs in which every head meets every order.

The accuracy of head ``h`` with order ``o``, on the same messages each time, is

    x[h, o] = mean + head[h] + order[o] + rest[h, o]

with all three drawn at random. The mean squares of such a table estimate sums of the three variances; intervals are
the modified large-sample ones: Graybill and Wang (1980) for a sum of mean squares, Ting, Burdick, Graybill,
Jeyaratnam and Lu (1990) for a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from .runs import LEVEL, Runs

TAIL = (1 - LEVEL) / 2


def components(heads: Mapping[int, Runs]) -> pd.DataFrame:
    """Standard deviations of a row's test accuracy by what is drawn: new layers, order, what only both decide.

    Args:
        heads: the runs of every head by its seed, all with the same seeds, which decide the order.

    Returns:
        lines ``head``, ``order``, ``rest`` and ``together``; columns ``sd``, ``low``, ``high``, in points.
    """
    x = 100 * np.array([runs.test for runs in heads.values()])  # (H, n)
    H, n = x.shape
    mean, rows, columns = x.mean(), x.mean(1), x.mean(0)
    rest = x - rows[:, None] - columns + mean
    df = np.array([H - 1, n - 1, (H - 1) * (n - 1)])
    squares = np.array([n * ((rows - mean) ** 2).sum(), H * ((columns - mean) ** 2).sum(), (rest**2).sum()]) / df
    head, order, left = squares
    found = {
        "head": difference_of(head, left, df[0], df[2], n),
        "order": difference_of(order, left, df[1], df[2], H),
        "rest": sum_of(squares[2:], df[2:], np.ones(1)),
        "together": sum_of(squares, df, np.array([1 / n, 1 / H, 1 - 1 / n - 1 / H])),
    }
    roots = {name: [math.sqrt(max(0.0, v)) for v in three] for name, three in found.items()}
    return pd.DataFrame.from_dict(roots, orient="index", columns=["sd", "low", "high"])


def sum_of(squares: np.ndarray, df: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """A variance that is a sum of mean squares with positive ``weights``, and its interval."""
    parts = weights * squares
    down = 1 - df / stats.chi2.isf(TAIL, df)
    up = df / stats.chi2.ppf(TAIL, df) - 1
    value = float(parts.sum())
    return value, value - math.hypot(*(down * parts)), value + math.hypot(*(up * parts))


def difference_of(one: float, other: float, n: int, m: int, times: int) -> tuple[float, float, float]:
    """The variance ``(one - other) / times`` of two mean squares with ``n`` and ``m`` degrees of freedom."""
    F, f = stats.f.isf(TAIL, n, m), stats.f.ppf(TAIL, n, m)
    down_one, up_one = 1 - n / stats.chi2.isf(TAIL, n), n / stats.chi2.ppf(TAIL, n) - 1
    down_other, up_other = 1 - m / stats.chi2.isf(TAIL, m), m / stats.chi2.ppf(TAIL, m) - 1
    cross_down = ((F - 1) ** 2 - (down_one * F) ** 2 - up_other**2) / F
    cross_up = ((1 - f) ** 2 - (up_one * f) ** 2 - down_other**2) / f
    low = (down_one * one) ** 2 + (up_other * other) ** 2 + cross_down * one * other
    high = (up_one * one) ** 2 + (down_other * other) ** 2 + cross_up * one * other
    value = one - other
    ends = value - math.sqrt(max(0.0, low)), value + math.sqrt(max(0.0, high))
    return value / times, ends[0] / times, ends[1] / times
