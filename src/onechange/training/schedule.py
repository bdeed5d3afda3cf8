"""The published schedule: what a run does, in order, as lists of message indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..experiment.experiment import Experiment

EVAL_EVERY = 50  # training batches between two notes of the loss
EVAL_BATCHES = 5  # batches that such a note, and an epoch's accuracy, look at


@dataclass(frozen=True)
class Step:
    """Move the weights by the mean gradient of these batches of message indices."""

    batches: list[np.ndarray]


@dataclass(frozen=True)
class Look:
    """Evaluate on batches of training and validation messages; ``kind`` says what for.

    ``losses`` after a training batch (``step``, ``examples`` so far), ``accuracies`` after an epoch,
    ``final`` over everything.
    """

    kind: str
    train: list[np.ndarray]
    val: list[np.ndarray]
    step: int = 0
    examples: int = 0


def schedule(e: Experiment, n_train: int, n_val: int) -> Iterator[Step | Look]:
    """Everything a run does, in order, as lists of message indices.

    Real data loaders over indices draw the order from PyTorch's global generator, as the published
    script did: every pass over one, an evaluation's too, moves that generator, so the order of the
    training messages depends on each evaluation before it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(e.seed if e.order_seed is None else e.order_seed)
        train = DataLoader(_Indices(n_train), e.batch_size, shuffle=True, drop_last=True)
        val = DataLoader(_Indices(n_val), e.batch_size)
        events = list(_events(e, train, val))
    yield from events


class _Indices(Dataset[int]):
    """The numbers from 0 to ``n - 1``, as a data set."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return i


def _events(e: Experiment, train: DataLoader, val: DataLoader) -> Iterator[Step | Look]:
    step, examples = 0, 0
    for _ in range(e.num_epochs):
        window: list[np.ndarray] = []
        for i, batch in enumerate(train):
            window.append(batch.numpy())
            if len(window) == e.accumulation_steps or i == len(train) - 1:
                yield Step(window)
                window = []
            examples += len(batch)
            if step % EVAL_EVERY == 0:
                yield Look("losses", _first(train), _first(val), step, examples)
            step += 1
        yield Look("accuracies", _first(train), _first(val))
    yield Look("final", [b.numpy() for b in train], [b.numpy() for b in val])


def _first(loader: DataLoader) -> list[np.ndarray]:
    return [batch.numpy() for _, batch in zip(range(EVAL_BATCHES), loader, strict=False)]
