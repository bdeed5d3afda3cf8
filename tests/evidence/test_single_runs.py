"""What one run cannot say, and runs that never began to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import onechange as oc
from onechange.evidence.compare import DIFFER, Comparison, difference
from onechange.evidence.runs import Runs
from onechange.evidence.summary import render, summary
from onechange.experiment.rows import is_fixed


def runs(row: str, right: np.ndarray, train: list[float] | None = None, **changes: object) -> Runs:
    """Made-up runs of a row: ``right`` ``(S, N)``."""
    S = len(right)
    each = np.array(train or [0.9] * S)
    return replace(
        Runs(
            row, oc.BASELINE.at("pocket"), 10, list(range(123, 123 + S)), right, np.zeros(right.shape, np.int8),
            each, each, np.ones(S), np.zeros((S, 1, 2)), [0], [0], made={"messages_sha256": "a"},
        ),
        **changes,
    )  # fmt: skip


def right(share: float, seeds: int = 1, n: int = 300) -> np.ndarray:
    return np.tile(np.arange(n) < share * n, (seeds, 1))


def test_two_single_runs_differ_and_are_never_better_or_worse() -> None:
    """With a difference that no message-by-message test would miss."""
    c = difference(runs("1", right(0.6)), runs("16", right(0.9)))
    assert (c.verdict, c.shown) == (DIFFER, True)
    assert "over messages, this seed" in str(c)
    assert difference(runs("16", right(0.9)), runs("1", right(0.6))).verdict == DIFFER
    assert difference(runs("1", right(0.9)), runs("16", right(0.9))).verdict == "no difference could be shown"
    assert difference(runs("1", right(0.6, 5)), runs("16", right(0.9, 5))).verdict == "better"


def test_what_has_no_seed_is_no_single_run() -> None:
    """Two rules without a network are compared as what they are."""
    assert is_fixed("0a", oc.BASELINE)
    c: Comparison = difference(runs("0a", right(0.6)), runs("0c", right(0.9)))
    assert c.verdict == "better"
    assert difference(runs("0a", right(0.6)), runs("16", right(0.9))).verdict == DIFFER


@pytest.mark.parametrize(
    ("noise", "train", "started"),
    [
        (0.0, [0.49, 0.599, 0.601, 0.95], [False, False, True, True]),
        (0.4, [0.48, 0.519, 0.53, 0.60], [False, False, True, True]),  # no more than 60 % can be learned
    ],
)
def test_a_run_that_did_not_start(noise: float, train: list[float], started: list[bool]) -> None:
    """A fifth of the way from one answer for all to every label right, on the training messages."""
    x = runs("13", right(0.5, 4), train)
    x = replace(x, experiment=x.experiment.but(label_noise=noise))
    assert x.started.tolist() == started


def test_what_did_not_start_is_said_beside_the_mean() -> None:
    """In the words of the audit: so many of so many did not start; the others have so much."""
    S, answers = 4, np.concatenate([right(0.5, 1), right(0.9, 3)])
    x = runs("13", answers, [0.5, 0.9, 0.9, 0.9])
    assert x.stuck == "1 of 4 did not start; the others 90.0"
    assert runs("13", right(0.5, S), [0.5] * S).stuck == "4 of 4 did not start"
    assert runs("13", right(0.9, S)).stuck == ""


def record(seed: int, train: float) -> dict[str, object]:
    e = oc.BASELINE.at("pocket").but(seed=seed)
    return {
        "row": "13", "experiment": e.to_dict(), "n_trainable": 1, "error": "", "test_labels": [0, 1] * 10,
        "test_probabilities": [[0.9, 0.1]] * 20, "train_losses": [1.0], "val_losses": [1.0], "steps": [0],
        "examples": [0], "final": {"train": train, "val": 0.5, "test": 0.5}, "seconds": 1.0,
        "environment": {"messages_sha256": "a"},
    }  # fmt: skip


def test_the_printed_table_has_a_line_for_it() -> None:
    frame = summary([record(seed, train) for seed, train in ((123, 0.5), (124, 0.9))])
    assert "13: 1 of 2 did not start; the others 50.0." in render(frame, "text")
    assert "13: 1 of 2 did not start" in render(frame, "markdown")
    frame = summary([record(123, 0.9)])
    assert "did not start" not in render(frame, "text")
    assert "over messages alone where there is one seed" in render(frame, "text")
