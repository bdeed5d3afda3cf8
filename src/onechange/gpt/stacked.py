"""Many seeds of one experiment as one model: every trained weight has an axis for the seed in front.

The seeds' batches go through together, ``(S, B, T, C)``; products with the trained weights are batched
over ``S``, frozen layers are shared. Adam works element by element, so each seed's numbers are what
they would be alone, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .llama import RMSNorm, rms
from .lora import LoRALinear, put
from .model import GPT, Embedding


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Each seed's ``x`` ``(S, ..., in)`` times its own ``weight`` ``(S, in, out)``: ``(S, ..., out)``."""
    return torch.bmm(x.flatten(1, -2), weight).unflatten(1, x.shape[1:-1])


def rows(parameter: Tensor, like: Tensor) -> Tensor:
    """A vector for each seed, ``(S, C)``, shaped to go beside ``(S, ..., C)``."""
    return parameter.view(len(parameter), *[1] * (like.ndim - 2), -1)


def stacked(tensors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([tensor.detach() for tensor in tensors]))


class Linears(nn.Module):
    """A linear layer for each seed. Weights lie as ``(S, in, out)``, the way their gradients come out of a product."""

    affine = True  # its weight and bias are all there is to it, as with a plain layer

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.transposed = stacked([layer.weight.T.contiguous() for layer in layers])  # (S, in, out)
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = stacked(biases) if biases else None  # (S, out)

    @property
    def weight(self) -> Tensor:
        return self.transposed.mT  # (S, out, in)

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return product(x, self.transposed)
        y = torch.baddbmm(self.bias[:, None], x.flatten(1, -2), self.transposed)
        return y.unflatten(1, x.shape[1:-1])


class Norms(nn.Module):
    """A layer norm for each seed."""

    def __init__(self, layers: list[nn.LayerNorm]) -> None:
        super().__init__()
        self.eps = layers[0].eps
        self.weight = stacked([layer.weight for layer in layers])  # (S, C)
        self.bias = stacked([layer.bias for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return y * rows(self.weight, y) + rows(self.bias, y)


class RMSNorms(nn.Module):
    """A root-mean-square norm for each seed."""

    def __init__(self, layers: list[RMSNorm]) -> None:
        super().__init__()
        self.eps = layers[0].eps
        self.weight = stacked([layer.weight for layer in layers])  # (S, C)

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.eps) * rows(self.weight, x)


class Embeddings(nn.Module):
    """An embedding for each seed; ids without an axis for seeds are looked up in all of them."""

    def __init__(self, layers: list[Embedding]) -> None:
        super().__init__()
        self.weight = stacked([layer.weight for layer in layers])  # (S, V, C)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.ndim == 1:
            return self.weight[:, None, ids]  # (S, 1, T, C)
        return self.weight[torch.arange(len(ids), device=ids.device)[:, None, None], ids]  # (S, B, T, C)


class LoRALinears(nn.Module):
    """An adapter for each seed, on a layer that they share or on one for each."""

    affine = True

    def __init__(self, layers: list[LoRALinear]) -> None:
        super().__init__()
        trained = layers[0].base.weight.requires_grad
        self.base = Linears([layer.base for layer in layers]) if trained else layers[0].base
        self.scale = layers[0].scale
        self.A = stacked([layer.A for layer in layers])  # (S, in, r)
        self.B = stacked([layer.B for layer in layers])  # (S, r, out)

    @property
    def weight(self) -> Tensor:
        return self.base.weight + self.scale * (self.A @ self.B).mT  # (S, out, in)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + product(self.scale * product(x, self.A), self.B)


STACKS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linears,
    nn.LayerNorm: Norms,
    RMSNorm: RMSNorms,
    Embedding: Embeddings,
    LoRALinear: LoRALinears,
}


def stack(models: list[GPT]) -> GPT:
    """One model that computes what ``models`` do, each for its own slice of ``(S, B, T)``.

    Its trained layers are new, with all seeds' weights; its frozen ones are the first model's.
    """
    whole = models[0]
    for name, module in list(whole.named_modules()):
        trained = any(p.requires_grad for p in module.parameters())
        # An adapter takes its base along: that is another module by now, and left alone.
        if type(module) in STACKS and trained and whole.get_submodule(name) is module:
            put(whole, name, STACKS[type(module)]([model.get_submodule(name) for model in models]))
    return whole
