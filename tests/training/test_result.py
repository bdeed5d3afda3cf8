"""What a run leaves: its parts, its scores, and its way through JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_runs import Make
from toys import few_messages

from onechange import Result
from onechange.data.messages import Source
from onechange.experiment.experiment import Experiment

pytestmark = pytest.mark.usefixtures("short_runs")


def test_a_result_survives_json(make: Make, outcome: Callable) -> None:
    """Written and read again it is equal, field by field."""
    result = outcome(make(1))
    again = Result.from_dict(json.loads(result.to_json()))
    assert again == result
    assert again.experiment == make(1).resolved()
    assert again.scores == result.scores
    assert again.command == result.command


def test_a_result_outlives_what_it_was_made_from(make: Make, outcome: Callable, tmp_path: Path) -> None:
    """A stored record can be read where the model folder and the file of messages are not, or are no more."""
    record = outcome(make(1)).to_dict()
    record["experiment"] |= {"model_size": str(tmp_path / "gone"), "dataset": str(tmp_path / "gone.tsv")}
    again = Result.from_dict(record)
    assert again.experiment.model_size == str(tmp_path / "gone")
    assert again.to_dict() == record | {"command": again.command}
    assert str(tmp_path / "gone.tsv") in again.command


def test_what_a_result_holds(make: Make, outcome: Callable) -> None:
    """Its parts have the right sizes and agree with one another."""
    result = outcome(make(1))
    test = few_messages(Source("pocket")).test
    assert result.test_labels == test.label.tolist()
    assert np.array(result.test_probabilities).shape == (len(test), 2)
    np.testing.assert_allclose(np.sum(result.test_probabilities, axis=1), 1, atol=1e-6)
    assert result.final["test"] == (result.test_predictions == test.label).mean() == result.scores["accuracy"]
    assert np.trace(result.confusion) == pytest.approx(len(test) * result.final["test"])
    assert result.confusion.sum(axis=1).tolist() == [(test.label == 0).sum(), (test.label == 1).sum()]
    assert result.losses.index.tolist() == result.steps == [0, 5, 10, 15]
    assert result.losses.examples.tolist() == [8, 48, 88, 128]
    assert result.accuracies.index.tolist() == [1, 2]
    tokenizer = make(1).checkpoint.tokenizer
    assert result.max_length == max(
        len(tokenizer.encode(text)) for text in few_messages(Source("pocket")).train.text[:64]
    )
    assert result.n_trainable == sum(p.numel() for p in result.model.parameters() if p.requires_grad)
    assert result.environment["messages_sha256"] == few_messages(Source("pocket")).digest
    assert f"{100 * result.final['test']:.2f}%" in str(result)


def bare(e: Experiment, truth: list[int], probabilities: list[list[float]]) -> Result:
    """A result with just its answers."""
    K = len(probabilities[0])
    return Result(e, 1, 1, 1, tuple("abc"[:K]), {}, test_labels=truth, test_probabilities=probabilities)


def test_scores_of_two_classes_by_hand(make: Make) -> None:
    """The second class is the one to find."""
    spam = [0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.7]
    truth = [1, 1, 1, 0, 0, 0, 1]
    scores = bare(make(1), truth, [[1 - p, p] for p in spam]).scores
    hits = [
        p > q
        for p, is_spam in zip(spam, truth, strict=True)
        for q, also in zip(spam, truth, strict=True)
        if is_spam > also
    ]
    wanted = {"accuracy": 5 / 7, "precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "roc_auc": np.mean(hits)}
    assert scores == pytest.approx(wanted)


def test_scores_of_three_classes(make: Make) -> None:
    """Each is the mean over the classes."""
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    p = rng.dirichlet(np.ones(3), 60) + 0.7 * np.eye(3)[truth]
    p /= p.sum(1, keepdims=True)
    guess = p.argmax(1)
    result = bare(make(1), truth.tolist(), p.tolist())
    each_auc = [roc_auc_score(truth == k, p[:, k]) for k in range(3)]
    wanted = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    assert result.scores == pytest.approx(
        {"accuracy": (guess == truth).mean(), "roc_auc": np.mean(each_auc)}
        | {name: np.mean([score(truth == k, guess == k) for k in range(3)]) for name, score in wanted.items()}
    )
    assert result.confusion.to_numpy().sum() == 60


def test_scores_where_nothing_is_found(make: Make) -> None:
    """A class nobody predicts scores 0 without a warning; one that never occurs has no ROC AUC, and JSON can say so."""
    result = bare(make(1), [0, 0, 0], [[0.9, 0.1]] * 3)
    assert result.scores["f1"] == 0.0
    assert math.isnan(result.scores["roc_auc"])
    assert json.loads(result.to_json())["scores"]["roc_auc"] is None
