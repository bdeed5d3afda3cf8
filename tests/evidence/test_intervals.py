"""Intervals of a row's accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import SPLITS, drawn, made_up
from scipy import stats
from scipy.special import expit

from onechange.evidence.intervals import accuracy, estimate, estimate_splits


@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 1000))
def test_components_are_those_of_the_analysis_of_variance(S: int, N: int, seed: int) -> None:
    """Seed, message and rest as a two-way analysis of variance without replication splits them."""
    x = np.random.default_rng(seed).normal(size=(S, N)) + 5 * np.random.default_rng(seed + 1).normal(size=(S, 1))
    mean, a, b = x.mean(), x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    total, seeds, messages = ((x - mean) ** 2).sum(), N * ((a - mean) ** 2).sum(), S * ((b - mean) ** 2).sum()
    ms_seed, ms_message = seeds / (S - 1), messages / (N - 1)
    ms_rest = (total - seeds - messages) / ((S - 1) * (N - 1))
    found = estimate(x)
    assert found.mean == pytest.approx(mean)
    assert found.sd == pytest.approx(x.mean(1).std(ddof=1))
    assert found.per_seed == pytest.approx(max(0, (ms_seed - ms_rest) / N) + ms_rest / N)
    assert found.per_message == pytest.approx(max(0, (ms_message - ms_rest) / S) / N)


def test_one_seed_is_an_interval_over_messages() -> None:
    """The textbook interval of a mean."""
    x = np.random.default_rng(0).random((1, 50))
    low, high = stats.t.interval(0.95, 49, x.mean(), stats.sem(x[0]))
    assert (estimate(x).low, estimate(x).high) == pytest.approx((low, high))


def test_messages_that_are_all_alike_leave_the_seeds() -> None:
    """Where every message says the same the interval is Student's over the seeds."""
    values = np.array([0.90, 0.94, 0.90, 0.94])
    x = np.tile(values[:, None], (1, 30))
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (estimate(x).low, estimate(x).high) == pytest.approx((low, high))


@pytest.mark.parametrize(("S", "N"), [(3, 300), (20, 300), (5, 60)])
def test_the_interval_holds_the_truth_as_often_as_it_says(S: int, N: int) -> None:
    """Simulated seeds and messages: about 95 times in 100 (90 to 99 here, of 300)."""
    rng = np.random.default_rng(1)
    truth = drawn(rng, 2000, 2000, 2.5).mean()
    hits = [e.low <= truth <= e.high for e in (estimate(drawn(rng, S, N, 2.5).astype(float)) for _ in range(300))]
    assert 0.90 <= np.mean(hits) <= 0.99


def test_an_accuracy_without_an_error_is_not_certain() -> None:
    """All right is an interval that ends at 1 and begins below; 95 % of 300 is ± 2.5 points, as the reference says."""
    perfect = accuracy(made_up("1", np.ones((3, 100))))
    assert perfect.mean == perfect.high == 1
    assert 0.9 < perfect.low < 0.99
    one = accuracy(made_up("1", np.arange(300)[None] < 285))
    assert one.high - one.low == pytest.approx(0.05, abs=0.005)
    assert math.isnan(accuracy(made_up("1", np.ones((0, 100)))).mean)


def test_clean_messages() -> None:
    """Those that stand in the training set, in whatever form, are left out."""
    seen = np.tile(np.array([2] * 10 + [1] * 10 + [0] * 80, np.int8), (2, 1))
    right = np.tile(np.arange(100) < 60, (2, 1))
    found = accuracy(made_up("1", right, seen=seen), clean=True)
    assert (found.messages, found.mean) == (80, pytest.approx(0.5))


def test_another_level_and_its_p() -> None:
    """An interval that just leaves out zero has the level of its p."""
    e = estimate(drawn(np.random.default_rng(2), 5, 80, 0.3) - 0.5)
    assert e.at(0.95) == e
    assert e.at(1 - e.p).low * e.at(1 - e.p).high == pytest.approx(0, abs=1e-12)
    assert (estimate(np.zeros((2, 9))).p, estimate(np.ones((2, 9))).p) == (1, 0)


def pool(rng: np.random.Generator, n: int) -> np.ndarray:
    """Messages of a collection, some harder than others: how likely each is to be got right."""
    return expit(2.0 + 1.5 * rng.normal(size=n))


def test_splits_are_the_unit_where_every_seed_has_its_own() -> None:
    """By hand: Student's t over the splits, with the variance of Nadeau and Bengio (2003)."""
    right = np.random.default_rng(0).random((4, 70)) < np.array([[0.8], [0.7], [0.9], [0.8]])
    runs = made_up("1", right, experiment=SPLITS)
    found, means = accuracy(runs), right.mean(1)
    half = stats.t.ppf(0.975, 3) * means.std(ddof=1) * math.sqrt(1 / 4 + 20 / 70)
    e = estimate_splits(right, np.ones_like(right), 20 / 70)
    assert (e.low, e.high) == pytest.approx((means.mean() - half, means.mean() + half))
    assert (found.mean, found.seeds, found.messages) == (pytest.approx(means.mean()), 4, 70)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert found.per_message > 0, "no number of splits makes a collection larger"
    fewer = accuracy(made_up("1", right, experiment=SPLITS.but(train_size=70)))
    assert fewer.high - fewer.low > found.high - found.low


def test_an_interval_over_splits_holds_the_truth() -> None:
    """Simulated collections of 500 messages, split by five seeds: 90 times in 100 or more."""
    rng = np.random.default_rng(4)
    truth = pool(rng, 10**6).mean()
    hits = []
    for _ in range(300):
        messages = pool(rng, 500)
        right = np.array([rng.random(100) < rng.choice(messages, 100, replace=False) for _ in range(5)])
        e = accuracy(made_up("1", right, experiment=SPLITS))
        hits.append(e.low <= truth <= e.high)
    assert np.mean(hits) >= 0.90


def test_clean_counts_a_splits_own_messages() -> None:
    """Each split leaves out its own; none loses what stands in the training set of another."""
    seen = np.eye(3, 60, dtype=np.int8)
    right = np.ones((3, 60), bool)
    right[0, 0] = False
    assert accuracy(made_up("1", right, seen=seen, experiment=SPLITS), clean=True).mean == 1
