"""Short runs on toy models: every row of the table, and combinations that no row has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_runs import MORE, Make
from toys import few_messages

from onechange import Result
from onechange.data.messages import Source
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.training import prefix
from onechange.training.train import run

# What stands for the table's larger models: channels, heads, blocks.
LADDER = {"gpt2-medium": (24, 2, 4), "gpt2-large": (40, 5, 2), "gpt2-xl": (32, 2, 5)}


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages, losses noted every five batches so that short runs have a curve, prefixes in many chunks."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 5)
    monkeypatch.setattr(prefix, "CHUNK_TOKENS", 400)
    monkeypatch.setattr(Source, "messages", few_messages)


@pytest.fixture(scope="session")
def make(toy: Path, toy_of: Callable[..., Path]) -> Make:
    """A row of the table (by number or by name in ``MORE``) on a toy model, pocket messages and 64 to train on."""

    def experiment(row: int | str = 1, **changes: Any) -> Experiment:
        change = dict(TABLE[row].change if isinstance(row, int) else MORE[row])
        size = change.pop("model_size", None)
        folder = toy_of(LADDER[size]) if size else toy
        fixed = {"model_size": str(folder), "dataset": "pocket", "learning_rate": 1e-3, "train_size": 64}
        return Experiment(**(fixed | {"num_epochs": 2} | change | changes))

    return experiment


@pytest.fixture(scope="session")
def outcome() -> Callable[[Experiment], Result]:
    """Runs an experiment from nothing, once."""
    known: dict[Experiment, Result] = {}

    def result(e: Experiment) -> Result:
        if e not in known:
            known[e] = run(e, progress=False)
        return known[e]

    return result
