"""What the command line says of a reader's own messages: one line on standard error, so that a third class is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onechange.cli.main import main

SMALL = ["--model_size", "pocket-small", "--trainable_layers", "last_layer", "--num_epochs", "1"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twenty ham, twenty spam, and ten whose label is misspelt."""
    rows = [f"{label},message {i}" for label, n in (("ham", 20), ("spam", 20), ("spma", 10)) for i in range(n)]
    path = tmp_path / "mine.csv"
    path.write_text("Label,Text\n" + "\n".join(rows) + "\n")
    return path


SAID = "50 messages, 3 classes: ham 20, spam 20, spma 10, from mine.csv (UTF-8)"


@pytest.mark.parametrize("command", ["run", "plan", "table"])
def test_what_was_understood_is_said(
    command: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, apart from the results, and before the training set is cut or gets wrong labels."""
    more = ["--rows", "3", "--seeds", "2", "--out", str(tmp_path / "out")] if command == "table" else []
    words = [*SMALL, "--dataset", str(file), "--train_size", "16", "--label_noise", "0.2", "--json", *more]
    assert main([command, *words]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert err.count(SAID) == 1
    assert SAID in err.splitlines()


def test_of_the_packages_own_messages_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL]) == 0
    assert "classes" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_complaint_stays_one_line(command: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that can be read does not add a line to what is wrong elsewhere."""
    for words in (["--train_size", "1000"], ["--ignore_index", "2"], ["--batch_size", "100"], ["--device", "nowhere"]):
        assert main([command, *SMALL, "--dataset", str(file), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
