"""GPT-2, small enough to be read with the chapter that explains it.

One alphabet names the axes, here and in every other module:

=====  ==============================================================
``B``  messages in a batch
``T``  tokens in a message, padding included
``Q``  positions of a message that are read out (1, unless pooled)
``C``  channels: the width of the residual stream
``H``  heads, each of size ``D`` with ``C = H * D``
``K``  classes
``S``  seeds trained together: an axis before all others, where there is more than one
``V``  entries of the vocabulary
=====  ==============================================================

The architecture is that of Radford et al. (2019), *Language Models are Unsupervised Multitask
Learners*: pre-norm blocks, learned positions, GELU with the tanh approximation. Query, key and
value are three linear layers rather than one, so that an adapter can sit on each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT: everything that decides which parameters exist and who may look at whom.

    ``causal=False`` lets every token attend to every other, as row 17 of the table does.
    """

    vocab_size: int
    context_length: int
    emb_dim: int
    n_heads: int
    n_layers: int
    causal: bool = True

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.context_length, self.emb_dim, self.n_heads, self.n_layers) < 1:
            raise ValueError("every size of a GPT is 1 or more")
        if self.emb_dim % self.n_heads:
            raise ValueError(f"emb_dim {self.emb_dim} is not a multiple of n_heads {self.n_heads}")


@dataclass(frozen=True)
class View:
    """What the last block is asked for, and what every block may see.

    Args:
        at: positions to read, ``(B, Q)`` integers, or ``None`` for all of them.
        keys: which tokens the others may attend to, ``(B, T)`` booleans, or ``None`` for all of them.
            A token always sees itself.
    """

    at: Tensor | None = None
    keys: Tensor | None = None


ALL = View()


def take(x: Tensor, at: Tensor | None) -> Tensor:
    """The rows of ``x`` ``(B, T, C)`` at positions ``at`` ``(B, Q)``: ``(B, Q, C)``."""
    if at is None:
        return x
    return x.gather(-2, at[..., None].expand(*at.shape, x.size(-1)))  # (B, Q, C)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017), causal or not as the config says."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_heads, self.causal = config.n_heads, config.causal
        self.query = nn.Linear(config.emb_dim, config.emb_dim)
        self.key = nn.Linear(config.emb_dim, config.emb_dim)
        self.value = nn.Linear(config.emb_dim, config.emb_dim)
        self.out = nn.Linear(config.emb_dim, config.emb_dim)

    def heads(self, x: Tensor) -> Tensor:
        """Split channels into heads: ``(B, T, C)`` to ``(B, H, T, D)``."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)

    def project(self, x: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the positions read, keys and values of all tokens: ``(B, H, Q, D)`` and twice ``(B, H, T, D)``."""
        return self.heads(self.query(take(x, view.at))), self.heads(self.key(x)), self.heads(self.value(x))

    def mask(self, T: int, view: View, device: torch.device) -> Tensor | None:
        """Who may look at whom, ``(B, 1, Q, T)`` booleans, or ``None`` where a plain call will do."""
        if view.keys is None and (not self.causal or view.at is None):
            return None
        positions = torch.arange(T, device=device)
        readers = (positions if view.at is None else view.at)[..., None, :, None]  # (1, T, 1) or (B, 1, Q, 1)
        before = positions <= readers  # (1, T, T) or (B, 1, Q, T)
        if view.keys is None:
            return before
        seen = view.keys[..., None, None, :] | (positions == readers)  # (B, 1, Q, T)
        return before & seen if self.causal else seen

    def may_read_few(self, view: View) -> bool:
        """Whether ``few`` can stand in, and is the cheaper: key and value are ``W x + b`` and few ask."""
        whole = all(type(layer) is nn.Linear or hasattr(layer, "affine") for layer in (self.key, self.value))
        return whole and view.at is not None and view.at.size(-1) * self.n_heads < self.key.weight.size(-1)

    def few(self, x: Tensor, norm: nn.LayerNorm, view: View) -> Tensor:
        """``self(norm(x), view)`` without a key, a value or a scaled norm for any token: ``(B, Q, C)``.

        With ``norm(x) = g * n + h``, a score ``q . (W_k norm(x) + b_k)`` is ``(g * q W_k) . n + q . b_k`` and
        a ``q . W_k h`` that is the same for all tokens, which a softmax does not see; an output
        ``sum a (W_v norm(x) + b_v)`` is ``W_v (g * sum a n + h) + b_v``. One query costs ``4 H C`` operations
        a token instead of ``4 C^2``, and where ``x`` is a constant no gradient has to come back to it.
        """
        W_k, W_v = (layer.weight.unflatten(-2, (self.n_heads, -1)) for layer in (self.key, self.value))  # (H, D, C)
        g, h = (p.unflatten(-1, (1, 1, 1, -1)) for p in (norm.weight, norm.bias))  # (1, 1, 1, C)
        q = self.heads(self.query(norm(take(x, view.at))))  # (B, H, Q, D)
        q = q / math.sqrt(q.size(-1))
        u = g * torch.einsum("...bhqd,...hdc->...bhqc", q, W_k)  # (B, H, Q, C)
        n = F.layer_norm(x, x.shape[-1:], eps=norm.eps)  # (B, T, C)
        b_k = torch.einsum("...bhqd,...hd->...bhq", q, self.key.bias.unflatten(-1, (self.n_heads, -1)))
        scores = (u.flatten(-3, -2) @ n.mT).unflatten(-2, u.shape[-3:-1]) + b_k[..., None]  # (B, H, Q, T)
        mask = self.mask(x.size(-2), view, x.device)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        z = (scores.softmax(-1).flatten(-3, -2) @ n).unflatten(-2, u.shape[-3:-1])  # (B, H, Q, C)
        y = torch.einsum("...bhqc,...hdc->...bqhd", g * z + h, W_v).flatten(-2)  # (B, Q, C)
        bias = self.value.bias
        return self.out(y + (bias if bias.ndim == 1 else bias[:, None, None]))

    def forward(self, x: Tensor, view: View = ALL) -> Tensor:
        """What the positions of ``view`` gather from the rest: ``(B, T, C)`` to ``(B, Q, C)``."""
        q, k, v = self.project(x, view)  # (B, H, Q, D), then (B, H, T, D)
        mask = self.mask(x.size(-2), view, x.device)
        q, k, v = (t.flatten(0, -4) for t in (q, k, v))  # the kernels know one axis before the heads
        mask = None if mask is None else mask.flatten(0, -4)
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal and mask is None)
        y = y.transpose(1, 2).flatten(2)  # (B, Q, C)
        return self.out(y.unflatten(0, x.shape[:-2]))


class MLP(nn.Module):
    """The feed-forward half of a block: four times wider inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.down = nn.Linear(4 * config.emb_dim, config.emb_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Each position by itself: ``(B, Q, C)`` to the same shape."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Attention, then MLP, each added to what came in.

    Asked for a few positions only, the block computes queries, output and MLP there alone; keys
    and values are needed everywhere.
    """

    mlp: nn.Module
    norm1: Any  # a LayerNorm, or what stands in for it elsewhere
    norm2: nn.Module

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.norm2 = nn.LayerNorm(config.emb_dim)

    def forward(self, x: Tensor, view: View = ALL) -> Tensor:
        """The residual stream after this block, where it is asked for: ``(B, T, C)`` to ``(B, Q, C)``."""
        few = self.attn.may_read_few(view)
        y = self.attn.few(x, self.norm1, view) if few else self.attn(self.norm1(x), view)
        y = take(x, view.at) + y  # (B, Q, C)
        return y + self.mlp(self.norm2(y))  # (B, Q, C)


class Embedding(nn.Embedding):
    """PyTorch's embedding, which draws nothing on the meta device, where a model waits for its weights.

    Drawing there loads PyTorch's compiler, a second or two that only training has to spend.
    """

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class GPT(nn.Module):
    """The whole model. ``head`` is ``None`` while it is a language model (its output is then tied to
    the token embedding) and ``Linear(C, K)`` once it classifies. With ``checkpointing`` a block keeps
    nothing but its input for the backward pass, and is computed once more there (Chen et al., 2016).

    The parts run separately too: ``model.read(model.run(model.embed(ids)))`` is
    ``model(ids)``; a cached prefix is ``run`` stopped early.
    """

    final_norm: nn.Module
    head: nn.Module | None

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = Embedding(config.vocab_size, config.emb_dim)
        self.pos_emb = Embedding(config.context_length, config.emb_dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.emb_dim)
        self.head = None
        self.checkpointing = False

    def embed(self, ids: Tensor) -> Tensor:
        """Token plus position embedding: ids ``(B, T)`` to ``(B, T, C)``."""
        return self.tok_emb(ids) + self.pos_emb(torch.arange(ids.size(-1), device=ids.device))

    def run(self, x: Tensor, view: View = ALL, start: int = 0, stop: int | None = None) -> Tensor:
        """Blocks ``start`` to ``stop`` (all of them by default) over ``(B, T, C)``.

        Only the model's very last block narrows down to ``view.at``: ``(B, Q, C)`` comes out of it.
        """
        last = len(self.blocks) - 1
        everywhere = View(None, view.keys)
        recompute = self.checkpointing and torch.is_grad_enabled()
        for i in range(start, len(self.blocks) if stop is None else stop):
            block, asked = self.blocks[i], view if i == last else everywhere
            x = checkpoint(block, x, asked, use_reentrant=False) if recompute else block(x, asked)
        return x

    def read(self, x: Tensor) -> Tensor:
        """Final norm and output layer: ``(B, Q, C)`` to logits ``(B, Q, K)``, or ``(B, Q, V)`` without a head."""
        x = self.final_norm(x)
        return F.linear(x, self.tok_emb.weight) if self.head is None else self.head(x)

    def forward(self, ids: Tensor, view: View = ALL) -> Tensor:
        """Logits at the positions read: ids ``(B, T)`` to ``(B, Q, K)``.

        Raises:
            ValueError: if the messages are longer than the model's context.
        """
        if ids.size(-1) > self.config.context_length:
            raise ValueError(f"{ids.size(-1)} tokens do not fit a context of {self.config.context_length}")
        return self.read(self.run(self.embed(ids), view))

    @torch.no_grad()
    def generate(
        self, ids: Tensor, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Continue ids ``(B, T)`` by ``n`` drawn tokens: ``(B, T + n)``.

        The model must have no head; a ``temperature`` below 1 sharpens the distribution that is drawn from.
        """
        for _ in range(n):
            logits = self(ids[:, -self.config.context_length :])[:, -1]  # (B, V)
            drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)  # (B, 1)
            ids = torch.cat([ids, drawn], 1)
        return ids


def init_gpt2_(model: GPT, generator: torch.Generator | None = None) -> GPT:
    """GPT-2's own initialisation, in place: normal with 0.02, the layers that write into the residual
    stream smaller by the square root of their number, biases zero (Radford et al., 2019, section 2.3).
    """
    writers = 2 * len(model.blocks)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            std = 0.02 / math.sqrt(writers) if name.endswith((".out", ".down")) else 0.02
            nn.init.normal_(module.weight, 0.0, std, generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return model
