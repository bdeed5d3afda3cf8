"""Which outputs an experiment reads, and therefore which tokens have to be computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..experiment.experiment import Experiment
from ..gpt.model import View


@dataclass(frozen=True)
class Reader:
    """Which outputs an experiment reads, and therefore which tokens have to be computed.

    Attributes:
        average: average over positions instead of reading one.
        first: read the first token.
        own_end: a message ends with its own last token; what lies behind it is not read.
        causal: a token sees only what stands before it.
        unpadded: what lies behind a message only fills the tensor, and must not be seen at all.
        masked: padding is there, but no other token sees it.
        left: padding stands before the message instead of behind it.
    """

    average: bool
    first: bool
    own_end: bool
    causal: bool
    unpadded: bool
    masked: bool = False
    left: bool = False

    @classmethod
    def of(cls, e: Experiment) -> Reader:
        own_end = e.no_padding or e.trainable_token_pos == "flexible"
        first = e.trainable_token_pos == "first"
        left, causal = e.padding_side == "left", not e.disable_causal_mask
        return cls(e.average_embeddings, first, own_end, causal, e.no_padding, e.mask_padding, left)

    def width(self, lengths: np.ndarray, T: int, plain: bool = False) -> int:
        """Tokens of a batch that can reach an output that is read, of the ``T`` there are.

        The ``plain`` loop computes the padding too.
        """
        if self.first and self.causal and not plain:
            return 1
        only_messages = self.unpadded or (self.own_end and self.causal and not self.left and not plain)
        return int(lengths.max()) if only_messages else T

    def view(self, lengths: Tensor, T: int) -> View:
        """What the blocks are asked for: lengths ``(B,)`` to positions ``(B, 1)`` and visible keys ``(B, T)``."""
        ends = lengths - 1 if self.own_end and not self.left else torch.full_like(lengths, T - 1)
        at = None if self.average else (torch.zeros_like(lengths) if self.first else ends)[..., None]
        hidden = self.masked or (self.unpadded and not self.causal)
        return View(at, self.real(lengths, T) if hidden else None)

    def real(self, lengths: Tensor, T: int) -> Tensor:
        """Which tokens are a message's own: lengths ``(B,)`` to ``(B, T)`` booleans."""
        positions = torch.arange(T, device=lengths.device)
        return positions >= T - lengths[..., None] if self.left else positions < lengths[..., None]

    def pool(self, y: Tensor, lengths: Tensor) -> Tensor:
        """One vector a message: ``(B, Q, C)`` to ``(B, C)``.

        The table averages logits; the head is linear, so averaging what goes into it is the same.
        """
        if not self.average:
            return y[..., 0, :]
        if not self.own_end:
            return y.mean(-2)
        return (y * self.real(lengths, y.size(-2))[..., None]).sum(-2) / lengths[..., None]
