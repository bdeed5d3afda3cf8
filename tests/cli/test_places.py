"""Downloads, disks and devices that are not as they should be: one line each."""

from __future__ import annotations

import errno
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from command_lines import SMALL

from onechange.cli.main import main

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
    """A file of that name with another hash is refused by name; a zip of somebody else's is none of our business."""
    (empty_cache / "SMSSpamCollection").write_text("ham\thello\n")
    line = refused("run", "--model_size", toy)
    assert "SHA-256" in line
    assert str(empty_cache / "SMSSpamCollection") in line
    (empty_cache / "SMSSpamCollection").unlink()
    with zipfile.ZipFile(empty_cache / "other.zip", "w") as archive:
        archive.writestr("SMSSpamCollection", "ham\thello\n")
    assert "cannot download the UCI SMS Spam Collection" in refused("run", "--model_size", toy)
    assert (empty_cache / "other.zip").exists()


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
        status, length = 200, None

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
