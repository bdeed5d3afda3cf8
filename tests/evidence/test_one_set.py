"""One experiment has one set of runs, whatever names it has and whichever study holds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up

from onechange.evidence.compare import difference
from onechange.evidence.runs import Runs, stored, write
from onechange.experiment.experiment import BASELINE
from onechange.experiment.rows import row_of

MADE = {"messages_sha256": "m", "weights_sha256": "w", "precision": "fp32"}


def row(name: str, S: int, share: float = 0.5, **made: str) -> Runs:
    e = BASELINE.at("pocket").but(**row_of(name).change).resolved()
    right = np.arange(40)[None].repeat(S, 0) < 40 * share
    return made_up(name, right, experiment=e, made=MADE | made)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("onechange.evidence.runs.RESULTS", (tmp_path,))
    return tmp_path


def test_names_of_one_experiment_have_its_most_seeds(results: Path) -> None:
    """In the study itself and in others; each keeps its name, and what is no other's stays as it is."""
    write(results / "beyond.json", {name: row(name, 2) for name in ("rank-16", "rank-8", "blocks-2", "rate-0.001")})
    write(results / "table.json", {"11": row("11", 5, 0.9), "4": row("4", 2, 0.7), "1": row("1", 1, 0.8)})
    found = stored("beyond")
    assert {name: len(x.seeds) for name, x in found.items()} == {
        "rank-16": 5, "rank-8": 2, "blocks-2": 2, "rate-0.001": 2,
    }  # fmt: skip
    assert found["rank-16"].test.tolist() == pytest.approx([0.9] * 5)
    assert found["blocks-2"].test.tolist() == pytest.approx([0.7] * 2), "of two alike the published row's"
    assert [x.row for x in found.values()] == list(found)
    assert found["blocks-2"].experiment.trainable_blocks == 2
    assert len(stored("table")["1"].seeds) == 2, "the table too has the larger set"


def test_a_study_on_seeds_of_its_own_keeps_its_runs(results: Path) -> None:
    """Such as one that chooses rates, however many runs of the same experiment others have."""
    own = replace(row("rate-0.001", 2, 0.6), seeds=[1123, 1124])
    write(results / "choices.json", {"rate-0.001": own})
    write(results / "table.json", {"1": row("1", 5, 0.9)})
    assert stored("choices")["rate-0.001"].seeds == [1123, 1124]
    assert len(stored("table")["1"].seeds) == 5


@pytest.mark.parametrize("other", [{"messages_sha256": "n"}, {"weights_sha256": "v"}, {"precision": "bf16"}])
def test_other_messages_weights_or_numbers_are_another_experiment(results: Path, other: dict[str, str]) -> None:
    write(results / "beyond.json", {"rank-16": row("rank-16", 2)})
    write(results / "table.json", {"11": row("11", 5, 0.9, **other)})
    assert len(stored("beyond")["rank-16"].seeds) == 2


def test_a_filter_without_a_network_is_not_the_row_whose_fields_it_has(results: Path) -> None:
    """0a has the baseline's experiment, and is another thing."""
    write(results / "table.json", {"0a": row("0a", 1), "1": row("1", 5, 0.9)})
    assert len(stored("table")["0a"].seeds) == 1


def test_a_file_that_is_no_study_is_left_alone(results: Path) -> None:
    write(results / "table.json", {"1": row("1", 1)})
    (results / "log.json").write_text('{"a": {"b": 1}, "c": 2}')
    assert list(stored("table")) == ["1"]


def test_a_difference_is_on_the_same_seeds() -> None:
    """Whichever side has more."""
    more, fewer = row("1", 5), row("4", 3, 0.9)
    fewer = replace(fewer, seeds=more.seeds[2:])
    assert difference(more, fewer).difference.seeds == difference(fewer, more).difference.seeds == 3


def test_the_books_rank_16_is_row_11() -> None:
    """Where the studies of the book have both."""
    assert len(stored("beyond-uci")["rank-16"].seeds) == len(stored("table-uci")["11"].seeds)
    for one, other in (("rank-16", "11"), ("blocks-2", "4"), ("rate-0.001", "1")):
        a, b = stored("beyond-uci")[one], stored("table-uci")[other]
        assert (a.right == b.right).all()
        assert (a.seconds == b.seconds).all()
