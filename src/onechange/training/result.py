"""What a run leaves behind: curves, accuracies, every test message's probabilities, and how it was made."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..experiment.experiment import Experiment
from ..support import package
from ..support.errors import UsageError, nearest
from .device import processor


@dataclass
class Result:
    """One finished run.

    Attributes:
        experiment: what was run, resolved.
        steps, examples: at which training batches, and after how many messages, losses were noted.
        train_losses, val_losses: mean loss of the first five batches, in nats.
        train_accs, val_accs: accuracy over the first five batches after each epoch, as fractions.
        final: accuracy over whole splits: ``{"train", "val", "test"}``, as fractions.
        n_trainable, n_parameters: how many numbers are trained, and how many there are.
        max_length: tokens messages were padded and cut to (the longest training message's without padding).
        seconds: prefix, training and evaluation, without loading; a prefix that was in hand counts
            with the time it once took.
        prefix_seconds: of these, the prefix.
        classes: names of the labels 0 to K - 1.
        test_labels: ``(N,)`` the test messages' labels.
        test_seen: ``(N,)`` whether each stands in the training set: 2 word for word, 1 after masking, 0 not.
        test_probabilities: ``(N, K)`` the finetuned model's probabilities for them.
        environment: versions, device, precision, hashes of weights and messages.
        error: why the run ended early, or an empty string.
    """

    experiment: Experiment
    n_trainable: int
    n_parameters: int
    max_length: int
    classes: tuple[str, ...]
    environment: dict[str, Any]
    steps: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    train_accs: list[float] = field(default_factory=list)
    val_accs: list[float] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    prefix_seconds: float = 0.0
    test_labels: list[int] = field(default_factory=list)
    test_seen: list[int] = field(default_factory=list)
    test_probabilities: list[list[float]] = field(default_factory=list)
    error: str = ""
    model: Any = field(default=None, repr=False, compare=False)

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return self.experiment.command

    @property
    def losses(self) -> pd.DataFrame:
        """Losses by training step: columns ``examples``, ``train``, ``val``."""
        columns = {"examples": self.examples, "train": self.train_losses, "val": self.val_losses}
        return pd.DataFrame(columns, index=pd.Index(self.steps, name="step"))

    @property
    def accuracies(self) -> pd.DataFrame:
        """Accuracies by epoch, as fractions: columns ``train``, ``val``."""
        index = pd.Index(range(1, len(self.train_accs) + 1), name="epoch")
        return pd.DataFrame({"train": self.train_accs, "val": self.val_accs}, index=index)

    @property
    def test_predictions(self) -> np.ndarray:
        """The predicted label of every test message, ``(N,)``."""
        return np.argmax(np.array(self.test_probabilities), axis=1)

    @property
    def confusion(self) -> pd.DataFrame:
        """Test messages by true label (rows) and predicted label (columns)."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(self.test_labels, self.test_predictions, labels=range(len(self.classes)))
        return pd.DataFrame(
            counts, index=pd.Index(self.classes, name="true"), columns=pd.Index(self.classes, name="predicted")
        )

    @property
    def by_class(self) -> pd.DataFrame:
        """For each class how many ``messages`` of the test set are its own and what ``share`` of them that is, and
        its ``precision``, ``recall`` and ``f1``; a class that is never predicted has precision 0."""
        from sklearn.metrics import precision_recall_fscore_support

        parts = precision_recall_fscore_support(
            self.test_labels, self.test_predictions, labels=range(len(self.classes)), zero_division=0.0
        )
        precision, recall, f1, n = parts
        columns = {"messages": n, "share": n / n.sum(), "precision": precision, "recall": recall, "f1": f1}
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    @property
    def largest(self) -> tuple[str, float]:
        """The class with most test messages and its share of them: the accuracy of always answering with it."""
        counts = np.bincount(self.test_labels, minlength=len(self.classes))
        return self.classes[int(counts.argmax())], float(counts.max() / counts.sum())

    @property
    def scores(self) -> dict[str, float]:
        """Accuracy, precision, recall, F1 and ROC AUC on the test messages.

        With two classes the second (spam) is the one to find; with more, each is the mean over classes.
        """
        return self.scores_of(None)

    def scores_of(self, find: str | None) -> dict[str, float]:
        """``scores`` where ``find`` is the class to find, against all others.

        Raises:
            UsageError: if there is no class of that name.
        """
        from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

        truth, predicted = np.array(self.test_labels), self.test_predictions
        probabilities, found, K = np.array(self.test_probabilities), to_find(find, self.classes), len(self.classes)
        accuracy = float((predicted == truth).mean())
        if found is not None:
            k = self.classes.index(found)
            truth, predicted, probabilities, K = truth == k, predicted == k, probabilities[:, k], 2
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, average="macro" if found is None else "binary", zero_division=0.0
        )
        seen = len(np.unique(truth)) == K
        auc = roc_auc_score(truth, probabilities, multi_class="ovr") if seen else float("nan")
        return {
            "accuracy": accuracy,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "roc_auc": float(auc),
        }

    def report(self, find: str | None = None) -> str:
        """What is printed of a run, and a line for every class, the one to find marked; of more than two their mean."""
        scores, found = self.scores_of(find), to_find(find, self.classes)
        predicted = {self.classes[k] for k in self.test_predictions}
        lines = [str(self)]
        for name, row in self.by_class.iterrows():
            marks = ", never predicted" * (name not in predicted) + f", ROC AUC {scores['roc_auc']:.3f}" * (
                name == found
            )
            lines.append(
                f"{'* ' * (name == found)}{name}: {100 * row.share:.2f}% of the test messages, "
                f"precision {100 * row.precision:.2f}%, recall {100 * row.recall:.2f}%, F1 {100 * row.f1:.2f}%{marks}"
            )
        if found is None:
            of = ("precision", "recall", "f1", "roc_auc")
            precision, recall, f1, auc = (scores[name] for name in of)
            lines.append(
                f"mean over classes: precision {100 * precision:.2f}%, recall {100 * recall:.2f}%, F1 {100 * f1:.2f}%, "
                f"ROC AUC {auc:.3f}"
            )
        return "\n".join(lines)

    def to_dict(self, find: str | None = None) -> dict[str, Any]:
        """The result as plain values, for JSON; the model is not part of it. ``find``: as for :meth:`scores_of`."""
        skip = ("experiment", "model", "classes")
        values = {name: value for name, value in vars(self).items() if name not in skip}
        more: dict[str, Any] = {"experiment": self.experiment.to_dict(), "classes": list(self.classes)}
        more["command"] = self.command
        if self.test_probabilities:
            more["scores"], more["find"] = self.scores_of(find), to_find(find, self.classes)
            more["by_class"] = self.by_class.to_dict("index")
        return finite(values | more)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """Read what :meth:`to_dict` wrote, or a record of a :class:`~onechange.evidence.study.Store`."""
        made_of_it = ("command", "scores", "find", "by_class", "row", "rows", "key")  # by to_dict and by a store
        values = {name: value for name, value in values.items() if name not in made_of_it}
        values["experiment"] = Experiment.recall(values["experiment"])
        values["classes"] = tuple(values["classes"])
        for name in ("train_losses", "val_losses"):
            values[name] = [float("nan") if loss is None else loss for loss in values[name]]
        return cls(**values)

    def to_json(self, find: str | None = None) -> str:
        return json.dumps(self.to_dict(find), allow_nan=False)

    def __str__(self) -> str:
        parts = [f"{split} {100 * value:.2f}%" for split, value in self.final.items()]
        words = ", ".join(parts) if parts else self.error
        how = "".join(f", {self.environment[name]}" for name in ("device", "precision") if name in self.environment)
        largest, share = self.largest if self.final and self.test_labels else ("", 0)
        beside = f"largest class, {largest}: {100 * share:.2f}%; " if largest else ""
        return f"{words} ({beside}{self.n_trainable:,} trainable parameters, {self.seconds:.1f} s{how})"


def to_find(find: str | None, classes: Sequence[str]) -> str | None:
    """The class that precision and recall are about: the one asked for, else the second of two, else none.

    Raises:
        UsageError: if there is no such class.
    """
    if find is not None and find not in classes:
        raise UsageError(f"there is no class {find!r}{nearest(find, classes)}: there are {', '.join(classes)}")
    return find if find is not None else classes[1] if len(classes) == 2 else None


def finite(value: Any) -> Any:
    """The same value with every NaN and infinity replaced by ``None``, which JSON knows."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def environment(device: torch.device, precision: str, weights: str, messages: str) -> dict[str, Any]:
    """Versions, device and hashes: what a stored number depends on besides the experiment."""
    return {
        "onechange": package.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
        "device_name": processor(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "weights_sha256": weights,
        "messages_sha256": messages,
    }
