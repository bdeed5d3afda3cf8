"""Run stored runs again, here, and say what agrees and to which digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.messages import Source
from ..support.errors import UsageError
from ..training.store import PrefixStore
from .runs import Runs, runs_of, stored
from .study import Store, jobs_of, run_study

LOSS_DIGITS, ACCURACY_DIGITS = 4, 6
"""The digits behind the point with which a study keeps losses (nats) and accuracies (fractions)."""


@dataclass(frozen=True)
class Agreement:
    """A stored run beside the same run made here.

    Attributes:
        answers, messages: of so many test messages so many have the same answer, right in both or wrong in both.
        losses: the largest difference between two training or validation losses, in nats; ``None`` where there are
            none.
        accuracies: the largest difference between two training or validation accuracies, as a fraction.
    """

    row: str
    seed: int
    answers: int
    messages: int
    losses: float | None
    accuracies: float

    @property
    def same(self) -> bool:
        """Whether every answer is the stored one."""
        return self.answers == self.messages

    def __str__(self) -> str:
        accuracies = digits(self.accuracies, ACCURACY_DIGITS)
        losses = "" if self.losses is None else f"losses agree to {digits(self.losses, LOSS_DIGITS)} digits, "
        return (
            f"row {self.row}, seed {self.seed}: {self.answers} of {self.messages} answers are the stored ones; "
            f"{losses}accuracies of training and validation to {accuracies} behind the point"
        )


def digits(gap: float, most: int) -> int:
    """To how many digits behind the point two numbers agree that are so far apart, ``most`` being kept."""
    return next((k for k in range(most, 0, -1) if gap <= 0.5 * 10**-k + 1e-9), 0)


def place_of(made: dict[str, Any]) -> str:
    """On what runs were made, in words."""
    threads = f"{made['threads']} thread{'s' * (made['threads'] != 1)}"
    return f"{made['device_name']} ({made['device']}, {threads}, {made['precision']}, PyTorch {made['torch']})"


@dataclass(frozen=True)
class Verified:
    """What came of it: a line for each run, and on which processors the stored ones and these were made."""

    runs: tuple[Agreement, ...]
    stored_on: tuple[str, ...]
    run_on: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every answer of every run is the stored one."""
        return all(run.same for run in self.runs)

    def __str__(self) -> str:
        differ = [run for run in self.runs if not run.same]
        wrong, answers = sum(run.messages - run.answers for run in differ), sum(run.messages for run in self.runs)
        end = f"{len(differ)} of {len(self.runs)} runs differ from the stored ones, in {wrong} of {answers:,} answers"
        if not differ:
            end = f"all {answers:,} answers of {len(self.runs)} run{'s' * (len(self.runs) != 1)} are the stored ones"
        places = [f"stored runs: {'; '.join(self.stored_on)}", f"these runs: {'; '.join(self.run_on)}"]
        return "\n".join([*places, *map(str, self.runs), end])


def verify(
    name: str,
    rows: Sequence[str],
    seeds: int,
    store: Store,
    *,
    device: str = "auto",
    prefixes: PrefixStore | None = None,
    checkpointing: bool = False,
) -> Verified:
    """Run the first ``seeds`` seeds of some rows of a stored study again.

    Args:
        store: where the runs made here are kept; one that is there is not made again.

    Raises:
        UsageError: if there is no such study, row or seed, or the messages or the weights are not the stored ones.
    """
    study = stored(name)
    if missing := [row for row in rows if row not in study]:
        raise UsageError(f"{name} has no row {missing[0]}: it has {', '.join(study)}")
    for row in rows:
        _check(name, study[row], seeds)
    found: list[Agreement] = []
    places: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for row in rows:
        kept = study[row].of(study[row].seeds[: 1 if study[row].fixed else seeds])
        jobs = jobs_of({row: kept.experiment}, kept.seeds)
        done = run_study(jobs, store, device=device, prefixes=prefixes, checkpointing=checkpointing)
        if not (runs := runs_of(done)[row]).seeds:
            raise UsageError(f"row {row}: every run ended early ({done[0]['error']})")
        found += _agreements(kept.of(runs.seeds), runs)
        for where, made in zip(places, (kept.made, runs.made), strict=True):
            where[place_of(made)] = None
    return Verified(tuple(found), *(tuple(where) for where in places))


def _check(name: str, kept: Runs, seeds: int) -> None:
    """That a row can be run again as it was."""
    e = kept.experiment.resolved()
    if not kept.fixed and not 1 <= seeds <= len(kept.seeds):
        raise UsageError(f"seeds must be between 1 and {len(kept.seeds)}, which {name} has of row {kept.row}")
    if (digest := Source.of(e).digest) != kept.messages:
        pair = f"({kept.messages[:8]}) than are here ({digest[:8]})"
        raise UsageError(f"row {kept.row} was stored on other messages {pair}")
    if not kept.fixed and e.weights == "pretrained" and e.checkpoint.digest != kept.made["weights_sha256"]:
        raise UsageError(f"row {kept.row} was stored with other weights than {e.model_size} has here")


def _agreements(kept: Runs, here: Runs) -> list[Agreement]:
    def apart(a: np.ndarray, b: np.ndarray) -> float:
        """The largest difference, infinite where the two are not of one shape."""
        return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else math.inf

    def of(i: int, seed: int) -> Agreement:
        same, N = kept.right[i] == here.right[i], kept.right.shape[1]
        accuracies = max(apart(kept.train[i], here.train[i]), apart(kept.val[i], here.val[i]))
        some = kept.losses[i].size + here.losses[i].size > 0
        losses = apart(kept.losses[i], here.losses[i]) if some else None
        return Agreement(kept.row, seed, int(same.sum()), N, losses, accuracies)

    return [of(i, seed) for i, seed in enumerate(kept.seeds)]
