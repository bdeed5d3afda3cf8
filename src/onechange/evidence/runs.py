"""A row's runs, as the figures and the comparisons want them; and the stored results of the book.

A stored study is one small JSON file in ``book/results``: for every row its experiment, its seeds, and
which test messages each seed got right. It is written from the full records of a
:class:`~onechange.evidence.study.Store` and says how they were made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from ..experiment.experiment import Experiment, decides
from ..experiment.rows import NAMED, is_baseline, is_fixed, row_of
from ..support.errors import UsageError, nearest
from ..support.files import write_atomically
from ..support.package import RESULTS

LEVEL = 0.95


def binomial_interval(k: int, n: int, level: float) -> tuple[float, float]:
    """The interval of a share of which ``k`` of ``n`` were seen, fractions (Clopper and Pearson, 1934)."""
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    return low, float(1 - betaincinv(n - k, k + 1, tail)) if k < n else 1.0


@dataclass(frozen=True)
class Runs:
    """All finished runs of one row.

    Attributes:
        row: its number or name.
        experiment: what was run, with the first seed.
        seeds: ``(S,)``; a fixed row has one, which decides nothing.
        right: ``(S, N)`` booleans: which test messages each seed's model got right.
        seen: ``(S, N)``: which of them stand in the training set (see :func:`~onechange.data.copies.seen_in_training`).
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
        """Seconds of the first seed, messages in hand: one timing, on a machine that may have had other work.

        Where ``made["seeds_together"]`` is more than one, so many seeds were trained as one model, and this is the
        seed's share of their time: less than one alone takes.
        """
        return float(self.seconds[0])

    @property
    def started(self) -> np.ndarray:
        """Which runs began to learn, ``(S,)``.

        The rule was fixed beforehand: a run that did not start has come less than a fifth of the way from one
        answer for all messages, right on half of them, to every label right that is not wrong by design.
        """
        if self.experiment.own_file:  # its classes are not two alike, and the rule says nothing of it
            return np.ones(len(self.train), bool)
        possible = 1 - self.experiment.label_noise
        return self.train >= 0.5 + (possible - 0.5) / 5

    @property
    def may_stall(self) -> tuple[float, float]:
        """Between which shares of further runs will not start, with 95 % confidence: ``(low, high)``, fractions.

        NaN where the rule says nothing: of a baseline without a network, of a reader's own messages, of no run.
        """
        if is_baseline(self.row) or self.experiment.own_file or not self.seeds:
            return math.nan, math.nan
        return binomial_interval(int((~self.started).sum()), len(self.seeds), LEVEL)

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

    One experiment has one set of runs, whatever names it has and whichever studies hold it: of those that have all of
    this study's seeds the one with most, of two alike that of the published row. So ``rank-16`` has row 11's runs,
    ``blocks-2`` row 4's.

    Raises:
        UsageError: if there is none of that name.
    """
    study = stored_json(name)
    sets: dict[tuple, list[tuple[str, dict[str, Any]]]] = {}
    for row, line in [*study.items(), *(item for other in studies_here().values() for item in other.items())]:
        sets.setdefault(_same(row, line), []).append((row, line))
    return {
        row: replace(_unpack(row, _most(row, line, sets)), experiment=Experiment.recall(line["experiment"]))
        for row, line in study.items()
    }


def _most(row: str, line: dict[str, Any], sets: dict[tuple, list[tuple[str, dict[str, Any]]]]) -> dict[str, Any]:
    """Of the sets of runs of a row's experiment the largest that has all of its seeds."""
    own = set(line["seeds"])
    whole = [(name, other) for name, other in sets[_same(row, line)] if own <= set(other["seeds"])]
    return max(whole, key=lambda found: (len(found[1]["seeds"]), found[0].isdecimal()))[1]


def _same(row: str, line: dict[str, Any]) -> tuple:
    """What two rows share that are one experiment: all fields but the seed, the messages, the weights."""
    e, made = decides(line["experiment"]) | {"seed": None}, line["made"]
    if e["trainable_layers"] == "last_two_blocks":
        e |= {"trainable_layers": "last_block", "trainable_blocks": 2}
    method = row if is_baseline(row) else ""
    return method, *(made.get(x) for x in ("messages_sha256", "weights_sha256", "precision")), tuple(sorted(e.items()))


def studies_here() -> dict[str, dict[str, Any]]:
    """Every file of ``book/results`` that holds runs, as it is, by its name."""
    files = {name: _read(path, path.stat().st_mtime_ns) for name, path in _files().items()}
    return {
        name: file
        for name, file in files.items()
        if all(isinstance(line, dict) and "right" in line for line in file.values())
    }


def study_names() -> list[str]:
    """The studies that are stored."""
    return list(studies_here())


def stored_json(name: str) -> dict[str, Any]:
    """A file of ``book/results`` as it is.

    Raises:
        UsageError: if there is none of that name.
    """
    files = _files()
    if name not in files:
        raise UsageError(f"no results are stored as {name!r}{nearest(name, files)}: make results makes them")
    return dict(_read(files[name], files[name].stat().st_mtime_ns))


def _files() -> dict[str, Path]:
    return {path.stem: path for folder in RESULTS for path in sorted(folder.glob("*.json"))}


@lru_cache(16)
def _read(path: Path, changed: int) -> dict[str, Any]:
    """A file, read once as long as it does not change."""
    return json.loads(path.read_text(encoding="utf-8"))


def _unpack(row: str, line: dict[str, Any]) -> Runs:
    arrays: dict[str, Any] = {name: np.array(line[name]) for name in ("train", "val", "seconds", "losses")}
    for name in ("right", "seen"):
        arrays[name] = np.array([[int(x) for x in text] for text in line[name]], dtype=np.int8)
    arrays["right"] = arrays["right"].astype(bool)
    arrays["losses"] = arrays["losses"].reshape(len(line["seeds"]), len(line["steps"]), 2)  # a baseline has no steps
    rest = {name: line[name] for name in ("n_trainable", "seeds", "steps", "examples", "failed", "made")}
    return Runs(row, Experiment.recall(line["experiment"]), **rest, **arrays)
