"""The store, and several processes on it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout
from records import broken, files, table_words

from onechange import Experiment
from onechange.cli.main import main
from onechange.evidence import study
from onechange.evidence.study import Group, Job, Store, jobs_of, run_study, workers_for
from onechange.training.result import Result

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

    def group(e: Experiment) -> Group:
        return Group(((Job("5", e), "key"),))

    pocket = [group(Experiment("pocket-small", trainable_layers="all"))] * 8
    assert [workers_for(pocket[:n], "cpu", threads=4) for n in (0, 1, 3, 4, 7, 8)] == [1, 1, 1, 2, 3, 4]
    assert workers_for(pocket, "cpu", threads=1) == 1
    assert workers_for([group(base)] * 8, "cpu", threads=4) == 1
    assert workers_for([*pocket, group(Experiment("gpt2-small"))], "cpu", threads=4) == 1


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
