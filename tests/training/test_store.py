"""Prefixes that outlive their process: the same numbers, whole files, and no more of them than allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onechange import Experiment, Result, UsageError
from onechange.cli.main import main
from onechange.support import cache
from onechange.training import store
from onechange.training.store import Disk, PrefixStore, disk, shared
from onechange.training.train import run

KEY = (2, "a trunk", "tokens", (True, False), "cpu fp32")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for the test, in which everything is worth a file."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "WORTH", 0.0)
    return tmp_path


def some(seed: int = 0, n: int = 1000) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).view(10, -1)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "prefixes").glob("*"))


def test_another_process_finds_what_one_kept(own_cache: Path) -> None:
    """The numbers and the seconds that they took, in whole files only."""
    PrefixStore(disk=Disk(1e6)).put(KEY, some(), 2.5)
    found = PrefixStore(disk=Disk(1e6)).get(KEY)
    assert found is not None
    assert torch.equal(found[0], some())
    assert found[1] == 2.5
    assert PrefixStore().get(KEY) is None
    assert [file.suffix for file in files(own_cache)] == [".safetensors"]


@pytest.mark.parametrize("part", range(len(KEY)))
def test_another_key_is_another_prefix(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of a key counts, and so do the code and PyTorch."""
    kept = Disk(1e6)
    kept.put(KEY, some(), 1.0)
    other = (*KEY[:part], "another", *KEY[part + 1 :])
    assert kept.get(other) is None
    monkeypatch.setattr(store, "code", lambda: ("another version",))
    assert kept.get(KEY) is None


def test_what_was_not_used_for_longest_goes_first(own_cache: Path) -> None:
    """Three fit; of four the second goes, for the first was used again. What fits nowhere is not kept."""
    size = some().nbytes + 200
    kept = Disk(3 * size)
    keys = [(i, *KEY) for i in range(4)]
    for i, key in enumerate(keys[:3]):
        kept.put(key, some(i), 1.0)
        os.utime(kept.path(key), (i, i))
    assert kept.get(keys[0]) is not None
    kept.put(keys[3], some(3), 1.0)
    assert [kept.get(key) is not None for key in keys] == [True, False, True, True]
    kept.put(KEY, some(n=4000), 1.0)
    assert kept.get(KEY) is None
    assert len(files(own_cache)) == 3
    assert sum(file.stat().st_size for file in files(own_cache)) <= kept.limit


def test_what_is_soon_computed_gets_no_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WORTH", 5.0)
    Disk(1e6).put(KEY, some(), 4.9)
    assert files(own_cache) == []


def test_a_damaged_file_is_as_good_as_none(own_cache: Path) -> None:
    """It is removed, and computed again."""
    kept = Disk(1e6)
    for damage in (b"", b"something else", None):
        kept.put(KEY, some(), 1.0)
        path = kept.path(KEY)
        path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
        assert kept.get(KEY) is None
        assert files(own_cache) == []


def test_a_disk_that_is_full_stops_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that says so beforehand nor one that says so while writing; nothing half-written stays."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", full)
        Disk(1e6).put(KEY, some(), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
        Disk(1e6).put(KEY, some(), 1.0)
    assert files(own_cache) == []


def test_a_file_that_another_process_removes_stays_readable() -> None:
    """What was found is there until it is let go."""
    kept = Disk(1e6)
    kept.put(KEY, some(), 1.0)
    found = kept.get(KEY)
    assert found is not None
    cache.clear()
    assert torch.equal(found[0], some())


TWO = """
import sys, torch
from onechange.training import store
store.WORTH = 0.0
kept = store.Disk(9000)
for i in range(60):
    key = (i % 4, "two processes")
    x = torch.full((1000,), float(i % 4))
    kept.put(key, x, 1.0)
    for j in range(4):
        found = kept.get((j, "two processes"))
        assert found is None or torch.equal(found[0], torch.full((1000,), float(j))), (i, j)
"""


def test_two_processes_at_once() -> None:
    """Each writes, reads and removes what the other does too; neither ever sees a part of a file."""
    both = [subprocess.Popen([sys.executable, "-c", TWO], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors


@pytest.fixture
def make(toy: Path) -> Callable[..., Experiment]:
    def experiment(**changes: Any) -> Experiment:
        fixed = {"model_size": str(toy), "dataset": "pocket", "train_size": 24, "num_epochs": 1, "learning_rate": 1e-3}
        return Experiment(**(fixed | changes))

    return experiment


def assert_same(one: Result, other: Result) -> None:
    assert one.final == other.final
    np.testing.assert_allclose(one.test_probabilities, other.test_probabilities, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{}, {"trainable_token_pos": "flexible"}, {"average_embeddings": True}, {"trainable_layers": "last_layer"}],
    ids=str,
)
def test_a_run_from_disk_has_the_same_numbers(change: dict, make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """After row 1 in another process (here: another store), nothing of its prefix is computed again."""
    run(make(), progress=False, store=PrefixStore(disk=Disk(1e9)))
    alone = run(make(**change), progress=False, store=PrefixStore())
    kept = PrefixStore(disk=Disk(1e9))
    assert_same(run(make(**change), progress=False, store=kept), alone)
    stages = {key[0] for key in kept.kept}
    assert 2 in stages, "the two blocks that row 1 had frozen came from disk"


def test_a_process_has_one_store(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run of a process computes no prefix."""
    first = run(make(), progress=False)
    monkeypatch.setattr("onechange.training.prefix._prefix", None)
    assert_same(run(make(num_epochs=1), progress=False), first)
    assert len(shared().kept) == 3


@pytest.mark.parametrize("said", ["-1", "nan", "inf", "much"])
def test_a_limit_that_is_none(said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """In the environment or as an option: one line, status 2."""
    monkeypatch.setenv("ONECHANGE_PREFIX_DISK", said)
    with pytest.raises(UsageError, match="gigabytes"):
        disk()
    if said != "much":
        assert main(["run", "--model_size", "pocket-small", f"--prefix_disk={said}"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten gigabytes unless the environment or an option says another; none at all is nothing on disk."""
    assert (disk() or Disk(0)).limit == 1e10
    monkeypatch.setenv("ONECHANGE_PREFIX_DISK", "3")
    assert (disk() or Disk(0)).limit == 3e9
    assert (disk(0.5) or Disk(0)).limit == 5e8
    assert disk(0) is None
