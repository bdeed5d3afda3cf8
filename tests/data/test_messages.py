"""The UCI messages, the pocket messages, and files of one's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from onechange import UsageError
from onechange.data.messages import Messages, load_messages
from onechange.data.table import check_message
from onechange.data.tokens import encode, padded_length
from onechange.gpt import tokenizer
from onechange.gpt.tokenizer import END, tokenizer_for

# SHA-256 of "label<tab>text" of every message of a split, one a line, as the published protocol gives them.
UCI_SPLITS = {
    "train": (1045, 515, "0d3d3825a7d19d0bf852389c821577d68dbd744f5aa0a12fac369e59ad4a3523"),
    "val": (149, 73, "b447ac9767d997bf77e63211300af4637af030e33915054eb52f7141c2368447"),
    "test": (300, 159, "f3ea2cbcbdb7a806138c5da4d2b7298086365aa426acf534019191b215059d45"),
}


def masked(text: str) -> str:
    """Lower case, digit runs as one 0, punctuation as a space, runs of spaces as one."""
    return " ".join(re.sub(r"[^\w\s]", " ", re.sub(r"\d+", "0", text.lower())).split())


# -- the UCI messages ---------------------------------------------------------------------------


@pytest.mark.usefixtures("uci_cache")
@pytest.mark.parametrize("split", UCI_SPLITS)
@pytest.mark.parametrize("seed", [123, 7])
def test_the_published_split(split: str, seed: int) -> None:
    """1,045, 149 and 300 messages: which, in which order, with which label, and whatever the seed."""
    n, n_spam, digest = UCI_SPLITS[split]
    frame = getattr(load_messages("uci", seed), split)
    assert (len(frame), int(frame.label.sum())) == (n, n_spam)
    text = "\n".join(f"{label}\t{text}" for label, text in zip(frame.label, frame.text, strict=True))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.usefixtures("uci_cache")
def test_messages_that_stand_in_two_splits() -> None:
    """36 test messages (29 spam) and 12 validation ones are in the training set to the letter, 52 test ones nearly."""
    messages = load_messages("uci")
    train = set(messages.train.text)
    twins = messages.test[messages.test.text.isin(train)]
    assert (len(twins), int(twins.label.sum()), int(messages.val.text.isin(train).sum())) == (36, 29, 12)
    near = set(map(masked, train))
    assert sum(masked(text) in near for text in messages.test.text) == 52


@pytest.mark.usefixtures("uci_cache")
def test_lengths_of_the_published_messages() -> None:
    """The longest training message has 120 tokens, and only that one reaches its padded end."""
    messages, gpt2 = load_messages("uci"), tokenizer_for("gpt2")
    assert (gpt2.end, gpt2.vocab_size) == (50256, 50257)
    assert padded_length(messages.train, gpt2, "longest_training_example", 1024) == 120
    tokens = encode(messages.train, gpt2, 120)
    assert tokens.ids.shape == (1045, 120)
    assert int((tokens.lengths == 120).sum()) == 1
    for split in (messages.val, messages.test):
        assert int(encode(split, gpt2, 120).lengths.max()) < 120


def test_a_damaged_file_is_refused(uci_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte more, and the hash says so."""
    (tmp_path / "SMSSpamCollection").write_bytes((uci_cache / "SMSSpamCollection").read_bytes() + b"\n")
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="wrong SHA-256"):
        load_messages("uci")


def test_uci_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the file, its place, and what needs no network; nothing is left behind."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        load_messages("uci")
    for word in ("sms+spam+collection.zip", str(tmp_path), "pocket messages"):
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_gpt2_tokenizer_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the messages."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    with pytest.raises(UsageError, match=r"vocab\.bpe") as caught:
        tokenizer.gpt2_encoding.__wrapped__()
    assert str(tmp_path / "tiktoken") in str(caught.value)
    assert "pocket-small" in str(caught.value)


def test_a_damaged_gpt2_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its merges decide every number: a file that is not the published one, half of it or another, is named."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for path in tokenizer.gpt2_files():
        path.write_text("#version: 0.2\n")
    assert tokenizer.gpt2_files_are_here()
    with pytest.raises(UsageError, match="6d1cbeee0f20b3d9449abfede4726ed8212e3aee") as caught:
        tokenizer.gpt2_encoding.__wrapped__()
    assert len(str(caught.value).splitlines()) == 1


# -- the pocket messages ------------------------------------------------------------------------


def test_the_pocket_split() -> None:
    """70/10/20 of all messages, none twice, the same whatever the seed."""
    messages = load_messages("pocket")
    sizes = [len(messages.train), len(messages.val), len(messages.test)]
    n = sum(sizes)
    assert sizes[:2] == [int(0.7 * n), int(0.1 * n)]
    texts = pd.concat([messages.train.text, messages.val.text, messages.test.text])
    assert texts.nunique() == n
    assert messages.train.equals(load_messages("pocket", seed=7).train)
    assert messages.classes == ("ham", "spam")
    for split in (messages.train, messages.val, messages.test):
        assert 0.35 < split.label.mean() < 0.65


# -- files --------------------------------------------------------------------------------------


def frame_of(counts: dict[str, int]) -> pd.DataFrame:
    """Distinct messages of each class, the classes one after another."""
    rows = [(label, f"{label} number {i}, a comma, a 'quote' and é") for label, n in counts.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["label", "text"])


WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".tsv": lambda frame, path: frame.to_csv(path, sep="\t", index=False),
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    ".parquet": lambda frame, path: frame.to_parquet(path),
}


def written(frame: pd.DataFrame, folder: Path, ending: str = ".tsv") -> Path:
    path = folder / f"mine{ending}"
    WRITERS[ending](frame, path)
    return path


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_says_the_same(ending: str, tmp_path: Path) -> None:
    """Three classes in any of the four formats: all messages, each once, under its label, more columns ignored."""
    frame = frame_of({"news": 40, "joke": 20, "bill": 30}).assign(more=1)
    messages = load_messages(str(written(frame, tmp_path, ending)))
    assert messages.classes == ("bill", "joke", "news")
    everything = pd.concat([messages.train, messages.val, messages.test])
    names = [messages.classes[label] for label in everything.label]
    found = sorted(zip(names, everything.text, strict=True))
    assert found == sorted(zip(frame.label, frame.text, strict=True))


def test_numbers_as_labels(tmp_path: Path) -> None:
    """0 and 1 are class names like any other, from every format."""
    frame = frame_of({"a": 10, "b": 10})
    frame["label"] = frame.label.map({"a": 0, "b": 1})
    for ending in WRITERS:
        assert load_messages(str(written(frame, tmp_path, ending))).classes == ("0", "1")


def sizes(messages: Messages) -> list[dict[int, int]]:
    frames = (messages.train, messages.val, messages.test)
    return [frame.label.value_counts().sort_index().to_dict() for frame in frames]


def test_each_class_is_split_alike(tmp_path: Path) -> None:
    """70/10/20 of every class; the seed decides which messages, and the same seed gives the same."""
    path = str(written(frame_of({"a": 100, "b": 50, "c": 20}), tmp_path))
    messages = load_messages(path, 1)
    for share, found in zip((0.7, 0.1, 0.2), sizes(messages), strict=True):
        assert found == pytest.approx({0: share * 100, 1: share * 50, 2: share * 20}, abs=1.01)
    assert sum(sum(found.values()) for found in sizes(messages)) == 170
    assert messages.train.equals(load_messages(path, 1).train)
    assert not messages.train.equals(load_messages(path, 2).train)
    assert messages.train.label.is_monotonic_increasing is False


def test_balancing(tmp_path: Path) -> None:
    """Every class shrinks to the smallest, by the seed."""
    path = str(written(frame_of({"a": 100, "b": 50, "c": 20}), tmp_path))
    messages = load_messages(path, 1, balance=True)
    assert sizes(messages) == [{0: 14, 1: 14, 2: 14}, {0: 2, 1: 2, 2: 2}, {0: 4, 1: 4, 2: 4}]
    other = load_messages(path, 2, balance=True)
    assert set(messages.train.text[messages.train.label == 0]) != set(other.train.text[other.train.label == 0])


def test_the_smallest_class_that_can_be_split(tmp_path: Path) -> None:
    """Ten of each will do: every split gets some of every class."""
    messages = load_messages(str(written(frame_of(dict.fromkeys("abcdefghijkl", 10)), tmp_path)))
    assert [set(part.values()) for part in sizes(messages)] == [{7}, {1}, {2}]


HEADER = "label\ttext\n"
GOOD = "".join(f"{'ab'[i % 2]}\tmessage {i}\n" for i in range(40))


def lines(*more: dict[str, object]) -> str:
    records = [*({"label": "ab"[i % 2], "text": f"message {i}"} for i in range(40)), *more]
    return "\n".join(map(json.dumps, records)) + "\n"


FAULTS: dict[str, tuple[str, str | bytes, str]] = {
    "no label": ("f.tsv", "kind\ttext\n" + GOOD, "no column 'label': it has kind, text"),
    "no text": ("f.csv", "label,words\na,b\n", "no column 'text': it has label, words"),
    "no text in jsonl": ("f.jsonl", '{"label": "a"}\n', "no column 'text'"),
    "one class": ("f.tsv", HEADER + GOOD.replace("b\t", "a\t"), r"1 class \(a\): at least two"),
    "no message": ("f.tsv", "label\ttext\n", "at least two"),
    "small class": ("f.tsv", HEADER + GOOD + "c\tx\n" * 9, "has 9; at least 10"),
    "empty message": ("f.tsv", HEADER + GOOD + "a\t\n", "message 41 is empty"),
    "blank message": ("f.csv", 'label,text\na," "\n', "message 1 is empty"),
    "missing text": ("f.tsv", HEADER + GOOD + "a\n", "message 41 is empty"),
    "null text": ("f.jsonl", lines({"label": "a", "text": None}), "message 41 is empty"),
    "absent text": ("f.jsonl", lines({"label": "a"}), "message 41 is empty"),
    "null label": ("f.jsonl", lines({"label": None, "text": "x"}), "message 41 has no label"),
    "empty label": ("f.tsv", HEADER + GOOD + "\tx\n" * 10, "message 41 has no label"),
    "end mark": ("f.tsv", HEADER + GOOD + f"a\tThis is the{END}\n", r"message 41 contains <\|endoftext\|>"),
    "unknown ending": ("f.doc", GOOD, r"\.csv, \.tsv, .*\.parquet .*, not \.doc"),
    "no ending": ("f", GOOD, "not a file without an ending"),
    "empty file": ("f.csv", "", "cannot be read as csv"),
    "ragged": ("f.csv", "label,text\na,b\na,b,c\n", "cannot be read as csv"),
    "more fields than the header": ("f.tsv", HEADER + GOOD.replace("\n", "\tmore\n"), "cannot be read as tsv"),
    "broken jsonl": ("f.jsonl", '{"label": "a", "text"\n', "cannot be read as jsonl"),
    "not parquet": ("f.parquet", "label,text\n", "cannot be read as parquet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    """What is wrong with a file, and where, in one line."""
    name, content, words = FAULTS[fault]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=words) as caught:
        load_messages(str(tmp_path / name))
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path / name) in str(caught.value)


def test_texts_stay_as_they_are_written(tmp_path: Path) -> None:
    """What looks like a number, a date or nothing at all is text in every format."""
    frame = frame_of({"a": 12, "b": 12})
    odd = ["0012", "1e5", "2020-01-01", "nan", "None", "NA", "true", "null", "+44", "1.50", "inf", "-"]
    frame["text"] = [f"{text}" for text in odd] + [f" {text}" for text in odd]
    for ending in WRITERS:
        messages = load_messages(str(written(frame, tmp_path, ending)))
        found = [*messages.train.text, *messages.val.text, *messages.test.text]
        assert sorted(found) == sorted(frame.text), ending


def test_null_in_parquet(tmp_path: Path) -> None:
    """A text that is not there is an empty message, not the word None."""
    frame = pd.concat([frame_of({"a": 20, "b": 20}), pd.DataFrame({"label": ["a"], "text": [None]})])
    with pytest.raises(UsageError, match="message 41 is empty"):
        load_messages(str(written(frame, tmp_path, ".parquet")))


def test_a_lone_quote_does_not_swallow_messages(tmp_path: Path) -> None:
    """In a tsv, a message may begin with a quotation mark; forty messages between two such are still forty."""
    (tmp_path / "f.tsv").write_text(HEADER + 'a\t"Hello there\n' + GOOD + 'b\tsays he"\n')
    messages = load_messages(str(tmp_path / "f.tsv"))
    assert len(messages.train) + len(messages.val) + len(messages.test) == 42


@pytest.mark.parametrize("text", ["", " \n", f"a{END}b"])
def test_check_message(text: str) -> None:
    """A message needs something in it, but not the end mark."""
    with pytest.raises(UsageError):
        check_message(text)
    check_message("a")
