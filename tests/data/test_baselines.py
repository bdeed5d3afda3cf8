"""The baselines without a network: known scores, what they may look at, and messages that they cannot be fitted on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from onechange import UsageError
from onechange.data.baselines import STRENGTHS, TITLES, bag, leakage, lengths, run_baseline
from onechange.data.messages import Messages, load_messages
from onechange.evidence.studies import main as make_results
from onechange.gpt.tokenizer import Tokenizer, tokenizer_for

STORED = Path(__file__).parents[2] / "book" / "results" / "leakage.json"

each_baseline = pytest.mark.parametrize("name", list(TITLES))


@pytest.fixture(scope="module")
def messages() -> Messages:
    return load_messages("pocket")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_for("pocket")


def made_up(texts: list[str], labels: list[int], classes: tuple[str, ...] = ("ham", "spam")) -> Messages:
    """The same messages in all three splits."""
    frame = pd.DataFrame({"label": labels, "text": texts})
    return Messages("made up", classes, frame, frame, frame, "")


def of(found: dict[str, Any], name: str) -> dict[str, Any]:
    """One of the baselines that ``leakage`` found."""
    return next(record for record in found["baselines"] if record["name"] == name)


@pytest.mark.usefixtures("uci_cache")
def test_known_scores_on_the_published_split() -> None:
    """What an independent script measured: the rule, and percent right for each C; the C that validation chooses."""
    found = leakage(load_messages("uci"), tokenizer_for("gpt2"))
    assert of(found, "0a")["setting"] == "31 tokens or more is spam"
    assert 100 * of(found, "0a")["test"] == pytest.approx(81.67, abs=0.01)
    tried = {name: [100 * r["test"] for r in found["strengths"] if r["name"] == name] for name in ("0b", "0c")}
    assert tried["0b"][:2] == pytest.approx([95.33, 95.67], abs=0.01)
    assert tried["0c"] == pytest.approx([96.33, 97.33, 97.67], abs=0.01)
    assert [r["val"] for r in found["strengths"] if r["name"] == "0c"] == pytest.approx([0.9799] * 3, abs=1e-4)
    assert of(found, "0c")["setting"].endswith("C = 1")  # all three are equal on validation: the smallest
    counts = [(found[s]["verbatim"], found[s]["verbatim_spam"], found[s]["masked"]) for s in ("test", "val")]
    assert counts == [(36, 29, 52), (12, 11, 24)]


@pytest.mark.slow
@pytest.mark.usefixtures("uci_cache")
def test_the_books_figures_are_what_the_code_gives(tmp_path: Path) -> None:
    make_results(("leakage",), target=tmp_path)
    again, stored = (json.loads(path.read_text()) for path in (tmp_path / "leakage.json", STORED))
    for name in ("uci", "pocket"):
        for kind in ("baselines", "strengths"):
            now, then = again[name].pop(kind), stored[name].pop(kind)
            assert [(r["name"], r["setting"]) for r in now] == [(r["name"], r["setting"]) for r in then]
            for key in ("val", "test", "new"):  # another scikit-learn may decide one message otherwise
                assert [r[key] for r in now] == pytest.approx([r[key] for r in then], abs=0.005)
    assert again == stored


def test_no_pocket_message_is_seen_in_training(messages: Messages, tokenizer: Tokenizer) -> None:
    """None stands in two splits, so the score on the new ones is the score."""
    found = leakage(messages, tokenizer)
    assert [found[s][kind] for s in ("val", "test") for kind in ("verbatim", "masked")] == [0, 0, 0, 0]
    assert all(record["new"] == record["test"] for record in found["baselines"])
    assert found["test"]["messages"] == len(messages.test)


def test_a_message_put_into_training_is_found(
    messages: Messages, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three test messages in the training set, one of them in capitals and with other digits."""
    texts = messages.test.text[:3].tolist()
    spelled = [texts[0], texts[1], texts[2].upper()]
    leaked = pd.concat([messages.train, messages.test[:3].assign(text=spelled)], ignore_index=True)
    monkeypatch.setattr("onechange.data.baselines.TITLES", {})  # counts alone
    monkeypatch.setattr("onechange.data.baselines.FEATURES", {})
    found = leakage(replace(messages, train=leaked), tokenizer)["test"]
    assert (found["verbatim"], found["masked"]) == (2, 3)


@each_baseline
def test_the_test_messages_choose_nothing(name: str, messages: Messages, tokenizer: Tokenizer) -> None:
    """With other test messages rule, setting and validation accuracy are the same; the predictions are for them."""
    whole = run_baseline(name, messages, tokenizer)
    part = run_baseline(name, replace(messages, test=messages.test[::-3]), tokenizer)
    assert (part.setting, part.train_accuracy, part.val_accuracy) == (
        whole.setting,
        whole.train_accuracy,
        whole.val_accuracy,
    )
    assert np.array_equal(part.test_predicted, whole.test_predicted[::-3])
    assert whole.test_accuracy == (whole.test_predicted == messages.test.label.to_numpy()).mean()
    assert (whole.name, whole.title, whole.seconds > 0) == (name, TITLES[name], True)


@pytest.mark.parametrize("name", ["0b", "0c"])
def test_the_best_on_validation_is_taken(name: str, messages: Messages) -> None:
    alone = [bag(name, messages, [C]) for C in STRENGTHS]
    best = max(alone, key=lambda run: run.val_accuracy)
    chosen = bag(name, messages)
    assert (chosen.setting, chosen.val_accuracy) == (best.setting, best.val_accuracy)
    assert np.array_equal(chosen.test_predicted, best.test_predicted)


def test_the_length_rule_is_the_best_there_is(messages: Messages, tokenizer: Tokenizer) -> None:
    """No cut is right on more training messages."""
    tokens, spam = lengths(messages.train, tokenizer), messages.train.label.to_numpy() == 1
    every = [((tokens >= cut) == spam).mean() for cut in range(tokens.max() + 2)]
    assert run_baseline("0a", messages, tokenizer).train_accuracy == max(every) > 0.6


@pytest.mark.parametrize(
    ("labels", "rule"), [([0, 0, 1, 1], "9 tokens or more is spam"), ([1, 1, 0, 0], "9 tokens or more is ham")]
)
def test_the_length_rule_can_be_turned_round(labels: list[int], rule: str, tokenizer: Tokenizer) -> None:
    texts = ["a a a", "a a a a", " ".join("a" * 9), " ".join("a" * 12)]
    assert lengths(pd.DataFrame({"text": texts}), tokenizer).tolist() == [3, 4, 9, 12]
    run = run_baseline("0a", made_up(texts, labels), tokenizer)
    assert (run.setting, run.test_accuracy) == (rule, 1.0)


def test_what_cannot_be_fitted_is_said_in_a_line(messages: Messages, tokenizer: Tokenizer) -> None:
    cases = [
        ("0d", messages, "there is no baseline '0d': use 0a, 0b, 0c"),
        ("0a", replace(messages, classes=("a", "b", "c")), "two classes apart by their length: pocket has 3"),
        ("0b", made_up(["?", "!", "? !"], [0, 1, 0]), "0b cannot be fitted"),
        ("0c", replace(messages, train=messages.train[messages.train.label == 0]), "0c cannot be fitted"),
    ]
    for name, given, line in cases:
        with pytest.raises(UsageError, match=line.replace("?", r"\?")) as caught:
            run_baseline(name, given, tokenizer)
        assert len(str(caught.value).splitlines()) == 1


def test_more_than_two_classes_can_be_counted() -> None:
    texts = ["red apple", "red cherry", "blue sky", "blue sea", "green leaf", "green grass"]
    run = bag("0b", made_up(texts, [0, 0, 1, 1, 2, 2], ("red", "blue", "green")))
    assert (run.test_accuracy, run.n_parameters) == (1.0, 3 * (9 + 1))
