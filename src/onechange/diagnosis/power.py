"""What a test part of some size can show: how wide an interval is, how small a difference is seen with 1, 5, 20 seeds.

How seeds scatter and how two models differ from message to message is taken from this project's own runs: rows 1 and
16 of the stored table, which differ by which token is read. Of the variance of a difference one part shrinks with the
seeds and the other only with the test messages, so it can be said for any number of either.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from ..evidence.compare import POWER, Comparison, difference
from ..evidence.intervals import LEVEL
from ..evidence.runs import Runs, stored
from .findings import Check, Finding, fact, percent

STUDY, ROWS = "table-pocket", ("1", "16")
SIZES = np.arange(0.001, 0.3, 0.001)
SEEDS = (5, 20)


@cache
def study() -> dict[str, Runs]:
    return stored(STUDY)


@cache
def measured() -> tuple[Comparison, float]:
    """The stored comparison, and on which share of the messages two single models of it disagree."""
    one, other = (study()[row] for row in ROWS)
    return difference(one, other), float((one.right != other.right).mean())


@cache
def usual() -> float:
    """The median difference that the table's changes make, as a fraction: half of them make less."""
    base = study()["1"].test.mean()
    return float(np.median([abs(runs.test.mean() - base) for row, runs in study().items() if row != "1"]))


def smallest(n: int, seeds: int) -> float:
    """The smallest difference that is shown four times in five on ``n`` test messages, NaN beyond 30 points.

    With one seed each it is one between two trained models (McNemar), not between two ways of training.
    """
    comparison, disagree = measured()
    if seeds == 1:
        from scipy.stats import norm

        return float((norm.isf((1 - LEVEL) / 2) + norm.isf(1 - POWER)) * math.sqrt(disagree / n))
    d = comparison.difference
    here = replace(comparison, difference=replace(d, messages=n, per_message=d.per_message * d.messages / n))
    return float(next((size for size in SIZES if here.power(size, seeds) >= POWER), math.nan))


def power(n: int, half_width: float) -> Check:
    """How wide a score's interval is on ``n`` test messages, and which differences they can show."""
    sizes = {seeds: smallest(n, seeds) for seeds in (1, *SEEDS)}
    enough = sizes[SEEDS[-1]] <= usual()
    shown = [f"{'more than 30' if math.isnan(sizes[s]) else f'{100 * sizes[s]:.1f}'} points with {s}" for s in SEEDS]
    found = Finding(
        "power",
        "well" if enough else "know",
        f"{n} test messages: a score is known to {100 * half_width:.1f} points; a change has to make "
        f"{' or '.join(shown)} seeds",
        f"power {percent(POWER)} at 5 %, scatter as between rows {' and '.join(ROWS)} of the stored {STUDY}; two "
        f"single models are told apart from {100 * sizes[1]:.1f} points on",
        f"as sure as that yours scatter alike; half of the table's changes make less than {100 * usual():.1f} points",
        "" if enough else "More test messages, rather than more seeds: only they shrink what the messages contribute.",
        "table",
        values={"half": half_width, **{f"seeds_{seeds}": size for seeds, size in sizes.items()}},
    )  # fmt: skip
    return fact(found)
