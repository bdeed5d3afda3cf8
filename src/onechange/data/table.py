"""A person's file of messages, read into a frame with the columns label and text, and checked."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from ..gpt.tokenizer import END
from ..support.errors import UsageError

RUN = 20_000  # letters or blanks in a row: byte-level tokenizers take minutes over more, or break

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".tsv": lambda path: pd.read_csv(
        path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False, index_col=False
    ),
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}


def read_table(path: Path) -> pd.DataFrame:
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
