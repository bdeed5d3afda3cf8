"""Test messages that stand in the training set: word for word, alike after masking, nearly."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

NEAR = 0.6
"""From this cosine on two messages are near-copies: they share more than half of their runs of five characters."""
CHUNK = 200  # test messages whose likeness to all training messages is in memory at a time


def masked(text: str) -> str:
    """A message in lower case, every run of digits a 0, every run of punctuation a space."""
    return " ".join(re.sub(r"[^\w\s]+|_+", " ", re.sub(r"\d+", "0", text.lower())).split())


def seen_in_training(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Which test messages stand in the training set: 2 word for word, 1 after masking (see :func:`masked`), 0 not."""
    verbatim = test.text.isin(set(train.text)).to_numpy()
    alike = test.text.map(masked).isin(set(train.text.map(masked))).to_numpy()
    return np.where(verbatim, 2, alike.astype(int))


def nearest_in_training(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """How near each test message's nearest training message is: ``(N,)``, from 0 to 1.

    The cosine between counts of runs of five characters, after masking (:func:`~onechange.data.copies.masked`).
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    both = pd.concat([train.text, test.text]).map(masked)
    try:
        counts = normalize(CountVectorizer(analyzer="char", ngram_range=(5, 5)).fit_transform(both))
    except ValueError:  # not five characters anywhere
        return np.zeros(len(test))
    here, there = counts[len(train) :], counts[: len(train)].T.tocsr()
    parts = (here[i : i + CHUNK] @ there for i in range(0, len(test), CHUNK))
    return np.concatenate([np.asarray(part.max(axis=1).todense()).ravel() for part in parts])


def near_copies(train: pd.DataFrame, test: pd.DataFrame, near: float = NEAR) -> np.ndarray:
    """Which test messages stand in the training set nearly, and not in any form that masking finds: ``(N,)``."""
    return (nearest_in_training(train, test) >= near) & (seen_in_training(train, test) == 0)
