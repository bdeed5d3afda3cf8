"""What a study will cost: the plans of its rows, put to workers as the study itself would put them.

A group of seeds that are trained as one counts as so many runs, which is what it takes on a processor and more than
it takes on a GPU. A prefix counts once on every worker that needs it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..evidence.spread import Hand, Here, choose
from ..evidence.study import Group, groups_of, jobs_of
from ..experiment.experiment import Experiment
from ..experiment.rows import is_baseline
from ..support.errors import UsageError
from .plan import make_plan

HOUR = 3600.0


@dataclass(frozen=True)
class RowPlan:
    """What a row of a study costs.

    Attributes:
        row: its name.
        runs: how many.
        prefix, each: what its prefix takes, and a run behind it: seconds, or operations where nothing was timed.
        operations: of all its runs, the prefix counted once.
        memory: bytes that a worker needs, all seeds of a group on it.
        fits: whether that much is free.
    """

    row: str
    runs: int
    prefix: float
    each: float
    operations: float
    memory: float
    fits: bool

    @property
    def cost(self) -> float:
        """Of the whole row on one worker."""
        return self.prefix + self.runs * self.each


@dataclass(frozen=True)
class StudyPlan:
    """What a study costs.

    Attributes:
        groups: its runs, as they would be trained together.
        rows: what each row costs, by name.
        unit: ``s``, or ``operations`` where nothing was timed.
        device: where it was timed.
        assumed: rows that could not be timed here, and are drawn from the operations and the others' rate.
    """

    groups: tuple[Group, ...]
    rows: dict[str, RowPlan]
    unit: str
    device: str
    assumed: tuple[str, ...] = ()

    def on(self, workers: int) -> tuple[float, float]:
        """The wall time on so many workers, and the sum of what they do."""
        return simulate(self.groups, {name: (row.prefix, row.each) for name, row in self.rows.items()}, workers)

    def without(self, budget: float) -> list[str]:
        """Which rows to leave out so that the others' work is at most ``budget``: the dearest first."""
        left, out = sorted(self.rows.values(), key=lambda row: -row.cost), []
        while left and sum(row.cost for row in left) > budget:
            out.append(left.pop(0).row)
        return out

    def seeds_for(self, budget: float) -> int:
        """How many seeds of every row are at most ``budget``."""
        prefixes = sum(row.prefix for row in self.rows.values())
        one = sum(row.each for row in self.rows.values())
        return max(0, math.floor((budget - prefixes) / one)) if one else 0

    def to_dict(self, workers: int, price: float | None = None) -> dict[str, Any]:
        """Plain values, for JSON."""
        wall, work = self.on(workers)
        rows = {name: vars(row) | {"cost": row.cost} for name, row in self.rows.items()}
        found = {"runs": sum(row.runs for row in self.rows.values()), "unit": self.unit, "device": self.device}
        found |= {"operations": sum(row.operations for row in self.rows.values()), "workers": workers}
        found |= {"wall": wall, "work": work, "memory": max(row.memory for row in self.rows.values())}
        return found | {"price": None if price is None else price * work / HOUR, "rows": rows}

    def report(self, workers: int, price: float | None = None, budget: float | None = None) -> str:
        """What is printed of it."""
        found = self.to_dict(workers, price)
        dearest = sorted(self.rows.values(), key=lambda row: -row.cost)
        whole = sum(row.cost for row in dearest) or 1.0
        largest = max(dearest, key=lambda row: row.memory)
        lines = {
            "runs": f"{found['runs']:,} in {len(self.groups):,} groups, of {len(self.rows)} rows",
            "operations": f"{found['operations']:.2e}",
            "work": f"{found['work'] / HOUR:.2f} device hours, on {self.device}",
            "wall time": f"{found['wall'] / HOUR:.2f} hours with {workers} worker{'s' * (workers > 1)}",
            "memory": f"{largest.memory / 1e9:.1f} GB a worker (row {largest.row})",
            "dearest": ", ".join(f"row {row.row} {100 * row.cost / whole:.0f} %" for row in dearest[:4]),
        }
        if price is not None:
            lines["price"] = f"{found['price']:.2f} at {price:g} a device hour"
        if budget is not None:
            lines["budget"] = self._within(budget, HOUR if price is None else HOUR / price)
        if self.assumed:
            lines["not timed"] = f"row {', '.join(self.assumed)}: too large for here, drawn from its operations"
        if large := [row.row for row in dearest if not row.fits]:
            lines["does not fit"] = f"row {', '.join(large)}: onechange plan says of one row what would"
        return "\n".join(f"{name:<13} {text}" for name, text in lines.items())

    def _within(self, budget: float, unit: float) -> str:
        """What to leave out for a budget of so many units of work."""
        if not (out := self.without(budget * unit)):
            return f"{budget:g} is enough"
        fewer = self.seeds_for(budget * unit)
        seeds = f", or take {fewer} seed{'s' * (fewer > 1)} of every row" if fewer else ""
        every = len(out) == len(self.rows)
        return f"{budget:g} is {'less than any row' if every else 'enough without row ' + ', '.join(out)}{seeds}"


def plan_study(
    rows: dict[str, Experiment], seeds: Sequence[int], *, device: str = "auto", memory: float | None = None,
    checkpointing: bool = False, timed: bool = True,
) -> StudyPlan:  # fmt: skip
    """Plan rows times seeds; nothing is downloaded.

    Args:
        rows: their experiments.
        seeds: which.
        device, memory, checkpointing: as for :func:`~onechange.cost.plan.make_plan`.
        timed: also measure, some seconds a row; else everything is in operations.

    Raises:
        UsageError: if something that is named is not there.
    """
    jobs = jobs_of(rows, seeds)
    groups = tuple(groups_of([(job, str(i)) for i, job in enumerate(jobs)]))
    plans = {row: make_plan(e, device, memory, checkpointing, timed) for row, e in rows.items() if not is_baseline(row)}
    if not plans:
        raise UsageError("rows without a network take seconds: there is nothing to plan")
    rate = 1.0
    if timed:
        known = [plan for plan in plans.values() if plan.seconds]
        if not known:
            raise UsageError("none of the rows fits here, so that none can be timed: onechange plan says what would")
        spent = sum(sum(plan.seconds.values()) for plan in known)
        rate = sum(sum(plan.operations.values()) for plan in known) / spent
    found = {}
    for row, plan in plans.items():
        mine = [group for group in groups if group.row == row]
        runs, together = sum(len(group.jobs) for group in mine), max(len(group.jobs) for group in mine)
        parts = plan.seconds or {name: value / rate for name, value in plan.operations.items()}
        prefix, each = parts.get("prefix", 0.0), sum(value for name, value in parts.items() if name != "prefix")
        first = plan.operations.get("prefix", 0.0)
        operations = first + runs * (sum(plan.operations.values()) - first)
        room = plan.memory.total + (together - 1) * (plan.memory.optimizer + plan.memory.backward)
        found[row] = RowPlan(row, runs, prefix, each, operations, room, room <= plan.free)
    drawn = tuple(row for row, plan in plans.items() if timed and not plan.seconds)
    networks = tuple(group for group in groups if group.row in plans)
    return StudyPlan(networks, found, "s" if timed else "operations", next(iter(plans.values())).device, drawn)


def simulate(
    groups: Sequence[Group], costs: dict[str, tuple[float, float]], workers: int
) -> tuple[float, float]:  # fmt: skip
    """Put groups to workers as a study does, by its own rule.

    Args:
        groups: what is to be done.
        costs: by row, what its prefix takes and what a run behind it takes.
        workers: how many, all alike.

    Returns:
        When the last is done, and the sum of what they did, in the unit of ``costs``.
    """
    hands = [Hand(Here()) for _ in range(min(workers, len(groups)))]
    free, waiting, work = [(0.0, i) for i in range(len(hands))], list(groups), 0.0
    while waiting:
        began, i = heapq.heappop(free)
        group = waiting.pop(choose(waiting, hands[i], hands))
        prefix, each = costs[group.row]
        took = len(group.jobs) * each + prefix * (not group.prefix or group.prefix not in hands[i].holds)
        hands[i].holds.add(group.prefix)
        work += took
        heapq.heappush(free, (began + took, i))
    return max((when for when, _ in free), default=0.0), work
