"""A reader's own messages: their classes, their split, and in a line what was understood of them."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import pandas as pd

from ..support.errors import UsageError
from .table import FEWEST, in_order, read_table

SHOWN = 20  # classes that a line has room for


def split_file(
    path: Path, seed: int, balance: bool
) -> tuple[tuple[str, ...], pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Its classes, its messages for training, validation and test, each class split alike, and what was understood.

    Raises:
        UsageError: if it cannot be read, or has too few messages.
    """
    from sklearn.model_selection import train_test_split

    table = read_table(path)
    frame, classes = table.frame, in_order(list(table.frame.label))
    smallest = frame.label.value_counts().min() if len(frame) else 0
    if len(classes) < 2:
        raise UsageError(f"{path} has {len(classes)} class ({', '.join(classes)}): at least two are needed")
    if smallest < FEWEST:
        rare = shorten(frame.label.value_counts().index[-1], 40, placeholder="...")
        raise UsageError(
            f"{path}: the class with fewest messages ({rare}) has {smallest}; at least {FEWEST} are needed "
            "for a 70/10/20 split"
        )
    summary = summary_of(frame.label, classes, f"{path.name} ({table.how})")
    if balance:
        frame, summary = frame.groupby("label").sample(smallest, random_state=seed), f"{summary}; {smallest} of each"
    frame["label"] = frame.label.map({name: i for i, name in enumerate(classes)})
    train, rest = train_test_split(frame, train_size=round(0.7 * len(frame)), random_state=seed, stratify=frame.label)
    val, test = train_test_split(rest, train_size=1 / 3, random_state=seed, stratify=rest.label)
    train, val, test = (p.reset_index(drop=True) for p in (train, val, test))
    return classes, train, val, test, summary


def summary_of(labels: pd.Series, classes: tuple[str, ...], source: str) -> str:
    """How many messages of which classes; of more than ``SHOWN`` the rarest, which may be a misspelling."""
    counts = labels.value_counts()
    rarest = sorted(classes, key=lambda name: counts[name])[:SHOWN]
    shown = [f"{shorten(name, 30, placeholder='...')} {counts[name]:,}" for name in classes if name in rarest]
    more = f" and {len(classes) - SHOWN} larger ones" if len(classes) > SHOWN else ""
    return f"{len(labels):,} messages, {len(classes)} classes: {', '.join(shown)}{more}, from {source}"
