"""Messages with an illness each: it is found, said first, and sound ones are told so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_ill import messages, write

import onechange as oc
from onechange.diagnosis.report import Report


def leaked(frame: pd.DataFrame) -> pd.DataFrame:
    """A third of the messages stand in the file a second time."""
    return pd.concat([frame, frame[: len(frame) // 3]])


def torn(frame: pd.DataFrame) -> pd.DataFrame:
    """Five messages stand under both labels."""
    again = frame[:5].assign(label=lambda f: f.label.map({"ham": "spam", "spam": "ham"}))
    return pd.concat([frame, again])


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    """The labels belong to other messages."""
    return frame.assign(label=np.random.default_rng(1).permutation(frame.label))


def longer(frame: pd.DataFrame) -> pd.DataFrame:
    """Spam was collected from long messages, and says nothing else."""
    rng = np.random.default_rng(2)
    n = {"ham": 5, "spam": 12}
    return frame.assign(
        text=[" ".join(rng.choice(["so", "it", "is"], n[x])) + f" {rng.integers(9**9)}" for x in frame.label]
    )


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """Every spam message carries the mark of the filter that found it."""
    return frame.assign(text=frame.text + frame.label.map({"ham": "", "spam": " [bulk]"}))


def rare(frame: pd.DataFrame) -> pd.DataFrame:
    """Spam has 15 messages."""
    return pd.concat([frame[frame.label == "ham"], frame[frame.label == "spam"][:15]])


def easy(frame: pd.DataFrame) -> pd.DataFrame:
    """Nobody could be better than counting."""
    return messages(wrong=0.0)


ILL: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "seen": (leaked, "copies", "act"),
    "two labels": (torn, "contradictions", "act"),
    "shuffled labels": (shuffled, "counting", "act"),
    "length": (longer, "length", "act"),
    "one word": (marked, "word", "act"),
    "few": (rare, "balance", "act"),
    "easy": (easy, "counting", "know"),
}


def report(frame: pd.DataFrame, folder: Path) -> Report:
    return oc.doctor(dataset=write(frame, folder / "messages.csv"), progress=False)


@pytest.mark.parametrize("illness", ILL)
def test_an_illness_is_found(illness: str, tmp_path: Path) -> None:
    make, key, level = ILL[illness]
    found = report(make(messages()), tmp_path)
    assert found[key].level == level
    assert found[key].do
    assert [f.level for f in found.findings] == sorted(
        (f.level for f in found.findings), key=["act", "know", "well"].index
    )


def test_sound_messages_are_told_so(sound: str) -> None:
    found = oc.doctor(dataset=sound, progress=False)
    assert found.healthy
    assert found.verdict.startswith("Nothing to do something about")
    assert "360 messages, 2 classes" in found.understood[0]


def test_copies_are_counted_by_kind(tmp_path: Path) -> None:
    """One more mark of punctuation is a copy but for that; a word more is nearly one."""
    frame = messages(n=400)
    doubles = [
        frame[:60],
        frame[:60].assign(text=lambda f: f.text + "!"),
        frame[:60].assign(text=lambda f: f.text + " ok"),
    ]
    found = report(pd.concat([frame, *doubles]), tmp_path)
    assert set(found.frames["copies"].kind) == {"word for word", "masked", "near"}


@pytest.mark.slow
def test_sound_messages_raise_no_alarm_in_20_seeds(tmp_path: Path) -> None:
    alarms = []
    for seed in range(20):
        alarms += [(seed, f.key) for f in report(messages(seed), tmp_path).of("act")]
    assert alarms == []


def test_three_classes(tmp_path: Path) -> None:
    """Length is asked of two classes alone; all else of any number."""
    frame = messages()
    third = frame[frame.label == "ham"].assign(label="news", text=lambda f: f.text + " minister parliament")
    found = report(pd.concat([frame, third]), tmp_path)
    assert {f.key for f in found.findings} == {
        "copies",
        "contradictions",
        "balance",
        "counting",
        "word",
        "power",
        "lengths",
    }
