"""Records of runs, made up or made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onechange import Experiment

COLUMNS = [
    "row",
    "title",
    "model",
    "train",
    "val",
    "test",
    "sd",
    "low",
    "high",
    "seeds",
    "messages",
    "failed",
    "stuck",
    "may_stall",
    "trainable",
    "seconds",
]


def table_words(base: Experiment, out: Path, *more: str) -> list[str]:
    """The command ``onechange table`` for the same."""
    return ["table", *base.flags, "--out", str(out), *more]


def broken(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("nothing should be computed here")


def files(folder: Path) -> dict[str, int]:
    """Names and times of everything in a folder."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def made_up(row: object, seed: int = 123, test: float = 0.9, **more: Any) -> dict[str, Any]:
    """A record as a run would leave it, without running."""
    e = Experiment("pocket-small", seed=seed).to_dict() | more.pop("experiment", {})
    made = {"onechange": "0.1.0", "precision": "fp32", "device": "cpu", "weights_sha256": "w", "messages_sha256": "m"}
    made |= more.pop("environment", {})
    record = {"row": str(row), "key": "k", "error": "", "n_trainable": 10, "seconds": 2.0, "test_labels": [0] * 300}
    record["final"] = {"train": 1.0, "val": 0.8, "test": test}
    right = np.arange(300) < round(300 * test)
    record |= {"test_probabilities": np.stack([right, ~right], 1).astype(float).tolist(), "test_seen": [0] * 300}
    record |= {"train_losses": [1.0, 0.5], "val_losses": [1.0, 0.6], "steps": [0, 50], "examples": [8, 408]}
    return record | {"experiment": e, "environment": made} | more
