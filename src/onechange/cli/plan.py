"""``onechange plan``: what a run, or a study of many, will cost."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

from ..experiment.experiment import Experiment
from ..support.errors import UsageError
from .study import Flags, Scale, rows_and_seeds


@dataclass
class Plan:
    """Say what a run will cost: parameters, operations, memory, time. Nothing is downloaded.

    With --rows: what a study will cost, in hours of the device it is timed on, with prefixes counted once a worker.
    """

    experiment: Flags = field(default_factory=Experiment)
    device: str = "auto"
    """Where it would run: auto, cpu, cuda, ..."""
    memory: float | None = None
    """Gigabytes to plan for, instead of what is free on the device."""
    checkpointing: Literal["on", "off"] = "off"
    """Plan for blocks that are computed twice instead of kept."""
    json: bool = False
    """Print one JSON object."""
    rows: str | None = None
    """Plan a study of these rows, as for onechange table."""
    seeds: int | None = None
    """With --rows: how many seeds, from --seed upwards; 1 unless given."""
    scale: Scale | None = None
    """With --rows: gpt2, pocket or smollm2, as for onechange table."""
    workers: int | None = None
    """With --rows: how many devices like this one share the work; 1 unless given."""
    price: float | None = None
    """With --rows: money for an hour of a device."""
    budget: float | None = None
    """With --rows: what there is, in money where a price is given, else in device hours; what to leave out is said."""

    def __call__(self) -> int:
        if self.rows is None:
            return self._of_a_run()
        return self._of_a_study(self.rows)

    def _of_a_run(self) -> int:
        from ..cost.plan import make_plan
        from ..data.messages import messages_of
        from ..support.progress import tell

        own = ("seeds", "scale", "workers", "price", "budget")
        if idle := [name for name in own if getattr(self, name) is not None]:
            raise UsageError(f"{' and '.join(sorted(idle))} {'have' if idle[1:] else 'has'} no effect without --rows")
        plan = make_plan(self.experiment, self.device, self.memory, self.checkpointing == "on")
        if self.experiment.own_file:
            tell(messages_of(self.experiment).summary)
        print(json.dumps(plan.to_dict()) if self.json else plan)
        return 0

    def _of_a_study(self, rows: str) -> int:
        from ..cost.study_plan import plan_study
        from ..experiment.rows import parse_rows

        workers = 1 if self.workers is None else self.workers
        if not 1 <= workers <= 100_000:
            raise UsageError(f"workers must be between 1 and 100000, not {workers}")
        for name in ("price", "budget"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be a positive number, not {value}")
        if self.json and self.budget is not None:
            raise UsageError("budget has no effect with --json, which has the cost of every row")
        number = 1 if self.seeds is None else self.seeds
        experiments, seeds = rows_and_seeds(self.experiment, parse_rows(rows), number, self.scale)
        plan = plan_study(
            experiments, seeds, device=self.device, memory=self.memory, checkpointing=self.checkpointing == "on"
        )
        if self.json:
            print(json.dumps(plan.to_dict(workers, self.price)))
        else:
            print(plan.report(workers, self.price, self.budget))
        return 0
