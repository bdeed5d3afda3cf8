"""Llama folders in Hugging Face's layout: those that are read, and those that are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.gpt.layouts import network
from onechange.gpt.llama import LlamaConfig
from onechange.gpt.weights import load_weights, read_config


@pytest.fixture
def folder(tmp_path: Path, toy_llama: Path) -> Path:
    """A copy of the toy folder, to spoil."""
    return Path(shutil.copytree(toy_llama, tmp_path / "model"))


def config(folder: Path, **changes: Any) -> None:
    """Change words of ``config.json``; ``...`` leaves one out."""
    words = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: word for key, word in words.items() if word is not ...}))


def tensors(folder: Path, change: Callable[[dict], object]) -> None:
    stored = load_file(folder / "model.safetensors")
    change(stored)
    save_file(stored, folder / "model.safetensors")


WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"model_type": "mistral"}, "computes gpt2 and llama"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "biases": ({"attention_bias": True}, "attention_bias is True"),
    "an output of its own": ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    "an output unsaid": ({"tie_word_embeddings": ...}, "tie_word_embeddings is False"),
    "scaled positions": ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
    "scaled positions, newer": (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5.0}},
        "rope_type is 'llama3'",
    ),
    "wider heads": ({"head_dim": 16}, "head_dim is 16"),
    "heads that cannot share": ({"num_key_value_heads": 3}, "not a multiple of n_groups"),
    "no width": ({"intermediate_size": ...}, "intermediate_size"),
    "no number": ({"hidden_size": "wide"}, "not the configuration"),
}


@pytest.mark.parametrize(("words", "why"), WORDS.values(), ids=WORDS)
def test_a_llama_that_is_not_computed_here(words: dict, why: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    """One line that says what is another than it should be, and status 2."""
    config(folder, **words)
    with pytest.raises(UsageError, match=why):
        Experiment(model_size=str(folder))
    assert main(["run", "--model_size", str(folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_words_that_say_the_usual(folder: Path) -> None:
    """Heads that share nothing and positions of the usual base need not be named; newer files have a table for them."""
    config(folder, num_key_value_heads=..., rope_theta=..., rms_norm_eps=..., rope_scaling=..., head_dim=8)
    assert read_config(folder) == LlamaConfig(4096, 160, 32, 4, 3, n_groups=4, hidden_dim=48, norm_eps=1e-6)
    config(folder, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    shape = read_config(folder)
    assert isinstance(shape, LlamaConfig)
    assert shape.rope_base == 7.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop("layers.1.self_attn.k_proj.weight"), "not a Llama of 3 blocks"),
        (lambda t: t.update({"norm.weight": t["norm.weight"][:-1]}), "has shape"),
    ],
)
def test_weights_that_do_not_fit(change: Callable, why: str, folder: Path) -> None:
    """A tensor that is missing, or of another shape."""
    tensors(folder, change)
    with pytest.raises(UsageError, match=why):
        load_weights(network(read_config(folder)), folder / "model.safetensors")


def test_names_with_and_without_the_language_model(folder: Path) -> None:
    """``model.`` stands before the names in a file of the whole language model."""
    tensors(folder, lambda t: t.update({f"model.{name}": t.pop(name) for name in list(t)}))
    load_weights(network(read_config(folder)), folder / "model.safetensors")
