"""What a run will cost, said before anything is downloaded: parameters, operations, memory, time.

Operations are counted by PyTorch's own counter while the engine's own code runs on tensors without
numbers, over the run's own schedule. Times are those of a few real calls on this device, on a model of
the same width with two blocks and with three.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..data.messages import Source, messages_of
from ..data.tokens import tokens_of
from ..experiment.experiment import Experiment
from ..support.errors import UsageError
from ..training.device import Autocast, choose_device, choose_precision, matrix_products
from ..training.memory import RUNTIME, Memory, Sketch, Split, free_memory, memory_of, nearest_that_fits, per_block
from ..training.prefix import CHUNK_TOKENS, EVALUATED
from ..training.reader import Reader
from ..training.schedule import Look, Step, schedule

UCI_SPLIT = {"train": 1045, "val": 149, "test": 300}
SMOLLM2_LENGTHS = [2, 7, 9, 10, 12, 15, 18, 21, 26, 31, 37, 41, 45, 48, 52, 56, 59, 63, 67, 72, 120]
UCI_LENGTHS = [2, 7, 8, 10, 12, 14, 17, 20, 24, 28, 33, 36, 38, 40, 43, 45, 47, 49, 51, 56, 120]
"""Tokens (SmolLM2's, GPT-2's) of the published training messages: shortest, every twentieth part of them, longest.
Counted from the file whose hash ``onechange.data.uci`` holds."""

Call = tuple[int, int]
"""Messages that go through a model together, and the tokens they are padded to."""
PARTS = ("prefix", "training", "evaluation")


def lengths_of(e: Experiment) -> tuple[dict[str, np.ndarray], int, str]:
    """Tokens of every message by split, what they are padded to, and, where they are not here, what was assumed."""
    e = e.resolved()
    if Source.of(e).is_here and e.checkpoint.tokenizer_is_here:
        tokens, _ = tokens_of(e, messages_of(e))
        T = max(split.ids.size(1) for split in tokens.values())
        return {name: split.lengths for name, split in tokens.items()}, T, ""
    counts = UCI_SPLIT | ({} if e.train_size is None else {"train": e.train_size})
    rng = np.random.default_rng(0)
    recorded = SMOLLM2_LENGTHS if e.scale == "smollm2" else UCI_LENGTHS
    ventiles = np.linspace(0, 1, len(recorded))
    lengths = {
        name: rng.permutation(np.interp(np.linspace(0, 1, n), ventiles, recorded).astype(int))
        for name, n in counts.items()
    }
    limit = e.checkpoint.shape.context_length
    named = {"longest_training_example": max(recorded), "model_context_length": limit}
    asked = named[e.context_length] if isinstance(e.context_length, str) else e.context_length
    T = max(recorded) if e.no_padding else asked
    return {name: n.clip(max=T) for name, n in lengths.items()}, T, "lengths of the UCI messages, as recorded"


def calls_of(e: Experiment, lengths: dict[str, np.ndarray], T: int, plain: bool) -> dict[str, list[Call]]:
    """What goes through the model in a whole run, by the published schedule."""
    reader, together = Reader.of(e), not plain and Split.of(e).frozen > 0

    def call(split: str, index: np.ndarray) -> Call:
        return len(index), reader.width(lengths[split][index], T, plain)

    def evaluation(split: str, index: np.ndarray) -> Iterator[Call]:
        size = e.batch_size if plain else EVALUATED
        if reader.own_end and not plain:
            index = index[np.argsort(lengths[split][index], kind="stable")]
        return (call(split, index[i : i + size]) for i in range(0, len(index), size))

    calls: dict[str, list[Call]] = {part: [] for part in PARTS}
    for event in schedule(e, len(lengths["train"]), len(lengths["val"])):
        if isinstance(event, Step):
            batches = [np.concatenate(event.batches)] if together else event.batches
            calls["training"] += [call("train", batch) for batch in batches]
        elif isinstance(event, Look):
            for split, seen in (("train", event.train), ("val", event.val)):
                calls["evaluation"] += evaluation(split, np.concatenate(seen))
    calls["evaluation"] += evaluation("test", np.arange(len(lengths["test"])))
    if together:
        for n in lengths.values():
            order = np.argsort(-n, kind="stable")
            while len(order):
                width = reader.width(n[order[:1]], T)
                chunk, order = np.split(order, [max(1, CHUNK_TOKENS // width)])
                calls["prefix"].append((len(chunk), width))
    return calls


@dataclass(frozen=True)
class Part:
    """The prefix, the training or the evaluation of a run, seen on models of few blocks."""

    name: str
    e: Experiment
    split: Split
    plain: bool

    def do(self, sketch: Sketch, B: int, T: int) -> None:
        """Once what the run does over and over, without the optimizer."""
        x = sketch.ids(B, T) if self.name == "prefix" else sketch.input(B, T)
        with torch.set_grad_enabled(self.name == "training"):
            if self.name == "prefix":
                sketch.prefix(x)
            else:
                loss = sketch.loss(x)
        if self.name == "training":
            loss.backward()

    def whole(self, measure: Callable[[Sketch], float]) -> float:
        """What ``measure`` would say of the real number of blocks."""
        frozen, trained = self.split.frozen, self.split.trained
        few_frozen, few_trained = min(frozen, 1), min(trained, 1)
        if self.name == "prefix":
            return per_block(lambda n: measure(Sketch(self.e, n, few_trained)), frozen)
        cost = per_block(lambda n: measure(Sketch(self.e, few_frozen, n, self.plain)), trained)
        if self.plain and frozen > 1:
            one, two = (measure(Sketch(self.e, n, few_trained, True)) for n in (1, 2))
            cost += (frozen - 1) * (two - one)
        return cost

    def operations(self, calls: Sequence[Call]) -> float:
        """Floating-point operations of the products in all calls, as PyTorch counts them."""

        usual = int(np.median([B for B, _ in calls]))

        def a_message(T: int) -> float:
            def count(sketch: Sketch) -> float:
                with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                    self.do(sketch, usual, T)
                return counter.get_total_flops()

            with torch.device("meta"):
                return self.whole(count) / usual

        widths = sorted({T for _, T in calls})
        if len(widths) > 3:  # a square of the width and no more: three points are enough
            at = [widths[0], widths[len(widths) // 2], widths[-1]]
            curve = np.polynomial.Polynomial.fit(at, [a_message(T) for T in at], 2)
            return float(sum(B * curve(T) for B, T in calls))
        each = {T: a_message(T) for T in widths}
        return sum(B * each[T] for B, T in calls)

    def seconds(self, calls: Sequence[Call], device: torch.device, precision: str) -> float:
        """The time of all calls, from that of the most usual one."""
        usual = int(np.median([B for B, _ in calls])), round(np.mean([T for _, T in calls]))
        with torch.device(device), matrix_products(precision):
            a_call = self.whole(lambda sketch: self.clock(sketch, usual, Autocast(precision, device)))
        return a_call * sum(B for B, _ in calls) / usual[0]

    def clock(self, sketch: Sketch, call: Call, autocast: Autocast, times: int = 3) -> float:
        """Seconds of one call on a model of few blocks, the optimizer's step with it: the best of a few."""
        trained = [p for p in sketch.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        best = math.inf
        for _ in range(times):
            began = time.perf_counter()
            with autocast(prefix=self.name == "prefix"):
                self.do(sketch, *call)
            if self.name == "training":
                optimizer.step()
                optimizer.zero_grad()
            if autocast.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
        return best


@dataclass(frozen=True)
class Plan:
    """What a run will cost.

    Attributes:
        experiment: the run, resolved.
        messages, tokens: how many there are in all splits, and what the longest is padded to.
        assumed: what was assumed about messages that are not here, or an empty string.
        parameters, trainable: how many numbers there are, and how many are trained.
        operations, plain_operations: of the products, by part, with the prefix computed once and without.
        memory: bytes at the peak.
        free: bytes there are.
        seconds: expected on this device, by part; empty where that was not asked for.
        device, precision: where, and in which number format.
        instead: flags with which it would fit, where it does not.
    """

    experiment: Experiment
    messages: int
    tokens: int
    assumed: str
    parameters: int
    trainable: int
    operations: dict[str, float]
    plain_operations: dict[str, float]
    memory: Memory
    free: float
    seconds: dict[str, float]
    device: str
    precision: str
    instead: str

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.free

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        more = {"experiment": self.experiment.to_dict(), "memory": vars(self.memory) | {"total": self.memory.total}}
        return vars(self) | more | {"fits": self.fits, "free": self.free if math.isfinite(self.free) else None}

    def __str__(self) -> str:
        cost, plain = sum(self.operations.values()), sum(self.plain_operations.values())
        m, there = self.memory, f"of {self.free / 1e9:.1f} GB" if math.isfinite(self.free) else "of an unknown number"
        kept = {"weights": m.weights, "optimizer": m.optimizer, "gradients or activations": m.backward}
        kept |= {"prefix": m.prefix, "the rest": m.working + m.program}
        lines = {
            "messages": f"{self.messages:,} of up to {self.tokens} tokens{f' ({self.assumed})' * bool(self.assumed)}",
            "parameters": f"{self.parameters:,}, of which {self.trainable:,} are trained",
            "operations": f"{cost:.2e} ({_listed(self.operations, '{:.1e}')}); "
            f"by the plain loop {plain:.2e}, {plain / cost:.1f} times as many",
            "memory": f"{m.total / 1e9:.1f} GB {there} ({_listed(kept, '{:.1f}', 1e9)})",
        }
        if self.seconds:
            took = sum(self.seconds.values())
            parts = _listed(self.seconds, "{:.0f}")
            lines["time"] = f"about {took:.0f} s here ({parts}), on {self.device} in {self.precision}"
        if not self.fits:
            lines["does not fit"] = f"with {self.instead} it would" if self.instead else "and no smaller one would"
        return "\n".join(f"{name:<13} {text}" for name, text in lines.items())


def _listed(values: dict[str, float], form: str, unit: float = 1.0) -> str:
    return ", ".join(f"{name} {form.format(value / unit)}" for name, value in values.items())


def make_plan(
    e: Experiment, device: str = "auto", memory: float | None = None, checkpointing: bool = False, timed: bool = True
) -> Plan:
    """Plan a run; nothing is downloaded and no weights are read.

    Args:
        e: the experiment.
        device: where it would run.
        memory: gigabytes to plan for, instead of what is free on the device.
        checkpointing: whether blocks are recomputed in the backward pass.
        timed: also measure, for some seconds, how fast this device is.

    Raises:
        UsageError: if the device, a folder or a file that is named is not there.
    """
    if memory is not None and not 0 < memory < math.inf:
        raise UsageError(f"memory must be a positive number of gigabytes, not {memory}")
    e, place = e.resolved(), choose_device(device)
    precision, split = choose_precision(e.precision, place), Split.of(e)
    lengths, T, assumed = lengths_of(e)
    shape = sum(len(n) for n in lengths.values()), T
    need = memory_of(e, shape, place, checkpointing)
    there = free_memory(place) + RUNTIME.get(place.type, 0.0)  # the program is running already
    limit = there if memory is None else 1e9 * memory
    instead = "" if need.total <= limit else nearest_that_fits(
        lambda e, again: memory_of(e, shape, place, again).total, e, limit, place.type
    )  # fmt: skip
    calls = {plain: calls_of(e, lengths, T, plain) for plain in (False, True)}
    parts = {plain: {name: Part(name, e, split, plain) for name in PARTS if calls[plain][name]} for plain in calls}
    counted = {
        plain: {name: part.operations(calls[plain][name]) for name, part in parts[plain].items()} for plain in calls
    }
    plain = e.prefix_cache == "off"
    timed = timed and need.total <= there
    seconds = {name: part.seconds(calls[plain][name], place, precision) for name, part in parts[plain].items() if timed}
    return Plan(
        e, *shape, assumed, split.parameters, split.trainable, counted[plain], counted[True],
        need, limit, seconds, str(place), precision, instead,
    )  # fmt: skip
