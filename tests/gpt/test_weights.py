"""Checkpoints: parameter counts at true size, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from toys import hf_tensors

from onechange import ROWS, UsageError
from onechange.experiment.experiment import Experiment
from onechange.gpt import weights
from onechange.gpt.checkpoint import find
from onechange.gpt.layouts import layout_of
from onechange.gpt.model import GPT
from onechange.gpt.weights import MODELS, load_weights, read_config
from onechange.support.cache import sha256
from onechange.training import build

TRAINABLE = {
    1: 7_090_946, 2: 7_090_946, 3: 1_538, 4: 14_178_818, 5: 124_441_346, 6: 12_600_322, 7: 19_682_562,
    8: 30_747_202, 9: 1_557_614_402, 10: 124_441_346, 11: 2_668_066, 12: 22_147_234, 13: 7_090_946,
    14: 7_090_946, 15: 7_090_946, 16: 7_090_946, 17: 7_090_946, 18: 7_090_946, 19: 7_090_946,
}  # fmt: skip


PINNED = {  # SHA-256 of model.safetensors
    "gpt2-small": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    "gpt2-xl": "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
}


@pytest.mark.parametrize("row", TRAINABLE)
def test_trainable_parameters_of_the_table(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row trains as many numbers as the published one, at its true size (shapes only, nothing is stored)."""
    monkeypatch.setattr("onechange.gpt.checkpoint.load_weights", lambda model, path: None)
    monkeypatch.setattr("onechange.gpt.checkpoint.Checkpoint.file", None)
    with torch.device("meta"):
        model = build.build(ROWS[row], 2)
    assert all(p.is_meta for p in model.parameters())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == TRAINABLE[row]


@pytest.mark.parametrize(
    ("size", "repo", "revision"),
    [
        ("gpt2-small", "gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
        ("gpt2-medium", "gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
        ("gpt2-large", "gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519"),
        ("gpt2-xl", "gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2"),
    ],
)
def test_the_hub_is_asked_for_one_pinned_file(
    size: str, repo: str, revision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Repository, revision and hash are those of the reference; a file with another hash is refused, in one line."""
    asked = []

    def hub(repo_id: str, filename: str, *, revision: str, cache_dir: Path) -> str:
        asked.append((repo_id, filename, revision))
        cache_dir.mkdir(parents=True, exist_ok=True)
        (cache_dir / ("0" * 64)).write_bytes(b"not the weights")
        return str(cache_dir / ("0" * 64))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    name = Experiment(model_size=size).model_size
    with pytest.raises(UsageError, match=r"wrong SHA-256|had only 15 bytes") as caught:
        _ = find(name).file
    assert asked == [(f"openai-community/{repo}", "model.safetensors", revision)]
    known = PINNED.get(size)
    assert known is None or MODELS[name].sha256 == known
    assert known is None or known[:12] in str(caught.value)
    assert one_line(caught.value)
    assert not list(tmp_path.rglob("*.verified"))


def test_a_file_from_the_hub_is_hashed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The right file is accepted, and its gigabytes are not read again for the check."""
    good = tmp_path / "file"
    good.write_bytes(b"the weights")
    model = MODELS["gpt2-small (124M)"]
    known = type(model)(**(vars(model) | {"sha256": sha256(good)}))
    monkeypatch.setitem(MODELS, "gpt2-small (124M)", known)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **kwargs: str(good))
    hashed = []
    monkeypatch.setattr("onechange.gpt.weights.sha256", lambda path: hashed.append(path) or sha256(path))
    assert find("gpt2-small (124M)").file == good
    assert find("gpt2-small (124M)").file == good
    assert len(hashed) == 1


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names the file, the folder it would go to, and the models that need no network."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the Hub's client tries a few times
    with pytest.raises(UsageError) as caught:
        _ = find("gpt2-small (124M)").file
    text = str(caught.value)
    assert one_line(caught.value)
    for word in ("openai-community/gpt2", "model.safetensors", str(tmp_path / "elsewhere"), "pocket-small"):
        assert word in text


def one_line(error: UsageError) -> bool:
    return len(str(error).splitlines()) == 1 and len(str(error)) < 400


@pytest.fixture
def folder(tmp_path: Path, toy: Path) -> Path:
    """A copy of the toy folder, to spoil."""
    return Path(shutil.copytree(toy, tmp_path / "model"))


def spoil_config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def spoil_weights(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def truncate(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def put(name: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """Put a tensor of ones in the place of another."""
    return spoil_weights(lambda tensors: tensors.update({name: np.ones(shape, np.float32)}))


def pickle(folder: Path) -> None:
    torch.save({"wte.weight": torch.ones(1)}, folder / "model.safetensors")


NO_CONFIG = "not the configuration of a GPT-2"

FAULTS = {
    "truncated": (truncate, "truncated"),
    "empty file": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "truncated"),
    "a pickle under its name": (pickle, "cannot be read as safetensors"),
    "another file under a pickle's name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "cannot be read as PyTorch's",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "is not there"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), NO_CONFIG),
    "a list as config": (lambda folder: (folder / "config.json").write_text("[]"), NO_CONFIG),
    "no heads": (spoil_config(n_head=0), NO_CONFIG),
    "no blocks": (spoil_config(n_layer=0), NO_CONFIG),
    "odd heads": (spoil_config(n_head=5), "not a multiple of n_heads"),
    "no width": (spoil_config(n_embd=None), NO_CONFIG),
    "another architecture": (spoil_config(model_type="bert"), "model_type is 'bert'"),
    "another activation": (spoil_config(activation_function="relu"), "activation_function is 'relu'"),
    "another epsilon": (spoil_config(layer_norm_epsilon=1e-6), "layer_norm_epsilon"),
    "another MLP": (spoil_config(n_inner=99), "n_inner is 99"),
    "more blocks than there are": (spoil_config(n_layer=4), "no tensor h.3."),
    "a wider config": (spoil_config(n_embd=36), "has shape"),
    "a shorter context": (spoil_config(n_positions=99), "has shape"),
    "missing tensor": (spoil_weights(lambda tensors: tensors.pop("h.1.mlp.c_fc.bias")), "no tensor h.1.mlp.c_fc.bias"),
    "wrong shape": (put("h.0.attn.c_attn.weight", (32, 95)), "has shape"),
    "no shape": (put("h.0.attn.c_attn.bias", ()), "has shape"),
    "not transposed": (put("h.0.mlp.c_fc.weight", (128, 32)), "has shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_refused_in_one_line(fault: str, folder: Path) -> None:
    """Whatever is wrong with a model folder, a UsageError says so, and where."""
    spoil, words = FAULTS[fault]
    spoil(folder)
    with pytest.raises(UsageError, match=words) as caught:
        build.build(Experiment(model_size=str(folder), dataset="pocket"), 2)
    assert one_line(caught.value)
    assert str(folder) in str(caught.value)


def test_an_unknown_size_suggests_a_known_one() -> None:
    """A slip of the pen is answered with the nearest name, and the names there are."""
    with pytest.raises(UsageError, match="did you mean 'gpt2-smal") as caught:
        find("gpt2-smal")
    assert "pocket-small" in str(caught.value)


def test_a_fault_does_not_outlive_its_mending(folder: Path) -> None:
    """A folder that was refused is read again once it is right."""
    good = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError):
        read_config(folder)
    (folder / "config.json").write_text(good)
    assert read_config(folder).emb_dim == 32


def test_the_weights_may_be_named_by_their_file(folder: Path) -> None:
    """The folder and its ``model.safetensors`` mean the same model."""
    assert find(str(folder / "model.safetensors")).shape == find(str(folder)).shape
    assert find(str(folder / "model.safetensors")).file == find(str(folder)).file


@pytest.mark.parametrize("how", ["prefixed", "half precision"])
def test_other_ways_to_store_the_same(how: str, tmp_path: Path, toy: Path) -> None:
    """A ``transformer.`` before the names is read alike, half precision becomes float32, more tensors do not matter."""
    plain = load_file(toy / "model.safetensors")
    kind = np.float16 if how == "half precision" else np.float32
    prefix = "transformer." if how == "prefixed" else ""
    stored = {prefix + name: tensor.astype(kind) for name, tensor in plain.items()}
    stored["lm_head.weight"] = np.ones(3, np.float32)
    save_file(stored, tmp_path / "model.safetensors")
    model, wanted = GPT(find(str(toy)).shape), GPT(find(str(toy)).shape)
    load_weights(model, tmp_path / "model.safetensors")
    load_weights(wanted, toy / "model.safetensors")
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter, wanted.get_parameter(name), rtol=1e-3, atol=1e-3)


def test_the_layout_covers_every_parameter_once(toy: Path) -> None:
    """Our names are the model's, theirs are the file's; nothing is left out and nothing invented."""
    config = find(str(toy)).shape
    names = [ours for ours, _, _ in layout_of(config).names(config)]
    assert sorted(names) == sorted(name for name, _ in GPT(config).named_parameters())
    assert {theirs for _, theirs, _ in layout_of(config).names(config)} == set(hf_tensors((32, 4, 3), 4096, 160))


def test_the_hash_follows_the_file(folder: Path) -> None:
    """The weights' hash is the file's own, also after the file has changed."""
    before = find(str(folder)).digest
    assert before == sha256(folder / "model.safetensors")
    spoil_weights(lambda tensors: tensors["wte.weight"].__imul__(2))(folder)
    assert find(str(folder)).digest == sha256(folder / "model.safetensors") != before


@pytest.mark.parametrize("size", [name for name, model in MODELS.items() if model.scale == "pocket"])
def test_the_shipped_models_fit_their_name(size: str) -> None:
    """A pocket model in the package has the shape its name promises, and finite weights."""
    assert read_config(weights.POCKET / size) == MODELS[size].shape
    model = GPT(MODELS[size].shape)
    load_weights(model, find(size).file)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_pocket_size_that_does_not_ship_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says which sizes there are."""
    (tmp_path / "pocket-small").mkdir()
    (tmp_path / "pocket-small" / "model.safetensors").touch()
    monkeypatch.setattr("onechange.gpt.weights.POCKET", tmp_path)
    with pytest.raises(UsageError, match=r"^pocket-xl is not in this release: .* has pocket-small$"):
        _ = find("pocket-xl").file
