"""Any byte of any file may be missing or wrong, after a power cut or a copy: the store, the prefixes, a saved model.

Each file is cut at many lengths, and bits of it are turned over. What comes of it is one line or what came before;
a record or a prefix is computed again. No traceback, no wrong number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from onechange import Experiment, Result, UsageError, run
from onechange.classifier.saved import load, save
from onechange.evidence.study import Store, jobs_of, run_study
from onechange.training import store as prefixes
from onechange.training.store import Disk

TEXTS = ["Are you free tonight?", "WIN a prize, call 0800 now", "ok"]


def damaged(whole: bytes, cases: int, seed: int) -> Iterator[bytes]:
    """A file emptied, cut, with a bit turned over, with a stretch of zeros, with something behind it."""
    rng = np.random.default_rng(seed)
    yield b""
    yield whole + b"\0"
    for i in range(cases - 2):
        at = int(rng.integers(len(whole)))
        if i % 3 == 0:
            yield whole[:at]
        elif i % 3 == 1:
            yield whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :]
        else:
            n = min(len(whole) - at, int(rng.integers(1, 4096)))
            yield whole[:at] + bytes(n) + whole[at + n :]


@pytest.fixture(scope="module")
def result(toy: Path) -> Result:
    e = Experiment(
        model_size=str(toy), dataset="pocket", learning_rate=1e-3, train_size=16, num_epochs=1, context_length=24
    )
    return run(e, progress=False)


def sweep(path: Path, cases: int, outcome: Callable[[], object], right: object) -> int:
    """How often a damaged file was noticed; a right answer is fine, any other is not."""
    whole, noticed = path.read_bytes(), 0
    for content in damaged(whole, cases, seed=len(whole)):
        path.write_bytes(content)
        try:
            found = outcome()
        except UsageError as error:
            noticed += "\n" not in str(error)
            continue
        assert found == right or content == whole
    path.write_bytes(whole)
    assert outcome() == right
    return noticed


def few(slow: bool, many: int) -> int:
    return many if slow else 12


@pytest.mark.parametrize("name", ["onechange.json", "config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_saved_model(name: str, slow: bool, result: Result, tmp_path: Path) -> None:
    folder = save(result, tmp_path / "model")
    answers = load(folder).probabilities(TEXTS).tolist()
    cases = few(slow, 300)
    noticed = sweep(folder / name, cases, lambda: load(folder).probabilities(TEXTS).tolist(), answers)
    assert noticed > 0.9 * cases


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_record_of_the_store(slow: bool, result: Result, tmp_path: Path) -> None:
    """It is computed again."""
    store = Store(tmp_path)
    [record] = run_study(jobs_of({"1": result.experiment}, [123]), store, progress=False)
    path, cases = store.path(record["key"]), few(slow, 400)
    right = json.loads(path.read_text())["final"]

    def outcome() -> object:
        found = store.load(record["key"])
        return right if found is None else found["final"]

    sweep(path, cases, outcome, right)
    for content in damaged(path.read_bytes(), cases, 5):
        path.write_bytes(content)
        found = store.load(record["key"])
        assert found is None or {**found, "row": "1"} == {**record, "row": "1"}
    path.unlink()
    path.mkdir()
    assert store.load(record["key"]) is None


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_prefix_on_disk(slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed again, unless it is what was kept."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    monkeypatch.setattr(prefixes, "WORTH", 0.0)
    disk, key = Disk(1e9), ("a key",)
    x = torch.randn(20, 8, 4, generator=torch.Generator().manual_seed(1))
    disk.put(key, x, 2.5)
    path = disk.path(key)
    whole, seen = path.read_bytes(), 0
    for content in damaged(whole, few(slow, 500), 7):
        path.write_bytes(content)
        found = disk.get(key)
        if found is None:
            seen += 1
            continue
        assert torch.equal(found[0], x)
        assert found[1] == 2.5
    assert seen > 0.9 * few(slow, 500)
    path.write_bytes(whole)
    assert torch.equal(disk.get(key)[0], x)
