"""LoRA (Hu et al., 2021): train a low-rank change of a weight instead of the weight.

A linear layer ``y = W x`` becomes ``y = W x + s (x A) B`` with ``A`` of shape ``(in, r)`` and ``B`` of
shape ``(r, out)``. ``B`` starts at zero, so the model starts as it was. The scale ``s`` is
``alpha`` in the published table, ``alpha / r`` in the paper and ``alpha / sqrt(r)`` in rsLoRA
(Kalajdzievski, 2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import GPT

SCALINGS = {
    "table": lambda alpha, rank: alpha,
    "paper": lambda alpha, rank: alpha / rank,
    "rslora": lambda alpha, rank: alpha / math.sqrt(rank),
}


class LoRALinear(nn.Module):
    """A linear layer with an adapter beside it.

    Args:
        base: the layer to adapt; its own parameters are left as they are.
        rank: ``r``, the rank of the change.
        scale: what the change is multiplied by.
        merged: add the change to the weight at every call (one product with a ``(out, in)`` matrix)
            rather than to the output (two thin products). The same function either way.
    """

    affine = True  # ``weight`` and ``bias`` are all there is to it, as with a plain layer

    def __init__(self, base: nn.Linear, rank: int, scale: float, merged: bool = False) -> None:
        super().__init__()
        self.base, self.scale, self.merged = base, scale, merged
        self.A = nn.Parameter(torch.empty(base.in_features, rank, device=base.weight.device))
        self.B = nn.Parameter(torch.zeros(rank, base.out_features, device=base.weight.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def delta(self) -> Tensor:
        """The change of the weight, ``(out, in)``."""
        return self.scale * (self.A @ self.B).T

    @property
    def weight(self) -> Tensor:
        """The adapted weight, ``(out, in)``."""
        return self.base.weight + self.delta()

    @property
    def bias(self) -> Tensor | None:
        """The bias, if there is one; it has no adapter."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """The adapted layer: ``(..., in)`` to ``(..., out)``."""
        if self.merged:
            return F.linear(x, self.weight, self.bias)
        y = self.base(x)  # (..., out)
        thin = self.scale * (x @ self.A)  # (..., r)
        flat, thin = y.reshape(-1, y.size(-1)), thin.reshape(-1, thin.size(-1))
        return torch.addmm(flat, thin, self.B).view_as(y)  # y + thin B, in one pass

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A plain linear layer that computes the same; this one is left unchanged."""
        out, inner = self.base.weight.shape
        plain = nn.utils.skip_init(
            nn.Linear, inner, out, bias=self.base.bias is not None, device=self.base.weight.device
        )
        plain.weight.copy_(self.weight)
        if self.base.bias is not None:
            plain.bias.copy_(self.base.bias)
        return plain


def add_lora(
    model: GPT, rank: int, alpha: float, scaling: str = "table", merged: bool = False, layers: str = "all"
) -> GPT:
    """Put an adapter on every linear layer of a model, or on those of its attention alone, in place, head last.

    The order (blocks in order; query, key, value, output, MLP up, down; head) decides which random
    numbers each ``A`` gets.
    """
    scale = SCALINGS[scaling](alpha, rank)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and (layers == "all" or ".attn." in name):
            put(model, name, LoRALinear(module, rank, scale, merged))
    return model


def merge_lora(model: GPT) -> GPT:
    """Replace every adapter by a plain layer that computes the same, in place. Twice is as good as once."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            put(model, name, module.merge())
    return model


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Make ``module`` the one that stands at a dotted ``name`` in a model."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
