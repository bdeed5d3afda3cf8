"""How long whole runs take, how many seeds at once are worth, and how near a step comes to its floor.

    python -m onechange.cost.bench --bars     # `make bench BENCH=--bars`

Whole runs of this engine with random weights and tokens, and nothing scaled up. A step's floor is the time of
its arithmetic at the machine's measured rate of products and of AdamW's bytes at its measured copy rate.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..experiment.experiment import BASELINE, Experiment
from ..experiment.rows import ROWS, parse_rows
from ..gpt.stacked import stack
from ..training.build import add_new_layers, trunk
from ..training.device import Autocast, choose_device, choose_precision, matrix_products, product_rate
from ..training.memory import Split
from ..training.prefix import prepare
from ..training.result import Result
from ..training.store import PrefixStore
from ..training.train import Trainer, _fit
from .plan import Part, lengths_of
from .timing import WARM, clock, messages_of, now, time_engine


def whole(e: Experiment, store: PrefixStore, place: torch.device, seeds: int = 1) -> Result:
    """A whole run of the engine with random weights and tokens, ``seeds`` of them as one model.

    ``seconds`` are those of training and evaluation, ``prefix_seconds`` what the prefix took this time.
    """
    e = e.but(weights="random").resolved()
    es, first = [e.but(seed=e.seed + i) for i in range(seeds)], trunk(e)
    shared = {id(p): p for p in first.parameters()}
    models = [first] + [copy.deepcopy(first, dict(shared)) for _ in es[1:]]
    layered = [add_new_layers(model, one, 2) for model, one in zip(models, es, strict=True)]
    model = (layered[0] if seeds == 1 else stack(layered)).to(place)
    tokens, precision = messages_of(e), choose_precision(e.precision, place)
    results = [Result(one, 0, 0, 0, ("ham", "spam"), {}, test_labels=tokens["test"].labels.tolist()) for one in es]
    autocast = Autocast(precision, place)
    with matrix_products(precision):
        began = now()
        with autocast(prefix=True):
            splits = {name: prepare(model, e, part, store, precision) for name, part in tokens.items()}
        results[0].prefix_seconds = now() - began
        results[0].seconds = clock(lambda: _fit(Trainer(model, e, splits, autocast), results, False, None))
    return results[0]


def copy_rate(place: torch.device, size: int = 2**28) -> float:
    """Bytes a second that a device moves while it copies, those read and those written, measured now."""
    a, b = (torch.zeros(size // 4, device=place) for _ in range(2))
    b.copy_(a)
    return 10 * 2 * size / clock(lambda: [b.copy_(a) for _ in range(10)])


def floor_of(e: Experiment, place: torch.device, steps: int = 20) -> dict[str, float]:
    """A training step beside its floor: its products at the machine's rate, AdamW's bytes at its copy rate."""
    e, precision = e.but(weights="random").resolved(), choose_precision(e.precision, place)
    few = {"train": e.batch_size * (WARM + steps), "val": 8, "test": 8}
    one = time_engine(e, messages_of(e, few), steps, place, precision)
    split, T = Split.of(e), lengths_of(e)[1]
    products = Part("training", e, split, False).operations([(e.batch_size, T)])
    rate = product_rate(torch.bfloat16 if precision == "bf16" else torch.float32, place, size=4096, now=now)
    floor = products / rate + 28.0 * split.trainable / copy_rate(place)  # 4 numbers read, 3 written
    return {"step": one["step"], "floor": floor, "ratio": one["step"] / floor}


def measure_bars(device: str, rows: str, steps: int) -> dict[str, Any]:
    """Whole runs: every row once, twenty seeds of row 1, a step of rows 5 and 9 beside its floor."""
    place = choose_device(device)
    scale, store, seconds, prefixes = "gpt2" if place.type == "cuda" else "pocket", PrefixStore(), {}, {}
    for row in map(int, parse_rows(rows)):
        result = whole(ROWS[row].at(scale), store, place)
        seconds[row], prefixes[row] = result.seconds, result.prefix_seconds
        print(f"row {row}: prefix {prefixes[row]:.1f} s, training and evaluation {seconds[row]:.1f} s", flush=True)
    first = BASELINE.at(scale)
    alone, twenty = (whole(first, store, place, seeds).seconds for seeds in (1, 20))
    print(f"row 1, prefix in hand: {alone:.2f} s; twenty seeds {twenty:.2f} s, {twenty / alone:.1f} times that")
    floors = {row: floor_of(ROWS[row].at(scale), place, steps) for row in (5, *(9,) * (place.type == "cuda"))}
    for row, found in floors.items():
        print(f"row {row}, a step: {found['step']:.4f} s, {found['ratio']:.1f} times its floor", flush=True)
    total = sum(seconds.values()) + sum(prefixes.values())
    print(f"{len(seconds)} rows: {total:.0f} s")
    more = {"seeds": [alone, twenty], "floors": floors}
    return {"scale": scale, "total": total, "rows": seconds, "prefixes": prefixes} | more
