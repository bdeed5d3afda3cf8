"""Messages as numbers: tokenized, cut, padded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..experiment.experiment import Experiment
from ..gpt.tokenizer import Tokenizer
from ..support.errors import UsageError
from .messages import Messages


@dataclass(frozen=True)
class Tokens:
    """Messages as numbers.

    Attributes:
        ids: ``(N, T)`` integers, each row a message filled up to ``T`` with ``<|endoftext|>``.
        lengths: ``(N,)`` integers: the message's own tokens.
        labels: ``(N,)`` integers.
    """

    ids: Tensor
    lengths: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ids."""
        return hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()


def encode(frame: pd.DataFrame, tokenizer: Tokenizer, length: int | None, side: str = "right") -> Tokens:
    """Tokenize a frame, cut every message to ``length`` tokens and pad it to that.

    Without a ``length`` nothing is cut, and the padding, to the longest message, only fills a tensor.
    """
    rows = [tokenizer.encode(text)[:length] for text in frame.text]
    return pad(rows, list(frame.label), tokenizer.end, length, side)


def pad(rows: Sequence[list[int]], labels: Sequence[int], end: int, length: int | None, side: str = "right") -> Tokens:
    """Lists of tokens as one tensor, filled on one side with ``end``."""
    lengths = np.array([len(row) for row in rows])
    if not lengths.all():
        raise UsageError(f"message {int(lengths.argmin()) + 1} has no token in this model's vocabulary")
    ids = np.full((len(rows), length or lengths.max()), end, dtype=np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[slice(len(tokens)) if side == "right" else slice(-len(tokens), None)] = tokens
    return Tokens(torch.from_numpy(ids), lengths, torch.tensor(list(labels), dtype=torch.int64))


def padded_length(train: pd.DataFrame, tokenizer: Tokenizer, context_length: str | int, limit: int) -> int:
    """The length that ``context_length`` asks for, in tokens.

    Raises:
        UsageError: if it is more than the model's context, ``limit``.
    """
    if context_length == "model_context_length":
        return limit
    longest = max(len(tokenizer.encode(text)) for text in train.text)
    length = longest if context_length == "longest_training_example" else int(context_length)
    if length > limit:
        raise UsageError(
            f"the longest training message has {length} tokens, the model's context {limit}: "
            "cut them with --context_length model_context_length"
        )
    return length


def tokens_of(e: Experiment, messages: Messages) -> tuple[dict[str, Tokens], int]:
    """The three splits in the tokens of an experiment's model, and the length they were padded to.

    Raises:
        UsageError: if a message does not fit into the model's context.
    """
    limit, tokenizer = e.checkpoint.shape.context_length, e.checkpoint.tokenizer
    length = padded_length(messages.train, tokenizer, e.context_length, 2**31 if e.no_padding else limit)
    fill = None if e.no_padding else length
    frames = {"train": messages.train, "val": messages.val, "test": messages.test}
    tokens = {name: encode(frame, tokenizer, fill, e.padding_side) for name, frame in frames.items()}
    longest = max(int(split.lengths.max()) for split in tokens.values())
    if longest > limit:
        raise UsageError(f"a message has {longest} tokens, the model's context {limit}: no_padding cannot cut it")
    return tokens, length
