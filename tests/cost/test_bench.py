"""The benchmark measures what it says; no test looks at a clock."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from onechange.cost import bars, bench
from onechange.cost.bars import floor_of, whole
from onechange.cost.bench import Amount, How, main, measure, table
from onechange.evidence.runs import stored_json
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.training.store import PrefixStore

CPU = torch.device("cpu")


def row(number: int, toy: Path, **changes: object) -> Experiment:
    """A row on a toy model."""
    return Experiment(**(TABLE[number].change | {"model_size": str(toy)} | changes))


def test_a_whole_run_by_the_published_schedule(toy: Path) -> None:
    """1,045 messages, five epochs: 650 steps; 13 + 5 looks at 80 messages, then everything."""
    assert Amount.of(row(1, toy)) == Amount(650, 18 * 80 + 1040 + 149 + 300, 1494)
    assert Amount.of(row(15, toy)).steps == 5 * 131
    assert Amount.of(row(14, toy)).steps == 5 * 1045


@pytest.mark.parametrize("number", [1, 3, 5, 11, 14])
def test_every_way_is_measured(number: int, toy: Path) -> None:
    """This engine, the plain loop and the Trainer, peft's adapters among them."""
    pytest.importorskip("transformers")
    ways = [measure(row(number, toy), how, 2, "cpu") for how in get_args(How)]
    for way in ways:
        assert way["seconds"] == pytest.approx(sum(way["parts"].values()))
        assert math.isfinite(way["rate"])
    engine, plain, trainer = ways
    assert engine["operations"] < plain["operations"] == trainer["operations"]
    assert (engine["parts"]["prefix"] > 0) == (number in (1, 3, 14))
    assert plain["parts"]["prefix"] == trainer["parts"]["prefix"] == 0
    lines = table({str(number): ways}).splitlines()
    assert len(lines) == 5
    assert ("peft" in lines[-1]) == (number == 11)


def test_whole_runs_share_a_prefix(toy: Path) -> None:
    """With random weights too, and several seeds are trained as one model."""
    store = PrefixStore()
    e = row(1, toy, dataset="pocket", train_size=16, num_epochs=1)
    assert whole(e, store, CPU).final.keys() == {"train", "val", "test"}
    kept = len(store.kept)
    assert whole(e, store, CPU, seeds=3).final.keys() == {"train", "val", "test"}
    assert len(store.kept) == kept


def test_a_step_has_a_floor(toy: Path) -> None:
    """Its products and the optimizer's bytes take some time on any machine."""
    found = floor_of(row(5, toy), CPU)
    assert found["ratio"] == pytest.approx(found["step"] / found["floor"])
    assert found["floor"] > 0


def test_the_bars_are_one_command(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every branch but the GPU's, on a toy model: rows, prefixes, twenty seeds beside one, a step beside its floor."""
    small = {"model_size": str(toy), "dataset": "pocket", "train_size": 64, "num_epochs": 1}
    monkeypatch.setattr(Experiment, "at", lambda e, scale: e.but(**small))
    monkeypatch.setattr(bars, "product_rate", lambda *_, **__: 1e10)
    monkeypatch.setattr(bars, "copy_rate", lambda *_: 1e10)
    main(bars=True, rows="1,5", steps=2, device="cpu", out=tmp_path / "bench.json")
    kept = json.loads((tmp_path / "bench.json").read_text())["bars-cpu"]
    assert kept["made"]["steps"] == 2
    found = kept["found"]
    assert found["rows"].keys() == found["prefixes"].keys() == {"1", "5"}
    assert len(found["seeds"]) == 2
    assert found["floors"].keys() == {"5"}
    assert found["total"] == pytest.approx(sum(found["rows"].values()) + sum(found["prefixes"].values()))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The measurements that are asked for, of a benchmark that takes no time."""
    way = {
        "how": "plain",
        "seconds": 2.0,
        "per_step": 0.1,
        "peak_bytes": 1e6,
        "rate": 1e9,
        "machine_rate": 2e9,
        "precision": "fp32",
    }
    made: list[str] = []

    def measured(size: str, one: str, *_: object) -> dict[str, object]:
        made.append(one)
        return way | {"how": one.split(",")[1], "size": size}

    monkeypatch.setattr(bench, "_in_its_own_process", measured)
    return made


def test_what_is_measured_is_written_down(tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people; a file with versions, the device and every number."""
    main(size="pocket-small", rows="1", device="cpu", out=tmp_path / "bench.json", note="a note")
    assert "| 1 the baseline | this engine |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "bench.json").read_text())["pocket-small-cpu"]
    assert kept["note"] == "a note"
    assert kept["made"]["torch"] == torch.__version__
    assert [found["how"] for found in kept["found"]["1"]] == list(get_args(How))


def test_a_benchmark_goes_on_where_it_was_stopped(tmp_path: Path, asked: list[str]) -> None:
    """Under the same conditions a row is measured once; other benchmarks in the file stay."""
    out = tmp_path / "bench.json"
    for size, rows, steps, new in (
        ("pocket-small", "1", 24, ["1"]),
        ("pocket-small", "1,2", 24, ["2"]),
        ("pocket-medium", "1", 24, ["1"]),
        ("pocket-small", "1,2", 24, []),
        ("pocket-small", "2", 12, ["2"]),
    ):
        asked.clear()
        main(size=size, rows=rows, steps=steps, device="cpu", out=out)
        assert [one.split(",")[0] for one in asked] == [row for row in new for _ in get_args(How)]
    kept = json.loads(out.read_text())
    assert {name: list(entry["found"]) for name, entry in kept.items()} == {
        "pocket-small-cpu": ["2"],
        "pocket-medium-cpu": ["1"],
    }


def test_the_log_says_of_every_trial_what_was_expected_and_what_came_of_it() -> None:
    """Kept or left, under conditions that are explained; what was left says why."""
    log = stored_json("speed")
    for entry in log["trials"]:
        assert entry["kept"] or entry["why"], entry["what"]
        for found in entry["measured"]:
            assert found["when"] in log["conditions"], entry["what"]
            assert {"of", "unit"} <= found.keys()
            assert all(np.isfinite(np.atleast_1d(value)).all() for value in found["values"].values())
