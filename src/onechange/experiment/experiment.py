"""An experiment is the baseline with a change; this module says what can be changed.

:class:`Experiment` is the one place where an option is named. The command line, the widgets and the
columns of a table of results are made from its fields, and every check of a value or of a
combination happens when one is made, before anything is downloaded or built.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..gpt.checkpoint import Checkpoint, find
from ..gpt.layouts import layout_of
from ..gpt.weights import MODELS, SCALES, model_name
from ..support.errors import UsageError, nearest
from ..support.files import home

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]

LATER: dict[str, Any] = {"folds": False, "head_seed": None, "order_seed": None}
LORA = ("lora_rank", "lora_alpha", "lora_scaling", "lora_layers")
PATH = (str, os.PathLike)
PADDING = ("context_length", "padding_side", "mask_padding")


@dataclass(frozen=True)
class Experiment:
    """One finetuning run: every option of the published table, and what the table held fixed.

    The defaults are row 1 of the table, the baseline.

    Raises:
        UsageError: if a value is outside its meaning, or an option would have no effect.
    """

    model_size: str = "gpt2-small (124M)"
    """The model: gpt2-small, -medium, -large or -xl (downloaded once), pocket-small, -medium, -large or
    -xl (in the package), smollm2-135m (after `onechange fetch smollm2-135m`), a folder in Hugging Face's layout
    of a GPT-2 or a Llama, or a GPT-2's file (.safetensors, .pth) of the source book's or nanoGPT's."""
    weights: Literal["pretrained", "random", "random_gpt2"] = "pretrained"
    """Start from the pretrained weights, or from random ones of the same shape: PyTorch's default ones, or
    drawn as GPT-2's were."""
    trainable_layers: Literal[
        "last_layer", "last_block", "last_two_blocks", "all", "biases", "lora", "lora_alternative"
    ] = "last_block"
    """What is trained: the new output layer alone, with the last block or two (and the final norm),
    everything, all biases, or LoRA adapters on every linear layer (lora_alternative merges them on the fly)."""
    trainable_blocks: int = 1
    """With last_block: train this many of the last blocks."""
    trainable_token_pos: Literal["first", "last", "flexible"] = "last"
    """The token whose output is classified: the first, the last (padding, where there is padding), or the
    last real one (flexible)."""
    average_embeddings: bool = False
    """Average over all positions (with flexible: over the real tokens) instead of reading one token."""
    context_length: str | int = "longest_training_example"
    """Pad and cut messages to: longest_training_example, model_context_length, or a number of tokens."""
    lora_rank: int = 8
    """LoRA: the rank r of the weight change."""
    lora_alpha: float = 8
    """LoRA: the weight change is multiplied by this (see lora_scaling)."""
    lora_layers: Literal["all", "attention"] = "all"
    """LoRA: adapters on every linear layer, or on those of the attention alone."""
    no_padding: bool = False
    """Neither pad nor cut: every message is read at its own end."""
    padding_side: Literal["right", "left"] = "right"
    """Where padding stands: behind a message or before it."""
    mask_padding: bool = False
    """Hide padding from all other tokens."""
    num_epochs: int = 5
    """Passes over the training messages."""
    batch_size: int = 8
    """Messages in a batch; a last batch with fewer is left out of training."""
    accumulation_steps: int = 1
    """Batches whose gradients are averaged before the weights move."""
    disable_causal_mask: bool = False
    """Let every token attend to every other."""
    ignore_index: int = -100
    """A label that the loss leaves out (it cannot be one of the classes)."""
    learning_rate: float | None = None
    """AdamW's learning rate; unless given, the model's own (5e-5 for GPT-2 and for a folder)."""
    weight_decay: float = 0.1
    """AdamW's weight decay."""
    dataset: str | None = None
    """The messages: uci, pocket, or a file (csv, tsv, txt, jsonl, json, parquet) with columns label and text, or
    other usual names for them. Unless given: pocket for a pocket model, uci for any other."""
    balance: bool = False
    """For a file: sample every class down to the size of the smallest."""
    train_size: int | None = None
    """Train on this many messages only, the first of the shuffled training set."""
    label_noise: float = 0.0
    """The share of training messages, drawn by the seed, that get a wrong label."""
    resplit: bool = False
    """Let the seed decide which messages are for training, validation and test."""
    folds: bool = False
    """Let the seed rotate the split: 123 (the published split) to 127 test a fifth of the messages each, all of
    them together; 128 to 132 do so after another shuffle, and so on."""
    lora_scaling: Literal["table", "paper", "rslora"] = "table"
    """LoRA: multiply by alpha (table), alpha / r (paper), or alpha / sqrt(r) (rslora)."""
    precision: Precision = "auto"
    """Numbers to compute with: fp32, tf32, bf16, fp16, or auto: bf16 on a GPU that has it, fp16 for the frozen
    part on an older one, fp32 on a processor (so that results can be compared)."""
    prefix_cache: Literal["on", "off"] = "on"
    """Compute what lies before the first trained parameter once (on), or at every step (off)."""
    seed: int = 123
    """Decides the new layers' weights, random weights, and the order of the messages."""
    head_seed: int | None = None
    """Decides the new layers' weights in the seed's place."""
    order_seed: int | None = None
    """Decides the order of the messages in the seed's place."""

    def __post_init__(self) -> None:
        self._normalise()
        self._check_values()
        self._check_combinations()

    # -- what it says -----------------------------------------------------------------------

    def but(self, **changes: Any) -> Experiment:
        """This experiment with some fields changed: ``BASELINE.but(trainable_token_pos="first")``.

        Raises:
            UsageError: for an unknown field, or as for the class.
        """
        for name in changes:
            if name not in names():
                raise UsageError(f"an experiment has no field {name!r}{nearest(name, names())}")
        return dataclasses.replace(self, **changes)

    def at(self, scale: str) -> Experiment:
        """The same row on another ladder: ``at("pocket")`` puts pocket-small for gpt2-small, and so on.

        A folder stays what it is. The learning rate and the messages follow unless they were given.

        Raises:
            UsageError: for another scale, or where its ladder has no such rung.
        """
        if scale not in SCALES:
            raise UsageError(f"there is no scale {scale!r}{nearest(scale, SCALES)}: use {', '.join(SCALES)}")
        if self.model_size not in MODELS:
            return self
        for name, model in MODELS.items():
            if model.scale == scale and MODELS[self.model_size].rung == model.rung:
                return self.but(model_size=name)
        raise UsageError(f"{scale} has no model that stands for {self.model_size}")

    def resolved(self) -> Experiment:
        """The experiment with its learning rate and messages filled in where they were left open."""
        if self.learning_rate is not None and self.dataset is not None:
            return self
        rate = self.checkpoint.learning_rate if self.learning_rate is None else self.learning_rate
        own = "pocket" if self.scale == "pocket" else "uci"
        return self.but(learning_rate=rate, dataset=own if self.dataset is None else self.dataset)

    @classmethod
    def recall(cls, values: dict[str, Any]) -> Experiment:
        """An experiment that was run, from its :meth:`to_dict`: not checked again, since the folder of its
        model or its file of messages may be gone by now."""
        e = object.__new__(cls)
        for field in dataclasses.fields(cls):
            object.__setattr__(e, field.name, values.get(field.name, field.default))
        return e

    def diff(self, other: Experiment) -> dict[str, tuple[Any, Any]]:
        """The fields in which this differs from ``other``: name to (other's value, this one's)."""
        pairs = {name: (getattr(other, name), getattr(self, name)) for name in names()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_dict(self) -> dict[str, Any]:
        """All fields, resolved, as plain values."""
        return dataclasses.asdict(self.resolved())

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model, found once: its shape, files, tokenizer, and the rate that suits it.

        Raises:
            UsageError: if it is not there (any more).
        """
        return find(self.model_size)

    @property
    def scale(self) -> str:
        """``pocket``, ``gpt2``, ``smollm2``, or ``folder``."""
        return MODELS[self.model_size].scale if self.model_size in MODELS else "folder"

    @property
    def flags(self) -> list[str]:
        """The command-line flags that differ from their defaults."""
        words: list[str] = []
        for name, (_, value) in self.diff(Experiment()).items():
            text = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
            words += [f"--{name}"] if value is True else [f"--{name}", text]
        return words

    @property
    def command(self) -> str:
        """The command that repeats this experiment, its learning rate spelled out."""
        e = self if self.learning_rate is not None else self.but(learning_rate=self.checkpoint.learning_rate)
        return shlex.join(["onechange", "run", *e.flags])

    @property
    def uses_lora(self) -> bool:
        return self.trainable_layers in ("lora", "lora_alternative")

    @property
    def own_file(self) -> bool:
        """Whether the messages are a reader's own, which the seed splits."""
        return self.dataset not in (None, "uci", "pocket")

    @property
    def one_test_set(self) -> bool:
        """Whether every seed is tested on the same messages."""
        return not self.resplit and not self.folds and not self.own_file

    # -- what is allowed --------------------------------------------------------------------

    def _normalise(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("model_size", model_name(home(self.model_size) if isinstance(self.model_size, PATH) else self.model_size))
        if isinstance(self.dataset, PATH):
            put("dataset", home(self.dataset))
        if isinstance(self.context_length, str) and re.fullmatch(r"[+-]?[0-9]+", self.context_length):
            put("context_length", int(self.context_length))
        for name in ("lora_alpha", "learning_rate", "weight_decay", "label_noise"):
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):
                put(name, float(value))

    def _check_values(self) -> None:
        for name, hint in hints().items():
            value = getattr(self, name)
            choices = choices_of(name)
            if choices and value not in choices:
                raise UsageError(f"{name} {value!r} is not one of {', '.join(choices)}{nearest(value, choices)}")
            if not choices and not fits(value, hint):
                raise UsageError(f"{name} must be {getattr(hint, '__name__', hint)}, not {value!r}")
        counts = ("trainable_blocks", "lora_rank", "num_epochs", "batch_size", "accumulation_steps", "train_size")
        for name in (*counts, "context_length"):
            value = getattr(self, name)
            if isinstance(value, int) and not 1 <= value <= 2**31:
                raise UsageError(f"{name} must be between 1 and 2147483648, not {value}")
        for name in ("lora_alpha", "learning_rate", "weight_decay"):
            value = getattr(self, name)
            nothing = value == 0 and name != "weight_decay"
            if value is not None and (not math.isfinite(value) or value < 0 or nothing):
                raise UsageError(f"{name} must be a positive number, not {value}")
        if not 0 <= self.label_noise < 1:
            raise UsageError(f"label_noise must be a share from 0 to below 1, not {self.label_noise}")
        for name in ("seed", "head_seed", "order_seed"):
            if not 0 <= (getattr(self, name) or 0) < 2**32:
                raise UsageError(f"{name} must be between 0 and 4294967295, not {getattr(self, name)}")
        if not -(2**31) <= self.ignore_index < 2**31:
            raise UsageError(f"ignore_index {self.ignore_index} is not a 32-bit number")
        named = ("longest_training_example", "model_context_length")
        if isinstance(self.context_length, str) and self.context_length not in named:
            raise UsageError(
                f"context_length {self.context_length!r} is not {named[0]}, {named[1]} or a number"
                f"{nearest(self.context_length, named)}"
            )
        if self.dataset is not None and not is_dataset(self.dataset):
            raise UsageError(
                f"dataset {self.dataset!r} is not uci, pocket or a file that exists"
                f"{nearest(self.dataset, ('uci', 'pocket'))}"
            )

    def _check_combinations(self) -> None:
        shape = self.checkpoint.shape  # raises for an unknown size or an unusable folder
        if isinstance(self.context_length, int) and self.context_length > shape.context_length:
            raise UsageError(f"context_length {self.context_length} is more than the model's {shape.context_length}")
        if self.uses_lora and self.lora_rank > shape.emb_dim:
            raise UsageError(f"lora_rank {self.lora_rank} is more than the model's width, {shape.emb_dim}")
        if self.trainable_blocks > shape.n_layers:
            raise UsageError(f"trainable_blocks {self.trainable_blocks} is more than the model's {shape.n_layers}")
        dataset = self.dataset or ("pocket" if self.scale == "pocket" else "uci")
        never_seen = (
            not self.disable_causal_mask and self.padding_side == "right" and self.trainable_token_pos != "last"
        )
        idle = [  # whether it is so, the options that then change nothing, and why
            (not self.uses_lora, LORA, "without --trainable_layers lora"),
            (self.trainable_layers != "last_block", ["trainable_blocks"], "without --trainable_layers last_block"),
            (self.no_padding, PADDING, "with no_padding, which neither pads nor cuts"),
            (never_seen, ["mask_padding"], "where no token that is read can see padding"),
            (not self.own_file, ["balance"], f"on {dataset}, which is balanced already"),
            (self.own_file, ["resplit", "folds"], "on a file, which is split by the seed already"),
            (self.resplit, ["folds"], "with resplit, which draws every split anew"),
        ]
        default = {f.name: f.default for f in dataclasses.fields(self)}
        for applies, options, why in idle:
            if given := [name for name in options if applies and getattr(self, name) != default[name]]:
                raise UsageError(f"{given[0]} has no effect {why}")
        if self.average_embeddings and self.trainable_token_pos == "first":
            raise UsageError("average_embeddings reads all positions: trainable_token_pos must be last or flexible")
        if layout_of(shape).name != "GPT-2":
            for name, value in (("trainable_layers", "biases"), ("weights", "random_gpt2")):
                if getattr(self, name) == value:
                    raise UsageError(f"{name} {value} is GPT-2's alone: a {layout_of(shape).name} has no such thing")
        if self.padding_side == "left" and self.trainable_token_pos == "first" and not self.no_padding:
            raise UsageError("the first token is padding with padding_side left: trainable_token_pos must be last")
        if self.ignore_index in (0, 1):
            raise UsageError(
                f"ignore_index {self.ignore_index} is one of the labels: no message of it would be learned"
            )


def decides(values: dict[str, Any]) -> dict[str, Any]:
    """The fields that name a run: one that came when runs had been stored only where it has not its default."""
    return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}


@cache
def hints() -> dict[str, Any]:
    """The fields of :class:`Experiment` and their types."""
    return get_type_hints(Experiment)


def names() -> list[str]:
    """The fields of :class:`Experiment`, in order."""
    return list(hints())


def choices_of(name: str) -> tuple[str, ...]:
    """The values a field may take, or nothing where it is open."""
    return get_args(hints()[name]) if get_origin(hints()[name]) is Literal else ()


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a field's type (a bool is no int here)."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return any(type(value) is option or (option is type(None) and value is None) for option in options)


def is_dataset(dataset: str) -> bool:
    """Whether ``dataset`` is a name we know or a file that is there."""
    return dataset in ("uci", "pocket") or Path(dataset).is_file()


BASELINE = Experiment()
"""Row 1 of the table."""
