"""What stands in for a pretrained model, the same every time, and few messages to run it on."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from onechange.data.messages import Messages, Source


def hf_tensors(shape: tuple[int, int, int], vocab_size: int, context: int, std: float = 0.15) -> dict[str, np.ndarray]:
    """Weights of a GPT-2 ``shape`` (channels, heads, blocks), each drawn from the CRC of its own name."""
    C, _, n_layers = shape

    def draw(name: str, size: tuple[int, ...], spread: float, mean: float = 0.0) -> None:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        tensors[name] = (mean + spread * rng.standard_normal(size)).astype(np.float32)

    tensors: dict[str, np.ndarray] = {}
    draw("wte.weight", (vocab_size, C), 0.5)
    draw("wpe.weight", (context, C), 0.2)
    for i in range(n_layers):
        linear = {"attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C), "mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C)}
        for name, size in linear.items():
            draw(f"h.{i}.{name}.weight", size, std)
            draw(f"h.{i}.{name}.bias", size[-1:], 0.05)
    for name in [f"h.{i}.ln_{k}" for i in range(n_layers) for k in (1, 2)] + ["ln_f"]:
        draw(f"{name}.weight", (C,), 0.1, 1.0)
        draw(f"{name}.bias", (C,), 0.1)
    return tensors


def write_toy(folder: Path, tokenizer_json: str, shape: tuple[int, int, int] = (32, 4, 3), context: int = 160) -> Path:
    """A GPT-2 folder in the Hugging Face layout with the pocket vocabulary as its own."""
    channels, heads, blocks = shape
    folder.mkdir(parents=True, exist_ok=True)
    save_file(hf_tensors(shape, 4096, context), folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "gpt2", "vocab_size": 4096, "n_positions": context}
    config |= {"n_embd": channels, "n_head": heads, "n_layer": blocks, "bos_token_id": 4095, "eos_token_id": 4095}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json)
    return folder


WHOLE = Source.messages


@cache
def few_messages(source: Source) -> Messages:
    """The shorter pocket messages, with less to validate and to test on; a file as it is."""
    messages = WHOLE(source)
    if source.dataset != "pocket":
        return messages
    parts = {name: getattr(messages, name) for name in ("train", "val", "test")}
    short = {name: part[part.text.str.len() < 120].reset_index(drop=True) for name, part in parts.items()}
    return replace(messages, train=short["train"], val=short["val"][:45], test=short["test"][:60])
