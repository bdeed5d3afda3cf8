"""A person's file of messages, as Excel, pandas, Kaggle or an editor wrote it, read into labels and texts.

**Columns.** A label stands under one of the names in ``LABELS``, a message under one of those in ``TEXTS``, in any
case and with blanks around them; ``label`` and ``text`` come before the others. Other columns may hold anything.
A file of two columns, the first of few values, that names neither has no header. All else is refused with the
columns that were found.

**Separators and quotes.** The ending says which separator is tried first, what is in the file which it is. Fields
with commas between them are quoted as Excel and pandas quote. Between tabs they may be, or quotation marks may be
text, as in UCI's file: :func:`is_quoted` decides, and :attr:`Table.how` says what it found.

**Encodings.** See :func:`onechange.data.encoding.decode`; ``how`` says which it was.
"""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from ..gpt.tokenizer import END
from ..support.errors import UsageError
from .encoding import Unreadable, read_text

LABELS = ("label", "class", "category", "target", "sentiment", "v1")
TEXTS = ("text", "message", "sms", "content", "sentence", "review", "v2")

SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;", ".txt": "\t,;"}
KINDS = (*SEPARATORS, ".jsonl", ".json", ".parquet")
CALLED = {",": "comma", ";": "semicolon", "\t": "tab"}
ELSEWHERE = {(".xlsx", ".xls", ".ods"): "save the sheet as CSV UTF-8", (".zip", ".xz", ".bz2"): "unpack it first"}
WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?")  # pandas writes whole numbers as 1.0 where one is missing
FEWEST = 10  # messages of a class, so that each part of a 70/10/20 split has one
RUN = 20_000  # letters or blanks in a row: byte-level tokenizers take minutes over more, or break
CR = "\udc0d"  # stands for a carriage return within a line, which csv refuses; no text that was decoded holds it
LAST = "\0the last row"  # put behind a file's rows; it comes back as it is unless a quotation mark is still open


@dataclass(frozen=True)
class Table:
    """Messages of a file: a frame of strings, ``label`` and ``text``, and in a few words how it was read."""

    frame: pd.DataFrame
    how: str


@dataclass(frozen=True)
class Columns:
    """All columns of a file as they stand there; the line on which each row begins, where it has lines."""

    frame: pd.DataFrame
    lines: Sequence[int] | None = None
    how: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """The messages of a file, checked.

    Raises:
        UsageError: if it cannot be read, has no such columns, or holds what is no message.
    """
    kind = kind_of(path)
    try:
        columns = _parquet(path) if kind == ".parquet" else _text(path, kind)
    except Unreadable as error:
        raise UsageError(f"{path} cannot be read as {kind[1:]}: {error}") from None
    label, text = find_columns(list(columns.frame), path)
    labels, texts = [], []
    for i, (name, words) in enumerate(zip(columns.frame.iloc[:, label], columns.frame.iloc[:, text], strict=True)):
        where = f"{path}, line {columns.lines[i]}: message {i + 1}" if columns.lines else f"{path}, message {i + 1}"
        labels.append(" ".join(_as_text(name, f"{where} has a label that").split()))
        texts.append(_as_text(words, where))
        if not labels[-1]:
            raise UsageError(f"{where} has no label")
        check_message(labels[-1], f"the label of {where}")
        check_message(texts[-1], where)
    return Table(pd.DataFrame({"label": whole(labels), "text": texts}), ", ".join(columns.how))


def kind_of(path: Path) -> str:
    """Its ending, in small letters and without a ``.gz``, if it is one of ``KINDS``."""
    name = path.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    if kind in KINDS and not name.endswith(".parquet.gz"):
        return kind
    advice = next((f"; {advice}" for endings, advice in ELSEWHERE.items() if kind in endings), "")
    found = path.suffix or "a file without an ending"
    raise UsageError(f"{path}: messages come as {', '.join(KINDS)} (all but the last also .gz), not {found}{advice}")


def find_columns(names: Sequence[object], path: Path) -> tuple[int, int]:
    """Where the label and the message stand among columns of these names."""
    found = []
    for wanted in (LABELS, TEXTS):
        places = _places(names, wanted)
        if len(places) != 1:
            has = ", ".join(textwrap.shorten(str(name), 30, placeholder="...") or "''" for name in list(names)[:12])
            what = f"no column {wanted[0]!r}" if not places else f"{len(places)} columns that may be the {wanted[0]}"
            others = ", ".join(wanted[1:])
            raise UsageError(f"{path} has {what}: it has {has}; name one of them {wanted[0]} (known too: {others})")
        found.append(places[0])
    return found[0], found[1]


def _places(names: Sequence[object], wanted: tuple[str, ...]) -> list[int]:
    """Which columns have the first of the wanted names; if none has, any of the others."""
    plain = [str(name).strip(" \t\n\r\ufeff\"'").casefold() for name in names]
    first = [i for i, name in enumerate(plain) if name == wanted[0]]
    return first or [i for i, name in enumerate(plain) if name in wanted]


def whole(labels: list[str]) -> list[str]:
    """Labels that are all whole numbers, each in one way of writing it: ``1.0`` is ``1``."""
    numbers = [WHOLE.fullmatch(label) for label in labels]
    return [str(int(n[1])) for n in numbers if n] if all(numbers) else labels


def in_order(labels: Sequence[str]) -> tuple[str, ...]:
    """The classes: whole numbers by their value, anything else by its letters."""
    names = set(labels)
    return tuple(sorted(names, key=int) if all(map(WHOLE.fullmatch, names)) else sorted(names))


# -- files ------------------------------------------------------------------------------------------------------------


def _parquet(path: Path) -> Columns:
    try:
        return Columns(pd.read_parquet(path), how=("Parquet",))
    except (ValueError, OSError, ImportError, KeyError, NotImplementedError, ArrowException) as error:
        raise Unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def _text(path: Path, kind: str) -> Columns:
    text, encoding = read_text(path)
    columns = _delimited(text, SEPARATORS[kind]) if kind in SEPARATORS else _json(text, kind)
    return Columns(columns.frame, columns.lines, (encoding, *columns.how))


def _json(text: str, kind: str) -> Columns:
    """Objects, one a line; or, in a .json, all in a list, or as pandas writes a frame."""
    try:
        if kind == ".json" and (document := _whole_document(text)) is not None:
            return Columns(pd.DataFrame(document, dtype=object))
        lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = []
        for i, line in lines:
            records.append(json.loads(line))
            if not isinstance(records[-1], dict):
                raise Unreadable(f"line {i} is not an object such as {{'label': 'ham', 'text': 'hello'}}")
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {i}: {error.msg}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise Unreadable(str(error).splitlines()[0]) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    names = list(dict.fromkeys(name for record in records for name in record))
    return Columns(pd.DataFrame(records, columns=names, dtype=object), [i for i, _ in lines])


def _whole_document(text: str) -> Any:
    """The one value of a .json, or nothing where it holds lines of objects."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("{"):
            return None
        raise Unreadable(f"line {error.lineno}: {error.msg}") from None
    if isinstance(document, list) and all(isinstance(record, dict) for record in document):
        return document
    if isinstance(document, dict) and all(isinstance(value, list | dict) for value in document.values()):
        return document
    raise Unreadable("it is neither a list of objects nor columns")


# -- rows of fields ---------------------------------------------------------------------------------------------------

Row = tuple[int, list[str]]
"""The line on which a row begins, and its fields."""


def _delimited(text: str, separators: str) -> Columns:
    """Rows of fields: the first separator under which a label and a message are found."""
    skipped = 0
    if told := re.match(r'"?sep=([,;\t])"?\n', text):  # Excel's own first line
        separators, skipped, text = told[1], 1, text[told.end() :]
    tried, problems = {}, []
    for separator in separators:
        try:
            tried[separator] = _rows(text, separator)
        except Unreadable as error:
            problems.append(error)
    named = [separator for separator, (rows, _) in tried.items() if _finds(rows[0][1])]
    headless = {} if named else {n: separator for separator, (rows, _) in tried.items() if (n := _few(rows))}
    separator = named[0] if named else headless[min(headless)] if headless else separators[0]
    if separator not in tried:
        raise problems[0]
    rows, quotes = tried[separator]
    names, rows = ([LABELS[0], TEXTS[0]], rows) if headless else (rows[0][1], rows[1:])
    how = ("no header",) * bool(headless) + ((f"{CALLED[separator]}s",) if separator != separators[0] else ())
    width = len(names)
    for line, fields in rows:
        if any(map(str.strip, fields[width:])):
            means = f"a message with a {CALLED[separator]} in it must stand in quotation marks"
            raise Unreadable(f"line {line + skipped} has {len(fields)} fields where {width} are named; {means}")
    frame = pd.DataFrame([(fields + [""] * width)[:width] for _, fields in rows], columns=names, dtype=object)
    return Columns(frame, [line + skipped for line, _ in rows], how + ((quotes,) if quotes else ()))


def _finds(names: Sequence[object]) -> bool:
    """Whether a label and a message stand among columns of these names."""
    return all(_places(names, wanted) for wanted in (LABELS, TEXTS))


def _few(rows: list[Row]) -> int:
    """How many labels there are if the first of two columns holds labels from the first row on, else 0."""
    first, labels = rows[0][1], Counter(fields[0].strip() for _, fields in rows)
    two = all(map(str.strip, first[:2])) and not any(map(str.strip, first[2:])) and len(first) > 1
    return len(labels) if two and labels[first[0].strip()] > 1 and 2 * len(labels) <= len(rows) else 0


def _rows(text: str, separator: str) -> tuple[list[Row], str]:
    """All rows in which something stands, and what quotation marks are where that is not the separator's custom."""
    quotes = ""
    if separator == "\t" and '"' in text:
        quotes = "quoted fields" if is_quoted(text) else "quotation marks as text"
    if separator == "\t" and quotes != "quoted fields":
        rows = [(i, line.split("\t")) for i, line in enumerate(text.split("\n"), 1)]
    else:
        rows = _quoted(text, separator)
    rows = [(i, fields) for i, fields in rows if any(map(str.strip, fields))]
    if not rows:
        raise Unreadable("it is empty")
    return rows, quotes


def _quoted(text: str, separator: str) -> list[Row]:
    """Rows of fields in which quotation marks are doubled, and around which they stand."""
    source = io.StringIO(text.removesuffix("\n").replace("\r", CR) + "\n" + LAST)
    reader, rows, before = csv.reader(source, delimiter=separator), [], 0
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for fields in reader:
            rows.append((before + 1, [field.replace(CR, "\r") for field in fields]))
            before = reader.line_num
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num}: {error}") from None
    finally:
        csv.field_size_limit(limit)
    line, fields = rows.pop()
    if fields != [LAST]:
        raise Unreadable(f"a quotation mark that opens on line {line} is never closed")
    return rows


def is_quoted(text: str) -> bool:
    """Whether quotation marks in a table of tabs are a writer's, not its messages'.

    A writer that quotes leaves no quotation mark outside quoted fields and doubles those inside, and it quotes for a
    reason: a quotation mark, a tab or a line break in a field, Excel every comma too, some every field. A line break
    in a field leaves lines that are no rows; where every line is one, two stray marks have met across lines.
    """
    fields: list[str] = []

    def keep(field: re.Match[str]) -> str:
        fields.append(field[1])
        return ""

    rest = re.sub(r'(?:(?<=\t)|^)"((?:[^"]++|"")*+)"(?=\t|$)', keep, text, flags=re.MULTILINE)
    rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    if '"' in rest or (any("\n" in field for field in fields) and _all_are_rows(rows)):
        return False
    commas = any("," in field for field in fields) and "," not in rest
    return commas or len(fields) >= len(rows) - 1 or any(re.search(r'""|[\t\n]', field) for field in fields)


def _all_are_rows(rows: list[list[str]]) -> bool:
    """Whether all have one width, and one of their columns holds nothing but classes that could be trained on."""
    if len({len(row) for row in rows}) > 1:
        return False
    counts = [Counter(column) for column in zip(*rows[1:], strict=True)]
    return any("" not in count and min(count.values()) >= FEWEST for count in counts)


# -- cells ------------------------------------------------------------------------------------------------------------


def _as_text(cell: Any, where: str) -> str:
    """A cell as text; nothing at all is the empty text."""
    if isinstance(cell, bytes):
        cell = cell.decode(errors="surrogateescape")
    if cell is None or (pd.api.types.is_scalar(cell) and pd.isna(cell)):
        return ""
    if not pd.api.types.is_scalar(cell):
        raise UsageError(f"{where} is no text: {textwrap.shorten(str(cell), 40, placeholder='...')}")
    return str(cell)


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
