"""Differences between rows, stored runs, and the published claims."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import SPLITS, drawn, made_up
from scipy import stats

from onechange import UsageError
from onechange.evidence.claims import CLAIMS, Part, findings
from onechange.evidence.compare import (
    Comparison,
    against_baseline,
    agreement,
    compare,
    difference,
    difficulty,
    holm,
    swap_test,
)
from onechange.evidence.intervals import Estimate, accuracy, estimate
from onechange.evidence.runs import Runs, runs_of, stored, write
from onechange.experiment.experiment import BASELINE
from onechange.experiment.rows import ROWS, TABLE

# -- differences ------------------------------------------------------------------------------------


def test_a_difference_is_paired() -> None:
    """Two rows that are wrong on the same messages differ by what they differ in, with a narrow interval."""
    rng = np.random.default_rng(0)
    base = drawn(rng, 10, 300, 1.0)
    change = base | (rng.random(base.shape) < 0.1)
    c = difference(made_up("1", base), made_up("4", change))
    assert c.difference.mean == pytest.approx(change.mean() - base.mean())
    alone = accuracy(made_up("1", base))
    assert c.difference.high - c.difference.low < (alone.high - alone.low) / 2
    assert c.verdict == "better"
    assert difference(made_up("4", change), made_up("1", base)).verdict == "worse"
    assert str(c).startswith("4 last two blocks against 1 the baseline: +")


def test_no_difference_is_said_as_such() -> None:
    """Two draws of the same thing, and a row beside itself."""
    rng = np.random.default_rng(3)
    a, b = made_up("1", drawn(rng, 5, 300, 2.5)), made_up("17", drawn(rng, 5, 300, 2.5))
    assert difference(a, b).verdict == "no difference could be shown"
    same = difference(a, a)
    assert (same.difference.low, same.difference.high, same.p) == (0, 0, 1)
    assert same.outlook() == "the two answer every message alike"


@pytest.mark.parametrize(("seed", "message"), [(0.0, 1.5), (1.0, 1.5), (2.0, 0.5)])
def test_p_knows_the_seeds(seed: float, message: float) -> None:
    """Two rows that are the same but for their seeds: p below 0.05 one time in twenty, however much seeds scatter."""
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(200):
        both = drawn(rng, 10, 300, 2.0, seed, message)
        false += difference(made_up("1", both[:5], [1, 2, 3, 4, 5]), made_up("2", both[5:], [1, 2, 3, 4, 5])).p < 0.05
    assert false / 200 <= 0.09


def test_one_seed_that_agrees_everywhere_is_not_certain() -> None:
    """Another message might have been one on which they differ."""
    a = made_up("1", np.arange(300)[None] < 280)
    c = difference(a, a)
    assert c.difference.low < 0 < c.difference.high
    assert c.difference.high == pytest.approx(0.009, abs=0.001)
    assert c.seeds_for(0.02) is None
    assert "one seed" in c.outlook()


def test_clean_leaves_out_what_either_row_has_seen() -> None:
    """A row that trains on fewer messages has seen fewer of the test's; the pair keeps what both have not."""
    seen = np.zeros((2, 3, 50), np.int8)
    seen[0, :, :20], seen[1, :, :5] = 1, 1
    right = np.ones((3, 50), bool)
    right[:, 10:20] = False
    c = difference(made_up("1", right, seen=seen[0]), made_up("2", ~right, seen=seen[1]), clean=True)
    assert (c.difference.messages, c.difference.mean) == (30, -1)


def test_rows_with_splits_of_their_own() -> None:
    """Compared split by split; a row without a network has a run for each; other splits are refused."""
    rng = np.random.default_rng(6)
    right = rng.random((2, 6, 80)) < np.array([0.7, 0.9])[:, None, None]
    base, change = made_up("1", right[0], experiment=SPLITS), made_up("2", right[1], experiment=SPLITS)
    c = difference(base, change)
    expected = stats.ttest_rel(right[1].mean(1), right[0].mean(1))
    assert c.p == pytest.approx(2 * stats.t.sf(expected.statistic / math.sqrt(1 + 6 / 3.5), 5))
    assert c.difference.per_message > 0
    rule = made_up("0a", right[1], experiment=SPLITS)
    assert not rule.fixed
    assert difference(base, rule).difference.mean == pytest.approx(c.difference.mean)
    with pytest.raises(UsageError, match="same messages"):
        difference(made_up("1", right[0]), change)


def test_only_common_seeds_count() -> None:
    """In the order of the baseline; a row without seeds stands beside each."""
    right = np.eye(4, 50) > 0
    a, b = made_up("1", right, [1, 2, 3, 4]), made_up("2", right[::-1], [4, 3, 2, 9])
    assert difference(a, b).difference.seeds == 3
    assert difference(a, b).difference.mean == pytest.approx(0)
    fixed = made_up("0a", right[:1], [123])
    assert difference(fixed, a).difference.seeds == difference(a, fixed).difference.seeds == 4
    with pytest.raises(UsageError, match="same seeds"):
        difference(a, made_up("2", right, [5, 6, 7, 8]))
    with pytest.raises(UsageError, match="same messages"):
        difference(a, made_up("2", right, [1, 2, 3, 4], made={"messages_sha256": "other"}))


def test_one_seed_is_mcnemars_test() -> None:
    """Of the messages on which one alone is right: a fair coin, exactly."""
    d = np.array([[1.0] * 9 + [-1.0] * 2 + [0.0] * 89])
    assert swap_test(d) == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_the_swap_test_against_all_swaps() -> None:
    """With few messages every swap can be tried."""
    rng = np.random.default_rng(5)
    d = rng.integers(-1, 2, (3, 9)).astype(float) + (rng.random((3, 9)) < 0.3)
    means = d.mean(0)
    exact = np.mean([abs(np.dot(s, means)) >= abs(means.sum()) - 1e-9 for s in product((-1, 1), repeat=9)])
    assert swap_test(d) == pytest.approx(exact, abs=0.02)
    assert swap_test(d) == swap_test(d)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.001, 0.5))
def test_holm_step_by_step(p: list[float], alpha: float) -> None:
    """Below alpha are those that the procedure rejects: the smallest at alpha / n, the next at alpha / (n - 1), ..."""
    e = estimate(np.eye(2))
    found = [c.adjusted for c in holm(Comparison("a", "b", e, value, value) for value in p)]
    rejected = 0
    while rejected < len(p) and (len(p) - rejected) * sorted(p)[rejected] <= alpha:
        rejected += 1
    assert sum(value <= alpha for value in found) == rejected
    assert all(q >= value for q, value in zip(found, p, strict=True))


def test_the_number_of_seeds_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many seeds a difference of that size is shown four times in five, and with a third rarely."""
    monkeypatch.setattr("onechange.evidence.compare.swap_test", lambda d: 0.0)  # the intervals alone are asked
    rng = np.random.default_rng(7)

    def runs(S: int) -> tuple[Runs, Runs]:
        """Two rows, five points apart on average, whose seeds scatter by three points."""
        level = np.clip(0.85 + 0.03 * rng.normal(size=(2, S, 1)) + np.array([0, 0.05])[:, None, None], 0, 1)
        a, b = rng.random((2, S, 2000)) < level
        return made_up("1", a), made_up("4", b)

    needed = difference(*runs(400)).seeds_for(0.05)
    assert needed is not None
    shown = np.mean([difference(*runs(needed)).difference.low > 0 for _ in range(200)])
    fewer = np.mean([difference(*runs(max(2, needed // 3))).difference.low > 0 for _ in range(60)])
    assert shown >= 0.74
    assert fewer < shown - 0.2
    many = holm([difference(*runs(20)) for _ in range(10)])[0]
    assert many.seeds_for(0.05) > replace(many, family=1).seeds_for(0.05), "a correction takes more seeds"
    hard = difference(made_up("1", drawn(rng, 5, 60, 0)), made_up("4", drawn(rng, 5, 60, 0)))
    assert hard.seeds_for(1e-4) is None
    assert "more test messages" in hard.outlook((1e-4,))


def test_experiments_are_run_and_kept(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compare`` runs what is missing, takes stored runs as they are, and names what was changed."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    base = BASELINE.but(
        model_size=str(toy), dataset="pocket", train_size=16, num_epochs=1, trainable_layers="last_layer"
    )
    c = compare(base, base.but(trainable_token_pos="first"), seeds=2)
    assert (c.base, c.change) == ("trainable_token_pos=last", "trainable_token_pos=first")
    assert c.difference.seeds == 2
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*.json")}
    assert len(kept) == 4
    assert compare(base, base.but(trainable_token_pos="first"), seeds=2) == c
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*.json")} == kept


def test_agreement() -> None:
    """The share of messages on which two rows are both right or both wrong."""
    a = made_up("1", np.array([[1, 1, 0, 0]]))
    b = made_up("2", np.array([[1, 0, 0, 1]]))
    np.testing.assert_allclose(agreement([a, b]), [[1, 0.5], [0.5, 1]])


def test_agreement_pairs_rows_by_their_seeds() -> None:
    """A row with more seeds counts with those that both have; one without a seed stands beside them all."""
    rule = made_up("0a", np.array([[1, 0]]))
    both = made_up("1", np.array([[1, 0], [0, 1]]))
    np.testing.assert_allclose(agreement([rule, both]), [[1, 0.5], [0.5, 1]])
    late = made_up("2", np.array([[0, 1]]), both.seeds[1:])
    np.testing.assert_allclose(agreement([both, late]), [[1, 1], [1, 1]])


def test_difficulty_counts_every_row_alike() -> None:
    """However many seeds a row has."""
    a = made_up("1", np.array([[1, 1, 0, 0], [1, 0, 0, 0]]))
    b = made_up("2", np.array([[1, 0, 0, 1]]))
    np.testing.assert_allclose(difficulty([a, b]), [0, 0.75, 1, 0.5])


# -- stored runs ------------------------------------------------------------------------------------


def test_a_study_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written and read again, nothing is lost but digits that nobody needs."""
    rows = {name: made_up(name, drawn(np.random.default_rng(1), 3, 40, 1.0)) for name in ("1", "pad-mask")}
    write(tmp_path / "mine.json", rows)
    monkeypatch.setattr("onechange.evidence.runs.RESULTS", (tmp_path / "nowhere", tmp_path))
    back = stored("mine")
    assert list(back) == ["1", "pad-mask"]
    for name, runs in rows.items():
        assert back[name].experiment == runs.experiment
        assert back[name].seeds == runs.seeds
        for field in ("right", "seen", "train", "val", "seconds", "losses"):
            np.testing.assert_allclose(getattr(back[name], field), getattr(runs, field))
    assert difference(back["1"], back["pad-mask"]).p == difference(rows["1"], rows["pad-mask"]).p
    with pytest.raises(UsageError, match="did you mean 'mine'"):
        stored("mien")


def test_records_become_runs() -> None:
    """Failed runs are counted and left out; curves and answers are the records'."""
    record = {
        "row": "1", "experiment": BASELINE.at("pocket").to_dict(), "error": "", "n_trainable": 7, "seconds": 1.5,
        "test_labels": [0, 1, 1], "test_probabilities": [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], "test_seen": [0, 1, 2],
        "final": {"train": 1.0, "val": 0.5}, "train_losses": [1.0, 0.5], "val_losses": [1.0, 0.6],
        "steps": [0, 50], "examples": [8, 408], "environment": {"messages_sha256": "m"},
    }  # fmt: skip
    runs = runs_of([record, record | {"error": "the loss", "final": {}, "test_probabilities": []}])["1"]
    assert (runs.failed, runs.right.tolist(), runs.seen.tolist()) == (1, [[True, True, False]], [[0, 1, 2]])
    assert runs.curve("val")["mean"].tolist() == [1.0, 0.6]
    assert runs.of_seeds(clean=True).tolist() == [1.0]


# -- claims -----------------------------------------------------------------------------------------


def test_claims_name_rows_that_exist() -> None:
    """Twelve, each with a name of its own; together they speak of every row of the table."""
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) == 12
    spoken_of = {row for claim in CLAIMS for part in claim.parts for row in (part.base, part.change)}
    assert spoken_of == {str(row) for row in TABLE} == {str(row) for row in ROWS}


@pytest.mark.parametrize(
    ("region", "low", "high", "verdict"),
    [
        ((0, math.inf), 0.01, 0.03, "holds"),
        ((0, math.inf), -0.01, 0.03, "cannot be told"),
        ((0, math.inf), -0.03, -0.01, "does not hold"),
        ((0, math.inf), 0.0, 0.0, "does not hold"),
        ((5, math.inf), 0.04, 0.08, "cannot be told"),
        ((5, math.inf), 0.01, 0.04, "does not hold"),
        ((-1, 1), -0.005, 0.005, "holds"),
        ((-1, 1), -0.02, 0.005, "cannot be told"),
        ((0, 0), 0.0, 0.0, "holds"),
        ((0, 0), -0.01, 0.01, "cannot be told"),
        ((0, 0), 0.01, 0.02, "does not hold"),
    ],
)
def test_a_verdict_by_hand(region: tuple[float, float], low: float, high: float, verdict: str) -> None:
    """Inside, outside, or across the border of where the difference should lie."""
    d: Estimate = estimate(np.eye(2))
    c = Comparison("1", "2", replace(d, mean=(low + high) / 2, low=low, high=high), 1, 1)
    assert Part("1", "2", *region).verdict(c) == verdict


def test_regions_in_words() -> None:
    regions = {part.region for claim in CLAIMS for part in claim.parts}
    assert {"above 0", "above 5", "below 0", "below −5", "−1 to 1", "0 to 2", "0"} <= regions


def test_findings_of_made_up_results() -> None:
    """What the answers say is what the claims say; rows that are not there are not guessed."""
    rng = np.random.default_rng(0)
    good, bad = drawn(rng, 5, 300, 3.0), drawn(rng, 5, 300, 0.0)
    rows = {row: made_up(row, bad if row in ("2", "4") else good) for row in ("1", "2", "3", "4", "5", "18")}
    found = findings(rows)
    assert found["last-token"].verdict == "holds"
    assert found["last-block"].verdict == "does not hold"
    assert found["two-blocks"].verdict == "does not hold"
    assert found["ignored-label"].verdict == "holds"
    assert found["size"].verdict == "not measured"
    two = found["all-layers"].comparisons
    assert two[0].difference == difference(rows["1"], rows["5"]).difference.at(0.975), "two parts, both right"
    assert str(found["last-token"]).startswith("holds: 1 the baseline against 2 first token +")
    assert list(against_baseline(rows)) == ["2", "3", "4", "5", "18"]
