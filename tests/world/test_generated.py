"""Ten thousand generated data files and command lines: an answer or one clear line, never a traceback.

Files: the formats, separators, quotings, encodings, headers and line ends of ``tests/data/test_table.py`` put together
at random, with odd cells; then cut, with bytes flipped, doubled, or under another ending; and bytes at random.
Command lines: every command but those that download, options of every kind with values of every kind, doubled,
misspelt, without their value; where all is well, training, planning and downloading are stood in for by what they
check first, and a few are run for real.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest

from onechange import Experiment, UsageError
from onechange.cli.main import COMMANDS, main
from onechange.data.messages import Messages, load_messages, messages_of
from onechange.data.tokens import tokens_of
from onechange.experiment.experiment import choices_of, names

pytestmark = pytest.mark.slow

PIECES = ["hello", "win now", '"', '""', ",", ";", "\t", "\n", "\r", "\r\n", " ", "£5", "café", "日本", "🎉", "\0",
          "’", "'", "<|endoftext|>", "\ufeff", "\\", "{", "NaN", "0", "1.0", "=1+1", "\u2028", "x" * 300]  # fmt: skip
LABELS = [["ham", "spam"], ["0", "1"], ["1.0", "0.0"], ["a", "b", "c"], [" ham", "spam "], ["10", "9", "-1"],
          ["é", "ü"], ["ham", "spam"], ["text", "label"], ["x"], ["", "a"], ["True", "False"]]  # fmt: skip
HEADERS = [("label", "text"), ("Label", "Text"), (" v1", "v2 "), ("Category", "Message"), ("kind", "words"),
           ("text", "label"), ("label", "label"), None, None]  # fmt: skip
ENDINGS = [*[".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet", ".csv.gz", ".TSV"] * 4, ".parquet.gz", ".doc", ""]


def some_rows(dice: random.Random) -> list[tuple[str, str]]:
    labels = dice.choice(LABELS)
    n, odd = dice.choice([0, 1, 12, 40, 40, 40, 60, 60]), dice.choice([0, 0, 0, 0.02, 0.3])
    rows = []
    for i in range(n):
        pieces = dice.choices(PIECES, k=dice.randint(1, 5)) if dice.random() < odd else ["message", str(i)]
        pieces += ["so"] * (dice.random() < 0.98)  # most have something in them
        rows.append((labels[i % len(labels)], " ".join(pieces)))
    return rows


def a_file(dice: random.Random, folder: Path) -> Path:
    """A table as somebody's program might have written it."""
    ending, rows, header = dice.choice(ENDINGS), some_rows(dice), dice.choice(HEADERS)
    path, names = folder / f"f{ending}", header or ("label", "text")
    frame = pd.DataFrame(rows, columns=range(2), dtype=object)
    frame.columns = list(names)
    if dice.random() < 0.2:
        frame.insert(dice.randint(0, 2), dice.choice(["", "id", "label"]), dice.choice(PIECES), allow_duplicates=True)
    if ending == ".parquet" and frame.columns.is_unique:
        frame.to_parquet(path)
        raw = path.read_bytes()
    else:
        if ending.startswith(".json"):
            records = [dict(zip(map(str, names), row, strict=True)) for row in rows]
            text = json.dumps(records) if dice.random() < 0.4 else "\n".join(map(json.dumps, records))
        elif dice.random() < 0.3:
            text = "\n".join(dice.choice(",;\t").join(row) for row in ([header] if header else []) + rows)
        else:
            text = frame.to_csv(
                sep=dice.choice(",;\t"), index=dice.random() < 0.1, header=header is not None,
                quoting=dice.choice([0, 0, 1]), lineterminator=dice.choice(["\n", "\n", "\r\n"]),
            )  # fmt: skip
        text += dice.choice(["", "", "\n", "\n\n", ",,,\n", "\r\n", "\x1a"])
        raw = text.encode(
            dice.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", *["utf-8"] * 5, "utf-16-le"]),
            "replace",
        )
    path.write_bytes(spoilt(dice, gzip.compress(raw) if dice.random() < 0.1 else raw))
    return path


def spoilt(dice: random.Random, raw: bytes) -> bytes:
    """The bytes as they are, or after an accident."""
    at = dice.randint(0, max(0, len(raw) - 1))
    match dice.choice([*[""] * 16, "cut", "flip", "double", "random", "zeros"]):
        case "cut":
            return raw[:at]
        case "flip":
            changed = bytearray(raw)
            for _ in range(dice.randint(1, 5)):
                if changed:
                    changed[dice.randrange(len(changed))] = dice.randrange(256)
            return bytes(changed)
        case "double":
            return raw + raw[at:]
        case "random":
            return dice.randbytes(dice.randint(0, 300))
        case "zeros":
            return raw[:at] + bytes(dice.randint(1, 2000))
    return raw


def outcome(path: Path, balance: bool = False) -> Messages | str:
    """The messages of a file, or why there are none."""
    try:
        return load_messages(str(path), balance=balance)
    except UsageError as error:
        return str(error)


def one_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and "Traceback" not in text and len(text) < 2000


@pytest.mark.parametrize("part", range(10))
def test_data_files(part: int, tmp_path: Path) -> None:
    """800 a part: messages that can be trained on, or one line with the file's name."""
    dice, read = random.Random(part), 0
    for i in range(800):
        path = a_file(dice, tmp_path)
        messages = outcome(path, balance=dice.random() < 0.2)
        path.rename(tmp_path / "last")  # to be looked at where a test fails
        if isinstance(messages, str):
            assert one_line(messages), (i, messages)
            assert str(path) in messages
            continue
        read += 1
        assert one_line(messages.summary), (i, messages.summary)
        for split in (messages.train, messages.val, messages.test):
            assert set(split.label) <= set(range(len(messages.classes)))
            assert all(text.strip() and text.encode() for text in split.text)
        assert set(messages.train.label) == set(range(len(messages.classes)))
    assert read > 50  # else the generator has gone wrong


# -- command lines --------------------------------------------------------------------------------

WORDS = ["", "-1", "0", "1", "2", "3", "16", "0.5", "1e9", "nan", "inf", "auto", "cpu", "on", "off", "é", "caf\udce9",
         "~", "/", "/dev/null", "x" * 5000, "a b", "--", "-", "=", "ham", "pocket", "uci", "pocket-small", "gpt2",
         "None", "True", "1-19", "4", "pad-mask", "0a", "table-pocket", "\n", "%s", "{}", "9" * 25]  # fmt: skip
OPTIONS = [*names(), "json", "save", "merge", "find", "device", "memory", "prefix_memory", "prefix_disk",
           "checkpointing", "rows", "seeds", "length", "book", "scale", "out", "workers", "clean", "csv", "format",
           "stored", "file", "help"]  # fmt: skip
WITHOUT_EXPERIMENT = ("verify", "show", "predict", "doctor")
HARMLESS = [name for name in COMMANDS if name not in ("fetch", "pretrain", "cache")]


def a_command(dice: random.Random, places: Sequence[Path]) -> list[str]:
    """Mostly of known options with values that could be theirs, so that it gets far."""
    words = [dice.choice(HARMLESS) if dice.random() < 0.98 else dice.choice(WORDS)]
    if words[0] not in WITHOUT_EXPERIMENT and dice.random() < 0.7:
        words += ["--model_size", "pocket-small"]
    for _ in range(dice.choice([0, 1, 1, 2, 3, 5])):
        name, how = dice.choice(OPTIONS), dice.random()
        values = choices_of(name) if name in names() and how < 0.7 else ()
        value = dice.choice(values or (*WORDS, *map(str, places)))
        name = name[:-1] if how > 0.98 else name.replace("_", "-") if how > 0.9 else name
        words += dice.choice(
            [[f"--{name}", value], [f"--{name}={value}"], [f"--{name}", value], [f"--{name}"], [value]]
        )
    return words


def checked(e: Experiment, *others: Any, **more: Any) -> NoReturn:
    """What is looked at before a run or a plan costs anything."""
    tokens_of(e.resolved(), messages_of(e))
    raise UsageError("all is well")


def examined(*others: Any) -> NoReturn:
    """A model or messages that the doctor would now look at."""
    raise UsageError("all is well")


@pytest.mark.parametrize("part", range(4))
def test_command_lines(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """500 a part."""
    dice, well = random.Random(part), 0
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "mine.csv").write_text("label,text\n" + "".join(f"{'ab'[i % 2]},message {i}\n" for i in range(40)))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("onechange.training.train.run_seeds", checked)
    monkeypatch.setattr("onechange.cost.plan.make_plan", checked)
    monkeypatch.setattr("onechange.evidence.study.run_study", lambda jobs, *rest, **more: checked(jobs[0].experiment))
    for part_of_it in ("look_at_messages", "look_at_model"):
        monkeypatch.setattr(f"onechange.diagnosis.doctor.{part_of_it}", examined)
    for i in range(500):
        words = a_command(dice, [tmp_path / "mine.csv", tmp_path / "empty", tmp_path / "none"])
        try:
            status = main(words)
        except SystemExit as leaving:
            status = leaving.code or 0
            assert "--help" in words or "-h" in words, (i, words)
        err = capsys.readouterr().err
        assert status in (0, 2), (i, words, status, err)
        said = err.splitlines()
        well += "all is well" in err
        assert status == 0 or said[-1].startswith("onechange: "), (i, words, err)
        summary = ["40 messages, 2 classes: a 20, b 20, from mine.csv (UTF-8)"] if len(said) == 2 else []
        assert said[:-1] == (summary if status == 2 else []), (i, words, err)
    assert well > 20
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_few_are_run(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A generated file that can be read, trained on for an epoch, its model asked."""
    dice, small = random.Random(1000 + seed), ["--model_size", "pocket-small", "--num_epochs", "1"]
    while isinstance(messages := outcome(path := a_file(dice, tmp_path)), str):
        path.unlink()
    classes = messages.classes
    words = [*small, "--trainable_layers", "last_layer", "--dataset", str(path), "--find", classes[0]]
    status = main(["run", *words, f"--save={tmp_path / 'M'}"])
    assert status == 0, capsys.readouterr().err
    assert main(["predict", str(tmp_path / "M"), "hello"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split("\t")[0] in classes
