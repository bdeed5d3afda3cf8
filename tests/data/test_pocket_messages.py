"""The shipped ham/spam messages: shape, honesty, and no shortcut that gives the label away.

Where a guard depends on a split it uses the project's own: the rows in the order that
``DataFrame.sample(frac=1, random_state=123)`` gives, 70% to train, 10% to validate, the rest to test.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

END = "<|endoftext|>"

# Anything that a browser or a phone would take for a web address.
ADDRESS = re.compile(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b", re.IGNORECASE)

# Anything that could be dialled: seven or more digits, with single spaces or hyphens between them.
NUMBER = re.compile(r"\+?\d(?:[ -]?\d){6,}")

# Numbers that nobody can have: those that regulators keep for drama and examples (in the UK 07700 900xxx,
# 020 7946 0xxx, 01632 960xxx, 03069 990xxx, 0808 157 0xxx and 0909 879 0xxx; in North America
# 555-01xx under any prefix; in Australia 0491 570 006), and numbers that begin with five noughts.
FICTIONAL = re.compile(
    r"07700 900\d{0,3}|020 7946 0\d{3}|01632 960\d{3}|03069 990\d{3}|0808 157 0\d{3}|0909 879 0\d{3}"
    r"|(?:1-\d{3}-)?555-01\d{2}|0491 570 006|00000 \d{5}"
)

# "txt WIN to 00777", "dial 00500": five-digit short codes all begin with two noughts.
SHORT_CODE = re.compile(r"\b(?:to|dial|stop:|stop=) ?(\d{5})\b(?! \d)", re.IGNORECASE)


@cache
def messages() -> pd.DataFrame:
    """The file as shipped: one message a line, three columns, no quoting."""
    path = files("onechange") / "pocket" / "messages.tsv"
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)


@cache
def split() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train, validation and test, cut as the project cuts them."""
    frame = messages()[["label", "text"]].sample(frac=1, random_state=123)
    train = int(len(frame) * 0.7)
    validation = train + int(len(frame) * 0.1)
    return frame[:train], frame[train:validation], frame[validation:]


def is_spam() -> np.ndarray:
    """For each message in file order, whether it is labelled spam."""
    return (messages()["label"] == "spam").to_numpy()


def masked(text: str) -> str:
    """``text`` without what near-copies differ in: case, digits, punctuation."""
    return " ".join(re.sub(r"[\d_]|[^\w\s]", " ", text.casefold()).split())


def skeleton(text: str) -> str:
    """``text`` with each word replaced by its shape: ``You won £50 NOW!`` is ``Aa a £0 A!``."""

    def shape(match: re.Match[str]) -> str:
        word = match.group()
        if word.isdigit():
            return "0"
        if word.islower():
            return "a"
        return "A" if word.isupper() else "Aa"

    return re.sub(r"\d+|[^\W\d_]+", shape, text)


def better_way_round(accuracy: np.ndarray | float) -> float:
    """The best accuracy of some rules when each may also be turned round."""
    return float(np.max(np.maximum(accuracy, 1 - accuracy)))


def best_length_rule() -> float:
    """Accuracy of the best rule "longer than so many characters", fitted on the whole set."""
    length = messages()["text"].str.len().to_numpy()
    return better_way_round(np.array([((length > cut) == is_spam()).mean() for cut in np.unique(length)]))


def best_word_rule() -> float:
    """Accuracy of the best rule "this word is in it", over every word and sign of the whole set."""
    counter = CountVectorizer(token_pattern=r"\w+|[^\w\s]", binary=True)
    present = counter.fit_transform(messages()["text"])
    spam = is_spam().astype(int)
    in_spam = present.T @ spam
    in_ham = present.T @ (1 - spam)
    return better_way_round((in_spam + (1 - spam).sum() - in_ham) / len(spam))


def tfidf_accuracy(**options: object) -> float:
    """Test accuracy of logistic regression on TF-IDF features, both fitted on train alone."""
    train, _, test = split()
    features = TfidfVectorizer(**options)
    model = LogisticRegression(max_iter=1000).fit(features.fit_transform(train["text"]), train["label"])
    return float(model.score(features.transform(test["text"]), test["label"]))


def largest_share(patterns: pd.Series) -> float:
    """The share of the commonest pattern within a label, for the label where it is largest."""
    return max(Counter(group).most_common(1)[0][1] / len(group) for _, group in patterns.groupby(messages()["label"]))


def test_shape() -> None:
    """Three columns, at least 1,500 messages, as many ham as spam."""
    assert list(messages().columns) == ["label", "text", "topic"]
    assert len(messages()) >= 1500
    assert set(messages()["label"]) == {"ham", "spam"}
    assert is_spam().sum() * 2 == len(messages())


def test_texts_are_plain_and_distinct() -> None:
    """Every text says something, fits on one line and is not another's twin."""
    texts = messages()["text"]
    assert texts.is_unique
    assert (texts.str.len() >= 1).all()
    assert (texts == texts.str.strip()).all()
    assert not texts.str.contains(END, regex=False).any()
    assert not texts.str.contains(r"[\t\r\n]").any()
    assert not texts.str.startswith('"').any()


def test_labels_are_mixed() -> None:
    """No stretch of a hundred lines is nearly all one label."""
    share = pd.Series(is_spam().astype(float)).rolling(100).mean().dropna()
    assert share.between(0.25, 0.75).all()


def test_topics() -> None:
    """Many topics, and none takes over."""
    counts = messages()["topic"].value_counts()
    assert len(counts) >= 25
    assert counts.max() <= len(messages()) / 10


def test_no_near_copies_across_the_splits() -> None:
    """Masked texts differ, and their sets of words share no more than 0.6 (Jaccard)."""
    words = [part["text"].map(masked) for part in split()]
    texts = pd.concat(words)
    part = np.repeat(range(3), [len(masks) for masks in words])
    present = CountVectorizer(token_pattern=r"\S+", binary=True, dtype=np.int64).fit_transform(texts)
    both = (present @ present.T).tocoo()
    size = np.asarray(present.sum(axis=1)).ravel()
    jaccard = both.data / (size[both.row] + size[both.col] - both.data)
    close = (part[both.row] != part[both.col]) & (jaccard > 0.6)
    assert [(texts.iloc[a], texts.iloc[b]) for a, b in zip(both.row[close], both.col[close], strict=True)] == []
    assert (texts.groupby(texts).transform("size") == 1).all()


@pytest.mark.parametrize("rule", [best_length_rule, best_word_rule])
def test_no_single_cue_decides(rule: Callable[[], float]) -> None:
    """Neither a length nor a word, the best that there is, gets 80% right."""
    assert 0.5 <= rule() <= 0.8


@pytest.mark.parametrize("options", [{}, {"analyzer": "char_wb", "ngram_range": (2, 5)}], ids=["words", "characters"])
def test_counting_words_is_good_but_not_enough(options: dict) -> None:
    """TF-IDF learns the task, and leaves room for a model that reads."""
    assert 0.85 <= tfidf_accuracy(**options) <= 0.96


@pytest.mark.parametrize("pattern", [lambda text: masked(text).split()[:3], skeleton], ids=["opening", "skeleton"])
def test_no_pattern_dominates(pattern: Callable[[str], object]) -> None:
    """At most one message in ten of a label opens alike, or has the same skeleton."""
    assert largest_share(messages()["text"].map(pattern).astype(str)) <= 0.1


def test_only_example_addresses() -> None:
    """Web addresses end in ``.example``, which nobody can register, and are no mark of spam."""
    texts = messages()["text"]
    addresses = texts.map(ADDRESS.findall)
    assert [address for found in addresses for address in found if not address.endswith(".example")] == []
    assert not texts.str.contains(r"https?:|www\.|@[a-z0-9-]+\.", case=False).any()
    linked = addresses.map(bool)
    assert (linked & ~is_spam()).sum() * 2 >= (linked & is_spam()).sum() > 0


def test_only_fictional_numbers() -> None:
    """Whatever could be dialled is a number that nobody can have (see ``FICTIONAL``)."""
    texts = messages()["text"]
    numbers = [number for found in texts.map(NUMBER.findall) for number in found]
    assert [number for number in numbers if not FICTIONAL.fullmatch(number)] == []
    codes = [code for found in texts.map(SHORT_CODE.findall) for code in found]
    assert [code for code in codes if not code.startswith("00")] == []
