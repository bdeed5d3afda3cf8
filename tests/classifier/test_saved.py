"""A finetuned model on disk: it says what the run said, merged or not, and other programs can read it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from onechange import Experiment, Result, UsageError
from onechange.classifier.saved import load, save
from onechange.cli.main import main
from onechange.data.messages import load_messages
from onechange.gpt.model import GPT
from onechange.gpt.weights import load_weights, read_config
from onechange.training.train import run

CHANGES: dict[str, dict[str, Any]] = {
    "row 1": {},
    "row 2": {"trainable_token_pos": "first"},
    "row 3": {"trainable_layers": "last_layer"},
    "row 11": {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16},
    "row 13": {"context_length": "model_context_length"},
    "row 16": {"trainable_token_pos": "flexible"},
    "row 17": {"disable_causal_mask": True},
    "row 19": {"average_embeddings": True},
    "no padding": {"no_padding": True, "batch_size": 4},
    "no padding, no mask": {"no_padding": True, "disable_causal_mask": True},
    "merged at every step": {"trainable_layers": "lora_alternative", "lora_scaling": "rslora"},
    "flexible average": {"trainable_token_pos": "flexible", "average_embeddings": True},
    "random weights": {"weights": "random", "trainable_layers": "all"},
}


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty messages of three classes."""
    file = tmp_path_factory.mktemp("messages") / "messages.tsv"
    words = {"ask": "when does the train leave", "pay": "your bill is due now", "thank": "that was very kind"}
    lines = [f"{label}\t{text}, number {i} {'again ' * (i % 5)}." for i in range(20) for label, text in words.items()]
    file.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def base(toy: Path, three_classes: Path) -> Experiment:
    """A row 1 that takes a moment and learns something."""
    return Experiment(str(toy), dataset=str(three_classes), num_epochs=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def texts(three_classes: Path) -> list[str]:
    """The test messages."""
    return list(load_messages(str(three_classes)).test.text)


@pytest.fixture(scope="module")
def lora(base: Experiment) -> Result:
    """A finished run with adapters."""
    return run(base.but(trainable_layers="lora", lora_rank=4), progress=False)


@pytest.mark.parametrize("change", CHANGES)
def test_a_saved_model_says_what_the_run_said(change: str, base: Experiment, texts: list[str], tmp_path: Path) -> None:
    """Every test message gets the probabilities of the result, for every way of reading a message."""
    result = run(base.but(**CHANGES[change]), progress=False)
    folder = save(result, tmp_path / "model")
    expected = np.array(result.test_probabilities)
    classifier = load(folder)
    assert np.allclose(classifier.probabilities(texts), expected, atol=1e-5)
    one_by_one = np.concatenate([classifier.probabilities([text]) for text in texts])
    assert np.allclose(one_by_one, expected, atol=1e-5)
    frame = classifier.predict(texts)
    assert list(frame.label) == [result.classes[i] for i in result.test_predictions]
    assert np.allclose(frame.probability, expected.max(1), atol=1e-5)


def test_merged_and_unmerged_adapters_say_the_same(lora: Result, texts: list[str], tmp_path: Path) -> None:
    """Merged, the adapters are gone and the folder is a plain model; the result's own model stays as it was."""
    before = {name: p.clone() for name, p in lora.model.named_parameters()}
    apart = save(lora, tmp_path / "apart")
    merged = save(lora, tmp_path / "merged", merge=True)
    assert any(name.startswith("lora.") for name in load_file(apart / "model.safetensors"))
    assert not any("lora" in name for name in load_file(merged / "model.safetensors"))
    both = [load(folder).probabilities(texts) for folder in (apart, merged)]
    assert np.allclose(both[0], both[1], atol=1e-5)
    assert np.allclose(both[0], lora.test_probabilities, atol=1e-5)
    after = dict(lora.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_adapters_apart_leave_the_weights_as_they_were(lora: Result, toy: Path, tmp_path: Path) -> None:
    """The trunk in the folder is the pretrained one, bit by bit."""
    stored = load_file(save(lora, tmp_path / "model") / "model.safetensors")
    for name, tensor in load_file(toy / "model.safetensors").items():
        assert np.array_equal(stored[f"transformer.{name}"], tensor), name


def test_transformers_loads_the_trunk(base: Experiment, texts: list[str], tmp_path: Path) -> None:
    """Hugging Face's GPT-2 computes the same hidden states from the saved folder as the finetuned model."""
    transformers = pytest.importorskip("transformers")
    result = run(base.but(trainable_layers="all"), progress=False)
    folder = save(result, tmp_path / "model")
    theirs = transformers.GPT2Model.from_pretrained(folder).eval()
    ids = torch.tensor([load(folder).tokenizer.encode(texts[0])])
    with torch.no_grad():
        ours = result.model.final_norm(result.model.run(result.model.embed(ids)))
        assert torch.allclose(theirs(ids).last_hidden_state, ours, atol=1e-4)


def test_a_saved_model_can_be_finetuned_again(lora: Result, three_classes: Path, tmp_path: Path) -> None:
    """A folder of ours is a model folder like any other."""
    folder = save(lora, tmp_path / "model", merge=True)
    trunk = GPT(read_config(folder))
    load_weights(trunk, folder / "model.safetensors")
    again = run(Experiment(str(folder), dataset=str(three_classes), num_epochs=1), progress=False)
    assert set(again.final) == {"train", "val", "test"}


def test_what_a_folder_says_about_itself(lora: Result, tmp_path: Path) -> None:
    """The experiment, the classes and the versions lie beside the weights."""
    about = json.loads((save(lora, tmp_path / "model") / "onechange.json").read_text())
    assert Experiment(**about["experiment"]) == lora.experiment
    assert about["classes"] == list(lora.classes) == ["ask", "pay", "thank"]
    assert about["environment"] == lora.environment


def test_a_pocket_model_may_move(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``run --save`` on what is in the package; the folder answers from another place too."""
    folder = tmp_path / "model"
    words = ["--model_size", "pocket-small", "--train_size", "16", "--num_epochs", "1"]
    assert main(["run", *words, "--save", str(folder)]) == 0
    folder = folder.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["predict", str(folder), "WIN a prize now"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["label", "probability", "text"]
    assert line.split("\t")[0] in ("ham", "spam")


# -- onechange predict --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(lora: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model to ask."""
    return save(lora, tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def ask(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Runs ``onechange predict`` with these words and this standard input: status, output, errors."""

    def call(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(["predict", str(model), *map(str, words)])
        return status, *capsys.readouterr()

    return call


def test_arguments_a_file_and_standard_input(
    ask: Callable[..., tuple], model: Path, texts: list[str], tmp_path: Path
) -> None:
    """Three ways to ask, one answer, with the label and probability that Python gives."""
    file = tmp_path / "messages.txt"
    file.write_text("\n".join(texts) + "\n")
    answers = [ask(*texts), ask("--file", file), ask(stdin=file.read_bytes()), ask(stdin="\r\n".join(texts).encode())]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    status, out, err = answers[0]
    assert (status, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    frame = load(model).predict(texts)
    assert [row["label"] for row in rows] == list(frame.label)
    assert [row["text"] for row in rows] == texts
    assert np.allclose([float(row["probability"]) for row in rows], frame.probability, atol=5.1e-5)


def test_messages_with_awkward_letters(ask: Callable[..., tuple]) -> None:
    """Quotes, tabs, other alphabets and separators inside a message come back as they were."""
    awkward = ['he said "now"', "a\ttab", "日本語 🎉", "-5 degrees", "one\x0ctwo", "one\u2028two"]
    for text in awkward:
        status, out, _ = ask("--", text) if text.startswith("-") else ask(text)
        assert status == 0
        (row,) = csv.DictReader(io.StringIO(out, newline=""), delimiter="\t")
        assert row["text"] == text
    status, out, _ = ask(stdin="\n".join(awkward).encode())
    assert status == 0
    assert [row["text"] for row in csv.DictReader(io.StringIO(out, newline=""), delimiter="\t")] == awkward


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        ([""], b"", "empty"),
        (["fine", "  "], b"", "message 2 is empty"),
        (["the <|endoftext|> end"], b"", "<|endoftext|>"),
        ([], b"", "no message"),
        ([], b"one\n\ntwo\n", "message 2 is empty"),
        ([], b"\xff\n", "UTF-8"),
        (["--file", "nowhere.txt"], b"", "nowhere.txt"),
        (["text", "--file", "nowhere.txt"], b"", "not both"),
    ],
)
def test_what_cannot_be_asked(words: list[str], stdin: bytes, says: str, ask: Callable[..., tuple]) -> None:
    """One line, status 2, no answer for any message."""
    status, out, err = ask(*words, stdin=stdin)
    assert (status, out) == (2, "")
    assert err.startswith("onechange: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_message_that_does_not_fit(base: Experiment, tmp_path: Path) -> None:
    """Without padding nothing is cut, so a message beyond the context is refused."""
    folder = save(run(base.but(no_padding=True), progress=False), tmp_path / "model")
    with pytest.raises(UsageError, match="context"):
        load(folder).predict(["again and again " * 200])


def drop(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors = {key: value for key, value in tensors.items() if not key.startswith(name)}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def reshape(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = tensors[name][:1].copy()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


BROKEN: dict[str, Callable[[Path], Any]] = {
    "truncated": truncate,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no head": drop("head."),
    "no adapters": drop("lora.blocks.1."),
    "a head of one class": reshape("head.bias"),
    "an adapter of another rank": reshape("lora.blocks.0.attn.query.B"),
    "not ours": lambda folder: (folder / "onechange.json").unlink(),
    "half a description": lambda folder: (folder / "onechange.json").write_text('{"experiment": {'),
    "a list": lambda folder: (folder / "onechange.json").write_text("[]"),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_folders_that_cannot_be_asked(
    fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with something missing is refused; it never answers with random weights."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    BROKEN[fault](folder)
    assert main(["predict", str(folder), "hello"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onechange: ")
    assert err.count("\n") == 1
    assert str(folder) in err


def test_an_existing_folder_is_left_alone(lora: Result, tmp_path: Path) -> None:
    """Only a new or an empty folder is written to."""
    folder = tmp_path / "model"
    folder.mkdir()
    save(lora, folder)
    with pytest.raises(UsageError, match="exists"):
        save(lora, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_loading_leaves_the_generator_alone(model: Path) -> None:
    """Asking a model in a notebook does not change what is drawn next."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(model).predict(["hello"])
    assert torch.equal(torch.rand(1), expected)
