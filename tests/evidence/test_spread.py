"""The seam through which runs reach whatever does them."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onechange import Experiment, UsageError
from onechange.evidence import study
from onechange.evidence.spread import PATIENCE, Hand, Here, choose, spread
from onechange.evidence.study import Group, Job, Store, jobs_of, run_study


@dataclass(frozen=True)
class Named:
    """A task that is only a name."""

    name: str
    prefix: str = ""


def put(task: Named, executor: Executor) -> Future:
    return executor.submit(str.upper, task.name)


def test_a_hand_stays_with_its_prefix() -> None:
    """Its own first, then one that nobody has computed, and in need one that another has."""
    a, b = Hand(Here(), holds={"p"}), Hand(Here(), holds={"q", ""})
    tasks = [Named("1", "q"), Named("2", ""), Named("3", "r"), Named("4", "p")]
    assert [choose(tasks, hand, [a, b]) for hand in (a, b)] == [3, 0]
    assert choose(tasks[:3], a, [a, b]) == 1
    assert choose(tasks[:1], a, [a, b]) == 0


def test_everything_is_done_once() -> None:
    """By hands of any kind, and what has nothing left to do is passed over."""
    tasks = [Named(name) for name in "abcdefg"]
    with ThreadPoolExecutor(3) as threads:
        hands = [*[Hand(threads)] * 2, Hand(threads), Hand(Here())]
        done = spread(tasks, hands, lambda task, executor: None if task.name == "c" else put(task, executor))
        assert sorted((task.name, result) for task, result in done) == [(x, x.upper()) for x in "abdefg"]


class Broken(Executor):
    """Loses every task."""

    def submit(self, *_: Any, **__: Any) -> Future:
        future: Future = Future()
        future.set_result(OSError("no space left"))  # as a value, as a worker's errors come
        return future


def test_a_lost_worker_is_replaced_and_its_task_done_again() -> None:
    """By its heir; without one by the others; and a task that ends one after the other is named."""
    told: list[str] = []

    def replaced(error: Exception, task: str) -> Hand:
        told.append(f"{error} {task}")
        return Hand(Here())

    (done,) = spread([Named("a")], [Hand(Broken(), replaced)], put)
    assert done[1] == "A"
    assert told == ["no space left Named(name='a', prefix='')"]

    leaves = Hand(Broken(), lambda *_: None)
    assert len(list(spread([Named("a"), Named("b")], [leaves, Hand(Here())], put))) == 2
    with pytest.raises(UsageError, match=r"no worker could do .*no space left"):
        list(spread([Named("a")], [Hand(Broken(), lambda *_: None)], put))

    def endless(*_: object) -> Hand:
        told.append("again")
        return Hand(Broken(), endless)

    with pytest.raises(UsageError, match="no space left"):
        list(spread([Named("a")], [Hand(Broken(), endless)], put))
    assert told.count("again") == PATIENCE
    with pytest.raises(OSError, match="no space left"):
        list(spread([Named("a")], [Hand(Broken())], put))


def test_any_executor_does_a_study(base: Experiment, tmp_path: Path) -> None:
    """Records are those of one process; rows without a network too; none is computed twice."""
    rows = {"1": base, "0a": base, "5": base.but(trainable_layers="all")}
    jobs = jobs_of(rows | {"again": base}, [5, 6])
    with ThreadPoolExecutor(1) as threads:
        records = run_study(jobs, Store(tmp_path / "a"), progress=False, workers=threads)
    expected = run_study(jobs, Store(tmp_path / "b"), progress=False)
    for ours, theirs in zip(records, expected, strict=True):
        assert (ours["key"], ours["rows"], ours["final"]) == (theirs["key"], theirs["rows"], theirs["final"])
        assert np.allclose(ours["train_losses"], theirs["train_losses"], atol=1e-5)
    assert not list((tmp_path / "a").glob(".*"))
    with ThreadPoolExecutor(2) as threads, pytest.raises(UsageError, match="one source of random numbers"):
        run_study(jobs, Store(tmp_path / "a"), progress=False, workers=threads)


def test_a_worker_that_has_something_else_is_refused_by_name(
    base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version, weights or messages would be another number under this one's name."""
    same = study.ingredients
    for name in ("version", "weights_sha256", "messages_sha256"):
        found = iter([same, lambda *words, name=name: same(*words) | {name: "another"}])
        monkeypatch.setattr(study, "ingredients", lambda *words, found=found: next(found)(*words))
        with ThreadPoolExecutor(1) as threads, pytest.raises(UsageError, match=f"a worker on .* has {name} another"):
            run_study([Job("1", base)], Store(tmp_path), progress=False, workers=threads)
    assert not list(tmp_path.glob("*.json"))


def test_rows_with_one_prefix(base: Experiment) -> None:
    """What is read and what is trained behind it make no other prefix; what the blocks see does."""

    def prefix(row: str = "1", **changes: Any) -> str:
        return Group(((Job(row, base.but(**changes)), "key"),)).prefix

    mine = prefix()
    for changes in ({"trainable_layers": "last_layer"}, {"trainable_token_pos": "first"}, {"learning_rate": 1.0}):
        assert prefix(**changes) == mine != ""
    for changes in ({"disable_causal_mask": True}, {"train_size": 16}, {"no_padding": True}, {"seed": 7}):
        assert prefix(**changes) not in (mine, "")  # the seed splits a reader's own messages
    for changes in ({"trainable_layers": "all"}, {"trainable_layers": "lora"}, {"prefix_cache": "off"}):
        assert prefix(**changes) == ""
    assert prefix("0a") == ""
