"""Mistakes in the words, in files of messages and in folders of models: one line each."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_lines import SMALL
from safetensors.numpy import load_file, save_file

from onechange import Experiment, UsageError
from onechange.cli.main import main, parse
from onechange.training.train import run

# -- mistakes in the words --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["run", "--lora_rnk", "4"], "--lora_rank"),
        (["run", "--model-sise", "gpt2-xl"], "--model"),
        (["table", "--sedes", "3"], "--seeds"),
        (["run", "--model_size", "gpt2-smal"], "'gpt2-small'"),
        (["run", "--model_size", "pocket-smal"], "'pocket-small'"),
        (["run", "--model_size", "gpt2-medium (345M)"], "'gpt2-medium (355M)'"),
        (["run", "--trainable_layers", "last_blok"], "'last_block'"),
        (["run", "--trainable_token_pos", "flexibel"], "'flexible'"),
        (["run", "--weights", "randm"], "'random'"),
        (["run", "--context_length", "model_context"], "'model_context_length'"),
        (["run", "--dataset", "pockt"], "'pocket'"),
        (["run", "--lora_scaling", "papr"], "'paper'"),
        (["run", "--precision", "fp23"], "'fp32'"),
        (["run", "--prefix_cache", "of"], "'off'"),
        (["table", "--scale", "poket"], "'pocket'"),
        (["table", "--workers", "0"], "between 1 and 1000"),
        (["table", "--rows", "20"], "1 to 19"),
        (["table", "--rows", "0-3"], "1 to 19"),
        (["table", "--rows", "pad-maks"], "'pad-mask'"),
        (["table", "--rows", "?"], "1-5,16"),
        (["rnu"], "'run'"),
        ([], "run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_nearest_right_word(words: list[str], right: str, refused: Callable[..., str]) -> None:
    """An unknown flag, size, row, choice or command is answered with the one that was meant."""
    assert right in refused(*words)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "", "1e3", "nan", "99999999999"])
@pytest.mark.parametrize("name", ["lora_rank", "num_epochs", "batch_size", "accumulation_steps", "train_size"])
def test_counts_outside_their_meaning(name: str, value: str, refused: Callable[..., str]) -> None:
    """Ranks, epochs, batches, windows and sizes are whole numbers from 1."""
    more = ["--trainable_layers", "lora"] if name == "lora_rank" else []
    assert name in refused("run", f"--{name}={value}", *more)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "x", ""])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "lora_alpha"])
def test_rates_outside_their_meaning(name: str, value: str, refused: Callable[..., str]) -> None:
    """Rates are finite and positive; the line has no words of the parser's own."""
    line = refused("run", f"--{name}={value}", "--trainable_layers", "lora")
    assert name in line
    assert "NoneType" not in line


@pytest.mark.parametrize("value", ["0", "-5", "1025", "1.5", "²", ""])
def test_lengths_outside_their_meaning(value: str, refused: Callable[..., str]) -> None:
    """A length is a positive number of tokens within the model's context."""
    assert "context_length" in refused("run", f"--context_length={value}")


@pytest.mark.parametrize(
    "words",
    [
        "run --lora_rank 4",
        "run --lora_alpha 4",
        "run --lora_scaling paper",
        "run --no_padding --context_length 64",
        "run --average_embeddings --trainable_token_pos first",
        "run --balance",
        "run --merge",
        "run --merge --trainable_layers lora",
        "run --merge --save model",
        "run --ignore_index 0",
        "run --ignore_index 1",
        "run --seed -1",
        "run --seed 4294967296",
        "run --device nowhere",
        "run --device cuda:99",
        "run --precision fp16 --device cpu",
        "run --train_size 16 --batch_size 17 --dataset pocket --model_size pocket-small",
        "run --train_size 100000 --dataset pocket --model_size pocket-small",
        "run unexpected",
        "run --json yes",
        "run --seed",
        "table --seeds 0",
        "table --seeds -3",
        "table --seeds 100000",
        "table --scale pocket --model_size gpt2-xl",
        "table --rows 14 --context_length 64",
        "table --csv --json",
        "show --out nowhere",
        "show --csv --json",
        "predict",
        "predict nowhere text",
    ],
)
def test_what_has_no_effect_or_no_sense(words: str, refused: Callable[..., str]) -> None:
    """Refused before anything is read, written or downloaded."""
    refused(*words.split())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", ["20", "80", "300"])
def test_the_line_does_not_depend_on_the_terminal(
    encoding: str, width: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long path stays whole, and no frame is drawn, whatever the terminal can show."""
    monkeypatch.setenv("COLUMNS", width)
    long = tmp_path / "a folder-with a-long name" / "deep down" / "in the tree" / "model"
    for words, whole in ((["--model_size", str(long)], str(long)), (["--lora_rnk", "4"], "--lora_rnk")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert main(["run", *words]) == 2
        line = capsys.readouterr().err
        assert whole in line
        assert line.count("\n") == 1
        assert not set(line) & set("│╭╮╰╯─")
        assert "---" not in line
        assert "tyro" not in line


# -- messages ---------------------------------------------------------------------------------------


LINES = [f"{'ham' if i % 2 else 'spam'}\tmessage number {i}" for i in range(40)]
GOOD = "\n".join(LINES)
JSON_LINES = "\n".join(json.dumps({"label": line.split("\t")[0], "text": line.split("\t")[1]}) for line in LINES)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tsv", f"lable\ttext\n{GOOD}", "no column 'label'"),
        ("a.tsv", f"label\twords\n{GOOD}", "no column 'text'"),
        ("a.tsv", "label\ttext\n" + "ham\thello\n" * 40, "1 class"),
        ("a.tsv", "label\ttext\n", "class"),
        ("a.tsv", "", "a.tsv"),
        ("a.tsv", f"label\ttext\n{GOOD}\nham\t", "message 41 is empty"),
        ("a.tsv", f"label\ttext\n{GOOD}\nham\t  ", "message 41 is empty"),
        ("a.tsv", f"label\ttext\n{GOOD}\nham", "message 41 is empty"),
        ("a.tsv", f"label\ttext\n{GOOD}\n\thello", "message 41 has no label"),
        ("a.tsv", f"label\ttext\n{GOOD}\nham\tthe <|endoftext|> end", "<|endoftext|>"),
        ("a.csv", f"label\ttext\n{GOOD}".replace("\t", ",").replace("number", ", number"), "a.csv"),
        ("a.csv", f"label\ttext\n{GOOD}".replace("\t", ",") + '\nham,"never closed', "a.csv"),
        ("a.jsonl", JSON_LINES + '\n{"label": "ham", "text": null}', "message 41 is empty"),
        ("a.jsonl", JSON_LINES + '\n{"label": "ham"}', "message 41 is empty"),
        ("a.jsonl", JSON_LINES + '\n{"label": null, "text": "hello"}', "message 41 has no label"),
        ("a.jsonl", JSON_LINES + '\n{"label": "ham"', "a.jsonl"),
        ("a.parquet", "not parquet", "a.parquet"),
        ("a.doc", GOOD, ".tsv"),
        ("a.tsv", f"label\ttext\n{GOOD}\n" + "rare\tmessage\n" * 3, "at least 10"),
    ],
)
def test_files_of_messages_with_a_fault(
    name: str, content: str | bytes, says: str, toy: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Each fault is named with the file and the message it is in."""
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused("run", "--model_size", toy, "--num_epochs", "1", "--dataset", file)
    assert str(file) in line
    assert says in line


def test_an_ignored_label_of_a_file(toy: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """With three classes, 2 is a label too."""
    file = tmp_path / "three.tsv"
    file.write_text(f"label\ttext\n{GOOD}\n" + "other\tmessage\n" * 10)
    words = ["run", "--model_size", toy, "--dataset", file, "--ignore_index"]
    assert "label" in refused(*words, "2")
    assert main([str(word) for word in [*words, "3", "--num_epochs", "1"]]) == 0


@pytest.mark.parametrize("ending", ["tsv", "TSV", "csv", "jsonl"])
def test_files_of_messages(ending: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text formats hold the same messages and give the same run."""
    table = f"label\ttext\n{GOOD}"
    content = {"tsv": table, "csv": table.replace("\t", ","), "jsonl": JSON_LINES}[ending.lower()]
    file = tmp_path / f"messages.{ending}"
    file.write_text(content)
    assert main(["run", "--json", "--model_size", str(toy), "--num_epochs", "1", "--dataset", str(file)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == ["ham", "spam"]
    assert len(result["test_labels"]) == 8
    assert result["final"] == run(Experiment(str(toy), num_epochs=1, dataset=str(file)), progress=False).final


# -- models -----------------------------------------------------------------------------------------


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def rewrite(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return apply


def configure(**values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(config))

    return apply


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "truncated"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "pickle": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle"), "safetensors"),
    "a shape": (rewrite(lambda t: t.update({"wpe.weight": t["wpe.weight"][:, :-1].copy()})), "shape"),
    "a tensor less": (rewrite(lambda t: t.pop("h.1.mlp.c_fc.weight")), "h.1.mlp.c_fc.weight"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    "BERT": (configure(model_type="bert"), "bert"),
    "another activation": (configure(activation_function="relu"), "relu"),
    "no heads": (configure(n_head=0), "config.json"),
    "five heads": (configure(n_head=5), "config.json"),
    "more blocks": (configure(n_layer=4), "4 blocks"),
    "another width": (configure(n_embd=16), "shape"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_folders_that_are_no_model(fault: str, toy: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Truncated, of another shape, of another architecture, incomplete: each says which."""
    folder = tmp_path / "model"
    shutil.copytree(toy, folder)
    spoil, says = BROKEN[fault]
    spoil(folder)
    line = refused("run", "--model_size", folder, *SMALL)
    assert says in line
    assert str(folder) in line


# -- several messages at once without padding -------------------------------------------------------


def test_no_padding_with_several_messages_in_a_batch(toy: Path) -> None:
    """Four messages a batch train as four windows of one, each read at its own end."""
    e = Experiment(str(toy), dataset="pocket", no_padding=True, train_size=16, num_epochs=1, learning_rate=1e-3)
    four = run(e.but(batch_size=4), progress=False)
    ones = run(e.but(batch_size=1, accumulation_steps=4), progress=False)
    assert np.allclose(four.test_probabilities, ones.test_probabilities, atol=1e-5)
    assert math.isclose(four.final["test"], ones.final["test"])


def test_no_padding_reads_each_message_at_its_own_end(toy: Path) -> None:
    """A message alone, without any padding, gives the probabilities that it had among others."""
    from onechange.data.messages import load_messages

    e = Experiment(str(toy), dataset="pocket", no_padding=True, batch_size=4, train_size=16, num_epochs=1)
    result = run(e, progress=False)
    texts = load_messages("pocket").test.text[:25]
    with torch.no_grad():
        for text, expected in zip(texts, result.test_probabilities, strict=False):
            logits = result.model(torch.tensor([e.checkpoint.tokenizer.encode(text)]))[0, -1]
            assert np.allclose(logits.softmax(0), expected, atol=1e-5)


def test_the_command_of_a_usage_error_is_not_swallowed() -> None:
    """From Python the same mistakes are exceptions."""
    with pytest.raises(UsageError, match="lora_rank"):
        parse(["run", "--lora_rank", "0"])
