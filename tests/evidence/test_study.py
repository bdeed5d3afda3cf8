"""Rows times seeds: every run once and only once, whatever is killed or runs beside it, and the table of them all."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.evidence import study
from onechange.evidence.study import Job, Store, jobs_of, run_study, table_rows, workers_for
from onechange.evidence.summary import by_setting, summary
from onechange.gpt.checkpoint import find
from onechange.training.result import Result

COLUMNS = ["row", "title", "model", "train", "val", "test", "sd", "low", "high", "seeds"]
COLUMNS += ["messages", "failed", "stuck", "trainable", "seconds"]


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short messages of two classes: a run over them takes a moment."""
    file = tmp_path_factory.mktemp("messages") / "messages.tsv"
    lines = [f"{'ham' if i % 2 else 'spam'}\tmessage number {i} {'win' * (1 - i % 2)}" for i in range(40)]
    file.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return file


@pytest.fixture
def base(toy: Path, messages: Path) -> Experiment:
    """A row 1 that takes a moment."""
    return Experiment(str(toy), dataset=str(messages), num_epochs=1, learning_rate=1e-3)


def table_words(base: Experiment, out: Path, *more: str) -> list[str]:
    """The command ``onechange table`` for the same."""
    return ["table", *base.flags, "--out", str(out), *more]


def broken(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("nothing should be computed here")


def files(folder: Path) -> dict[str, int]:
    """Names and times of everything in a folder."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def made_up(row: object, seed: int = 123, test: float = 0.9, **more: Any) -> dict[str, Any]:
    """A record as a run would leave it, without running."""
    e = Experiment("pocket-small", seed=seed).to_dict() | more.pop("experiment", {})
    made = {"onechange": "0.1.0", "precision": "fp32", "device": "cpu", "weights_sha256": "w", "messages_sha256": "m"}
    made |= more.pop("environment", {})
    record = {"row": str(row), "key": "k", "error": "", "n_trainable": 10, "seconds": 2.0, "test_labels": [0] * 300}
    record["final"] = {"train": 1.0, "val": 0.8, "test": test}
    right = np.arange(300) < round(300 * test)
    record |= {"test_probabilities": np.stack([right, ~right], 1).astype(float).tolist(), "test_seen": [0] * 300}
    record |= {"train_losses": [1.0, 0.5], "val_losses": [1.0, 0.6], "steps": [0, 50], "examples": [8, 408]}
    return record | {"experiment": e, "environment": made} | more


# -- the store --------------------------------------------------------------------------------------


def test_a_record_is_named_by_a_hash(base: Experiment, tmp_path: Path) -> None:
    """A run is one file of plain JSON under its key, from which the result comes back."""
    store = Store(tmp_path / "store")
    (record,) = run_study([Job("1", base)], store, progress=False)
    (file,) = store.folder.iterdir()
    assert re.fullmatch(r"[0-9a-f]{20}\.json", file.name)
    assert file.stem == store.key(base) == record["key"]
    kept = json.loads(file.read_text(), parse_constant=broken)
    assert re.fullmatch("[0-9a-f]{64}", kept.pop("digest"))
    assert kept | {"row": "1"} == record
    result = Result.from_dict(record)
    assert result.experiment == base.resolved()
    assert result.final == record["final"]


def test_what_decides_a_number_decides_the_name(base: Experiment, toy: Path, messages: Path, tmp_path: Path) -> None:
    """Each option, the weights, the messages, the tokenizer and the version are in the key; nothing random is."""
    store = Store(tmp_path)
    changes: list[dict[str, Any]] = [
        {"seed": 124},
        {"train_size": 16},
        {"precision": "bf16"},
        {"prefix_cache": "off"},
        {"learning_rate": 1e-4},
        {"weights": "random"},
        {"trainable_layers": "lora"},
        {"dataset": "pocket"},
    ]
    keys = [store.key(base), *(store.key(base.but(**change)) for change in changes)]
    assert len(set(keys)) == len(keys)
    assert store.key(base) == keys[0] == store.key(base.but(learning_rate=base.learning_rate))

    other = tmp_path / "model"
    shutil.copytree(toy, other)
    e = base.but(model_size=str(other))
    before = store.key(e)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert store.key(e) != before

    text = tmp_path / "messages.tsv"
    shutil.copyfile(messages, text)
    e = base.but(dataset=str(text))
    before = store.key(e)
    text.write_text(text.read_text().replace("win", "won"))
    assert store.key(e) != before


def test_another_version_computes_again(base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of an older version is not taken for one of this."""
    before = Store(tmp_path).key(base)
    monkeypatch.setattr("onechange.support.package.__version__", "999")
    assert Store(tmp_path).key(base) != before


def test_the_second_time_nothing_is_computed(base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are found, in the order of the jobs, and left as they are."""
    jobs = jobs_of({"1": base, "2": base.but(trainable_token_pos="first")}, [5, 6])
    first = run_study(jobs, Store(tmp_path), progress=False)
    before = files(tmp_path)
    monkeypatch.setattr(study, "run_seeds", broken)
    assert run_study(jobs, Store(tmp_path), progress=False) == first
    assert files(tmp_path) == before
    done = [(record["row"], record["experiment"]["seed"]) for record in first]
    assert done == [("1", 5), ("1", 6), ("2", 5), ("2", 6)]


def test_the_seeds_of_a_row_are_trained_together(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that share messages and prefix; a row that trains everything goes one by one."""
    asked = []
    compute = study.run_seeds

    def logged(e: Experiment, seeds: list[int], **more: Any) -> list[Any]:
        asked.append((e.trainable_layers, seeds))
        return compute(e, seeds, **more)

    monkeypatch.setattr(study, "run_seeds", logged)
    e = Experiment(str(toy), dataset="pocket", train_size=16, num_epochs=1)
    rows = {"1": e, "5": e.but(trainable_layers="all")}
    run_study(jobs_of({"1": e}, [6]), Store(tmp_path), progress=False)
    records = run_study(jobs_of(rows, [5, 6, 7]), Store(tmp_path), progress=False)
    assert asked == [("last_block", [6]), ("last_block", [5, 7]), ("all", [5]), ("all", [6]), ("all", [7])]
    assert [record["experiment"]["seed"] for record in records] == [5, 6, 7, 5, 6, 7]


def test_run_always_computes(base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``onechange run`` reads no store and leaves none."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["run", *base.flags]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_is_a_record(base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that is not a number is kept with the reason, counted as failed, and left out of the means."""
    words = table_words(base.but(learning_rate=1e38), tmp_path, "--rows", "1")
    assert main(words) == 0
    assert "failed" in capsys.readouterr().out
    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text(), parse_constant=broken)
    assert "not a number" in record["error"]
    assert main([*words, "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out, parse_constant=broken)
    assert (line["seeds"], line["failed"], line["test"]) == (0, 1, None)


def test_what_is_no_record(base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other files in the folder are no records; a folder without one says how to make some."""
    (tmp_path / "package.json").write_text('{"name": "something else"}')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "broken.json").write_text('{"row": ')
    assert main(["show", "--out", str(tmp_path)]) == 2
    assert "onechange table" in capsys.readouterr().err
    run_study([Job("1", base)], Store(tmp_path), progress=False)
    assert len(Store(tmp_path).records()) == 1


# -- several processes, and none ----------------------------------------------------------------------

# The command line with a line in a log for every run that it computes.
LOGGED = """
import sys, time
import onechange.evidence.study
from onechange.cli.main import main
compute = onechange.evidence.study.run_seeds
def logged(e, seeds, **more):
    time.sleep(0.05)
    results = compute(e, seeds, **more)
    with open(sys.argv[1], "a") as log:
        log.writelines(result.command + chr(10) for result in results)
    return results
onechange.evidence.study.run_seeds = logged
sys.exit(main(sys.argv[2:]))
"""


def start(log: Path, words: Sequence[str]) -> subprocess.Popen:
    """``onechange`` with these words in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", LOGGED, str(log), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_kill_9_and_go_on(base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was finished stays untouched, the rest is computed, and nothing half-written is left."""
    out, log = tmp_path / "store", tmp_path / "log"
    words = table_words(base, out, "--rows", "1-3,16,19", "--seeds", "4")
    process = start(log, words)
    while len(list(out.glob("*.json")) if out.exists() else []) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = files(out)
    finished = {name: when for name, when in before.items() if name.endswith(".json")}
    assert 3 <= len(finished) < 20
    assert all(json.loads((out / name).read_text()) for name in finished)
    # What a process leaves that is killed while it writes: a part under a name of its own.
    key = Store(out).key(base.but(trainable_token_pos="flexible", average_embeddings=False, seed=126))
    (out / f".{key}.json.half").write_text('{"row": ')

    assert main(words) == 0
    after = files(out)
    assert {name: after[name] for name in finished} == finished
    assert len(after) == 20
    assert all(name.endswith(".json") and json.loads((out / name).read_text()) for name in after)
    assert "average over positions" in capsys.readouterr().out


def test_two_processes_on_one_store(base: Experiment, tmp_path: Path) -> None:
    """Started together they share the work: each run is computed once, and both print the same table."""
    out, log = tmp_path / "store", tmp_path / "log"
    words = table_words(base, out, "--rows", "1-4", "--seeds", "3", "--csv")
    processes = [start(log, words) for _ in range(2)]
    printed = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    tables = [pd.read_csv(io.StringIO(out)) for out, _ in printed]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    computed = log.read_text().splitlines()
    assert len(computed) == len(set(computed)) == 12
    assert len(files(out)) == 12


def test_workers_give_the_same_records(base: Experiment, tmp_path: Path) -> None:
    """Two processes with a thread each share the rows, whatever is stored or asked for twice, and change no number."""
    rows = {"1": base, "2": base.but(trainable_token_pos="first"), "5": base.but(trainable_layers="all")}
    jobs = jobs_of(rows | {"again": base}, [5, 6])
    alone, shared = Store(tmp_path / "alone"), Store(tmp_path / "shared")
    run_study(jobs[:1], shared, progress=False)
    told: list[dict[str, Any]] = []
    records = run_study(jobs, shared, progress=False, workers=2, done=told.append)
    expected = run_study(jobs, alone, progress=False)
    assert len(told) == len(jobs)
    assert [record["row"] for record in records] == [job.row for job in jobs]
    for ours, theirs in zip(records, expected, strict=True):
        assert ours["key"] == theirs["key"]
        assert ours["final"] == theirs["final"]
        assert np.allclose(ours["train_losses"], theirs["train_losses"], atol=1e-5)
    threads = {record["row"]: record["environment"]["threads"] for record in records}
    assert threads["5"] == max(1, torch.get_num_threads() // 2)


def test_when_workers_pay(base: Experiment) -> None:
    """One process a thread for the small family on a processor, each with two groups or more; else one."""
    pocket = [[(Job("5", Experiment("pocket-small", trainable_layers="all")), "key")]] * 8
    assert [workers_for(pocket[:n], "cpu", threads=4) for n in (0, 1, 3, 4, 7, 8)] == [1, 1, 1, 2, 3, 4]
    assert workers_for(pocket, "cpu", threads=1) == 1
    assert workers_for([[(Job("5", base), "key")]] * 8, "cpu", threads=4) == 1
    assert workers_for([*pocket, [(Job("5", Experiment("gpt2-small")), "key")]], "cpu", threads=4) == 1


def test_a_worker_that_is_killed(base: Experiment, tmp_path: Path) -> None:
    """Memory ran short and the system chose one: one line, status 2, and what was finished is kept."""
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "store"
    words = table_words(base.but(num_epochs=3), out, "--rows", "1-5,16,19", "--seeds", "40", "--workers", "2")
    command = [sys.executable, "-m", "onechange", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(out.glob("*.json")) if out.exists() else []) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    helpers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(helpers) == 2
    helpers[0].kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.strip().splitlines()[-1].startswith("onechange: one of 2 processes was killed")
    assert "Traceback" not in err
    assert all(json.loads(file.read_text()) for file in out.glob("*.json"))


def test_a_lock_of_another_process_is_left_to_it(base: Experiment, tmp_path: Path) -> None:
    """A study that ends does not take away the lock under which somebody else computes another row."""
    store = Store(tmp_path)
    other = store.lock(store.key(base.but(seed=7)))
    with other:
        run_study([Job("1", base)], store, progress=False)
        assert Path(other.lock_file).exists()
        with pytest.raises(Timeout):
            FileLock(other.lock_file).acquire(timeout=0)


# -- the table --------------------------------------------------------------------------------------


def test_a_line_of_the_table_by_hand() -> None:
    """Means in percent, the interval of the test accuracy, seeds that failed apart."""
    records = [made_up(1, 123, 0.90), made_up(1, 124, 0.94), made_up(1, 125, 0.5, error="the loss", final={})]
    (line,) = summary(records).to_dict("records")
    assert list(line) == COLUMNS
    assert (line["row"], line["title"], line["model"]) == ("1", "the baseline", "pocket-small")
    assert line["train"] == pytest.approx(100)
    assert line["test"] == pytest.approx(92)
    assert line["sd"] == pytest.approx(2 * math.sqrt(2))
    assert 0 <= line["low"] < 90 < 94 < line["high"] <= 100
    assert (line["seeds"], line["failed"], line["trainable"], line["seconds"]) == (2, 1, 10, 2.0)


def test_a_row_that_failed_with_every_seed() -> None:
    """It keeps its line, without numbers."""
    (line,) = summary([made_up(1, seed, error="the loss", final={}) for seed in (1, 2)]).to_dict("records")
    assert (line["seeds"], line["failed"]) == (0, 2)
    assert math.isnan(line["test"])


def test_the_clean_messages_alone() -> None:
    """``clean`` leaves out the test messages that stand in the training set, in whatever form."""
    seen = [2] * 30 + [1] * 20 + [0] * 250
    (line,) = summary([made_up(1, test=0.9, test_seen=seen)], clean=True).to_dict("records")
    assert line["messages"] == 250
    assert line["test"] == pytest.approx(100 * 220 / 250)  # made_up is right on the first ones


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_number_of_seeds(seeds: int, base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--seeds N`` runs N seeds from ``--seed`` upwards, and says so."""
    words = table_words(base.but(seed=40), tmp_path, "--rows", "3", "--seeds", str(seeds), "--json")
    assert main(words) == 0
    out, _ = capsys.readouterr()
    (line,) = json.loads(out)
    assert line["seeds"] == seeds
    assert sorted(record["experiment"]["seed"] for record in Store(tmp_path).records()) == list(range(40, 40 + seeds))


def test_every_format_shows_the_same(base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` prints what ``table`` printed, as text, Markdown, CSV and JSON."""
    assert main(table_words(base, tmp_path, "--rows", "1,3", "--seeds", "2")) == 0
    text, _ = capsys.readouterr()

    def shown(*words: str) -> str:
        assert main(["show", "--out", str(tmp_path), *words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    assert shown().endswith(text)
    frame = pd.read_csv(io.StringIO(shown("--csv")))
    assert shown("--format", "csv") == shown("--csv")
    assert list(frame.columns)[: len(COLUMNS)] == COLUMNS
    assert frame.row.tolist() == [1, 3]
    lines = json.loads(shown("--json"), parse_constant=broken)
    assert shown("--format", "json") == shown("--json")
    assert [line["title"] for line in lines] == frame.title.tolist() == ["the baseline", "last layer"]
    assert np.allclose([line["test"] for line in lines], frame.test)
    markdown = [line for line in shown("--format", "markdown").splitlines() if line.startswith("|")]
    assert len(markdown) == 4
    assert set(markdown[1]) <= set("|-: ")
    for line, row in zip(markdown[2:], lines, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == row["title"]
        assert f"{row['test']:.2f}" in cells
        assert f"{row['trainable']:,}" in cells
        assert all(cell in text for cell in cells)


def test_settings_are_not_mixed() -> None:
    """Runs that differ in more than row and seed are never averaged."""
    records = [
        made_up(1),
        made_up(1, 124),
        made_up(1, experiment={"learning_rate": 1e-2}),
        made_up(1, experiment={"num_epochs": 1}),
        made_up(1, experiment={"dataset": "uci"}),
        made_up(1, experiment={"model_size": "pocket-medium"}),
        made_up(1, environment={"precision": "bf16"}),
        made_up(1, environment={"onechange": "0.0.1"}),
        *(made_up(1, experiment={"model_size": "a/folder"}, environment={"weights_sha256": sha}) for sha in "ab"),
        *(made_up(1, experiment={"dataset": "a/file.tsv"}, environment={"messages_sha256": sha}) for sha in "ab"),
    ]
    groups = by_setting(records)
    assert sorted(len(group) for _, group in groups) == [1] * 10 + [2]
    assert len({title for title, _ in groups}) == 11


def test_the_ladder_is_one_setting() -> None:
    """Rows 1 and 6 to 8 name four sizes and belong into one table."""
    sizes = {1: "pocket-small", 6: "pocket-medium", 7: "pocket-large", 8: "pocket-xl"}
    experiments = {row: {"model_size": size, "learning_rate": find(size).learning_rate} for row, size in sizes.items()}
    records = [made_up(row, experiment=changes) for row, changes in experiments.items()]
    records += [made_up(2, experiment={"trainable_token_pos": "first"})]
    ((title, group),) = by_setting(records)
    assert title.startswith("pocket, pocket messages")
    assert [record["row"] for record in group] == ["1", "2", "6", "7", "8"]


def test_several_settings_are_one_document(
    base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON and CSV stay readable whatever is in the folder, and say which line is which."""
    for rate in (1e-3, 1e-4):
        assert main(table_words(base.but(learning_rate=rate), tmp_path, "--rows", "3")) == 0
    capsys.readouterr()
    assert main(["show", "--out", str(tmp_path), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert len(lines) == len({json.dumps(line) for line in lines}) == 2
    assert main(["show", "--out", str(tmp_path), "--csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert frame.row.tolist() == [3, 3]
    assert main(["show", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("last layer") == 2


def test_show_needs_neither_model_nor_messages(
    base: Experiment, toy: Path, messages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records outlive what they were made from."""
    model, text = tmp_path / "model", tmp_path / "messages.tsv"
    shutil.copytree(toy, model)
    shutil.copyfile(messages, text)
    run_study([Job("1", base.but(model_size=str(model), dataset=str(text)))], Store(tmp_path / "store"), progress=False)
    shutil.rmtree(model)
    text.unlink()
    assert main(["show", "--out", str(tmp_path / "store")]) == 0
    assert "the baseline" in capsys.readouterr().out
    (record,) = Store(tmp_path / "store").records()
    result = Result.from_dict(record)
    assert 0 <= result.scores["accuracy"] <= 1


def test_rows_on_top_of_a_base(base: Experiment) -> None:
    """A base with a model of its own keeps it; its other flags reach every row; a row's change comes on top."""
    rows = table_rows(base.but(train_size=16), ["1", "8", "12", "14"])
    assert list(rows) == ["1", "8", "12", "14"]
    assert {e.model_size for e in rows.values()} == {base.model_size}
    assert {e.train_size for e in rows.values()} == {16}
    assert rows["12"].trainable_layers == "lora"
    assert rows["14"].no_padding
    assert table_rows(Experiment(), ["8"], "pocket")["8"].model_size == "pocket-xl"


def test_a_row_that_cannot_be(base: Experiment) -> None:
    """The line says which row a flag does not go with."""
    with pytest.raises(UsageError, match="row 14"):
        table_rows(base.but(context_length=32), ["1", "14"])
