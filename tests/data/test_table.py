"""Files of messages as people have them. Members of the kind that were thought of, and are tried here:

names of columns in any case, with blanks, a byte order mark or quotation marks around them; Kaggle's ``v1,v2`` and
``Category,Message``; two columns that may both be the label; no header, also where a class is called like a column;
pandas' and Excel's quoting between commas, tabs and semicolons, Excel's ``sep=;``, every field quoted, Excel's quoting
of commas between tabs; line breaks, tabs, commas and doubled quotation marks in a message; stray quotation marks in
raw text, two of them that meet across lines, none closed; trailing empty columns, in all rows or in some; an index
column, other columns with anything in them; blank lines and rows at the end and between; Windows' and old Macs' line
ends; UTF-8, UTF-16 and UTF-32 by their marks, Latin-1, Windows-1252, UTF-8 with one damaged byte, UTF-16 without its
mark; gz by its ending or without it, damaged gz; zip and Excel workbooks under a wrong ending; JSON by lines, in a
list, in pandas' own orientations, nested, cut; blanks around and inside labels; whole numbers in their order, as
floats, with leading zeros, huge; labels that are null, nothing, lists; a class of one message; a class name of a page.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onechange import UsageError
from onechange.data.messages import Messages, load_messages
from onechange.data.table import in_order, is_quoted, read_table, whole

ODD = ['she said "noon" and left', '"late again" is all he wrote', '"WINNER" of the week', "a, b; c", "’tis £5, café"]
LINES = ["first line\nsecond line", 'a\ttab and a "mark"', "\n"]
PLAIN = [("spam" if i % 2 else "ham", f"message number {i}") for i in range(40)]
QUOTED = PLAIN + [("ham", text) for text in ODD] + [("spam", f"{text} now") for text in ODD]
BROKEN = QUOTED + [("ham", f"{text}?") for text in LINES]


def frame_of(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["label", "text"])


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_in(path: Path) -> list[tuple[str, str]]:
    frame = read_table(path).frame
    return list(zip(frame.label, frame.text, strict=True))


def table(rows: list[tuple[str, str]], sep: str = "\t", header: str | None = "label{}text") -> str:
    """Rows without any quoting."""
    first = [] if header is None else [header.format(sep)]
    return "\n".join(first + [sep.join(row) for row in rows]) + "\n"


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(UsageError) as caught:
        load_messages(str(path))
    (line,) = str(caught.value).splitlines()
    assert str(path) in line
    return line


# -- quoting and separators ---------------------------------------------------------------------


@pytest.mark.parametrize("rows", [PLAIN, QUOTED, BROKEN], ids=["plain", "quoted", "line breaks"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
@pytest.mark.parametrize("header", [True, False], ids=["header", "headless"])
def test_what_pandas_writes_comes_back(
    rows: list[tuple[str, str]], ending: str, sep: str, quoting: int, header: bool, tmp_path: Path
) -> None:
    """Every separator under every ending, quoted where it must be or everywhere, with and without a header."""
    path = tmp_path / f"mine{ending}"
    frame_of(rows).to_csv(path, sep=sep, quoting=quoting, index=False, header=header)
    assert rows_in(path) == rows


def excel(rows: list[tuple[str, str]], sep: str) -> str:
    """As Excel saves: commas are a reason for quotation marks too, lines end as Windows ends them."""
    marked = [[f'"{x.replace(chr(34), 2 * chr(34))}"' if re.search(f'[",\n{sep}]', x) else x for x in r] for r in rows]
    return "\r\n".join(sep.join(fields) for fields in [["label", "text"], *marked]) + "\r\n"


@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_what_excel_writes_comes_back(sep: str, tmp_path: Path) -> None:
    """With its line ends, its byte order mark, and the line that names its separator."""
    rows = PLAIN + [("ham", "bring bread, milk"), ("ham", 'he said "no"')]
    for first in ("", f"sep={sep}\r\n"):
        content = (first + excel(rows, sep)).encode("utf-8-sig")
        assert rows_in(put(tmp_path, "mine.csv", content)) == rows
    commas = PLAIN + [("ham", "bring bread, milk")]  # no doubled mark gives it away
    assert rows_in(put(tmp_path, "mine.tsv", excel(commas, "\t"))) == commas
    assert "line 3" in refused(put(tmp_path, "f.csv", "sep=;\nlabel;text\nham;a;b\n"))


RAW = {
    "within": [("ham", 'he said "no" to "that"')],
    "at the start": [("ham", '"Hello there')],
    "at the end": [("ham", 'says he"')],
    "two that meet": [("ham", '"Hello there'), *PLAIN, ("spam", 'says he"')],
    "whole messages and others": [("ham", '"Yes, dear"'), ("ham", 'the "best", he said')],
    "a whole message": [("ham", '"Yes dear"')],
    "one with a comma": [("ham", '"Yes, dear"'), ("ham", "no, no")],
    "two marks in a row": [("ham", 'a ""quoted"" word'), ("ham", '""')],
}


@pytest.mark.parametrize("kind", RAW)
def test_quotation_marks_of_raw_text_are_text(kind: str, tmp_path: Path) -> None:
    """Between tabs, where no writer would have left them so."""
    rows = PLAIN + RAW[kind]
    path = put(tmp_path, "mine.tsv", table(rows))
    assert rows_in(path) == rows
    assert read_table(path).how == "UTF-8, quotation marks as text"


def test_what_quotation_marks_were_taken_for_is_said(tmp_path: Path) -> None:
    quoted, raw = frame_of(QUOTED).to_csv(sep="\t", index=False), table(QUOTED)
    assert is_quoted(quoted)
    assert not is_quoted(raw)
    assert read_table(put(tmp_path, "a.tsv", quoted)).how == "UTF-8, quoted fields"
    assert read_table(put(tmp_path, "b.tsv", table(PLAIN))).how == "UTF-8"


MESSAGE = st.text(st.sampled_from('ab, ;"\n\t£é'), max_size=12).map(lambda x: f"x{x}y")
CELL = st.one_of(MESSAGE, MESSAGE.map(lambda x: f'"{x}"'))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(texts=st.lists(CELL, min_size=1, max_size=6), sep=st.sampled_from(",;\t"))
def test_any_message_survives_a_writer(texts: list[str], sep: str, tmp_path: Path) -> None:
    """Whatever is in it, pandas' file gives it back, in every separator."""
    rows = PLAIN + [("ham", text) for text in texts]
    path = tmp_path / "any.csv"
    frame_of(rows).to_csv(path, sep=sep, index=False)
    assert rows_in(path) == rows


# -- columns ------------------------------------------------------------------------------------

HEADERS = ["Label,Text", "LABEL,TEXT", " label , text ", "v1,v2", "Category,Message", "class,sms", "\ufefflabel,text"]


@pytest.mark.parametrize("header", HEADERS)
def test_names_of_columns(header: str, tmp_path: Path) -> None:
    assert rows_in(put(tmp_path, "mine.csv", table(PLAIN, ",", header))) == PLAIN


def test_the_usual_name_comes_first(tmp_path: Path) -> None:
    """``label`` and ``text`` are meant where others that are known stand beside them; two others are a question."""
    rows = [f"x,{label},{text},0" for label, text in PLAIN]
    path = put(tmp_path, "mine.csv", "\n".join(["category,label,text,target", *rows]))
    assert rows_in(path) == PLAIN
    path = put(tmp_path, "mine.csv", "\n".join(["category,class,text,more", *rows]))
    assert "2 columns that may be the label: it has category, class, text, more; name one" in refused(path)


@pytest.mark.parametrize("everywhere", [True, False])
def test_trailing_empty_columns(everywhere: bool, tmp_path: Path) -> None:
    """Kaggle's ``v1,v2,,,``, or commas behind some rows only; rows and lines without anything."""
    rows = [f"{label},{text}{',,,' if everywhere or i % 7 == 3 else ''}" for i, (label, text) in enumerate(PLAIN)]
    rows[5:5] = ["", ",,,,", "  "]
    header = "v1,v2,,," if everywhere else "v1,v2"
    assert rows_in(put(tmp_path, "mine.csv", "\r\n".join([header, *rows, "", ",", "", ""]))) == PLAIN


def test_other_columns_hold_anything(tmp_path: Path) -> None:
    frame = frame_of(BROKEN).assign(note='"odd", \n\t;', when=pd.Timestamp("2020-01-01"), n=range(len(BROKEN)))
    for name, sep in (("mine.csv", ","), ("mine.tsv", "\t")):
        frame.to_csv(tmp_path / name, sep=sep)  # the index too
        assert rows_in(tmp_path / name) == BROKEN
    frame.assign(nested=[{"a": [1]}] * len(frame)).to_parquet(tmp_path / "mine.parquet")
    assert rows_in(tmp_path / "mine.parquet") == BROKEN


def test_no_header(tmp_path: Path) -> None:
    """UCI's layout; also where a class is called like a column, and in every text format."""
    for sep, name in (("\t", "SMSSpamCollection.txt"), (",", "mine.csv"), (";", "mine.csv")):
        path = put(tmp_path, name, table(PLAIN, sep, None))
        assert rows_in(path) == PLAIN
        assert "no header" in read_table(path).how
    named = [("sms" if label == "ham" else "review", text) for label, text in PLAIN]
    assert rows_in(put(tmp_path, "mine.tsv", table(named, header=None))) == named
    same = [(label, f"see you at noon, {i}") for i, (label, _) in enumerate(PLAIN)]
    assert rows_in(put(tmp_path, "mine.csv", table(same, ";", None))) == same


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.csv", table(PLAIN, ",", "kind,words"), r"no column 'label': it has kind, words; name one of them label"),
        ("f.csv", table(PLAIN, ",", "label,words"), r"no column 'text'.*; name one of them text \(known too: message"),
        ("f.tsv", table([(text, label) for label, text in PLAIN], header=None), "no column 'label': it has message"),
        ("f.csv", table([("ham", "well, then")] * 20, ","), "line 2 has 3 fields where 2 are named; .*quotation marks"),
        ("f.csv", "Label,Text\nham,hello\n\nspam,\n", "line 4: message 2 is empty"),
        ("f.csv", 'label,text\nham,"a\nb"\n,hello\n', "line 4: message 2 has no label"),
        ("f.csv", 'label,text\nham,hello\nspam,"never\nclosed\n', "mark that opens on line 3 is never closed"),
        ("f.tsv", "\n\n", "it is empty"),
        ("f.json", json.dumps({"data": [{"label": 1, "text": "x"}]}), "no column 'label': it has data"),
        ("f.json", '[{"label": 1, "text": "x"}, ', "line 1: "),
        ("f.json", "3", "neither a list of objects nor columns"),
        ("f.jsonl", '{"label": 1, "text": "x"}\n[1]\n', "line 2 is not an object"),
        ("f.jsonl", '{"label": 1, "text": "x"}\n\n{"label": [], "text": "x"}\n', "line 3: message 2 has a label that"),
        ("f.jsonl", '{"label": 1, "text": {"a": 1}}\n', "message 1 is no text: {'a': 1}"),
        ("f.jsonl", '{"label": 1, "text": "\\ud800"}\n', "message 1 is not valid UTF-8"),
        ("f.jsonl", '{"label": "\\ud800", "text": "x"}\n', "label of .* is not valid UTF-8"),
        ("f.json", "[" * 100_000, "nested too deeply"),
        ("f.xlsx", b"PK\x03\x04", "not .xlsx; save the sheet as CSV UTF-8"),
        ("f.zip", b"PK\x03\x04", "not .zip; unpack it first"),
        ("f.csv", b"PK\x03\x04rest", "Excel workbook"),
        ("f.parquet.gz", b"", "not .gz"),
        ("f.csv.gz", gzip.compress(table(PLAIN, ",").encode())[:-20], "gz file is damaged"),
        ("f.csv", table(PLAIN, ",").encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("f.csv", b"\xff\xfel\x00a\x00x", "not valid UTF-16, as it says"),
        ("f.csv", b"\xef\xbb\xbflabel,text\nham,\xff\n", "not valid UTF-8, as it says"),
        ("f.csv", "label,text\nham,naïve café, déjà".encode() + b"\xff\n", r"byte 35 \(line 2\)"),
        ("f.csv", table([*PLAIN, ("rare", "once")], ","), r"fewest messages \(rare\) has 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_to_change(name: str, content: str | bytes, says: str, tmp_path: Path) -> None:
    """Each with the line that it is on, or the columns there are."""
    assert re.search(says, refused(put(tmp_path, name, content)))


def test_a_message_is_not_printed_as_a_columns_name(tmp_path: Path) -> None:
    """The first line of a file without a header is cut short where it is shown."""
    line = refused(put(tmp_path, "f.csv", "dear me, " + "so many words " * 100 + "\nand more, of them\n"))
    assert len(line) < 300 + len(str(tmp_path))


# -- encodings, packing, JSON -------------------------------------------------------------------

ENCODINGS = {
    "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32",
    "latin-1": "Latin-1", "cp1252": "Latin-1",
}  # fmt: skip


def as_json(rows: list[tuple[str, str]]) -> str:
    return "\n".join(json.dumps({"label": a, "text": b}, ensure_ascii=False) for a, b in rows) + "\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "jsonl", "json"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_encodings(encoding: str, kind: str, packed: bool, tmp_path: Path) -> None:
    """In every text format, packed or not, under a name in capitals too; what was not UTF-8 is said."""
    rows = PLAIN + [("ham", "£5 für Café" if encoding == "latin-1" else "£5 – “Café”…")] * 10
    text = as_json(rows) if kind.startswith("json") else table(rows, "," if kind == "csv" else "\t")
    raw = text.encode(encoding)
    path = put(tmp_path, f"Mine.{kind.upper()}{'.gz' * packed}", gzip.compress(raw) if packed else raw)
    assert rows_in(path) == rows
    assert read_table(path).how == ENCODINGS[encoding]


def test_gz_that_does_not_say_so(tmp_path: Path) -> None:
    """What is in a file decides."""
    assert rows_in(put(tmp_path, "mine.csv", gzip.compress(table(PLAIN, ",").encode()))) == PLAIN
    assert rows_in(put(tmp_path, "mine.csv.gz", table(PLAIN, ","))) == PLAIN


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["Windows", "old Mac"])
def test_line_ends(end: str, tmp_path: Path) -> None:
    """A message does not begin or end with a part of them."""
    for name, sep in (("mine.csv", ","), ("mine.tsv", "\t")):
        assert rows_in(put(tmp_path, name, table(PLAIN, sep).replace("\n", end))) == PLAIN


@pytest.mark.parametrize("orient", ["records", "columns", "lines", "list"])
def test_json_as_pandas_writes_it(orient: str, tmp_path: Path) -> None:
    frame, path = frame_of(BROKEN), tmp_path / "mine.json"
    if orient == "lines":
        frame.to_json(path, orient="records", lines=True)
    elif orient == "list":
        path.write_text(json.dumps(frame.to_dict("list"), indent=2))
    else:
        frame.to_json(path, orient=orient)
    assert rows_in(path) == BROKEN


def test_bytes_in_parquet(tmp_path: Path) -> None:
    frame = frame_of(PLAIN)
    pd.DataFrame({name: frame[name].map(str.encode) for name in frame}).to_parquet(tmp_path / "mine.parquet")
    assert rows_in(tmp_path / "mine.parquet") == PLAIN


def test_an_archive_in_memory_is_no_table(tmp_path: Path) -> None:
    """A real zip under a table's name."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.csv", table(PLAIN, ","))
    assert "zip archive" in refused(put(tmp_path, "mine.csv", held.getvalue()))


# -- labels -------------------------------------------------------------------------------------


def classes_of(labels: list[str], tmp_path: Path, ending: str = ".csv") -> Messages:
    rows = [(label, f"message number {i}") for label in labels for i in range(10)]
    return load_messages(str(put(tmp_path, f"mine{ending}", table(rows, ","))))


def test_blanks_around_labels(tmp_path: Path) -> None:
    """Also in the middle, also the ones that do not break."""
    assert classes_of(["ham", " spam ", "spam", "\u00a0ham", "not  spam", "not spam"], tmp_path).classes == (
        "ham", "not spam", "spam",
    )  # fmt: skip


def test_whole_numbers_stand_in_their_order(tmp_path: Path) -> None:
    assert classes_of(["0", "1", "2", "10", "11"], tmp_path).classes == ("0", "1", "2", "10", "11")
    assert classes_of(["1.0", "0.0", "-1.0", "1"], tmp_path).classes == ("-1", "0", "1")
    assert classes_of(["007", "1", "10"], tmp_path).classes == ("007", "1", "10")
    assert classes_of(["1", "2", "ten"], tmp_path).classes == ("1", "2", "ten")
    assert classes_of(["1.5", "1.0"], tmp_path).classes == ("1.0", "1.5")
    assert in_order(whole(["9" * 5000, "1"])) == ("1", "9" * 5000)


def test_numbers_beside_missing_ones(tmp_path: Path) -> None:
    """pandas makes floats of whole numbers where one is missing; in every format they are whole numbers again."""
    frame = pd.DataFrame({"label": [0, 1, None] * 20, "text": [f"message {i}" for i in range(60)]})
    assert "message 3 has no label" in refused(put(tmp_path, "mine.csv", frame.to_csv(index=False)))
    frame = frame.dropna()
    frame.to_csv(tmp_path / "mine.csv", index=False)
    frame.to_parquet(tmp_path / "mine.parquet")
    frame.to_json(tmp_path / "mine.jsonl", orient="records", lines=True)
    for ending in ("csv", "parquet", "jsonl"):
        assert load_messages(str(tmp_path / f"mine.{ending}")).classes == ("0", "1")


# -- what was understood ------------------------------------------------------------------------


def test_the_summary_names_every_class(tmp_path: Path) -> None:
    rows = [(label, f"{label} {i}") for label, n in {"ham": 1500, "spam": 300, "Spam": 12}.items() for i in range(n)]
    path = put(tmp_path, "spam.csv", table(rows, ",").encode() + "ham,5 £\n".encode("latin-1"))
    summary = load_messages(str(path)).summary
    assert summary == "1,813 messages, 3 classes: Spam 12, ham 1,501, spam 300, from spam.csv (Latin-1)"
    assert load_messages(str(path), balance=True).summary == f"{summary}; 12 of each"
    assert load_messages("pocket").summary == "2,000 messages, 2 classes: ham 1,000, spam 1,000, from pocket"


def test_of_many_classes_the_rarest_are_named(tmp_path: Path) -> None:
    rows = [(f"class {i:02}", f"{i} {j}") for i in range(40) for j in range(20 if i != 33 else 10)]
    summary = load_messages(str(put(tmp_path, "mine.csv", table(rows, ",")))).summary
    assert "40 classes: " in summary
    assert "class 33 10" in summary
    assert "and 20 larger ones, from" in summary
