"""What needs no GPT: a rule on length, and logistic regression on counted words or characters.

Each chooses its one setting without the test messages, and reports in the same terms as a finetuned
model. Beside them stands what test messages that were seen in training do to such a score.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..experiment.rows import NAMED, is_baseline
from ..gpt.tokenizer import Tokenizer, tokenizer_for
from ..support.errors import UsageError
from ..support.progress import progress_bar
from .copies import near_copies, seen_in_training
from .messages import Messages, load_messages

TITLES = {name: row.title for name, row in NAMED.items() if is_baseline(name)}
FEATURES: dict[str, dict[str, Any]] = {"0b": {}, "0c": {"analyzer": "char_wb", "ngram_range": (2, 5)}}
STRENGTHS = (1.0, 10.0, 100.0)  # of the data against the penalty: scikit-learn's C


@dataclass(frozen=True)
class BaselineResult:
    """A fitted baseline and what it says of the test messages.

    Attributes:
        name, title: ``0a``, ``0b`` or ``0c``, and in words.
        setting: the rule, or the features and the chosen C.
        n_parameters: numbers that were fitted.
        train_accuracy, val_accuracy: on the training and validation messages, as fractions.
        test_labels: ``(N,)`` the test messages' labels.
        test_predicted: ``(N,)`` the labels it gives them.
        seconds: to count, fit, choose and predict.
        features, model: scikit-learn's, of the two that count.
    """

    name: str
    title: str
    setting: str
    n_parameters: int
    train_accuracy: float
    val_accuracy: float
    test_labels: np.ndarray
    test_predicted: np.ndarray
    seconds: float
    features: Any = field(default=None, repr=False, compare=False)
    model: Any = field(default=None, repr=False, compare=False)

    @property
    def test_right(self) -> np.ndarray:
        """``(N,)`` booleans: the test messages it is right on."""
        return self.test_predicted == self.test_labels

    @property
    def test_accuracy(self) -> float:
        """On the test messages, as a fraction."""
        return float(self.test_right.mean())


def run_baseline(name: str, messages: Messages, tokenizer: Tokenizer, *, progress: bool = False) -> BaselineResult:
    """Fit one baseline: ``0a`` length in tokens, ``0b`` TF-IDF of words, ``0c`` TF-IDF of characters.

    ``progress`` shows a bar on standard error while settings are tried.

    Raises:
        UsageError: for another name, or messages that it cannot be fitted on.
    """
    if name == "0a":
        return length_rule(messages, tokenizer)
    if name in FEATURES:
        return bag(name, messages, progress=progress)
    raise UsageError(f"there is no baseline {name!r}: use {', '.join(TITLES)}")


def length_rule(messages: Messages, tokenizer: Tokenizer) -> BaselineResult:
    """The rule "so many tokens or more is spam": the cut, and which side of it, that is right most often in training.

    Raises:
        UsageError: if there are more than two classes.
    """
    if len(messages.classes) != 2:
        raise UsageError(f"0a tells two classes apart by their length: {messages.name} has {len(messages.classes)}")
    start = time.perf_counter()
    train, val, test = (lengths(part, tokenizer) for part in (messages.train, messages.val, messages.test))
    cuts = np.unique(train)
    right = ((train >= cuts[:, None]) == messages.train.label.to_numpy()).mean(1)  # (cuts,)
    long = int(right.max() >= 1 - right.min())  # the class of long messages
    cut = int(cuts[right.argmax() if long else right.argmin()])
    val_predicted, test_predicted = (np.where(part >= cut, long, 1 - long) for part in (val, test))
    return BaselineResult(
        name="0a",
        title=TITLES["0a"],
        setting=f"{cut} tokens or more is {messages.classes[long]}",
        n_parameters=1,
        train_accuracy=float(max(right.max(), 1 - right.min())),
        val_accuracy=float((val_predicted == messages.val.label).mean()),
        test_labels=messages.test.label.to_numpy(),
        test_predicted=test_predicted,
        seconds=time.perf_counter() - start,
    )


def lengths(frame: pd.DataFrame, tokenizer: Tokenizer) -> np.ndarray:
    """``(N,)`` the messages' lengths in tokens."""
    return np.array([len(tokenizer.encode(text)) for text in frame.text])


def bag(
    name: str, messages: Messages, strengths: Sequence[float] = STRENGTHS, *, progress: bool = False
) -> BaselineResult:
    """Logistic regression on TF-IDF, blind to order (``0b``: words; ``0c``: runs of 2 to 5 characters in a word).

    Of ``strengths`` (scikit-learn's C) it takes the best on the validation messages, the smallest of equals.

    Raises:
        UsageError: if the training messages hold nothing to count, or one class.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    features = TfidfVectorizer(**FEATURES[name])
    try:
        train = features.fit_transform(messages.train.text)
        with progress_bar(progress, iterable=sorted(strengths), desc=name, unit="fit", leave=False) as bar:
            models = [LogisticRegression(C=C, max_iter=1000).fit(train, messages.train.label) for C in bar]
    except ValueError as error:  # no words, or one class
        raise UsageError(f"{name} cannot be fitted on the training messages: {error}") from None
    val, test = (features.transform(part.text) for part in (messages.val, messages.test))
    scores = [float(model.score(val, messages.val.label)) for model in models]
    best = models[int(np.argmax(scores))]
    return BaselineResult(
        name=name,
        title=TITLES[name],
        setting=f"TF-IDF of {'words' if name == '0b' else 'characters'}, C = {best.C:g}",
        n_parameters=best.coef_.size + best.intercept_.size,
        train_accuracy=float(best.score(train, messages.train.label)),
        val_accuracy=max(scores),
        test_labels=messages.test.label.to_numpy(),
        test_predicted=best.predict(test),
        seconds=time.perf_counter() - start,
        features=features,
        model=best,
    )


def leakage(messages: Messages, tokenizer: Tokenizer) -> dict[str, Any]:
    """How many messages stand in the training set too, and what the baselines score without those.

    Returns:
        ``val`` and ``test``: counts, where ``masked`` are those alike after masking, word for word or not,
        and ``near`` those beyond them that are nearly alike (:func:`~onechange.data.copies.near_copies`);
        ``baselines`` as they are chosen, and ``strengths`` for each C: accuracies as fractions on the
        validation messages, on the test messages, and on the ``new`` ones among these, alike to none.
    """
    found: dict[str, Any] = {"messages_sha256": messages.digest, "train": len(messages.train)}
    for split in ("val", "test"):
        part = getattr(messages, split)
        seen, spam = seen_in_training(messages.train, part), part.label.to_numpy() == 1
        found[split] = {"messages": len(part), "spam": int(spam.sum())}
        near = near_copies(messages.train, part)
        for kind, which in (("verbatim", seen == 2), ("masked", seen >= 1), ("near", near)):
            found[split] |= {kind: int(which.sum()), f"{kind}_spam": int((which & spam).sum())}
    new = seen_in_training(messages.train, messages.test) == 0

    def scores(run: BaselineResult) -> dict[str, Any]:
        three = {"val": run.val_accuracy, "test": run.test_accuracy, "new": float(run.test_right[new].mean())}
        return {"name": run.name, "title": run.title, "setting": run.setting} | three

    found["baselines"] = [scores(run_baseline(name, messages, tokenizer)) for name in TITLES]
    found["strengths"] = [scores(bag(name, messages, [C])) for name in FEATURES for C in STRENGTHS]
    return found


def write_leakage(path: str | Path) -> None:
    """Write :func:`leakage` of the UCI messages and of the pocket ones to a JSON file, for the book."""
    sets = {"uci": "gpt2", "pocket": "pocket"}
    found = {name: leakage(load_messages(name), tokenizer_for(scale)) for name, scale in sets.items()}
    Path(path).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
