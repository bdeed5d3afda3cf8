"""Llama, the model of today, as GPT-2 with four changes (Touvron et al., 2023, *LLaMA: Open and Efficient
Foundation Language Models*; the axes are those of :mod:`onechange.gpt.model`).

1. The norm divides by the root mean square, and neither centres nor shifts: :class:`RMSNorm`.
2. No position is added to a token; queries and keys are turned by their positions: :func:`rotate`.
3. Several heads share a key and a value: :class:`GroupedAttention`.
4. The feed-forward half has a gate: :class:`SwiGLU`.

And no layer has a bias. Everything else, the three steps ``embed``, ``run`` and ``read`` among it, is GPT-2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import GPT, Attention, Block, Embedding, GPTConfig, View, take


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(GPTConfig):
    """The shape of a Llama.

    Args:
        n_groups: heads of keys and values, each shared by ``n_heads / n_groups`` heads of queries.
        hidden_dim: the width inside the feed-forward half.
        rope_base: the slowest pair of channels turns by nearly ``1 / rope_base`` a token.
        norm_eps: what the norm adds to the mean square.
    """

    n_groups: int
    hidden_dim: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.n_groups, self.hidden_dim) < 1:
            raise ValueError("every size of a Llama is 1 or more")
        if self.n_heads % self.n_groups:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_groups {self.n_groups}")
        if self.emb_dim // self.n_heads % 2:
            raise ValueError(
                f"heads of {self.emb_dim // self.n_heads} channels have no pairs that positions could turn"
            )


def rms(x: Tensor, eps: float) -> Tensor:
    """Every vector of ``x`` ``(..., C)`` divided by the root of its mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich, 2019): ``(..., C)`` to the same shape, channels then scaled."""

    def __init__(self, emb_dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Each vector by itself."""
        return rms(x, self.eps) * self.weight


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Rotary positions (Su et al., 2021): turn the pairs of channels ``(i, i + D / 2)`` of every head.

    A pair turns by its token's position times ``base ** (-2 i / D)``, so that a query and a key meet at an
    angle that depends on how far apart they stand, and on nothing else. A message is therefore the same to
    the model wherever in its row it begins: behind padding, whose tokens nobody sees, or at the row's start.

    Args:
        x: queries or keys, ``(B, H, T, D)``.
        positions: ``(T,)``, or ``(B, T)`` where every row has its own.
        base: see :class:`LlamaConfig`.
    """
    D = x.size(-1)
    speed = base ** (-torch.arange(0, D, 2, device=x.device) / D)  # (D/2,)
    angle = positions[..., None, :, None] * speed  # (1, T, D/2) or (B, 1, T, D/2)
    cos, sin = angle.cos().type_as(x), angle.sin().type_as(x)
    a, b = x.chunk(2, -1)  # (B, H, T, D/2)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)  # (B, H, T, D)


class GroupedAttention(Attention):
    """Attention with rotary positions, and with fewer heads of keys and values (Ainslie et al., 2023)."""

    def __init__(self, config: LlamaConfig) -> None:
        nn.Module.__init__(self)  # GPT-2's layers are not made
        self.n_heads, self.n_groups, self.causal = config.n_heads, config.n_groups, config.causal
        self.rope_base = config.rope_base
        narrow = config.emb_dim // config.n_heads * config.n_groups
        self.query = nn.Linear(config.emb_dim, config.emb_dim, bias=False)
        self.key = nn.Linear(config.emb_dim, narrow, bias=False)
        self.value = nn.Linear(config.emb_dim, narrow, bias=False)
        self.out = nn.Linear(config.emb_dim, config.emb_dim, bias=False)

    def groups(self, x: Tensor) -> Tensor:
        """Split channels into the heads of keys or values: ``(B, T, C G / H)`` to ``(B, G, T, D)``."""
        return x.unflatten(-1, (self.n_groups, -1)).transpose(-3, -2)

    def project(self, x: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """As GPT-2's, queries and keys turned by their positions, and keys and values given to all that share them."""
        everywhere = torch.arange(x.size(-2), device=x.device)
        at = everywhere if view.at is None else view.at  # (T,) or (B, Q)
        q = rotate(self.heads(self.query(take(x, view.at))), at, self.rope_base)  # (B, H, Q, D)
        k = rotate(self.groups(self.key(x)), everywhere, self.rope_base)  # (B, G, T, D)
        v = self.groups(self.value(x))
        k, v = (t.repeat_interleave(self.n_heads // self.n_groups, -3) for t in (k, v))  # (B, H, T, D)
        return q, k, v

    def may_read_few(self, view: View) -> bool:
        """Never: a key is turned by its own position, which no other matrix can stand in for, and is narrow."""
        return False


class SwiGLU(nn.Module):
    """The feed-forward half with a gate (Shazeer, 2020): what goes up is let through, or not, channel by channel."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each position by itself: ``(B, Q, C)`` to the same shape."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LlamaBlock(Block):
    """GPT-2's block of other parts."""

    def __init__(self, config: LlamaConfig) -> None:
        nn.Module.__init__(self)
        self.attn = GroupedAttention(config)
        self.mlp = SwiGLU(config)
        self.norm1 = RMSNorm(config.emb_dim, config.norm_eps)
        self.norm2 = RMSNorm(config.emb_dim, config.norm_eps)


class Llama(GPT):
    """The whole model. Its output is tied to the token embedding, as GPT-2's is."""

    def __init__(self, config: LlamaConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.tok_emb = Embedding(config.vocab_size, config.emb_dim)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layers))
        self.final_norm = RMSNorm(config.emb_dim, config.norm_eps)
        self.head = None
        self.checkpointing = False

    def embed(self, ids: Tensor) -> Tensor:
        """Token embedding alone: ids ``(B, T)`` to ``(B, T, C)``."""
        return self.tok_emb(ids)
