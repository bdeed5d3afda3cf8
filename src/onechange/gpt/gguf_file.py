"""A GGUF file, the format of llama.cpp, made into a folder in Hugging Face's Llama layout.

The folder is a checkpoint like any other. Its weights are the file's numbers as float32: a file quantised to
four bits gives the model of those four bits, not the one that was quantised.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..support.errors import UsageError
from .layouts import LAYOUTS
from .llama import LlamaConfig
from .tokenizer import END, byte_level_json

if TYPE_CHECKING:
    from gguf import GGUFReader

# What a file must say, where it says anything: the rest this package would compute wrongly.
KNOWN = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",  # llama.cpp's word for byte-level BPE
    "tokenizer.ggml.pre": "smollm",  # digits one by one, the rest as GPT-2 cuts it
}
CONTROL = 3  # the type of a token that no text can spell

BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(path: Path, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of a GGUF file into a folder.

    Raises:
        UsageError: if ``gguf`` is not installed, the file is no GGUF of a Llama with SmolLM's tokenizer, or
            its quantisation cannot be read.
    """
    file = opened(path)
    try:
        tokens = field(file, "tokenizer.ggml.tokens")
        shape, end = shape_of(file, len(tokens)), tokens.index(END)
        tensors = dict(weights(file, shape))
        tokenizer = tokenizer_json(file, tokens)
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} lacks what a Llama needs: {error}") from None
    layout = LAYOUTS["llama"]
    try:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    except SafetensorError as error:  # a full disk, among others
        raise UsageError(f"{folder} cannot be written: {error}") from None
    (folder / "config.json").write_text(json.dumps(layout.config(shape, end), indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


def require_gguf() -> None:
    """Refuse to go on without the package that reads such files."""
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("the package gguf is not installed: pip install 'onechange[smollm2]'")


def opened(path: Path) -> GGUFReader:
    """The file, its architecture and tokenizer looked at."""
    require_gguf()
    from gguf import GGUFReader

    try:
        file = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UsageError(f"{path} cannot be read as GGUF (truncated?): {error}") from None
    for key, value in KNOWN.items():
        found = field(file, key) if key in file.fields else None
        if found != value:
            raise UsageError(f"{path}: {key} is {found!r}, this package reads {value!r}")
    return file


def field(file: GGUFReader, key: str) -> Any:
    return file.fields[key].contents()


def shape_of(file: GGUFReader, vocab_size: int) -> LlamaConfig:
    """The model's shape, from the file's own words."""
    words = {key.removeprefix("llama."): field(file, key) for key in file.fields if key.startswith("llama.")}
    if any(key.startswith("rope.scaling") for key in words):
        raise ValueError("its rotary positions are scaled")
    return LlamaConfig(
        vocab_size=vocab_size,
        context_length=words["context_length"],
        emb_dim=words["embedding_length"],
        n_heads=words["attention.head_count"],
        n_layers=words["block_count"],
        n_groups=words.get("attention.head_count_kv", words["attention.head_count"]),
        hidden_dim=words["feed_forward_length"],
        rope_base=words.get("rope.freq_base", 10000.0),
        norm_eps=float(f"{words['attention.layer_norm_rms_epsilon']:.6g}"),  # 1e-5, and not the float32 next to it
    )


def weights(file: GGUFReader, shape: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    """The tensors under Hugging Face's names, as float32.

    Raises:
        UsageError: for a quantisation that ``gguf`` cannot undo.
        ValueError: if a tensor is missing, or there is one too many (an output of its own, or biases).
    """
    from gguf import dequantize

    names = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    for i in range(shape.n_layers):
        names |= {f"blk.{i}.{a}.weight": f"layers.{i}.{b}.weight" for a, b in BLOCK.items()}
    stored = {tensor.name: tensor for tensor in file.tensors}
    if odd := sorted(names.keys() ^ stored.keys()):
        raise ValueError(f"{odd[0]} is {'there' if odd[0] in stored else 'not there'}")
    for theirs, name in names.items():
        tensor = stored[theirs]
        try:
            x = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        except NotImplementedError:
            kind = tensor.tensor_type.name
            raise UsageError(f"{theirs} is stored as {kind}, which the package gguf cannot turn into floats") from None
        heads = {"attn_q": shape.n_heads, "attn_k": shape.n_groups}.get(theirs.split(".")[-2])
        yield "model." + name, x if heads is None else halves(x, heads)


def halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query's or key's weight ``(H D, C)`` from llama.cpp's order to Hugging Face's.

    llama.cpp turns neighbours, the rows ``2 i`` and ``2 i + 1`` of a head; here a head's rows ``i`` and
    ``i + D / 2`` are turned together (see :func:`onechange.gpt.llama.rotate`).
    """
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def tokenizer_json(file: GGUFReader, tokens: list[str]) -> str:
    """The tokenizer as the text of a ``tokenizer.json``."""
    from tokenizers import pre_tokenizers

    types, merges = field(file, "tokenizer.ggml.token_type"), field(file, "tokenizer.ggml.merges")
    return byte_level_json(
        {token: i for i, token in enumerate(tokens)},
        [(left, right) for left, right in (merge.split(" ") for merge in merges)],
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL],
    )
