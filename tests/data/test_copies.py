"""Near-copies between the parts of a split."""

from __future__ import annotations

import pandas as pd
import pytest

from onechange.data.copies import NEAR, near_copies, nearest_in_training

TRAIN = ["Win a free phone today, call 0800 now", "see you at lunch tomorrow then", "ok"]
TEST = {
    "Win a free phone today, call 0800 now": False,  # a copy, which masking finds
    "WIN a free phone today; call 999999 now!": False,  # so is this
    "Win a free laptop today, call 0800 now": True,
    "shall we have dinner on sunday": False,
    "no": False,
}


def frames(train: list[str], test: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.DataFrame({"text": train}), pd.DataFrame({"text": test})


def test_a_message_with_another_prize_is_a_near_copy() -> None:
    """One that masking finds is none, nor one that shares nothing, nor one shorter than a run."""
    assert near_copies(*frames(TRAIN, list(TEST))).tolist() == list(TEST.values())


def test_nearness_by_hand() -> None:
    """The cosine between counts: of six runs and of seven, six in common."""
    assert nearest_in_training(*frames(["abcdefghij"], ["abcdefghijk"])) == pytest.approx([6 / (6 * 7) ** 0.5])
    assert nearest_in_training(*frames(["abcdefghij"], ["abcdefghij", "zyxwvuts"])) == pytest.approx([1, 0])


def test_the_border_can_be_moved() -> None:
    train, test = frames(TRAIN, list(TEST))
    found = float(nearest_in_training(train, test)[2])
    assert NEAR < found < 1
    assert near_copies(train, test, near=found + 1e-6).sum() == 0


def test_messages_shorter_than_a_run_are_like_none() -> None:
    assert nearest_in_training(*frames(["ok", "no"], ["ok", "yes"])).tolist() == [0, 0]
