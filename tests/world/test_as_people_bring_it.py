"""Cases in the shape in which people bring them, by kind; the members of each kind that were thought of stand in its
docstring. What is not here yet: quoting and encodings of files of messages, checkpoints of other layouts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onechange import Experiment, UsageError, run
from onechange.classifier.saved import load, save
from onechange.cli.main import main
from onechange.data.table import RUN, check_message
from onechange.evidence.study import Store, jobs_of, run_study
from onechange.support import cache

SMALL = {"model_size": "pocket-small", "train_size": 16, "num_epochs": 1, "trainable_layers": "last_layer"}


# -- A: nothing is touched or taken that was not meant ---------------------------------------------------------------


def test_clearing_the_cache_leaves_what_is_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of a person's own, a file of theirs, a link; beside what was downloaded and what was half-written."""
    for name in (
        "thesis.txt",
        "photos/a.jpg",
        "hub/models--mine--bert/x",
        "smollm2-notes/n",
        "hub/models--openai-community--gpt2/x",
        ".prefix.abc",
        "SMSSpamCollection",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    assert main(["cache", "--clear"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "photos", "smollm2-notes", "thesis.txt"]
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["models--mine--bert"]
    said = capsys.readouterr().out
    assert "hub, photos, smollm2-notes, thesis.txt" in said
    assert "freed 0.0 MB" in said
    assert cache.contents() == []


def test_a_folder_that_holds_another_model_now_gives_that_models_answer(tmp_path: Path) -> None:
    """Nothing of a folder is remembered by its name: another shape, in the same place, in the same process."""
    for size in ("pocket-small", "pocket-medium"):
        result = run(Experiment(**SMALL | {"model_size": size}), progress=False)
        shutil.rmtree(tmp_path / "M", ignore_errors=True)
        save(result, tmp_path / "M")
        found = load(tmp_path / "M").model.config.emb_dim
        assert found == result.experiment.checkpoint.shape.emb_dim


# -- B: every way in which a download can fail -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"HTTPS_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"HF_ENDPOINT": "hf-mirror.example"},
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        {"HF_HUB_OFFLINE": "1"},
    ],
    ids=lambda setting: " ".join(f"{name}={value}" for name, value in setting.items()),
)
def test_a_download_that_fails_is_one_line(setting: dict[str, str], tmp_path: Path) -> None:
    """A proxy that is not there or of another kind, a mirror without a scheme or without a server, no network."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | setting
    environment |= {"ONECHANGE_CACHE": str(tmp_path)}
    command = [
        sys.executable,
        "-c",
        "from onechange.gpt.weights import MODELS, from_hub; from_hub(MODELS['gpt2-xl (1558M)'])",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1].startswith("onechange.support.errors.UsageError: cannot download")


def test_a_copied_cache_with_a_dummy_in_it(tmp_path: Path) -> None:
    """Without its links, its file a dummy of 40 bytes: no network is asked to say that this is no GPT-2.

    The client is the real one, and what it would reach refuses.
    """
    from onechange.gpt.weights import MODELS

    known = MODELS["gpt2-medium (355M)"]
    folder = tmp_path / "hub" / f"models--{known.repo.replace('/', '--')}" / "snapshots" / known.revision
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"d" * 40)
    code = "from onechange.gpt.weights import MODELS, from_hub; from_hub(MODELS['gpt2-medium (355M)'])"
    own = {"ONECHANGE_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | own, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "had only 40 bytes: it was damaged or another file" in last
    assert not (folder / "model.safetensors").exists()


# -- D: what decides an answer is said -------------------------------------------------------------------------------


def test_the_first_token_is_not_read_where_it_is_padding() -> None:
    with pytest.raises(UsageError, match="first token is padding"):
        Experiment(**SMALL, padding_side="left", trainable_token_pos="first")


# -- F: the store survives -------------------------------------------------------------------------------------------


def test_a_damaged_record_is_computed_again(tmp_path: Path) -> None:
    """Empty, cut at many lengths, another program's: never a traceback, never a wrong number."""
    jobs, store = jobs_of({"3": Experiment(**SMALL)}, [123]), Store(tmp_path)
    (record,) = run_study(jobs, store, progress=False)
    path = store.path(record["key"])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"[]", b"{}", b"null", b'{"key": 1}', *(whole[:n] for n in rng.integers(0, len(whole), 100))]
    for text in damaged:
        path.write_bytes(text)
        assert store.load(record["key"]) is None
    (again,) = run_study(jobs, store, progress=False)
    assert again["test_probabilities"] == record["test_probabilities"]
    assert json.loads(path.read_text())["final"] == record["final"]


# -- G: any text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [" " * 10**6 + "x", "a" * 10**5], ids=["blanks", "letters"])
def test_a_run_that_no_tokenizer_stands_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="in a row"):
        check_message(text)
    check_message("word " * RUN)


def test_bytes_that_are_no_text_are_named() -> None:
    with pytest.raises(UsageError, match="not valid UTF-8"):
        check_message("caf\udce9 win now")


# -- H: names and places as people type them -------------------------------------------------------------------------


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` in a file of messages, in a store, in a model's folder, as a shell leaves it behind an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = [f"{'ham' if i % 2 else 'spam'}\tmessage {i}" for i in range(40)]
    (tmp_path / "x.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    assert Experiment(**SMALL, dataset="~/x.tsv").dataset == str(tmp_path / "x.tsv")
    assert Store("~/r").folder == tmp_path / "r"


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_the_hubs_own_names(name: str) -> None:
    assert Experiment(model_size=name).model_size == "gpt2-small (124M)"
    assert Experiment(model_size="openai-community/gpt2-xl").model_size == "gpt2-xl (1558M)"


def test_messages_from_a_pipe(tmp_path: Path) -> None:
    """A pipe is no regular file; ``-`` is standard input; what is printed into a file is UTF-8."""
    save(run(Experiment(**SMALL), progress=False), tmp_path / "M")
    command = [sys.executable, "-m", "onechange", "predict", str(tmp_path / "M"), "--file"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    for file in ("/dev/stdin", "-"):
        done = subprocess.run([*command, file], env=environment, input="日本語 café\n".encode(), capture_output=True)
        assert done.returncode == 0, done.stderr
        assert "日本語 café" in done.stdout.decode("utf-8")
