"""False alarms: how often a finetuned filter takes an honest message for spam, on thousands that no run has seen.

    python -m onechange.evidence.alarms             # book/results/alarms.json, half an hour on two cores

Half of the messages that a run is tested on are spam, and 150 honest ones cannot tell one false alarm in a hundred
from three. The UCI collection has thousands more honest messages, which no part of the split uses. Every run of one
rotation of the split (``--folds``, five runs, so that each spam message is tested once) is asked all of them; those
that are copies or near-copies of a used message are left out. What is kept of a run are its log-odds of spam.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from ..classifier.reading import classifier
from ..data.baselines import FEATURES, bag
from ..data.copies import near_copies, seen_in_training
from ..data.messages import Source, load_messages
from ..data.uci import UCI_FILE, uci_messages
from ..experiment.experiment import BASELINE, Experiment
from ..experiment.rows import row_of
from ..support.errors import UsageError
from ..support.files import write_records
from ..support.package import RESULTS
from ..support.progress import progress_bar
from ..training.device import choose_device
from ..training.result import environment
from ..training.train import run
from .intervals import Estimate, estimate
from .runs import stored_json
from .study import table_rows

ROWS = ("0b", "0c", "1", "4", "14", "16", "17", "19")
SEEDS = tuple(range(123, 128))
"""One rotation of the split."""
FLOAT = np.dtype("<f2")
GATHERED = 747 / 5572
"""How much of the UCI collection is spam, as it was gathered."""


@dataclass(frozen=True)
class Alarms:
    """A row's log-odds of spam, run by run.

    Attributes:
        row: its number or name.
        honest: ``(S, N)`` of the honest messages that no run has seen.
        spam: of each run, ``(n,)`` of the spam of its own test part.
    """

    row: str
    honest: np.ndarray
    spam: tuple[np.ndarray, ...]

    @property
    def title(self) -> str:
        return f"{self.row} {row_of(self.row).title}"

    def thresholds(self, recall: float) -> np.ndarray:
        """``(S,)``: the highest log-odds from which on a run finds this share of the spam of its own test part."""
        return np.array([np.sort(one)[-math.ceil(round(recall * len(one), 9))] for one in self.spam])

    def rate(self, recall: float | None = None) -> Estimate:
        """The share of honest messages taken for spam, with its interval over runs and messages.

        Args:
            recall: find this share of the spam; unless given, a message is spam if that is the likelier answer.
        """
        e = estimate(self.alarms(recall).astype(float))
        return replace(e, low=max(0.0, e.low))  # no share is less than none

    def beyond(self, other: Alarms) -> Estimate:
        """How much larger that share is than another row's, on the same messages and the same turns of the split."""
        return estimate(self.alarms().astype(float) - other.alarms())

    def alarms(self, recall: float | None = None) -> np.ndarray:
        """``(S, N)``: whether a run takes an honest message for spam."""
        return self.honest >= (0.0 if recall is None else self.thresholds(recall)[:, None])

    @property
    def recall(self) -> float:
        """The share of test spam that is found where the likelier answer is taken."""
        return float(np.concatenate([one >= 0 for one in self.spam]).mean())

    @property
    def area(self) -> float:
        """Under the ROC curve, the mean of the runs: how often a spam message is ranked above an honest one."""
        return float(np.mean([_above(spam, honest) for spam, honest in zip(self.spam, self.honest, strict=True)]))

    @property
    def roc(self) -> list[tuple[float, float]]:
        """Points of the curve, alarms against recall as fractions, the mean of the runs."""
        return [(float(self.alarms(recall).mean()), recall) for recall in np.linspace(0.7, 0.98, 29).tolist()]

    def precision(self, share: float) -> float:
        """How many of 1 alarms are spam where this share of all messages is."""
        found, false = share * self.recall, (1 - share) * self.rate().mean
        return found / (found + false)


def _above(spam: np.ndarray, honest: np.ndarray) -> float:
    """How often one of the first is above one of the second; equals count half."""
    order = np.sort(honest)
    below = np.searchsorted(order, spam, "left") + np.searchsorted(order, spam, "right")
    return float(below.mean()) / (2 * len(honest))


def unused() -> pd.DataFrame:
    """The honest UCI messages that no part of the split uses, copies and near-copies of used ones left out."""
    messages = load_messages("uci")
    used = pd.concat([messages.train, messages.val, messages.test])
    honest = uci_messages().query("label == 'ham'")
    honest = honest[seen_in_training(used, honest) == 0]
    return honest[~near_copies(used, honest)].reset_index(drop=True)


def log_odds(row: str, e: Experiment, texts: list[list[str]], device: str) -> list[np.ndarray]:
    """Finetune, or fit, once, and ask for each list of messages: ``(N,)`` each."""
    if row in FEATURES:
        fitted = bag(row, Source.of(e).messages())
        return [fitted.model.decision_function(fitted.features.transform(part)) for part in texts]
    asked = classifier(run(e, device=device, progress=False))
    with np.errstate(divide="ignore"):
        logs = [np.log(asked.probabilities(part)) for part in texts]
    return [log[:, 1] - log[:, 0] for log in logs]


def made(target: Path, device: str) -> Iterator[dict[str, Any]]:
    """Every run, one after the other; those that the file has are taken from it."""
    there = json.loads(target.read_text(encoding="utf-8"))["runs"] if target.exists() else []
    done = {(one["row"], one["seed"]): one for one in there}
    honest = unused().text.tolist()
    rows = table_rows(BASELINE.but(dataset="uci", folds=True), ROWS, "pocket")
    for seed in SEEDS:
        for row, e in rows.items():
            if (row, seed) not in done:
                test = Source.of(e.but(seed=seed)).messages().test
                spam = test.text[test.label == 1].tolist()
                odds = log_odds(row, e.but(seed=seed), [honest, spam], device)
                packed = (base64.b64encode(x.astype(FLOAT).tobytes()).decode() for x in odds)
                done[row, seed] = {"row": row, "seed": seed} | dict(zip(("honest", "spam"), packed, strict=True))
            yield done[row, seed]


def stored_alarms() -> dict[str, Alarms]:
    """By row what is stored.

    Raises:
        UsageError: if nothing is.
    """
    by_row: dict[str, list[dict[str, Any]]] = {}
    for one in stored_json("alarms")["runs"]:
        by_row.setdefault(one["row"], []).append(one)

    def read(one: dict[str, Any], key: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(one[key]), FLOAT).astype(float)

    return {
        row: Alarms(row, np.stack([read(one, "honest") for one in runs]), tuple(read(one, "spam") for one in runs))
        for row, runs in by_row.items()
    }


def main(target: Path = RESULTS[1], device: str = "auto") -> None:
    """Ask every run, and store what it says. Stop at any moment, start again, and it goes on.

    Args:
        target: the folder that alarms.json is written to, after every run.
        device: auto, cpu, cuda, ...
    """
    file, runs = target / "alarms.json", []
    e = BASELINE.at("pocket")
    about = environment(choose_device(device), "float32", e.checkpoint.digest, UCI_FILE)
    with progress_bar(True, total=len(ROWS) * len(SEEDS), unit="run", desc="alarms") as bar:
        for one in made(file, device):
            runs.append(one)
            bar.update()
            write_records(file, about, "runs", runs)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UsageError as error:
        sys.exit(f"onechange.alarms: {error}")
