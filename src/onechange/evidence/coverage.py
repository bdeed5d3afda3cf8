"""How often the intervals hold what they are of, and how often a difference is shown that is none: simulated.

    python -m onechange.evidence.coverage           # book/results/coverage.json, some minutes

Rows of four kinds answer messages drawn at random: one whose seeds hardly scatter (*steady*), one whose seeds
scatter much (*scattering*), and two of which one run in ten, or one in four, does not start and gives every
message one answer (*collapsing*). Beside what the package says stand the two methods that it might have used for
all: Student's interval of the crossed model, and a bootstrap over seeds and messages.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tyro
from scipy.special import expit

from ..experiment.experiment import BASELINE
from ..support.errors import UsageError
from ..support.files import write_records
from ..support.package import RESULTS
from ..support.progress import progress_bar
from .compare import Comparison, difference, swap_test
from .intervals import Estimate, accuracy, estimate
from .runs import LEVEL, Runs, stored_json

SEEDS = (3, 5, 10, 20)
MESSAGES = 300
LEVEL_OF_STARTED = 0.9
HARDER = 1.5
"""Standard deviation of the messages' difficulty, in logits."""


@dataclass(frozen=True)
class Kind:
    """A kind of row: ``scatter`` of its seeds in logits, and the share of runs that do not start."""

    scatter: float
    stalls: float = 0.0

    @property
    def mean(self) -> float:
        """The mean accuracy over all seeds and messages that might be drawn."""
        return (1 - self.stalls) * LEVEL_OF_STARTED + self.stalls / 2


KINDS = {
    "steady": Kind(0.2),
    "scattering": Kind(0.8),
    "one in ten collapses": Kind(0.2, 0.1),
    "one in four collapses": Kind(0.2, 0.25),
}


@dataclass(frozen=True)
class Cell:
    """What came out of ``draws`` simulated rows of a kind with so many seeds; shares are fractions.

    Attributes:
        scatter: standard deviation of the means of seeds that start, in points.
        unseen: of the draws in which every run started although the kind has runs that do not.
        student, bootstrap: how often these intervals hold the mean of all runs that might be drawn.
        said: how often the package's interval holds what it is of: the mean of runs that start where all did, and
            of all runs where some did not.
        seen: the same of the draws in which some runs did not start and others did; ``None`` where there are none.
        width: of the package's intervals, their median, in points.
        student_false: how often Student's method shows a difference between the row and a steady one of its mean.
        false: how often the package says what is not so of a steady row with the same mean: a difference where
            some runs did not start, a worse mean where all did (the runs that start are better).
        false_started: the same of a steady row whose mean is that of the runs that start: a difference where all
            did, a better mean where some did not.
    """

    kind: str
    seeds: int
    draws: int
    scatter: float
    unseen: float
    student: float
    bootstrap: float
    said: float
    seen: float | None
    width: float
    student_false: float
    false: float
    false_started: float


@cache
def centre(mean: float, scatter: float) -> float:
    """The logit at which rows with this scatter have this mean accuracy over seeds and messages."""
    from scipy.optimize import brentq

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = math.hypot(scatter, HARDER)
    return brentq(lambda x: float(expit(x + spread * nodes) @ weights) / float(weights.sum()) - mean, -6.0, 9.0)


def drawn(rng: np.random.Generator, kind: Kind, S: int, hard: np.ndarray, mean: float) -> Runs:
    """A row of this kind, the mean of whose runs that start is ``mean``, on messages ``(N,)`` so hard."""
    logits = centre(mean, kind.scatter) + kind.scatter * rng.normal(size=(S, 1)) + HARDER * hard
    right = rng.random((S, len(hard))) < expit(logits)
    stalled = rng.random(S) < kind.stalls
    spam = rng.random(len(hard)) < 0.5  # half the messages are, and a run that did not start calls all of them one
    right[stalled] = spam ^ (rng.random((int(stalled.sum()), 1)) < 0.5)
    zeros = np.zeros(S)
    return Runs(
        "1", BASELINE.at("pocket"), 1, list(range(S)), right, np.zeros(right.shape, np.int8),
        np.where(stalled, 0.5, 1.0), zeros, zeros, np.zeros((S, 0, 2)), [], [],
    )  # fmt: skip


def bootstrap(rng: np.random.Generator, x: np.ndarray, times: int = 200) -> tuple[float, float]:
    """The percentile interval of the mean of ``x`` ``(S, N)``, seeds and messages drawn again (Owen, 2007)."""
    S, N = x.shape
    seeds = rng.multinomial(S, [1 / S] * S, times).astype(float)  # how often each was drawn
    messages = rng.multinomial(N, [1 / N] * N, times)
    low, high = np.quantile(((seeds @ x) * messages).sum(1) / (S * N), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def students(base: Runs, change: Runs) -> bool:
    """Whether Student's t and the permutation test together show a difference, whatever started."""
    d = change.right.astype(float) - base.right
    return estimate(d).p < 1 - LEVEL and swap_test(d, 999) < 1 - LEVEL


def simulate(name: str, S: int, draws: int) -> Cell:
    """One cell, the same numbers whenever it is computed."""
    kind, steady = KINDS[name], KINDS["steady"]
    rng = np.random.default_rng([S, *map(ord, name)])
    holds: dict[str, list[bool]] = {x: [] for x in ("student", "bootstrap", "said", "seen")}
    false: dict[str, list[bool]] = {x: [] for x in ("student_false", "false", "false_started")}
    unseen, widths = 0, []
    for _ in range(draws):
        hard = rng.normal(size=MESSAGES)
        row = drawn(rng, kind, S, hard, LEVEL_OF_STARTED)
        equal, level = (drawn(rng, steady, S, hard, mean) for mean in (kind.mean, LEVEL_OF_STARTED))
        some, e = 0 < (~row.started).sum() < S, accuracy(row)
        unseen += bool(kind.stalls and row.started.all())
        truth = 0.5 if not row.started.any() else kind.mean if some else LEVEL_OF_STARTED
        holds["student"].append(_inside(kind.mean, estimate(row.right.astype(float))))
        low, high = bootstrap(rng, row.right.astype(float))
        holds["bootstrap"].append(low <= kind.mean <= high)
        holds["said"].append(_inside(truth, e))
        holds["seen"] += [_inside(truth, e)] if some else []
        false["student_false"].append(students(equal, row))
        against = difference(equal, row), difference(level, row)
        either, worse = ("better", "worse"), ("worse",)
        false["false"].append(_says(against[0], either if some or not kind.stalls else worse))
        false["false_started"].append(_says(against[1], ("better",) if some else either))
        widths.append(100 * (e.high - e.low))
    shares = {x: float(np.mean(values)) if values else None for x, values in (holds | false).items()}
    scatter = 100 * scatter_of(kind)
    return Cell(name, S, draws, scatter, unseen=unseen / draws, width=float(np.median(widths)), **shares)  # type: ignore[arg-type]


def scatter_of(kind: Kind) -> float:
    """Standard deviation of the mean accuracies of seeds that start, a fraction."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    at = centre(LEVEL_OF_STARTED, kind.scatter) + kind.scatter * nodes[:, None] + HARDER * nodes
    weights = weights / weights.sum()
    means = expit(at) @ weights  # (60,), over messages
    return float(np.sqrt(weights @ (means - weights @ means) ** 2))


def _inside(truth: float, e: Estimate) -> bool:
    return e.low <= truth <= e.high


def _says(c: Comparison, verdicts: Sequence[str]) -> bool:
    return c.verdict in verdicts


def stored_cells() -> list[Cell]:
    """The simulation as it is stored."""
    return [Cell(**cell) for cell in stored_json("coverage")["cells"]]


def main(draws: int = 400, target: Path = RESULTS[1]) -> None:
    """Simulate every kind of row with every number of seeds, and store what came out. A cell that is there stays.

    Args:
        draws: rows drawn for each.
        target: the folder that coverage.json is written to, after every cell.
    """
    if not 1 <= draws <= 100_000:
        raise UsageError(f"draws must be between 1 and 100000, not {draws}")
    file, cells = target / "coverage.json", []
    there = json.loads(file.read_text(encoding="utf-8"))["cells"] if file.exists() else []
    done = {(cell["kind"], cell["seeds"]): cell for cell in there if cell["draws"] == draws}
    about = {"messages": MESSAGES, "mean of runs that start": LEVEL_OF_STARTED, "difficulty, logits": HARDER}
    for name in progress_bar(True, iterable=list(KINDS), unit="kind", desc="coverage"):
        for S in SEEDS:
            cell = done.get((name, S)) or asdict(simulate(name, S, draws))
            cells.append({k: round(v, 4) if isinstance(v, float) else v for k, v in cell.items()})
            write_records(file, about, "cells", cells)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UsageError as error:
        sys.exit(f"onechange.coverage: {error}")
