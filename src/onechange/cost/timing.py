"""Clocks, messages without a meaning, and the engine timed: what both kinds of benchmark stand on.

:mod:`onechange.cost.bench` compares ways to do a row, :mod:`onechange.cost.bars` times whole runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.tokens import Tokens
from ..experiment.experiment import Experiment
from ..training.build import build
from ..training.device import Autocast, matrix_products
from ..training.prefix import prepare
from ..training.schedule import Step
from ..training.store import PrefixStore
from ..training.train import Trainer
from .plan import lengths_of

WARM = 3
"""Steps that are not timed: the first ones set things up."""


def messages_of(e: Experiment, n: dict[str, int] | None = None) -> dict[str, Tokens]:
    """Random tokens with the lengths of an experiment's messages, ``n`` of each split or all of them."""
    (lengths, T, _), splits = lengths_of(e), {}
    rng, V = np.random.default_rng(0), e.checkpoint.shape.vocab_size
    for name, every in lengths.items():
        some = every[: n[name] if n else None]
        ids = torch.from_numpy(rng.integers(0, V - 1, (len(some), T)))
        splits[name] = Tokens(ids, some, torch.from_numpy(rng.integers(0, 2, len(some))))
    return splits


def now() -> float:
    """Seconds by the wall's clock; with one thread on a processor those that this process had, so that what
    else a machine does counts less."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def clock(what: Callable[[], Any]) -> float:
    """Seconds of a call."""
    began = now()
    what()
    return now() - began


def time_engine(
    e: Experiment, tokens: dict[str, Tokens], steps: int, place: torch.device, precision: str
) -> dict[str, float]:
    """This package, cached or plain as the experiment says."""
    model, autocast = build(e, 2).to(place), Autocast(precision, place)
    with matrix_products(precision):
        with autocast(prefix=True):  # once to set up, once to time
            warm = {name: replace(part, ids=part.ids[:8], lengths=part.lengths[:8]) for name, part in tokens.items()}
            prepare(model, e, warm["val"], PrefixStore(), precision)
            began = now()
            splits = {name: prepare(model, e, part, PrefixStore(), precision) for name, part in tokens.items()}
            prefix = (now() - began) / sum(map(len, tokens.values())) * (splits["val"].stage > 0)
        trainer = Trainer(model, e, splits, autocast)
        window = e.batch_size * e.accumulation_steps
        order = [np.split(np.arange(i * window, (i + 1) * window), e.accumulation_steps) for i in range(WARM + steps)]
        for batches in order[:WARM]:
            trainer.step(Step(batches))
        began = now()
        for batches in order[WARM:]:
            trainer.step(Step(batches))
        step = (now() - began) / steps
        seen = np.split(np.arange(len(tokens["val"])), range(8, len(tokens["val"]), 8))
        message = clock(lambda: trainer.evaluate("val", seen)) / len(tokens["val"])
    row = splits["val"].x[0]
    return {"step": step, "message": message, "prefix": prefix, "row_size": row.numel() * row.is_floating_point()}
