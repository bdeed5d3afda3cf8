"""The parts of a row's scatter, from runs in which every head meets every order."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import made_up
from scipy import stats

from onechange.evidence.components import components, difference_of
from onechange.evidence.runs import Runs

N = 10_000  # messages: an accuracy is then as fine as the scatter that is put in


def table(rng: np.random.Generator, head: float, order: float, rest: float, size: int = 8) -> dict[int, Runs]:
    """Rows whose accuracies scatter by so many points by head, by order and by both."""
    parts = head * rng.normal(size=(size, 1)) + order * rng.normal(size=size) + rest * rng.normal(size=(size, size))
    right = np.arange(N) < np.round(N * (90 + parts) / 100)[..., None]
    return {123 + h: made_up(f"head-1-{123 + h}", right[h]) for h in range(size)}


def test_what_is_put_in_comes_out() -> None:
    """With forty heads and orders each part is found to a third."""
    found = components(table(np.random.default_rng(0), 0.7, 1.1, 0.4, size=40))["sd"]
    expected = {"head": 0.7, "order": 1.1, "rest": 0.4, "together": np.hypot(np.hypot(0.7, 1.1), 0.4)}
    for name, sd in expected.items():
        assert found[name] == pytest.approx(sd, rel=0.33), name


@pytest.mark.parametrize(("head", "order"), [(0.7, 1.1), (0.0, 1.0), (1.0, 0.0)])
def test_the_intervals_hold(head: float, order: float) -> None:
    """At least 92 times in 100 of 300, each part; a part that is none has an interval that begins at none."""
    rng = np.random.default_rng(1)
    truth = {"head": head, "order": order, "rest": 0.5, "together": np.hypot(np.hypot(head, order), 0.5)}
    hits = dict.fromkeys(truth, 0)
    for _ in range(300):
        found = components(table(rng, head, order, 0.5))
        for name, sd in truth.items():
            low, high = found.loc[name, ["low", "high"]]
            hits[name] += low <= sd + 1e-9 and sd <= high
    assert {name: n for name, n in hits.items() if n < 276} == {}


def test_a_ratio_at_the_border_begins_at_zero() -> None:
    """The interval leaves out zero just where the F test would reject."""
    border = stats.f.isf(0.025, 7, 49)
    for times, sign in ((0.99, -1), (1.01, 1)):
        assert np.sign(difference_of(border * times, 1.0, 7, 49, 8)[1]) == sign
