"""A row's runs, as the figures and the comparisons want them; and the stored results of the book.

A stored study is one small JSON file in ``book/results``: for every row its experiment, its seeds, and
which test messages each seed got right. It is written from the full records of a
:class:`~onechange.evidence.study.Store` and says how they were made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..experiment.experiment import Experiment
from ..experiment.rows import NAMED, is_fixed, row_of
from ..support.errors import UsageError, nearest
from ..support.files import write_atomically
from ..support.package import RESULTS


@dataclass(frozen=True)
class Runs:
    """All finished runs of one row.

    Attributes:
        row: its number or name.
        experiment: what was run, with the first seed.
        seeds: ``(S,)``; a fixed row has one, which decides nothing.
        right: ``(S, N)`` booleans: which test messages each seed's model got right.
        seen: ``(S, N)``: which of them stand in the training set (see ``text.seen_in_training``).
        train, val: ``(S,)`` accuracies, as fractions.
        seconds: ``(S,)``.
        losses: ``(S, P, 2)`` training and validation losses at ``steps`` ``(P,)``, after ``examples`` ``(P,)``.
        failed: how many further runs ended early, and are not among these.
        made: versions, device, hashes.
    """

    row: str
    experiment: Experiment
    n_trainable: int
    seeds: list[int]
    right: np.ndarray
    seen: np.ndarray
    train: np.ndarray
    val: np.ndarray
    seconds: np.ndarray
    losses: np.ndarray
    steps: list[int]
    examples: list[int]
    failed: int = 0
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return row_of(self.row).title if self.row in NAMED or self.row.isdecimal() else ""

    @property
    def label(self) -> str:
        """How figures and sentences call the row."""
        return self.title if self.title.startswith(self.row) else f"{self.row} {self.title}".rstrip()

    @property
    def fixed(self) -> bool:
        """Whether the seed decides nothing."""
        return is_fixed(self.row, self.experiment)

    @property
    def messages(self) -> str:
        """The SHA-256 of the messages, for comparing like with like."""
        return str(self.made.get("messages_sha256"))

    @cached_property
    def test(self) -> np.ndarray:
        """Test accuracy of every seed, ``(S,)``."""
        return self.of_seeds(clean=False)

    @property
    def took(self) -> float:
        """Seconds of the first seed, messages in hand: in the book's studies it ran alone, the others together."""
        return float(self.seconds[0])

    @property
    def started(self) -> np.ndarray:
        """Which runs began to learn, ``(S,)``.

        The rule was fixed beforehand: a run that did not start has come less than a fifth of the way from one
        answer for all messages, right on half of them, to every label right that is not wrong by design.
        """
        possible = 1 - self.experiment.label_noise
        return self.train >= 0.5 + (possible - 0.5) / 5

    @property
    def stuck(self) -> str:
        """How many runs did not start, and what the others have, in words; nothing where all did."""
        if self.fixed or self.started.all():
            return ""
        others = f"; the others {100 * self.test[self.started].mean():.1f}" if self.started.any() else ""
        return f"{(~self.started).sum()} of {len(self.seeds)} did not start{others}"

    def kept(self, clean: bool) -> np.ndarray:
        """Which answers count, ``(S, N)``: all, or with ``clean`` those to messages not in the training set."""
        return self.seen == 0 if clean else np.ones_like(self.right)

    def of_seeds(self, clean: bool) -> np.ndarray:
        """Test accuracy of every seed, ``(S,)``, on the answers that count."""
        return np.array([one[those].mean() for one, those in zip(self.right, self.kept(clean), strict=True)])

    def of(self, seeds: Sequence[int]) -> Runs:
        """The runs of these seeds, in this order; a fixed row's only run for each of them."""
        at = [0 if self.fixed else self.seeds.index(seed) for seed in seeds]
        arrays = ("right", "seen", "train", "val", "seconds", "losses")
        return replace(self, seeds=list(seeds), **{name: getattr(self, name)[at] for name in arrays})

    def curve(self, column: str) -> pd.DataFrame:
        """A loss over the examples seen: columns ``mean``, ``low``, ``high`` (the middle 80 % of the seeds).

        Args:
            column: ``train`` or ``val``.
        """
        values = self.losses[:, :, ("train", "val").index(column)]
        low, high = np.quantile(values, [0.1, 0.9], axis=0)
        return pd.DataFrame({"mean": values.mean(0), "low": low, "high": high}, index=pd.Index(self.examples))


def runs_of(records: Sequence[dict[str, Any]]) -> dict[str, Runs]:
    """Records of a store, or of :func:`~onechange.evidence.study.run_study`, by row."""
    by_row: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_row.setdefault(str(record["row"]), []).append(record)
    return {row: _runs(row, group) for row, group in by_row.items()}


def _runs(row: str, records: list[dict[str, Any]]) -> Runs:
    fine = [r for r in records if not r["error"]]
    first, S, N = (fine or records)[0], len(fine), len(records[0]["test_labels"])
    right = [np.argmax(r["test_probabilities"], axis=1) == np.array(r["test_labels"]) for r in fine]
    seen = [r.get("test_seen") or [0] * N for r in fine]
    losses = [np.array([r["train_losses"], r["val_losses"]]).T for r in fine]
    return Runs(
        row, Experiment.recall(first["experiment"]), first["n_trainable"], [r["experiment"]["seed"] for r in fine],
        np.reshape(right, (S, N)).astype(bool), np.reshape(seen, (S, N)).astype(np.int8),
        np.array([r["final"]["train"] for r in fine]), np.array([r["final"]["val"] for r in fine]),
        np.array([r["seconds"] for r in fine]), np.reshape(losses, (S, -1, 2) if S else (0, 0, 2)),
        first["steps"], first["examples"], len(records) - S, first["environment"],
    )  # fmt: skip


def write(path: Path, rows: dict[str, Runs]) -> None:
    """Write a study; a row is one line, so that a change of one is seen as such."""
    lines = [f"{json.dumps(row)}: {json.dumps(_pack(runs), allow_nan=False)}" for row, runs in rows.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _pack(runs: Runs) -> dict[str, Any]:
    return {
        "experiment": runs.experiment.to_dict(),
        "n_trainable": runs.n_trainable,
        "seeds": runs.seeds,
        "right": ["".join("01"[int(x)] for x in line) for line in runs.right],
        "seen": ["".join(str(x) for x in line) for line in runs.seen],
        "train": runs.train.round(6).tolist(),
        "val": runs.val.round(6).tolist(),
        "seconds": runs.seconds.round(2).tolist(),
        "losses": runs.losses.round(4).tolist(),
        "steps": runs.steps,
        "examples": runs.examples,
        "failed": runs.failed,
        "made": runs.made,
    }


def stored(name: str) -> dict[str, Runs]:
    """A study of the book by its name, such as ``"table-uci"``: row to :class:`Runs`.

    Raises:
        UsageError: if there is none of that name.
    """
    return {row: _unpack(row, line) for row, line in stored_json(name).items()}


def stored_json(name: str) -> dict[str, Any]:
    """A file of ``book/results`` as it is.

    Raises:
        UsageError: if there is none of that name.
    """
    files = {path.stem: path for folder in RESULTS for path in sorted(folder.glob("*.json"))}
    if name not in files:
        raise UsageError(f"no results are stored as {name!r}{nearest(name, files)}: make results makes them")
    return json.loads(files[name].read_text(encoding="utf-8"))


def _unpack(row: str, line: dict[str, Any]) -> Runs:
    arrays: dict[str, Any] = {name: np.array(line[name]) for name in ("train", "val", "seconds", "losses")}
    for name in ("right", "seen"):
        arrays[name] = np.array([[int(x) for x in text] for text in line[name]], dtype=np.int8)
    arrays["right"] = arrays["right"].astype(bool)
    rest = {name: line[name] for name in ("n_trainable", "seeds", "steps", "examples", "failed", "made")}
    return Runs(row, Experiment.recall(line["experiment"]), **rest, **arrays)
