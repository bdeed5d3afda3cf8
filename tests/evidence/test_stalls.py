"""Rows of which some runs do not start: their intervals and their verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up import drawn, made_up
from records import made_up as record
from scipy import stats

from onechange import plot
from onechange.evidence.compare import difference, holm
from onechange.evidence.intervals import Stalls, accuracy, accuracy_of_started, loss_of
from onechange.evidence.runs import Runs, binomial_interval
from onechange.evidence.summary import summary


def row(name: str, S: int, stalled: int, N: int = 300, level: float = 2.5, seed: int = 0) -> Runs:
    """A row of which the last runs did not start, and answer as a coin does."""
    rng = np.random.default_rng(seed)
    right = drawn(rng, S, N, level)
    right[S - stalled :] = rng.random(N) < 0.5
    return made_up(name, right, train=np.array([1.0] * (S - stalled) + [0.5] * stalled))


def test_the_share_that_does_not_start_has_an_exact_interval() -> None:
    """Clopper and Pearson's, as SciPy has it; none of five allows one in two."""
    for k, n in ((0, 5), (1, 5), (5, 20), (20, 20)):
        found = stats.binomtest(k, n).proportion_ci(method="exact")
        assert binomial_interval(k, n, 0.95) == pytest.approx((found.low, found.high))
    assert row("1", 5, 0).may_stall == pytest.approx((0, 0.52), abs=0.005)
    assert math.isnan(made_up("0a", np.ones((1, 50))).may_stall[1])


def test_a_share_moves_a_mean_by_what_a_run_loses() -> None:
    """Down by the loss times what the share may be higher, up likewise; turned round for the base of a difference."""
    low, high = binomial_interval(5, 20, 0.95)
    assert Stalls(5, 20, 0.4).at(0.95) == pytest.approx((0.4 * (high - 0.25), 0.4 * (0.25 - low)))
    assert Stalls(5, 20, -0.4).at(0.95) == pytest.approx((0.4 * (0.25 - low), 0.4 * (high - 0.25)))


def test_the_interval_of_a_row_that_sometimes_does_not_start() -> None:
    """By hand: the scatter about the mean of either kind, and the share's part, as independent parts are added."""
    x = row("13", 20, 5)
    e, began = accuracy(x), accuracy_of_started(x)
    assert e.mean == pytest.approx(x.test.mean())
    assert began.mean == pytest.approx(x.test[:15].mean())
    (loss,) = loss_of(x, x.kept(False))
    assert loss.tolist() == pytest.approx([0.0] * 15 + [x.test[:15].mean() - x.test[15:].mean()] * 5)
    down, up = e.stalls[0].at(0.95)
    half = stats.t.ppf(0.975, e.df) * e.se
    assert e.mean - e.low == pytest.approx(math.hypot(half, down), abs=0.01)  # of scores with four answers added
    assert e.high - e.mean == pytest.approx(math.hypot(half, up), abs=0.01)
    assert began.high < e.mean + 0.2
    assert e.low < x.of(x.seeds[:15]).test.min() - 0.05, "the mean might be far below that of runs that start"


@pytest.mark.parametrize("stalled", [0, 20])
def test_where_all_start_or_none_nothing_is_added(stalled: int) -> None:
    """The seeds are of one kind, and the interval is Student's."""
    x = row("13", 20, stalled)
    steady = made_up("1", x.right, train=np.ones(20))
    assert accuracy(x) == accuracy(steady)
    assert difference(row("1", 20, 0, seed=1), x).difference.stalls == ()


def test_p_is_the_level_at_which_the_interval_meets_zero() -> None:
    """For a row that is worse by its runs that do not start, and for one beside itself."""
    c = difference(row("1", 20, 0, seed=1), row("13", 20, 4))
    d = c.difference
    assert 0 < d.p < 1
    assert d.at(1 - d.p).high == pytest.approx(0, abs=1e-9)
    assert (d.p < 0.05) == (d.low * d.high > 0)
    same = difference(row("13", 20, 4), row("13", 20, 4))
    assert (same.difference.mean, same.p) == (0, 1)


def test_a_comparison_tells_both_stories() -> None:
    """How many did not start, and the difference between those that did; either row may be the one."""
    one, other = row("1", 10, 0, seed=1), row("13", 10, 3)
    c = difference(one, other)
    assert c.stuck == ("13: 3 of 10 did not start; the others " + f"{100 * other.test[:7].mean():.1f}",)
    assert c.starting is not None
    assert (c.starting.seeds, c.starting.stalls) == (7, ())
    assert c.starting.mean == pytest.approx(other.test[:7].mean() - one.test[:7].mean())
    assert "on the 7 seeds with which both did: " in str(c)
    back = difference(other, one).difference
    assert (back.low, back.high) == pytest.approx((-c.difference.high, -c.difference.low))
    assert difference(one, one).starting is None
    two = difference(row("11", 10, 2, seed=3), other).difference
    assert len(two.stalls) == 2


def test_a_difference_is_not_shown_by_runs_that_happened_to_start() -> None:
    """One of five lost forty points: such a row's mean may be far lower still, or higher than the steady one's."""
    steady = made_up("1", np.arange(300)[None].repeat(5, 0) < 255, train=np.ones(5))
    mixed = row("rank-64", 5, 1, level=3.5)
    assert difference(steady, mixed).verdict == "no difference could be shown"


def test_clean_messages_of_such_a_row() -> None:
    """Left out of every part of it."""
    seen = np.zeros((10, 300), np.int8)
    seen[:, :60] = 1
    one, other = row("1", 10, 0, seed=1), row("13", 10, 3)
    c = difference(one, made_up("13", other.right, train=other.train, seen=seen), clean=True)
    assert c.starting is not None
    assert c.difference.messages == c.starting.messages == 240
    assert c.starting.mean == pytest.approx(other.right[:7, 60:].mean() - one.right[:7, 60:].mean())


def test_what_the_figures_say_of_it() -> None:
    """How many did not start stands above, and in the words for those who cannot see."""
    one, other = row("1", 10, 0, seed=1), row("13", 10, 3)
    says = f"13: {other.stuck}"
    charts = (
        plot.rows([one, other]),
        plot.differences({"13": difference(one, other)}),
        plot.sweep({1: one, 2: other}, "x"),
    )
    for chart in charts:
        assert says in chart.alt
        assert says in [text.get_text() for text in chart.figure().axes[0].texts]
    assert "did not start" not in plot.rows([one]).alt


def test_the_least_p_is_an_upper_bound() -> None:
    """A permutation test of so many draws says no less than one in ten thousand, and it is said as that."""
    steady = made_up("1", np.zeros((5, 300)), train=np.ones(5))
    better = made_up("16", drawn(np.random.default_rng(0), 5, 300, 2.5), train=np.ones(5))
    found = holm([difference(steady, better), difference(steady, steady)])
    assert "p at most 0.0002 (Holm, 2 comparisons)" in str(found[0])
    assert "p = 1 " in str(found[1])
    assert "0.0 points [0.0, 0.0]" in str(found[1])


def test_the_table_says_what_intervals_speak_of() -> None:
    """The largest share of further runs that may not start stands in the frame."""
    frame = summary([record(1, seed) for seed in range(5)])
    assert frame.may_stall[0] == pytest.approx(52.2, abs=0.1)
