"""What a run will need in memory, counted on tensors without numbers; and what to change where that is too much.

A model's blocks are alike, but for the first, whose input may need no gradient, and the last, which reads few
positions. What is linear in their number (memory, operations, time) is measured on models of two and three
blocks, by ``per_block``, and drawn out to the real number.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..experiment.experiment import Experiment
from ..gpt.layouts import network
from ..gpt.model import GPT
from ..gpt.weights import MODELS, GPTConfig
from ..support.errors import UsageError
from .build import add_new_layers, frozen_blocks
from .device import choose_precision
from .prefix import CHUNK_TOKENS, EVALUATED, features
from .reader import Reader

K = 2  # classes, where the messages that would tell are not here
RUNTIME = {"cpu": 0.4e9, "cuda": 0.6e9}  # bytes of the interpreter and PyTorch, or of CUDA's context and kernels


def gpt_of(e: Experiment, blocks: int | None = None) -> GPT:
    """The model of an experiment, or one like it with ``blocks`` blocks, on the device of the context, unloaded."""
    shape: GPTConfig = replace(e.checkpoint.shape, causal=not e.disable_causal_mask)
    return add_new_layers(network(shape if blocks is None else replace(shape, n_layers=blocks)), e, K)


@dataclass(frozen=True)
class Split:
    """How an experiment's blocks are divided: ``frozen`` ones first, computed once, then ``trained`` ones.

    ``parameters`` and ``trainable`` count numbers, ``widest`` is the largest trained tensor.
    """

    frozen: int
    trained: int
    parameters: int
    trainable: int
    widest: int

    @classmethod
    def of(cls, e: Experiment) -> Split:
        with torch.device("meta"):
            model = gpt_of(e)
        every = list(model.parameters())
        mine = [p.numel() for p in every if p.requires_grad]
        frozen = min(frozen_blocks(model), len(model.blocks))
        return cls(frozen, len(model.blocks) - frozen, sum(p.numel() for p in every), sum(mine), max(mine))


def per_block(measure: Callable[[int], float], blocks: int) -> float:
    """What ``measure`` would say of ``blocks`` blocks, from what it says of no more than three."""
    if blocks < 4:
        return measure(blocks)
    two, three = measure(2), measure(3)
    return two + (blocks - 2) * (three - two)


class Sketch:
    """An experiment's model with few blocks, on the device of the context, and what it does with random input.

    Args:
        e: the experiment.
        frozen, trained: blocks before and from the first trained parameter.
        plain: compute every block at every position, at every step.
    """

    def __init__(self, e: Experiment, frozen: int, trained: int, plain: bool = False) -> None:
        self.model, self.reader, self.plain = gpt_of(e, frozen + trained), Reader.of(e), plain
        for block in self.model.blocks[:frozen]:
            block.requires_grad_(False)
        self.features = frozen_blocks(self.model) > len(self.model.blocks)
        self.frozen, self.stage = frozen, 0 if plain else frozen + self.features

    def ids(self, B: int, T: int) -> Tensor:
        """Random tokens, ``(B, T)``."""
        return torch.randint(self.model.config.vocab_size, (B, T))

    def input(self, B: int, T: int) -> Tensor:
        """What it trains on: ids ``(B, T)``, hidden states ``(B, T, C)`` or features ``(B, C)``."""
        C = self.model.config.emb_dim
        if self.stage == 0:
            return self.ids(B, T)
        return torch.randn(B, C) if self.stage > len(self.model.blocks) else torch.randn(B, T, C)

    def prefix(self, ids: Tensor) -> Tensor:
        """The frozen part: ids ``(B, T)`` to what ``input`` stands for."""
        if self.features:
            return features(self.model, self.reader, ids, self._lengths(ids), 0)
        return self.model.run(self.model.embed(ids), stop=self.frozen)

    def loss(self, x: Tensor) -> Tensor:
        """The loss of messages that all are as long as they are padded."""
        assert self.model.head is not None
        if self.stage <= len(self.model.blocks):
            x = features(self.model, self.reader, x, self._lengths(x), self.stage, self.plain)
        labels = torch.zeros(x.size(0), dtype=torch.int64, device=x.device)
        return F.cross_entropy(self.model.head(x).float(), labels)

    @staticmethod
    def _lengths(x: Tensor) -> Tensor:
        return torch.full((x.size(0),), x.size(1), device=x.device)


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a run: the weights, what AdamW keeps, the larger of gradients and activations kept
    for them, the prefix's outputs, what comes and goes within a layer, and the program itself."""

    weights: float
    optimizer: float
    backward: float
    prefix: float
    working: float
    program: float

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def kept(e: Experiment, split: Split, B: int, T: int, bf16: bool, checkpointing: bool) -> float:
    """Bytes that the forward pass of ``B`` messages of ``T`` tokens keeps for the backward pass."""

    def measure(blocks: int) -> float:
        with FakeTensorMode():
            plain = e.prefix_cache == "off"
            sketch = Sketch(e, min(split.frozen, 1), blocks, plain)
            sketch.model.checkpointing = checkpointing
            weights = {p.untyped_storage()._cdata for p in sketch.model.parameters()}
            found: dict[int, torch.UntypedStorage] = {}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage._cdata not in weights:
                    found[storage._cdata] = storage
                return tensor

            cast = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
            with cast, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                sketch.loss(sketch.input(B, T))
            return sum(storage.nbytes() for storage in found.values())

    whole = per_block(measure, split.trained)
    if checkpointing and split.trained:  # one block at a time is there as a whole
        whole += kept(e, replace(split, trained=1), B, T, bf16, False)
    return whole


def memory_of(
    e: Experiment, shape: tuple[int, int], device: torch.device, checkpointing: bool = False, limit: float = 2e9
) -> Memory:
    """Bytes that a run needs at its peak.

    Args:
        e: the experiment.
        shape: how many messages there are, in all splits, and tokens in the longest, padding included.
        device: where it would run.
        checkpointing: recompute blocks in the backward pass.
        limit: bytes of prefix outputs that are kept in memory.
    """
    messages, T = shape
    split, C, place = Split.of(e), e.checkpoint.shape.emb_dim, "cuda" if device.type == "cuda" else "cpu"
    bf16 = choose_precision(e.precision, device) == "bf16"
    on, reader = e.prefix_cache == "on" and split.frozen > 0, Reader.of(e)
    width = 1 if reader.first and reader.causal and on else T
    together = e.batch_size * (e.accumulation_steps if on else 1)
    activations = kept(e, split, together, width, bf16, checkpointing)
    prefix = 4.0 * messages * C * (width if split.trained else 1) * on
    # An MLP's two wide layers and a few narrow ones, of as many tokens as are ever computed at once.
    tokens = max(width * (e.batch_size if e.prefix_cache == "off" else EVALUATED), CHUNK_TOKENS * on)
    return Memory(
        weights=4.0 * split.parameters,
        optimizer=8.0 * split.trainable,
        backward=max(4.0 * split.trainable, activations + 4.0 * split.widest),
        prefix=prefix if prefix <= limit else 0.0,  # a larger one lies in a file
        working=12 * C * tokens * (2.0 if bf16 else 4.0),
        program=RUNTIME[place],
    )


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device; infinity where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as file:
        if found := re.search(r"MemAvailable:\s+(\d+) kB", file.read()):
            return 1024.0 * int(found[1])
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def nearest_that_fits(need: Callable[[Experiment, bool], float], e: Experiment, limit: float, device: str) -> str:
    """The flags of the smallest change with which an experiment needs at most ``limit`` bytes, or nothing.

    First what changes no number, then what changes them least.
    """
    one_by_one = {"batch_size": 1, "accumulation_steps": e.batch_size * e.accumulation_steps}
    lora = {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16}
    steps: list[dict] = [{}, one_by_one, *([{"precision": "bf16"}] * (device == "cuda")), lora, lora | one_by_one]
    steps += [{"trainable_layers": "last_block"}, {"trainable_layers": "last_layer"}]
    here = MODELS.get(e.model_size)
    smaller = [name for name, m in MODELS.items() if here and m.scale == here.scale and m.rung < here.rung]
    for change in steps + [{"model_size": name} for name in reversed(smaller)]:
        for checkpointing in (False, True):
            with contextlib.suppress(UsageError):  # not every change goes with every experiment
                changed = e.but(**change)
                if (changed != e or checkpointing) and need(changed, checkpointing) <= limit:
                    flags = [f"--{name} {value!r}" if " " in str(value) else f"--{name} {value}"
                             for name, value in change.items()]  # fmt: skip
                    return " ".join(flags + ["--checkpointing on"] * checkpointing)
    return ""


def advice(e: Experiment, shape: tuple[int, int], device: torch.device, limit: float, checkpointing: bool) -> str:
    """One line: what a run needs, what there is, and the nearest thing that fits."""
    need = memory_of(e, shape, device, checkpointing).total
    line = f"it needs about {need / 1e9:.1f} GB, there are {limit / 1e9:.1f}"
    limit = min(limit, 0.9 * need)  # it did not fit, whatever was counted
    found = nearest_that_fits(lambda e, again: memory_of(e, shape, device, again).total, e, limit, device.type)
    return f"{line}; {f'with {found} it would fit' if found else 'no smaller model of its family fits either'}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a GPU."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


@contextlib.contextmanager
def advised(e: Experiment, shape: tuple[int, int], device: torch.device, checkpointing: bool) -> Iterator[None]:
    """Turn running out of memory into one line that says what to change.

    Raises:
        UsageError: instead of the error of the allocator.
    """
    limit = free_memory(device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = True
    else:
        failed = False
    if failed:  # here, where the error no longer holds on to what filled the memory
        raise UsageError(f"out of memory: {advice(e, shape, device, limit, checkpointing)}")
