"""Messages: where they come from, and how they are split."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..experiment.experiment import Experiment
from ..support.cache import sha256
from ..support.errors import UsageError
from ..support.package import POCKET
from .own import split_file, summary_of
from .uci import UCI_FILE, uci_file, uci_is_here, uci_messages

POCKET_MESSAGES = POCKET / "messages.tsv"


@dataclass(frozen=True)
class Messages:
    """A data set, split: frames with the columns ``label`` (0 to K - 1) and ``text``.

    ``digest`` is the SHA-256 of the file they came from. ``summary`` says on one line what was understood of it:
    ``92 messages, 2 classes: ham 48, spam 44, from messages.csv (UTF-8)``.
    """

    name: str
    classes: tuple[str, ...]
    train: pd.DataFrame
    val: pd.DataFrame
    test: pd.DataFrame
    digest: str
    summary: str = ""

    @property
    def n(self) -> int:
        """How many they are."""
        return len(self.train) + len(self.val) + len(self.test)


@dataclass(frozen=True)
class Source:
    """Where messages come from and what decides their split: ``uci``, ``pocket`` or a file, and how it is cut.

    ``uci`` and ``pocket`` have one split, whatever the seed, unless it is to ``resplit`` them or to rotate the split
    (``folds``, see :func:`fold`); a file is split by it, each class alike, and to ``balance`` its classes is to leave
    out what the smallest has not.
    """

    dataset: str
    seed: int = 123
    balance: bool = False
    resplit: bool = False
    folds: bool = False

    @classmethod
    def of(cls, e: Experiment) -> Source:
        """An experiment's."""
        e = e.resolved()
        assert e.dataset is not None
        return cls(e.dataset, e.seed, e.balance, e.resplit, e.folds)

    @property
    def is_here(self) -> bool:
        """Whether its messages can be had without a download."""
        return self.dataset != "uci" or uci_is_here()

    @property
    def digest(self) -> str:
        """SHA-256 of the file that it is."""
        if self.dataset == "uci":
            uci_file()  # there, and the right one
            return UCI_FILE
        return sha256(POCKET_MESSAGES if self.dataset == "pocket" else self.dataset)

    def messages(self) -> Messages:
        """Read and split them.

        Raises:
            UsageError: if they cannot be had or are not fit to train on.
        """
        if self.dataset == "uci":
            return self._cut(_uci(), UCI_FILE)
        if self.dataset == "pocket":
            frame = pd.read_csv(POCKET_MESSAGES, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)
            return self._cut(frame[["label", "text"]], self.digest)
        classes, train, val, test, summary = split_file(Path(self.dataset), self.seed, self.balance)
        return Messages(self.dataset, classes, train, val, test, self.digest, summary)

    def _cut(self, frame: pd.DataFrame, digest: str) -> Messages:
        """Ham and spam, shuffled and cut 70/10/20."""
        summary = summary_of(frame.label, ("ham", "spam"), self.dataset)
        frame = frame.assign(label=(frame.label == "spam").astype(int))
        parts = fold(len(frame), self.seed) if self.folds else cut(len(frame), self.seed if self.resplit else 123)
        train, val, test = (frame.iloc[part].reset_index(drop=True) for part in parts)
        return Messages(self.dataset, ("ham", "spam"), train, val, test, digest, summary)


def sizes(n: int) -> tuple[int, int, int]:
    """How many of ``n`` messages are for training, validation and test: 70/10/20."""
    train, val = int(n * 0.7), int(n * 0.1)
    return train, val, n - train - val


def cut(n: int, seed: int, first: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of ``n`` messages are for training, validation and test: shuffled by the seed, cut 70/10/20.

    Args:
        n: how many there are.
        seed: of the shuffle.
        first: where in the shuffled order the test part begins; training follows it, around the end. Unless
            given, the test part is the last.
    """
    order = pd.RangeIndex(n).to_series().sample(frac=1, random_state=seed).to_numpy()
    train, val, test = sizes(n)
    order = np.roll(order, 0 if first is None else n - test - first)
    return order[:train], order[train : train + val], order[train + val :]


def fold(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`cut`, the test part rotated: five seeds in a row, from 123 on, test every message.

    Every part has the size it is published with, so that a few messages are tested by two of the five. 123 has
    the published split itself.
    """
    shuffle, turn = divmod(seed - 123, 5)
    *_, test = sizes(n)
    return cut(n, 123 + shuffle, max(0, n - (turn + 1) * test))


def load_messages(
    dataset: str, seed: int = 123, balance: bool = False, resplit: bool = False, folds: bool = False
) -> Messages:
    """The messages of ``uci``, ``pocket`` or a file, split 70/10/20 (see :class:`Source`).

    Raises:
        UsageError: if they cannot be had or are not fit to train on.
    """
    return Source(dataset, seed, balance, resplit, folds).messages()


def messages_of(e: Experiment) -> Messages:
    """What an experiment trains and is tested on: as many training messages as it asks for, labels as it has them.

    Raises:
        UsageError: if they cannot be had or do not suffice.
    """
    messages = Source.of(e).messages()
    if e.train_size is not None and e.train_size > len(messages.train):
        raise UsageError(
            f"train_size {e.train_size} is more than the {len(messages.train)} training messages there are"
        )
    train, K = messages.train[: e.train_size], len(messages.classes)
    if e.batch_size > len(train):
        raise UsageError(f"batch_size {e.batch_size} is more than the {len(train)} training messages: no batch is full")
    if 0 <= e.ignore_index < K:
        raise UsageError(f"ignore_index {e.ignore_index} is one of the labels: no message of it would be learned")
    if absent := [name for k, name in enumerate(messages.classes) if k not in set(train.label)]:
        raise UsageError(f"none of the {len(train)} training messages is {absent[0]}: train_size must be larger")
    if e.label_noise and not round(e.label_noise * len(train)):
        raise UsageError(f"label_noise {e.label_noise} of {len(train)} training messages is none of them")
    return replace(messages, train=with_wrong_labels(train, e.label_noise, e.seed, K))


def _uci() -> pd.DataFrame:
    """The published protocol: as many ham as spam, shuffled (and once more before they are cut)."""
    frame = uci_messages()
    spam = frame[frame.label == "spam"]
    ham = frame[frame.label == "ham"].sample(len(spam), random_state=123)
    return pd.concat([ham, spam]).sample(frac=1, random_state=123).reset_index(drop=True)


def with_wrong_labels(train: pd.DataFrame, share: float, seed: int, n_classes: int) -> pd.DataFrame:
    """The training messages, a ``share`` of them (drawn by the seed) under another label than their own."""
    if share == 0:
        return train
    rng = np.random.default_rng([seed, 0])
    wrong = rng.permutation(len(train))[: round(share * len(train))]
    labels = train.label.to_numpy().copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    return train.assign(label=labels)
