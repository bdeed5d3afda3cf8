"""Messages: where they come from, how they are split, and what they are as numbers."""

from __future__ import annotations

import csv
import hashlib
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..gpt.tokenizer import END, Tokenizer
from ..support.cache import check, download, root
from ..support.errors import UsageError
from ..support.files import write_atomically
from ..support.package import POCKET

UCI_URL = "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"
UCI_ZIP = "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3"
UCI_FILE = "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
UCI_MEMBER = "SMSSpamCollection"

POCKET_MESSAGES = POCKET / "messages.tsv"


@dataclass(frozen=True)
class Messages:
    """A data set, split: frames with the columns ``label`` (0 to K - 1) and ``text``.

    ``digest`` is the SHA-256 of the file they came from.
    """

    name: str
    classes: tuple[str, ...]
    train: pd.DataFrame
    val: pd.DataFrame
    test: pd.DataFrame
    digest: str


def load_messages(dataset: str, seed: int = 123, balance: bool = False, resplit: bool = False) -> Messages:
    """The messages of ``uci``, ``pocket`` or a file, split 70/10/20.

    ``uci`` and ``pocket`` have one split, whatever the seed, unless it is to ``resplit`` them; a file is
    split by it, each class alike.

    Raises:
        UsageError: if they cannot be had or are not fit to train on.
    """
    if dataset == "uci":
        return _uci(seed if resplit else 123)
    if dataset == "pocket":
        frame = pd.read_csv(POCKET_MESSAGES, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)
        return _named("pocket", frame[["label", "text"]], _digest(POCKET_MESSAGES), seed if resplit else 123)
    return _file(Path(dataset), seed, balance)


def messages_digest(dataset: str) -> str:
    """SHA-256 of the file that a data set comes from."""
    if dataset == "uci":
        uci_file()  # there, and the right one
        return UCI_FILE
    return _digest(POCKET_MESSAGES if dataset == "pocket" else Path(dataset))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _uci(seed: int) -> Messages:
    """The published protocol: as many ham as spam, two shuffles, both with 123 (the second with the seed)."""
    path = uci_file()
    frame = pd.read_csv(path, sep="\t", header=None, names=["label", "text"])
    spam = frame[frame.label == "spam"]
    ham = frame[frame.label == "ham"].sample(len(spam), random_state=123)
    shuffled = pd.concat([ham, spam]).sample(frac=1, random_state=123).reset_index(drop=True)
    return _named("uci", shuffled, UCI_FILE, seed)


def _named(name: str, frame: pd.DataFrame, digest: str, seed: int) -> Messages:
    """Ham and spam in one shuffled frame, cut 70/10/20."""
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    frame["label"] = (frame.label == "spam").astype(int)
    train, val = int(len(frame) * 0.7), int(len(frame) * 0.1)
    cuts = (frame[:train], frame[train : train + val], frame[train + val :])
    first, second, third = (part.reset_index(drop=True) for part in cuts)
    return Messages(name, ("ham", "spam"), first, second, third, digest)


def uci_file() -> Path:
    """The UCI messages in the cache, unpacked from their publisher's zip, downloaded if need be."""
    path = root() / UCI_MEMBER
    if path.exists():
        check(path, UCI_FILE)
        return path
    archives = sorted(root().glob("*.zip"))
    archive = archives[0] if archives else root() / "sms+spam+collection.zip"
    download(UCI_URL, archive, UCI_ZIP, "the UCI SMS Spam Collection")
    with zipfile.ZipFile(archive) as file:
        write_atomically(path, lambda temporary: Path(temporary).write_bytes(file.read(UCI_MEMBER)))
    check(path, UCI_FILE)
    return path


def uci_is_here() -> bool:
    """Whether the UCI messages can be had without a download."""
    return (root() / UCI_MEMBER).exists() or any(root().glob("*.zip"))


RUN = 20_000  # letters or blanks in a row: byte-level tokenizers take minutes over more, or break

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".tsv": lambda path: pd.read_csv(
        path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False, index_col=False
    ),
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}


def masked(text: str) -> str:
    """A message in lower case, every run of digits a 0, every run of punctuation a space."""
    return " ".join(re.sub(r"[^\w\s]+|_+", " ", re.sub(r"\d+", "0", text.lower())).split())


def seen_in_training(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Which test messages stand in the training set: 2 word for word, 1 after masking (see :func:`masked`), 0 not."""
    verbatim = test.text.isin(set(train.text)).to_numpy()
    alike = test.text.map(masked).isin(set(train.text.map(masked))).to_numpy()
    return np.where(verbatim, 2, alike.astype(int))


def with_wrong_labels(train: pd.DataFrame, share: float, seed: int, n_classes: int) -> pd.DataFrame:
    """The training messages, a ``share`` of them (drawn by the seed) under another label than their own."""
    if share == 0:
        return train
    rng = np.random.default_rng([seed, 0])
    wrong = rng.permutation(len(train))[: round(share * len(train))]
    labels = train.label.to_numpy().copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    return train.assign(label=labels)


def _file(path: Path, seed: int, balance: bool) -> Messages:
    """A reader's own messages, with their own classes, each class split alike."""
    from sklearn.model_selection import train_test_split

    frame = _read(path)
    classes = tuple(sorted(frame.label.unique()))
    smallest = frame.label.value_counts().min()
    if len(classes) < 2:
        raise UsageError(f"{path} has {len(classes)} class ({', '.join(classes)}): at least two are needed")
    if balance:
        frame = frame.groupby("label").sample(smallest, random_state=seed)
    if smallest < 10:
        raise UsageError(
            f"{path}: the class with fewest messages has {smallest}; at least 10 are needed for a 70/10/20 split"
        )
    frame["label"] = frame.label.map({name: i for i, name in enumerate(classes)})
    train, rest = train_test_split(frame, train_size=round(0.7 * len(frame)), random_state=seed, stratify=frame.label)
    val, test = train_test_split(rest, train_size=1 / 3, random_state=seed, stratify=rest.label)
    train, val, test = (p.reset_index(drop=True) for p in (train, val, test))
    return Messages(str(path), classes, train, val, test, _digest(path))


def _read(path: Path) -> pd.DataFrame:
    """A file as a frame of strings with the columns label and text, checked."""
    kind = path.suffix.lower()
    if kind not in READERS:
        raise UsageError(
            f"{path}: messages come as {', '.join(READERS)}, not {path.suffix or 'a file without an ending'}"
        )
    try:
        if kind != ".parquet":
            path.read_bytes().decode("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more fields than columns
            frame = READERS[kind](path)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid UTF-8 (byte {error.start})") from None
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.ParserWarning, ImportError) as error:
        raise UsageError(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from None
    for column in ("label", "text"):
        if column not in frame.columns:
            raise UsageError(f"{path} has no column {column!r}: it has {', '.join(map(str, frame.columns))}")
    frame = frame[["label", "text"]]
    for i, (label, text) in enumerate(zip(frame.label, frame.text, strict=True)):
        if _nothing(label):
            raise UsageError(f"{path}, message {i + 1} has no label")
        check_message("" if _nothing(text) else str(text), f"{path}, message {i + 1}")
    return frame.astype(str)


def _nothing(value: object) -> bool:
    """Whether a cell of a file is null or blank."""
    null = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
    return null or not str(value).strip()


def check_message(text: str, where: str = "the message") -> None:
    """Raise :class:`UsageError` for a message without a token or with the end mark in it."""
    if not text.strip():
        raise UsageError(f"{where} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that a shell handed on as they were
        raise UsageError(f"{where} is not valid UTF-8") from None
    if len(text) > RUN and max(map(len, re.findall(r"\s+|\S+", text))) > RUN:
        raise UsageError(f"{where} has more than {RUN:,} blanks, or letters without a blank, in a row")
    if END in text:
        raise UsageError(f"{where} contains {END}, which marks the end of a text")


@dataclass(frozen=True)
class Tokens:
    """Messages as numbers.

    Attributes:
        ids: ``(N, T)`` integers, each row a message filled up to ``T`` with ``<|endoftext|>``.
        lengths: ``(N,)`` integers: the message's own tokens.
        labels: ``(N,)`` integers.
    """

    ids: Tensor
    lengths: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ids."""
        return hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()


def encode(frame: pd.DataFrame, tokenizer: Tokenizer, length: int | None, side: str = "right") -> Tokens:
    """Tokenize a frame, cut every message to ``length`` tokens and pad it to that.

    Without a ``length`` nothing is cut, and the padding, to the longest message, only fills a tensor.
    """
    rows = [tokenizer.encode(text)[:length] for text in frame.text]
    return pad(rows, list(frame.label), tokenizer.end, length, side)


def pad(rows: Sequence[list[int]], labels: Sequence[int], end: int, length: int | None, side: str = "right") -> Tokens:
    """Lists of tokens as one tensor, filled on one side with ``end``."""
    lengths = np.array([len(row) for row in rows])
    if not lengths.all():
        raise UsageError(f"message {int(lengths.argmin()) + 1} has no token in this model's vocabulary")
    ids = np.full((len(rows), length or lengths.max()), end, dtype=np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[slice(len(tokens)) if side == "right" else slice(-len(tokens), None)] = tokens
    return Tokens(torch.from_numpy(ids), lengths, torch.tensor(list(labels), dtype=torch.int64))


def padded_length(train: pd.DataFrame, tokenizer: Tokenizer, context_length: str | int, limit: int) -> int:
    """The length that ``context_length`` asks for, in tokens.

    Raises:
        UsageError: if it is more than the model's context, ``limit``.
    """
    if context_length == "model_context_length":
        return limit
    longest = max(len(tokenizer.encode(text)) for text in train.text)
    length = longest if context_length == "longest_training_example" else int(context_length)
    if length > limit:
        raise UsageError(
            f"the longest training message has {length} tokens, the model's context {limit}: "
            "cut them with --context_length model_context_length"
        )
    return length
