"""Messages and tokens: the published split to the letter, files of a reader's own, and every fault they may have."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onechange import UsageError
from onechange.data.messages import Messages, load_messages
from onechange.data.table import check_message
from onechange.data.tokens import encode, pad, padded_length
from onechange.data.uci import uci_file
from onechange.experiment.experiment import Experiment
from onechange.gpt import tokenizer
from onechange.gpt.tokenizer import END, Tokenizer, learn, pocket_encoding, read_ranks, tokenizer_for, write_ranks
from onechange.training.reader import Reader

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


def test_the_publishers_zip_is_unpacked(uci_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip that lies in the cache under any name is used; one with another hash is refused."""
    from onechange.support.cache import sha256

    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        file.write(uci_cache / "SMSSpamCollection", "SMSSpamCollection")
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="wrong SHA-256"):
        uci_file()
    monkeypatch.setattr("onechange.data.uci.UCI_ZIP", sha256(tmp_path / "mine.zip"))
    assert uci_file().read_bytes() == (uci_cache / "SMSSpamCollection").read_bytes()


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


# -- numbers ------------------------------------------------------------------------------------

ROWS = st.lists(st.lists(st.integers(0, 98), min_size=1, max_size=12), min_size=1, max_size=6)


@given(ROWS, st.integers(0, 5))
def test_padding_only_adds_ends(rows: list[list[int]], more: int) -> None:
    """A message comes first, the end mark fills what is left, lengths are the messages' own."""
    T = max(map(len, rows)) + more
    tokens = pad(rows, [0] * len(rows), 99, T)
    assert tokens.ids.shape == (len(rows), T)
    assert tokens.lengths.tolist() == list(map(len, rows))
    for row, ids in zip(rows, tokens.ids.tolist(), strict=True):
        assert ids == row + [99] * (T - len(row))


@given(ROWS)
def test_without_a_length_the_longest_decides(rows: list[list[int]]) -> None:
    """What only fills a tensor is no longer than it must be."""
    assert pad(rows, [0] * len(rows), 99, None).ids.size(1) == max(map(len, rows))


POSITIONS = {  # of a message of n tokens padded to T, what is read
    "last": ({}, lambda n, T: [T - 1]),
    "first": ({"trainable_token_pos": "first"}, lambda n, T: [0]),
    "flexible": ({"trainable_token_pos": "flexible"}, lambda n, T: [n - 1]),
    "no_padding": ({"no_padding": True}, lambda n, T: [n - 1]),
    "no_padding, first": ({"no_padding": True, "trainable_token_pos": "first"}, lambda n, T: [0]),
    "average": ({"average_embeddings": True}, lambda n, T: range(T)),
    "average, flexible": ({"average_embeddings": True, "trainable_token_pos": "flexible"}, lambda n, T: range(n)),
    "average, no_padding": ({"average_embeddings": True, "no_padding": True}, lambda n, T: range(n)),
}


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("causal", [True, False])
@settings(max_examples=15)
@given(rows=ROWS, more=st.integers(0, 5))
def test_which_positions_are_read(kind: str, causal: bool, rows: list[list[int]], more: int) -> None:
    """A reader's view and pooling give the mean over just the positions that the option names.

    Every position holds its own number, so that the mean tells which were read; what the reader does
    not compute at all may not be among them; what is hidden must be the padding alone.
    """
    changes, wanted = POSITIONS[kind]
    e = Experiment(model_size="pocket-small", disable_causal_mask=not causal, **changes)
    reader, T = Reader.of(e), max(map(len, rows)) + more
    tokens = pad(rows, [0] * len(rows), 99, T)
    width = reader.width(tokens.lengths, T)
    lengths = torch.from_numpy(tokens.lengths)
    view = reader.view(lengths, width)
    numbers = (2.0 ** torch.arange(width)).expand(len(rows), width)  # (B, width)
    picked = numbers if view.at is None else numbers.gather(1, view.at)
    pooled = reader.pool(picked[:, :, None], lengths)[:, 0]
    for n, value in zip(tokens.lengths.tolist(), pooled.tolist(), strict=True):
        assert value == pytest.approx(np.mean([2.0**i for i in wanted(n, T)]))
    if e.no_padding and not causal:
        assert view.keys is not None
        assert view.keys.sum(1).tolist() == tokens.lengths.tolist()
    else:
        assert view.keys is None


def letters(vocab_size: int = 128) -> Tokenizer:
    """A tokenizer with one id a character."""
    return Tokenizer("letters", lambda text: [ord(c) for c in text], lambda i: bytes([i]), 127, vocab_size)


FRAME = pd.DataFrame({"text": ["abc", "a", "abcdefgh"], "label": [0, 1, 0]})


def test_encoding_cuts_and_pads() -> None:
    """Longer messages lose their end, shorter ones get end marks; labels stay with them."""
    tokens = encode(FRAME, letters(), 4)
    assert tokens.ids.tolist() == [[97, 98, 99, 127], [97, 127, 127, 127], [97, 98, 99, 100]]
    assert (tokens.lengths.tolist(), tokens.labels.tolist()) == ([3, 1, 4], [0, 1, 0])
    assert encode(FRAME, letters(), None).ids.shape == (3, 8)


@pytest.mark.parametrize(("asked", "length"), [("longest_training_example", 8), ("model_context_length", 20), (5, 5)])
def test_the_padded_length(asked: str | int, length: int) -> None:
    """The three ways to say it."""
    assert padded_length(FRAME, letters(), asked, 20) == length


def test_messages_longer_than_the_context() -> None:
    """They are not cut unasked."""
    with pytest.raises(UsageError, match="8 tokens, the model's context 7"):
        padded_length(FRAME, letters(), "longest_training_example", 7)
    assert padded_length(FRAME, letters(), "model_context_length", 7) == 7


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


# -- tokenizers ---------------------------------------------------------------------------------

SCRIPTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(" \n\t'sdmtlr0123456789£$.,!?-_éßαжשعहि中文かな한글👍🏽👨\u200d👩\u200d👧🇬🇧\u00a0\u3000\u0301"),
        st.characters(min_codepoint=32, max_codepoint=126),
    ),
    max_size=60,
)
SPAM = "Free entry call NOW win £500 cash txt u r ok, don't we'll 1st I'm love you :-) https x.example 😀"
WORDS = st.lists(st.sampled_from(SPAM.split(" ")))


@pytest.fixture(scope="module")
def twin(tokenizer_json: str) -> Callable[[str], list[int]]:
    """The pocket tokenizer run by the ``tokenizers`` library."""
    from tokenizers import Tokenizer as Engine

    engine = Engine.from_str(tokenizer_json)
    engine.encode_special_tokens = True  # the end mark, written in a text, is text
    return lambda text: engine.encode(text).ids


@settings(max_examples=2000)
@given(text=SCRIPTS)
def test_another_library_agrees(twin: Callable[[str], list[int]], text: str) -> None:
    """tiktoken and tokenizers cut any text alike, and its bytes come back."""
    pocket = tokenizer_for("pocket")
    ids = pocket.encode(text)
    assert ids == twin(text)
    assert b"".join(map(pocket.decode_token, ids)).decode() == text


@settings(max_examples=300)
@given(words=WORDS)
def test_another_library_agrees_on_messages(twin: Callable[[str], list[int]], words: list[str]) -> None:
    """As above, for text of the kind the tokenizer was made for."""
    assert tokenizer_for("pocket").encode(" ".join(words)) == twin(" ".join(words))


def test_another_library_agrees_on_all_pocket_messages(twin: Callable[[str], list[int]]) -> None:
    """As above, for every message that ships."""
    messages, pocket = load_messages("pocket"), tokenizer_for("pocket")
    for text in pd.concat([messages.train.text, messages.val.text, messages.test.text]):
        assert pocket.encode(text) == twin(text), text


@given(st.binary(max_size=30))
def test_every_byte_has_a_token(data: bytes) -> None:
    """Even what is no text: the 256 single bytes are the first ranks."""
    ranks = read_ranks(tokenizer.POCKET_RANKS)
    assert sorted(ranks.values()) == list(range(4095))
    assert [ranks[bytes([byte])] < 256 for byte in data] == [True] * len(data)
    assert pocket_encoding().decode_bytes([ranks[bytes([byte])] for byte in data]) == data


def test_the_end_mark_is_no_text() -> None:
    """Written in a message it is plain characters; as a token it is the last id."""
    pocket = tokenizer_for("pocket")
    assert (pocket.end, pocket.vocab_size) == (4095, 4096)
    assert 4095 not in pocket.encode(f"a{END}b")
    assert pocket.decode_token(4095).decode() == END


def test_a_folders_tokenizer_is_the_same(toy: Path) -> None:
    """The toy's tokenizer.json is read as the package's own ranks are."""
    own, pocket = tokenizer_for("folder", toy, 4096), tokenizer_for("pocket")
    assert (own.end, own.vocab_size) == (pocket.end, pocket.vocab_size)
    for text in [*load_messages("pocket").test.text, f"a{END}b"]:
        assert own.encode(text) == pocket.encode(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is not there"), ("{", "is not a tokenizer"), ("<small>", "does not fit")],
    ids=["absent", "broken", "too large"],
)
def test_a_folder_without_a_fitting_tokenizer(
    content: str | None, words: str, tmp_path: Path, tokenizer_json: str
) -> None:
    """It is refused in one line; nobody guesses."""
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizer_json if content == "<small>" else content)
    with pytest.raises(UsageError, match=words) as caught:
        tokenizer_for("folder", tmp_path, 4000)
    assert len(str(caught.value).splitlines()) == 1


def test_learning_a_tokenizer(tmp_path: Path) -> None:
    """Frequent strings become tokens; written and read again it cuts text as before, and loses no byte."""
    ranks = learn(["the cat sat on the mat, the end"] * 20, 265)
    assert len(ranks) == 264
    assert sorted(ranks[:256]) == [bytes([byte]) for byte in range(256)]
    assert b" the" in ranks
    write_ranks(ranks, tmp_path / "ranks")
    assert read_ranks(tmp_path / "ranks") == {token: i for i, token in enumerate(ranks)}
    encoding: tiktoken.Encoding = pocket_encoding(tmp_path / "ranks")
    assert encoding.decode(encoding.encode_ordinary("the catalogue")) == "the catalogue"
    assert len(encoding.encode_ordinary(" the the")) == 2
