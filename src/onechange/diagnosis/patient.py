"""A finetuned model as the doctor asks it: wherever it comes from, what its own users would be told, and that again
with more padding, on the other side, cut, or alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.tokens import pad
from ..gpt.model import GPT, View
from ..gpt.tokenizer import Tokenizer
from ..support.errors import UsageError
from ..training.prefix import CHUNK_TOKENS
from ..training.reader import Reader

Rows = Sequence[list[int]]


@dataclass(frozen=True)
class Patient:
    """A model that classifies.

    Attributes:
        name: what a person called it.
        understood: what it was taken for, a line each.
        reader: which outputs are read, as it is used by its own program.
        length: tokens that messages are padded and cut to; ``None`` where they are not padded.
        fill: the token that pads.
        stop: of Hugging Face's classes: ``config.pad_token_id``, the token that is taken for padding, or ``None``.
        theirs: whether it is one of Hugging Face's classes, which read the last token that is not ``stop``.
        trained: the fields of the experiment that trained it, where it is known, and the hash of its messages.
        named: whether the classes have names of their own.
        columns: which output each class is, where they are asked for in another order than the head's.
    """

    name: str
    understood: tuple[str, ...]
    model: GPT
    tokenizer: Tokenizer
    classes: tuple[str, ...]
    reader: Reader
    length: int | None
    fill: int
    stop: int | None = None
    theirs: bool = False
    trained: dict[str, Any] = field(default_factory=dict)
    named: bool = True
    columns: tuple[int, ...] | None = None

    @property
    def context(self) -> int:
        return self.model.config.context_length

    @property
    def cost(self) -> float:
        """Operations a token: twice the parameters of the blocks."""
        return 2.0 * sum(p.numel() for p in self.model.blocks.parameters())

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Messages as tokens, whole."""
        return [self.tokenizer.encode(text) for text in texts]

    def answers(self, rows: Rows, done: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """The probabilities ``(N, K)`` that its own program gives: padded and cut as it was trained."""
        limit = self.length or self.context
        unseen = self.reader.own_end and self.reader.causal and not self.reader.left  # padding: it is not computed
        return self.asked([row[:limit] for row in rows], None if unseen else self.length, done=done)

    def asked(
        self, rows: Rows, length: int | None, left: bool | None = None, masked: bool = False,
        done: Callable[[int], object] = lambda n: None,
    ) -> np.ndarray:  # fmt: skip
        """The same with every row padded to ``length``, on the ``left`` or on its own side, padding ``masked`` or not.

        Without a ``length`` nothing is padded: what fills a tensor is not seen, and the last own token is the last.
        """
        left = self.reader.left if left is None else left
        if length is None:
            reader = replace(self.reader, own_end=True, unpadded=True, left=False)
        else:
            reader = replace(self.reader, left=left, masked=masked or self.reader.masked, unpadded=False)
        order, out = sorted(range(len(rows)), key=lambda i: len(rows[i])), np.empty((len(rows), len(self.classes)))
        while order:
            T = length or len(rows[order[-1]])
            size = max(1, CHUNK_TOKENS // T)
            index, order = order[-size:], order[:-size]
            tokens = pad([rows[i] for i in index], [0] * len(index), self.fill, T, "left" if left else "right")
            out[index] = self._probabilities(tokens.ids, torch.from_numpy(tokens.lengths), reader)
            done(len(index))
        return out if self.columns is None else out[:, self.columns]

    def known_as(self, classes: tuple[str, ...]) -> Patient:
        """The same with its classes in the order of the messages', matched by their names where they have any.

        Raises:
            UsageError: if they are others.
        """
        others = f"{self.name} tells {', '.join(self.classes)} apart, the messages are {', '.join(classes)}"
        if len(classes) != len(self.classes):
            raise UsageError(f"{others}: the doctor needs messages with the model's own classes")
        if not self.named:
            taken = f"its classes have no names: {', '.join(self.classes)} were taken for {', '.join(classes)}"
            return replace(self, classes=classes, understood=(*self.understood, taken))
        mine, asked = ([name.strip().casefold() for name in names] for names in (self.classes, classes))
        if sorted(mine) != sorted(asked):
            raise UsageError(f"{others}: give the labels the same names")
        return replace(self, classes=classes, columns=tuple(mine.index(name) for name in asked))

    @torch.no_grad()
    def _probabilities(self, ids: Tensor, lengths: Tensor, reader: Reader) -> np.ndarray:
        model = self.model
        assert model.head is not None
        device = next(model.parameters()).device
        ids, lengths = ids.to(device), lengths.to(device)
        view = reader.view(lengths, ids.size(1))
        if self.theirs:
            view = View(self.last(ids, reader.real(lengths, ids.size(1)) if reader.unpadded else None), view.keys)
        y = model.final_norm(model.run(model.embed(ids), view))
        return model.head(reader.pool(y, lengths)).softmax(-1).double().cpu().numpy()

    def last(self, ids: Tensor, own: Tensor | None) -> Tensor:
        """Where one of Hugging Face's classes reads ``ids`` ``(B, T)``, of which ``own`` are there: ``(B, 1)``.

        As transformers does it: the last token that is not ``config.pad_token_id``, the first where all are; the last
        of all where that word is not set.
        """
        kept = torch.ones_like(ids, dtype=torch.bool) if self.stop is None else ids != self.stop
        kept = kept if own is None else kept & own
        return (torch.arange(ids.size(1), device=ids.device) * kept).argmax(-1)[:, None]
