"""Whose precision, recall and F1 a result gives. Members of the kind that were thought of:

the first of two classes to find instead of the second; one of many against all others; a class that is never
predicted, one that is not among the test messages, one that is all of them; an unknown class, a misspelt one; a run
that ended early; what is printed, what JSON holds, a record that is read again, and one written before there were
scores by class; accuracy that is no better than the share of the largest class.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from onechange import Experiment, Result, UsageError
from onechange.cli.main import main

E = Experiment(model_size="pocket-small").resolved()
SMALL = ["--model_size", "pocket-small", "--trainable_layers", "last_layer", "--num_epochs", "1", "--train_size", "16"]


def result_of(truth: list[int], probabilities: np.ndarray, classes: tuple[str, ...] = ("ham", "spam")) -> Result:
    """A result with just its answers."""
    accuracy = float((probabilities.argmax(1) == truth).mean())
    final = dict.fromkeys(("train", "val", "test"), accuracy)
    return Result(E, 1, 1, 1, classes, {}, final=final, test_labels=truth, test_probabilities=probabilities.tolist())


@pytest.fixture
def three() -> tuple[np.ndarray, np.ndarray, Result]:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 80, p=[0.6, 0.3, 0.1])
    p = rng.dirichlet(np.ones(3), 80) + 0.5 * np.eye(3)[truth]
    p /= p.sum(1, keepdims=True)
    return truth, p, result_of(truth.tolist(), p, ("a", "b", "c"))


def test_every_class_has_its_scores(three: tuple[np.ndarray, np.ndarray, Result]) -> None:
    """As scikit-learn counts each alone; messages and shares are those of the test set."""
    truth, p, result = three
    frame = result.by_class
    assert frame.messages.tolist() == np.bincount(truth).tolist()
    assert frame.share.tolist() == pytest.approx((np.bincount(truth) / 80).tolist())
    for k, name in enumerate("abc"):
        for column, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert frame.loc[name, column] == pytest.approx(score(truth == k, p.argmax(1) == k))
    assert result.largest == ("a", frame.share.max())


def test_the_class_to_find_can_be_chosen(three: tuple[np.ndarray, np.ndarray, Result]) -> None:
    """One of many against all others; the first of two; unless chosen, what :attr:`Result.scores` always gave."""
    truth, p, result = three
    scores = result.scores_of("b")
    assert scores["accuracy"] == result.scores["accuracy"]
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(truth == 1, p[:, 1]))
    assert [scores[name] for name in ("precision", "recall", "f1")] == pytest.approx(
        result.by_class.loc["b", ["precision", "recall", "f1"]].tolist()
    )
    two = result_of([1, 1, 1, 0, 0, 0, 0], np.array([[1 - q, q] for q in (0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.4)]))
    assert two.scores == two.scores_of("spam") == pytest.approx(two.scores_of(None))
    ham = two.scores_of("ham")
    assert [ham[name] for name in ("precision", "recall", "f1")] == pytest.approx([3 / 4, 3 / 4, 3 / 4])
    assert ham["roc_auc"] == pytest.approx(two.scores["roc_auc"])  # two classes are ranked alike from either end


def test_an_unknown_class_is_refused(three: tuple[np.ndarray, np.ndarray, Result]) -> None:
    with pytest.raises(UsageError, match=r"no class 'd'.*: there are a, b, c"):
        three[2].scores_of("d")
    with pytest.raises(UsageError, match="did you mean 'spam'"):
        result_of([0, 1], np.eye(2)).report("Spam")


def test_a_class_that_is_never_predicted_or_never_there() -> None:
    """Its scores are 0, a share is a share, ROC AUC has no value, and the report says why."""
    result = result_of([0, 0, 0], np.array([[0.9, 0.1]] * 3))
    assert result.by_class.loc["spam"].tolist() == [0, 0, 0, 0, 0]
    assert result.by_class.loc["ham"].tolist() == [3, 1, 1, 1, 1]
    assert math.isnan(result.scores["roc_auc"])
    first, ham, spam = result.report().splitlines()
    assert "test 100.00% (largest class, ham: 100.00%; " in first
    assert "never" not in ham
    assert spam.startswith("* spam: 0.00% of the test messages")
    assert "never predicted" in spam


def test_what_is_reported(three: tuple[np.ndarray, np.ndarray, Result]) -> None:
    """The one to find is marked; of three without a choice, their mean stands below them."""
    two = result_of([0, 1, 1], np.eye(2)[[0, 1, 0]])
    assert [line[:6] for line in two.report().splitlines()[1:]] == ["ham: 3", "* spam"]
    assert [line[:6] for line in two.report("ham").splitlines()[1:]] == ["* ham:", "spam: "]
    mean = three[2].report().splitlines()[-1]
    assert f"mean over classes: precision {100 * three[2].scores['precision']:.2f}%" in mean
    assert len(three[2].report("c").splitlines()) == 4


def test_json_says_whose_scores_they_are(three: tuple[np.ndarray, np.ndarray, Result]) -> None:
    """And is read again; so is a record from before."""
    result = three[2]
    record = json.loads(result.to_json("c"))
    assert (record["find"], record["scores"]["recall"]) == ("c", result.by_class.recall["c"])
    assert record["by_class"]["b"]["share"] == result.by_class.share["b"]
    assert json.loads(result.to_json())["find"] is None
    older = {name: value for name, value in record.items() if name not in ("find", "by_class")}
    assert Result.from_dict(record) == Result.from_dict(older) == result


def test_the_command_line_finds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Accuracy with the largest class beside it, the class asked for marked; a wrong one is refused before training."""
    assert main(["run", *SMALL, "--find", "ham"]) == 0
    _, accuracies, ham, spam = capsys.readouterr().out.splitlines()
    assert "(largest class, ham: 51.50%; " in accuracies
    assert ham.startswith("* ham: 51.50% of the test messages, precision ")
    assert spam.startswith("spam: 48.50%")
    assert main(["run", *SMALL, "--find", "ham", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["scores"]["recall"] == record["by_class"]["ham"]["recall"]
    assert main(["run", *SMALL, "--find", "hma", "--save", str(tmp_path / "M")]) == 2
    err = capsys.readouterr().err
    assert err == "onechange: there is no class 'hma' (did you mean 'ham'?): there are ham, spam\n"
    assert not (tmp_path / "M").exists()
