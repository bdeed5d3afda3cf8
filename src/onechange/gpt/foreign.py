"""GPT-2 as others than Hugging Face store it: the source book's names, nanoGPT's, and shapes that no file spells out.

The book is Raschka (2024), *Build a Large Language Model (From Scratch)*; nanoGPT, and minGPT before it, is Karpathy's.
Both keep linear weights as ``(out, in)``, and may do without biases, which is the same as biases of zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor

from ..support.errors import UsageError
from .layouts import LAYOUTS, Layout, Names, Naming
from .model import GPTConfig
from .stored import Stored

HEADS = {768: 12, 1024: 16, 1280: 20, 1600: 25}
"""How many heads GPT-2's four widths have: no tensor says it."""

HEAD = re.compile(r"(?:^|\.)(?:score|classifier|head|out_head|lm_head)\.weight$")
ADAPTER = re.compile(r"(?:^|\.)lora[._]")


class ByLinear(Naming):
    """Weights as ``torch.nn.Linear`` has them."""

    name = "GPT-2"

    def is_zero(self, theirs: str, stored: Iterable[str]) -> bool:
        kind = ".".join(theirs.split(".")[-2:])
        return kind.endswith(".bias") and not any(name.endswith(kind) for name in stored)


class SourceBook(ByLinear):
    """One tensor for each of our parameters."""

    embedding = "tok_emb.weight"
    pairs: ClassVar = {
        "attn.query": "att.W_query",
        "attn.key": "att.W_key",
        "attn.value": "att.W_value",
        "attn.out": "att.out_proj",
        "mlp.up": "ff.layers.0",
        "mlp.down": "ff.layers.2",
    }

    def names(self, shape: GPTConfig) -> Names:
        yield "tok_emb.weight", "tok_emb.weight", None
        yield "pos_emb.weight", "pos_emb.weight", None
        for i in range(shape.n_layers):
            for ours, theirs in self.pairs.items():
                for kind in ("weight", "bias"):
                    yield f"blocks.{i}.{ours}.{kind}", f"trf_blocks.{i}.{theirs}.{kind}", None
            for norm in ("norm1", "norm2"):
                for kind, theirs in (("weight", "scale"), ("bias", "shift")):
                    yield f"blocks.{i}.{norm}.{kind}", f"trf_blocks.{i}.{norm}.{theirs}", None
        yield "final_norm.weight", "final_norm.scale", None
        yield "final_norm.bias", "final_norm.shift", None


class NanoGPT(ByLinear):
    """Hugging Face's names; query, key and value are one matrix, the other way round."""

    embedding = "wte.weight"

    def names(self, shape: GPTConfig) -> Names:
        return LAYOUTS["gpt2"].names(shape)

    def ours(self, tensor: Tensor, theirs: str, part: int | None) -> Tensor:
        if part is not None and tensor.ndim and tensor.size(0) % 3 == 0:
            tensor = tensor.chunk(3)[part].contiguous()
        return tensor


BOOK, NANO = SourceBook(), NanoGPT()


def naming_of(stored: Stored, layout: Layout) -> tuple[Naming, str]:
    """Whose names a file has, and what stands before them: nothing, ``transformer.``, ``_orig_mod.``, ..."""
    for naming in (BOOK, layout) if layout.name == "GPT-2" else (layout,):
        end = naming.embedding
        found = [name for name in stored.shapes if name == end or name.endswith(f".{end}")]
        if found:
            before = min(found, key=len).removesuffix(end)
            fused = stored.shapes.get(f"{before}h.0.attn.c_attn.weight", ())
            return (NANO if len(fused) == 2 and fused[0] == 3 * fused[1] else naming), before
    return layout, ""


def shape_of(stored: Stored) -> GPTConfig:
    """The shape of a GPT-2 that no ``config.json`` describes, read from its tensors.

    Raises:
        UsageError: if it is none, or has a width of which nobody can tell the heads.
    """
    naming, before = naming_of(stored, LAYOUTS["gpt2"])
    positions, block = ("pos_emb.weight", "trf_blocks") if naming is BOOK else ("wpe.weight", "h")
    start = re.compile(rf"{re.escape(f'{before}{block}.')}(\d+)\.")
    blocks = {int(found[1]) for name in stored.shapes if (found := start.match(name))}
    tokens, contexts = (stored.shapes.get(before + name, ()) for name in (naming.embedding, positions))
    if not blocks or len(tokens) != 2 or len(contexts) != 2:
        raise UsageError(
            f"{stored.path} is not a GPT-2 of Hugging Face's, the source book's or nanoGPT's, "
            f"and has no config.json beside it: it holds {some_names(stored)}"
        )
    (V, C), n_layers = tokens, max(blocks) + 1
    heads = stored.about.get("n_head") or HEADS.get(C)
    if type(heads) is not int or heads < 1 or C % heads:
        words = {"model_type": "gpt2", "vocab_size": V, "n_positions": contexts[0], "n_embd": C, "n_layer": n_layers}
        raise UsageError(
            f"{stored.path.parent} has no config.json, and a width of {C} does not say how many heads: "
            f'put {json.dumps(words)[:-1]}, "n_head": ...}} there'
        )
    return GPTConfig(V, contexts[0], C, heads, n_layers)


def left_out(stored: Stored, vocab_size: int) -> list[str]:
    """What a run on this checkpoint does without, a line each: a head that classifies, adapters, nanoGPT's GELU."""
    lines = []
    if (name := head_in(stored, vocab_size)) is not None:
        lines.append(f"{name} of {stored.shapes[name][0]} classes is not used: a run begins with a new head")
    if any(ADAPTER.search(name) for name in stored.shapes):
        lines.append("its LoRA adapters are not used: save it with --merge to go on from them")
    if naming_of(stored, LAYOUTS["gpt2"])[0] is NANO:
        lines.append("nanoGPT's GELU, where it is the exact one, is computed as GPT-2's approximation of it")
    return [f"{stored.path}: {line}" for line in lines]


def head_in(stored: Stored, vocab_size: int) -> str | None:
    """The weight ``(K, C)`` of a head that classifies, the first where there are several, or ``None``."""
    heads = (n for n, size in stored.shapes.items() if HEAD.search(n) and len(size) == 2 and size[0] < vocab_size // 2)
    return next(heads, None)


def some_names(stored: Stored) -> str:
    """The first tensors of a file, to say what it is."""
    return ", ".join(list(stored.shapes)[:3])[:120]
