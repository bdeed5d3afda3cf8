"""Rows times seeds: run them, keep every finished run, go on where it stopped, and sum them up."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from .device import choose_device, choose_precision
from .engine import PrefixStore
from .errors import UsageError
from .experiment import Experiment
from .files import write_atomically
from .result import Result
from .rows import TABLE
from .text import load_messages
from .train import progress_bar, run
from .weights import hash_of


class Store:
    """A folder of finished runs, one JSON file each, named by the hash of all that decides its numbers.

    A file is whole or not there; a lock beside it keeps two processes from doing the same run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def key(self, e: Experiment, device: str = "auto") -> str:
        """The name of a run: the experiment, the weights, the messages, the package's version."""
        from . import __version__

        e = e.resolved()
        assert e.dataset is not None
        decides = e.to_dict() | {
            "precision": choose_precision(e.precision, choose_device(device)),
            "weights_sha256": hash_of(e.model_size) if e.weights == "pretrained" else None,
            "messages_sha256": load_messages(e.dataset, e.seed, e.balance).digest,
            "version": __version__,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:20]

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def load(self, key: str) -> dict[str, Any] | None:
        """A stored record, or ``None``."""
        try:
            return json.loads(self.path(key).read_text())
        except FileNotFoundError:
            return None

    def save(self, key: str, record: dict[str, Any]) -> None:
        text = json.dumps(record, allow_nan=False)
        write_atomically(self.path(key), lambda temporary: Path(temporary).write_text(text))

    def lock(self, key: str) -> FileLock:
        """Held by the process that computes a run; the system frees it when a process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{key}.lock")

    def records(self) -> list[dict[str, Any]]:
        """Every record in the folder.

        Raises:
            UsageError: if there is none.
        """
        records = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        if not records:
            raise UsageError(f"{self.folder} holds no results: onechange table --out {self.folder} makes some")
        return records


@dataclass(frozen=True)
class Job:
    """One run of a study: which row it belongs to, and the experiment with its seed."""

    row: str
    experiment: Experiment


def jobs_of(rows: dict[str, Experiment], seeds: Sequence[int]) -> list[Job]:
    """Rows times seeds, a row's seeds together."""
    return [Job(row, e.but(seed=seed)) for row, e in rows.items() for seed in seeds]


def table_rows(base: Experiment, numbers: Sequence[int], scale: str | None = None) -> dict[str, Experiment]:
    """The rows of the table on top of ``base``.

    Where a row names a model size, a ``base`` with a model of its own keeps that.
    """
    rows = {}
    for number in numbers:
        change = dict(TABLE[number].change)
        if base.model_size != Experiment().model_size:
            change.pop("model_size", None)
        e = base.but(**change)
        rows[str(number)] = e if scale is None else e.at(scale)
    return rows


def run_study(
    jobs: Sequence[Job],
    store: Store,
    *,
    device: str = "auto",
    progress: bool = True,
    prefixes: PrefixStore | None = None,
    done: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run what is not in the store yet; return the records of all jobs, in order.

    Kill it at any moment and start it again: it goes on. A run that another process is doing is left
    to it and waited for at the end.
    """
    keys = [store.key(job.experiment, device) for job in jobs]
    prefixes = PrefixStore() if prefixes is None else prefixes
    waiting = list(zip(jobs, keys, strict=True))
    with progress_bar(progress, total=len(jobs), unit="run") as bar:
        for patience in (0.0, -1.0):  # first whatever is free, then what others were doing
            later = []
            for job, key in waiting:
                try:
                    with store.lock(key).acquire(timeout=patience):
                        record = store.load(key) or _run_job(job, store, key, device, prefixes)
                except Timeout:
                    later.append((job, key))
                    continue
                bar.set_postfix(row=job.row, test=f"{record['final'].get('test', math.nan):.3f}")
                bar.update()
                if done is not None:
                    done(record)
            waiting = later
    for lock in store.folder.glob(".*.lock"):
        lock.unlink(missing_ok=True)
    stored = [(job, store.load(key)) for job, key in zip(jobs, keys, strict=True)]
    return [record | {"row": job.row} for job, record in stored if record is not None]


def _run_job(job: Job, store: Store, key: str, device: str, prefixes: PrefixStore) -> dict[str, Any]:
    result = run(job.experiment, device=device, progress=False, store=prefixes)
    record = {"row": job.row, "key": key} | result.to_dict()
    store.save(key, record)
    return record


def interval(values: Sequence[float], n_messages: int) -> float:
    """Half a 95 % interval of the mean accuracy, as a fraction.

    Over several seeds: Student's t on the seeds' values. With one seed: the binomial interval
    (normal approximation) of ``n_messages`` test messages.
    """
    from scipy.stats import t

    if len(values) > 1:
        return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    p = values[0]
    return 1.96 * math.sqrt(p * (1 - p) / n_messages)


def summary(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line a row of the table: accuracies in percent, the test's interval, time, size.

    Runs that ended early are counted in ``failed`` and left out of the means.
    """
    frame = pd.DataFrame([_flat(record) for record in records])
    lines = []
    for row, group in frame.groupby("row", sort=False):
        fine = group[group.error == ""]
        mean = fine[["train", "val", "test", "seconds"]].mean()
        number = str(row)
        half = interval(list(fine.test), int(fine.n_test.iloc[0])) if len(fine) else math.nan
        lines.append(
            {
                "row": row,
                "title": TABLE[int(number)].title if number.isdigit() and int(number) in TABLE else "",
                "model": group.model.iloc[0],
                "train": 100 * mean.train,
                "val": 100 * mean.val,
                "test": 100 * mean.test,
                "±": 100 * half,
                "seeds": len(fine),
                "failed": len(group) - len(fine),
                "trainable": int(group.n_trainable.iloc[0]),
                "seconds": mean.seconds,
            }
        )
    return pd.DataFrame(lines)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    final = {split: record["final"].get(split, math.nan) for split in ("train", "val", "test")}
    names = ("row", "error", "n_trainable", "seconds")
    more = {"model": record["experiment"]["model_size"], "n_test": len(record["test_labels"])}
    return {name: record[name] for name in names} | final | more


def results(records: Sequence[dict[str, Any]]) -> list[Result]:
    """Records as :class:`Result` objects."""
    return [Result.from_dict({k: v for k, v in record.items() if k not in ("row", "key")}) for record in records]


def by_setting(records: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Records grouped by what is common to a table: ladder, messages, and flags beside the rows' own.

    Each group comes with a title; rows are in the table's order.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=_order):
        e = Experiment(**record["experiment"])
        change = TABLE[int(record["row"])].change if str(record["row"]).isdigit() else {}
        own = {*change, "model_size", "seed", "dataset", "learning_rate"}
        flags = [f"{name}={new}" for name, (_, new) in e.diff(Experiment()).items() if name not in own]
        title = ", ".join([e.scale if e.scale != "folder" else e.model_size, f"{e.dataset} messages", *flags])
        groups.setdefault(title, []).append(record)
    return list(groups.items())


def _order(record: dict[str, Any]) -> tuple:
    row = str(record["row"])
    return (not row.isdigit(), int(row) if row.isdigit() else 0, row, record["experiment"]["seed"])
