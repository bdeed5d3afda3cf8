"""What a study is said to cost, against what its own rules make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onechange import Experiment
from onechange.cli.main import main
from onechange.cost.plan import make_plan
from onechange.cost.study_plan import StudyPlan, plan_study, simulate
from onechange.evidence.study import groups_of, jobs_of


@pytest.fixture(scope="module")
def rows(toy: Path) -> dict[str, Experiment]:
    """Two rows on one prefix, one on none, one on a prefix of its own."""
    e = Experiment(str(toy), dataset="pocket", train_size=16, num_epochs=1)
    more = {"2": {"trainable_token_pos": "first"}, "5": {"trainable_layers": "all"}, "17": {"no_padding": True}}
    return {"1": e} | {row: e.but(**change) for row, change in more.items()}


@pytest.fixture(scope="module")
def plan(rows: dict[str, Experiment]) -> StudyPlan:
    """Three seeds of each."""
    return plan_study(rows, [5, 6, 7], timed=False)


def test_a_schedule_counts_a_prefix_once_a_worker(rows: dict[str, Experiment]) -> None:
    """By hand: on one worker, on enough, and in between; more workers than groups change nothing."""
    two = groups_of([(job, "") for job in jobs_of({row: rows[row] for row in ("1", "2", "5")}, [5, 6])])
    assert [(group.row, len(group.jobs)) for group in two] == [("1", 2), ("2", 2), ("5", 1), ("5", 1)]
    costs = {"1": (10.0, 1.0), "2": (10.0, 2.0), "5": (0.0, 4.0)}
    assert simulate(two, costs, 1) == (10 + 2 + 4 + 4 + 4, 24.0)
    assert simulate(two, costs, 2) == (22.0, 34.0)  # the second has done row 5, and takes row 2 off the first
    wall, work = simulate(two, costs, 4)
    assert (wall, work) == (14.0, 10 + 2 + 10 + 4 + 4 + 4)
    assert simulate(two, costs, 1000) == (wall, work)
    assert simulate([], costs, 3) == (0.0, 0.0)


def test_a_study_is_the_sum_of_its_rows(rows: dict[str, Experiment], plan: StudyPlan) -> None:
    """In operations, each row as it is planned alone."""
    for row, e in rows.items():
        alone = make_plan(e, timed=False)
        prefix, whole = alone.operations.get("prefix", 0.0), sum(alone.operations.values())
        assert plan.rows[row].operations == pytest.approx(prefix + 3 * (whole - prefix))
        assert plan.rows[row].memory >= alone.memory.total
    wall, work = plan.on(1)
    shared = plan.rows["2"].prefix  # with row 1
    assert wall == work == pytest.approx(sum(row.cost for row in plan.rows.values()) - shared)
    walls = [plan.on(n)[0] for n in (1, 2, 4, 8)]
    assert walls == sorted(walls, reverse=True)


def test_what_to_leave_out(rows: dict[str, Experiment], plan: StudyPlan) -> None:
    """The dearest rows first, until the rest is within the budget; or fewer seeds of all."""
    whole = sum(row.cost for row in plan.rows.values())
    assert plan.without(whole) == []
    assert plan.seeds_for(whole) == 3
    assert plan.without(whole - plan.rows["5"].cost) == ["5"]
    assert len(plan.without(0.0)) == len(rows)
    assert plan.seeds_for(0.0) == 0


def test_the_command(rows: dict[str, Experiment], capsys: pytest.CaptureFixture[str]) -> None:
    """Hours, memory and money of a study; as JSON too."""
    words = ["plan", *rows["1"].flags, "--rows", "1,5", "--seeds", "2", "--workers", "2", "--price", "2.5"]
    assert main([*words, "--budget", "1e-9"]) == 0
    said = capsys.readouterr().out
    for line in ("runs          4 in 3 groups, of 2 rows", "device hours", "with 2 workers", "at 2.5 a device hour"):
        assert line in said
    assert "is less than any row" in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["work"] == pytest.approx(sum(row["cost"] for row in found["rows"].values()))
    assert found["price"] == pytest.approx(2.5 * found["work"] / 3600)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--seeds", "3"], "seeds has no effect without --rows"),
        (["--price", "1", "--workers", "2"], "price and workers have no effect without --rows"),
        (["--rows", "1", "--seeds", "0"], "seeds must be between 1 and 10000"),
        (["--rows", "1", "--workers", "0"], "workers must be between 1 and 100000"),
        (["--rows", "1", "--price", "-1"], "price must be a positive number"),
        (["--rows", "1", "--budget", "nan"], "budget must be a positive number"),
        (["--rows", "0"], "nothing to plan"),
        (["--rows", "1", "--model_size", "pocket-small", "--scale", "pocket"], "give one of them"),
    ],
)
def test_mistakes(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    assert main(["plan", *words]) == 2
    assert line in capsys.readouterr().err
