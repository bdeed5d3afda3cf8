"""Rotated splits: which messages a seed tests, what is concluded from runs that meet each message now and then."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up
from scipy.special import expit

from onechange import BASELINE
from onechange.data.messages import Source, fold, load_messages
from onechange.evidence.compare import difference
from onechange.evidence.intervals import accuracy, estimate_folds, estimate_splits
from onechange.evidence.runs import Runs
from onechange.evidence.store import Store, ingredients
from onechange.support.errors import UsageError

FOLDS = BASELINE.at("pocket").but(folds=True).resolved()


@pytest.mark.parametrize("n", [1494, 2000, 1495])
def test_five_seeds_in_a_row_test_every_message(n: int) -> None:
    """Each part has its published size and no message is in two of them; a remainder is tested twice, no more."""
    for first in (123, 128, 118):
        parts = [fold(n, first + k) for k in range(5)]
        for one in parts:
            assert [len(part) for part in one[:2]] == [int(0.7 * n), int(0.1 * n)]
            assert sorted(np.concatenate(one)) == list(range(n))
        times = np.bincount(np.concatenate([test for *_, test in parts]), minlength=n)
        assert times.min() == 1
        assert times.sum() - n == 5 * len(parts[0][2]) - n == (times == 2).sum()
    assert not np.array_equal(fold(n, 123)[2], fold(n, 128)[2])


@pytest.mark.parametrize("seed", [0, 123, 127, 2**32 - 1])
def test_any_seed_is_a_fold(seed: int) -> None:
    messages = load_messages("pocket", seed, folds=True)
    assert (len(messages.train), len(messages.val), len(messages.test)) == (1400, 200, 400)


def test_the_first_fold_is_the_published_split() -> None:
    """So that every stored run of seed 123 is one of the folds."""
    published = Source("pocket", 5).messages()
    first, second = (Source("pocket", seed, folds=True).messages() for seed in (123, 124))
    for part in ("train", "val", "test"):
        assert getattr(first, part).equals(getattr(published, part))
    assert not set(second.test.text) & set(first.test.text)
    assert first.summary == published.summary


def test_a_run_that_was_stored_before_is_still_found(tmp_path: Path) -> None:
    """The name of a run without the newer fields is the one that it had when there were none."""
    base = BASELINE.at("pocket")
    older = {name: value for name, value in base.to_dict().items() if name not in ("folds", "head_seed", "order_seed")}
    text = json.dumps(older | ingredients(base), sort_keys=True)
    store = Store(tmp_path)
    assert store.key(base) == hashlib.sha256(text.encode()).hexdigest()[:20]
    others = {store.key(base.but(**change)) for change in ({"folds": True}, {"head_seed": 1}, {"order_seed": 1})}
    assert len(others | {store.key(base)}) == 4


def test_what_folds_do_not_go_with(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("label,text\n" + "".join(f"{'ab'[i % 2]},words {i}\n" for i in range(30)))
    with pytest.raises(UsageError, match="folds has no effect on a file"):
        BASELINE.at("pocket").but(dataset=str(own), folds=True)
    with pytest.raises(UsageError, match="folds has no effect with resplit"):
        BASELINE.but(folds=True, resplit=True)
    with pytest.raises(UsageError, match="order_seed must be between"):
        BASELINE.but(order_seed=-1)


def rotated(right: np.ndarray, row: str = "1", n: int = 1494) -> Runs:
    """A row over the folds with these answers ``(S, N)``."""
    made = {"messages_sha256": "m", "n_messages": n}
    return made_up(row, right, experiment=FOLDS, made=made, train=np.ones(len(right)))


def answers(rng: np.random.Generator, tested: np.ndarray, run: float, message: float) -> np.ndarray:
    """Right answers ``(S, N)`` of runs and messages that differ by so much on the logit scale."""
    of_runs, of_messages = rng.normal(size=(len(tested), 1)), rng.normal(size=tested.max() + 1)
    return rng.random(tested.shape) < expit(2.5 + run * of_runs + message * of_messages[tested])


@pytest.mark.parametrize(("run", "message"), [(0.3, 1.5), (0.0, 1.5), (0.6, 0.5), (0.0, 0.0)])
def test_the_interval_over_folds_holds_the_truth(run: float, message: float) -> None:
    """Runs that differ much, messages that do, both, neither: at least 92 times in 100 of 200, and not always."""
    rng = np.random.default_rng(3)
    tested = np.array([fold(1494, 123 + k)[2] for k in range(20)])
    scatter = np.hypot(run, message) * rng.normal(size=10**6)
    truth = expit(2.5 + scatter).mean()
    found = [
        estimate_folds(answers(rng, tested, run, message).astype(float), np.ones(tested.shape, bool), tested)
        for _ in range(200)
    ]
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.995


def test_two_rows_that_are_alike_are_seldom_told_apart() -> None:
    """Of 200 pairs that answer alike but for chance at most 8 % differ by the interval, where runs scatter too."""
    rng = np.random.default_rng(4)
    tested = np.array([fold(1494, 123 + k)[2] for k in range(20)])
    shown = 0
    for _ in range(200):
        harder = rng.normal(size=1494)[tested]  # both meet the same messages
        one, other = (rng.random(tested.shape) < expit(2.5 + 0.3 * rng.normal(size=(20, 1)) + harder) for _ in "ab")
        d = estimate_folds(other.astype(float) - one, np.ones(tested.shape, bool), tested)
        shown += d.low * d.high > 0
    assert shown <= 16


def test_rows_are_compared_over_the_folds() -> None:
    """The interval of a difference is narrower than that for other training sets, which a comparison has as well."""
    rng = np.random.default_rng(5)
    tested = np.array([fold(1494, 123 + k)[2] for k in range(20)])
    base, change = (rotated(answers(rng, tested, 0.2, 1.5), row) for row in "12")
    c = difference(base, change)
    assert c.difference.messages == 1494
    assert c.elsewhere is not None
    assert c.elsewhere.mean == pytest.approx(c.difference.mean)
    assert c.elsewhere.high - c.elsewhere.low > c.difference.high - c.difference.low
    x = change.right.astype(float) - base.right
    assert c.elsewhere == estimate_splits(x, np.ones(x.shape, bool), 300 / 1045)
    found = accuracy(base)
    assert found.mean == pytest.approx(base.right.mean())
    assert found.low < found.mean < found.high
    assert difference(made_up("1", base.right), made_up("2", change.right)).elsewhere is None
    with pytest.raises(UsageError, match="not tested on the same messages"):
        difference(base, made_up("2", change.right))


def test_where_some_runs_did_not_start_those_that_did_are_compared_over_their_own_folds() -> None:
    """What is said of them is what is said of a study that has them alone."""
    rng = np.random.default_rng(6)
    tested = np.array([fold(1494, 123 + k)[2] for k in range(10)])
    base, change = (rotated(answers(rng, tested, 0.2, 1.5), row) for row in "12")
    change.right[3:5] = rng.random((2, tested.shape[1])) < 0.5
    change = replace(change, train=np.where(np.isin(np.arange(10), [3, 4]), 0.5, 1.0))
    began = [seed for k, seed in enumerate(change.seeds) if k not in (3, 4)]
    c = difference(base, change)
    assert c.starting == difference(base.of(began), change.of(began)).difference
    assert c.difference.high - c.difference.low > c.starting.high - c.starting.low
