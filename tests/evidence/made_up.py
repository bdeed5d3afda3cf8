"""Made-up runs, with seeds and messages that scatter by as much as one likes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from onechange.evidence.runs import Runs
from onechange.experiment.experiment import BASELINE

SPLITS = BASELINE.at("pocket").but(resplit=True).resolved()


def made_up(row: str, right: np.ndarray, seeds: list[int] | None = None, **more: Any) -> Runs:
    """A row with these answers, as if it had been run."""
    S, N = right.shape
    zeros = np.zeros(S)
    values: dict[str, Any] = {
        "row": row, "experiment": BASELINE.at("pocket").resolved(), "n_trainable": 1,
        "seeds": seeds or list(range(123, 123 + S)), "right": right.astype(bool),
        "seen": np.zeros((S, N), np.int8), "train": zeros, "val": zeros, "seconds": zeros,
        "losses": np.ones((S, 3, 2)), "steps": [0, 50, 100], "examples": [8, 408, 808],
        "made": {"messages_sha256": "m"},
    }  # fmt: skip
    return Runs(**(values | more))


def drawn(
    rng: np.random.Generator, S: int, N: int, level: float, seed: float = 0.3, message: float = 1.5
) -> np.ndarray:
    """Answers of S seeds to N messages, some seeds better than others, some messages harder."""
    logit = level + seed * rng.normal(size=(S, 1)) + message * rng.normal(size=(1, N))
    return rng.random((S, N)) < expit(logit)
