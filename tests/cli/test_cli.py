"""The command line: the published commands, what it prints, and one clear line for every mistake."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import onechange
from onechange import BASELINE, ROWS, Experiment, UsageError
from onechange.cli.main import COMMANDS, Run, main, parse
from onechange.experiment.experiment import choices_of, names
from onechange.gpt.weights import MODELS
from onechange.training.train import run

# The publisher's commands behind the name of their program, word for word.
PUBLISHED = {
    1: "",
    2: "--trainable_token_pos first",
    3: "--trainable_layers last_layer",
    4: "--trainable_layers last_two_blocks",
    5: "--trainable_layers all",
    6: '--model_size "gpt2-medium (355M)"',
    7: '--model_size "gpt2-large (774M)"',
    8: '--model_size "gpt2-xl (1558M)"',
    9: '--model_size "gpt2-xl (1558M)" --trainable_layers all',
    10: "--weights random --trainable_layers all",
    11: "--trainable_layers lora --lora_rank 16 --lora_alpha 16",
    12: '--trainable_layers lora --lora_rank 16 --lora_alpha 8 --model_size "gpt2-xl (1558M)"',
    13: '--context_length "model_context_length"',
    14: "--no_padding --batch_size 1",
    15: "--no_padding --batch_size 1 --accumulation_steps 8",
    16: '--trainable_token_pos "flexible"',
    17: "--disable_causal_mask",
    18: "--ignore_index 50256",
    19: "--average_embeddings",
}
PUBLISHED_DEFAULTS = (
    '--model_size "gpt2-small (124M)"', "--weights pretrained", "--trainable_layers last_block",
    "--trainable_token_pos last", "--context_length longest_training_example", "--lora_rank 8", "--lora_alpha 8",
    "--num_epochs 5", "--batch_size 8", "--accumulation_steps 1", "--ignore_index -100",
)  # fmt: skip

SMALL = ["--dataset", "pocket", "--train_size", "16", "--num_epochs", "1"]
RESULT = {
    "train_losses", "val_losses", "train_accs", "val_accs", "final", "n_trainable", "max_length", "seconds",
    "experiment", "command", "environment",
}  # fmt: skip


def experiment_of(words: list[str]) -> Experiment:
    """The experiment that ``onechange run`` makes of these words."""
    command = parse(["run", *words])
    assert isinstance(command, Run)
    return command.experiment


def snapshot(folder: Path) -> dict[Path, int | None]:
    """Everything below a folder, and when each file was written."""
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in folder.rglob("*")}


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail: status 2, one line on standard error, nothing else anywhere."""

    def check(*argv: object) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        status = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("onechange: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert snapshot(tmp_path) == before
        return err

    return check


# -- the published commands -----------------------------------------------------------------------


@pytest.mark.parametrize("number", PUBLISHED)
@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
def test_a_published_command_is_its_row(number: int, dashes: bool) -> None:
    """The publisher's flags verbatim, and with dashes for underscores, make the row's experiment."""
    words = shlex.split(PUBLISHED[number])
    if dashes:
        words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    assert experiment_of(words) == ROWS[number]


@pytest.mark.parametrize("flag", PUBLISHED_DEFAULTS)
def test_a_published_flag_at_its_default(flag: str) -> None:
    """Alone it changes nothing."""
    assert experiment_of(shlex.split(flag)) == BASELINE


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_flags_at_their_defaults_beside_a_row(number: int) -> None:
    """All those that the row does not set are accepted together and leave it as it is."""
    words = shlex.split(PUBLISHED[number])
    defaults = [shlex.split(flag) for flag in PUBLISHED_DEFAULTS]
    more = [word for name, value in defaults if name not in words for word in (name, value)]
    assert experiment_of([*words, *more]) == ROWS[number]


def test_further_published_flags() -> None:
    """Two that no row uses."""
    assert experiment_of(["--trainable_layers", "lora_alternative"]).trainable_layers == "lora_alternative"
    assert experiment_of(["--context_length", "64"]).context_length == 64


@pytest.mark.parametrize("number", PUBLISHED)
def test_a_published_command_runs(number: int, toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All nineteen train and print their accuracies, with a small folder where a size stood."""
    words = shlex.split(PUBLISHED[number])
    if "--model_size" in words:
        at = words.index("--model_size")
        del words[at : at + 2]
    words += ["--model_size", str(toy), *SMALL]
    assert main(["run", *words]) == 0
    out, _ = capsys.readouterr()
    command, accuracies, ham, spam = out.splitlines()
    assert (ham.split(":")[0], spam.split(":")[0]) == ("ham", "* spam")
    assert experiment_of(shlex.split(command)[2:]).resolved() == experiment_of(words).resolved()
    assert accuracies.startswith("train ")
    assert "test " in accuracies
    assert snapshot(here) == {}


# -- an experiment and its command ------------------------------------------------------------------

POSITIVE = st.floats(min_value=1e-30, max_value=1e30)
COUNTS = st.integers(min_value=1, max_value=10_000)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.sampled_from(choices_of(name)) for name in names() if choices_of(name)},
    **{name: st.booleans() for name in ("average_embeddings", "no_padding", "disable_causal_mask")},
    **{name: st.booleans() for name in ("mask_padding", "resplit")},
    "trainable_blocks": st.integers(1, 4),
    "label_noise": st.floats(0, 0.99),
    **dict.fromkeys(("num_epochs", "batch_size", "accumulation_steps"), COUNTS),
    **dict.fromkeys(("lora_alpha", "weight_decay"), POSITIVE),
    "model_size": st.sampled_from(list(MODELS)),
    "context_length": st.one_of(
        st.integers(1, 512), st.sampled_from(["longest_training_example", "model_context_length"])
    ),
    "lora_rank": st.integers(1, 128),
    "ignore_index": st.one_of(st.integers(-(2**31), -1), st.integers(2, 2**31 - 1)),
    "learning_rate": st.one_of(st.none(), POSITIVE),
    "dataset": st.sampled_from([None, "uci", "pocket"]),
    "train_size": st.one_of(st.none(), COUNTS),
    "seed": st.integers(0, 2**32 - 1),
}


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Valid experiments: any values, less the options that would have no effect beside them."""
    values = draw(st.fixed_dictionaries({}, optional=FIELDS))
    if "lora" not in values.get("trainable_layers", ""):
        values = {name: value for name, value in values.items() if not name.startswith("lora")}
    if values.get("trainable_layers", "last_block") != "last_block":
        values.pop("trainable_blocks", None)
    if values.get("no_padding"):
        for name in ("context_length", "padding_side", "mask_padding"):
            values.pop(name, None)
    if not (values.get("disable_causal_mask") or values.get("padding_side") == "left"):
        values.pop("mask_padding", None)
    if values.get("average_embeddings") and values.get("trainable_token_pos") == "first":
        values.pop("trainable_token_pos")
    return Experiment(**values)


@settings(max_examples=60)
@given(experiments())
def test_a_command_makes_its_experiment_again(e: Experiment) -> None:
    """What an experiment prints as its command is read as that experiment, its learning rate filled in."""
    words = shlex.split(e.command)
    assert words[:2] == ["onechange", "run"]
    assert experiment_of(words[2:]) == e.but(learning_rate=e.resolved().learning_rate)


@settings(max_examples=20)
@given(experiments())
def test_flags_make_their_experiment_again(e: Experiment) -> None:
    """The flags alone, an open learning rate left open."""
    assert experiment_of(e.flags) == e


FILE_NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(name=FILE_NAMES)
def test_any_name_of_a_file_survives(name: str, tmp_path: Path) -> None:
    """Spaces, quotes and other letters in a path come back from the printed command."""
    file = tmp_path / f"x{name}"
    file.write_text("")
    e = BASELINE.but(dataset=str(file))
    assert experiment_of(shlex.split(e.command)[2:]).dataset == str(file)


# -- what is printed --------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys that scripts may count on, as plain JSON."""
    assert main(["run", "--json", "--model_size", str(toy), *SMALL]) == 0
    out, _ = capsys.readouterr()
    result = json.loads(out, parse_constant=refuse_constant)
    assert out.count("\n") == 1
    assert set(result) >= RESULT
    assert set(result["final"]) == {"train", "val", "test"}
    assert all(0 <= share <= 1 for share in result["final"].values())
    assert (len(result["train_losses"]), len(result["val_losses"])) == (1, 1)
    assert (len(result["train_accs"]), len(result["val_accs"])) == (1, 1)
    assert Experiment(**result["experiment"]) == experiment_of(shlex.split(result["command"])[2:]).resolved()
    assert {"python", "torch", "device", "weights_sha256", "messages_sha256"} <= set(result["environment"])
    assert result["n_trainable"] > 0
    assert result["max_length"] > 0
    assert result["seconds"] > 0
    assert snapshot(here) == {}


def test_a_loss_that_is_not_a_number(toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends, says so, has status 1, and its JSON is still JSON."""
    status = main(["run", "--json", "--model_size", str(toy), "--learning_rate", "1e38", *SMALL])
    result = json.loads(capsys.readouterr().out, parse_constant=refuse_constant)
    assert status == 1
    assert set(result) >= RESULT
    assert "not a number" in result["error"]
    assert result["train_losses"][-1] is None or result["val_losses"][-1] is None
    assert main(["run", "--model_size", str(toy), "--learning_rate", "1e38", *SMALL, "--save", "model"]) == 1
    assert "not a number" in capsys.readouterr().out
    assert snapshot(here) == {}


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to standard output, names every flag, and shows no markup of the source."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    out, err = capsys.readouterr()
    assert caught.value.code in (0, None)
    assert err == ""
    for markup in (":meth:", ":class:", "``", "Args:", "Raises:"):
        assert markup not in out
    if command in (["run"], ["table"]):
        assert all(f"--{name}" in out for name in names())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"onechange {onechange.__version__}\n"


def test_the_cache_is_shown_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is, what it holds, and how much went."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ONECHANGE_CACHE", str(folder))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    weights = folder / "hub" / "models--openai-community--gpt2" / "weights"  # as the Hub's client names its folders
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(2_500_000))
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert "2.5 MB" in out
    assert str(weights.relative_to(folder)) in out
    assert main(["cache", "--clear"]) == 0
    assert "2.5 MB" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


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


# -- downloads --------------------------------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it, whatever was loaded before."""
    from onechange.gpt import tokenizer

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("ONECHANGE_CACHE", str(folder))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # clients that try again would wait
    tokenizer.gpt2_encoding.cache_clear()
    return folder


def test_no_network_for_the_messages(toy: Path, empty_cache: Path, refused: Callable[..., str]) -> None:
    """Which file, where it would go, and what needs no download."""
    line = refused("run", "--model_size", toy, "--num_epochs", "1")
    assert ".zip" in line or "SMSSpamCollection" in line
    assert str(empty_cache) in line
    assert "pocket" in line


def test_no_network_for_the_tokenizer(empty_cache: Path, refused: Callable[..., str]) -> None:
    """The same for the two files of GPT-2's tokenizer."""
    line = refused("run", "--dataset", "pocket")
    assert "vocab.bpe" in line
    assert "encoder.json" in line
    assert str(empty_cache) in line
    assert "pocket-small" in line


@pytest.mark.usefixtures("uci_cache")
def test_no_network_for_the_weights(
    uci_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for the weights, where messages and tokenizer are there already."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    before = {path for path in uci_cache.rglob("*") if path.is_file()}
    assert main(["run"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in ("openai-community/gpt2", "model.safetensors", str(uci_cache), "pocket-small"):
        assert word in err
    assert {path for path in uci_cache.rglob("*") if path.is_file()} == before


def test_other_messages_in_the_cache(toy: Path, empty_cache: Path, refused: Callable[..., str]) -> None:
    """A file or zip with another hash is refused by name and left alone."""
    (empty_cache / "SMSSpamCollection").write_text("ham\thello\n")
    line = refused("run", "--model_size", toy)
    assert "SHA-256" in line
    assert str(empty_cache / "SMSSpamCollection") in line
    (empty_cache / "SMSSpamCollection").unlink()
    with zipfile.ZipFile(empty_cache / "other.zip", "w") as archive:
        archive.writestr("SMSSpamCollection", "ham\thello\n")
    assert "SHA-256" in refused("run", "--model_size", toy)


# -- disks and devices ------------------------------------------------------------------------------


def full(*args: object, **kwargs: object) -> NoReturn:
    """What the system says when there is no room."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_in_a_table(
    toy: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line comes behind the progress bar; no record and no part of one is left."""
    monkeypatch.setattr("onechange.support.files.os.replace", full)
    assert main(["table", "--rows", "3", "--model_size", str(toy), *SMALL]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("onechange: No space left")
    assert [path for path in here.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize("how", ["weights", "text"])
def test_a_full_disk_while_saving(
    how: str, toy: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing half-written stays, whether safetensors or Python finds out."""
    from safetensors import SafetensorError

    def full_in_rust(*args: object) -> NoReturn:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    if how == "weights":
        monkeypatch.setattr("onechange.classifier.saved.save_file", full_in_rust)
    else:
        monkeypatch.setattr("onechange.classifier.saved.json.dumps", full)
    assert main(["run", "--model_size", str(toy), "--save", "model", *SMALL]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "No space left" in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("onechange: ")
    assert list(here.iterdir()) == []


def test_a_full_disk_while_downloading(
    toy: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache holds no part of a file."""

    class Reply(io.BytesIO):
        headers: dict[str, str] = {}  # noqa: RUF012

    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: Reply(b"zip"))
    monkeypatch.setattr("shutil.copyfileobj", full)
    assert main(["run", "--model_size", str(toy)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("onechange: No space left")
    assert [path for path in empty_cache.rglob("*") if path.is_file()] == []


def test_folders_that_cannot_be_saved_to(toy: Path, tmp_path: Path, here: Path, refused: Callable[..., str]) -> None:
    """A folder with something in it, a file, a place below a file: refused before anything is trained."""
    (here / "model").mkdir()
    (here / "model" / "notes.txt").write_text("mine")
    (here / "file").write_text("mine")
    for place in ("model", "file", "file/model", str(toy)):
        assert place in refused("run", "--model_size", toy, *SMALL, "--save", place)


def test_a_table_cannot_go_into_a_file(toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no trace of the program."""
    (here / "file").write_text("mine")
    assert main(["table", "--rows", "3", "--model_size", str(toy), *SMALL, "--out", "file"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("onechange: ")
    assert (here / "file").read_text() == "mine"


def test_a_reader_of_the_pipe_that_has_had_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """``onechange run --help | head -1`` ends without a trace."""
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", open(write, "w", buffering=1))  # noqa: SIM115
    assert main(["cache"]) == 141
    sys.stdout.close()


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
