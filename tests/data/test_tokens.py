"""Messages as numbers: tokenizers, padding, positions."""

from __future__ import annotations

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
from onechange.data.messages import load_messages
from onechange.data.tokens import encode, pad, padded_length
from onechange.experiment.experiment import Experiment
from onechange.gpt import tokenizer
from onechange.gpt.tokenizer import END, Tokenizer, learn, pocket_encoding, read_ranks, tokenizer_for, write_ranks
from onechange.training.reader import Reader

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
