"""Rows times seeds: run them, keep every finished run, go on where it stopped, and sum them up."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from .device import choose_device, choose_precision
from .engine import PrefixStore
from .errors import UsageError
from .experiment import BASELINE, Experiment
from .files import write_atomically
from .progress import progress_bar
from .result import Result
from .rows import TABLE
from .text import messages_digest
from .train import run_seeds, share
from .weights import MODELS, folder_of, hash_of, learning_rate_of


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
            "tokenizer_sha256": _own_tokenizer(e),
            "messages_sha256": messages_digest(e.dataset),
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
        """Every record in the folder, once for each row that it stands for.

        Raises:
            UsageError: if there is none.
        """
        records = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                if record["key"] == path.stem:
                    records += [record | {"row": row} for row in record["rows"]]
            except (ValueError, KeyError, TypeError):
                continue  # another program's file
        if not records:
            raise UsageError(f"{self.folder} holds no results: onechange table --out {self.folder} makes some")
        return records


def _own_tokenizer(e: Experiment) -> str | None:
    """SHA-256 of what else decides a folder's numbers: its configuration and its tokenizer."""
    if e.scale != "folder":
        return None
    files = [folder_of(e.model_size) / name for name in ("config.json", "tokenizer.json")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()


@dataclass(frozen=True)
class Job:
    """One run of a study: which row it belongs to, and the experiment with its seed."""

    row: str
    experiment: Experiment


Keyed = tuple[Job, str]
"""A job and the key of its record."""

SEEDS_TOGETHER = 20


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
        try:
            e = base.but(**change)
            rows[str(number)] = e if scale is None else e.at(scale)
        except UsageError as error:
            raise UsageError(f"row {number}: {error}") from None
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
        # First whatever is free, many seeds at once; then what others were doing, one by one.
        for patience, most in ((0.0, SEEDS_TOGETHER), (-1.0, 1)):
            later = []
            for group in _groups(waiting, most):
                bar.set_description(f"row {group[0][0].row}, seed {group[0][0].experiment.seed}")
                records, busy = _run_group(group, store, device, prefixes, patience)
                later += busy
                bar.update(len(records))
                for record in records:
                    bar.set_postfix(test=f"{record['final'].get('test', math.nan):.3f}")
                    if done is not None:
                        done(record)
            waiting = later
    stored = [(job, store.load(key)) for job, key in zip(jobs, keys, strict=True)]
    return [record | {"row": job.row} for job, record in stored if record is not None]


def _groups(waiting: Sequence[Keyed], most: int) -> Iterator[list[Keyed]]:
    """Jobs that can be trained as one model: seeds of one row, with a prefix that does not depend on the seed."""

    def kind(item: Keyed) -> tuple:
        e = item[0].experiment.resolved()
        alone = not share(e) or e.prefix_cache == "off" or e.trainable_layers == "all" or e.uses_lora
        return item[0].row, e if alone else e.but(seed=0)

    for _, items in groupby(waiting, kind):
        together = list(items)
        yield from (together[i : i + most] for i in range(0, len(together), most))


def _run_group(
    group: list[Keyed], store: Store, device: str, prefixes: PrefixStore, patience: float
) -> tuple[list[dict[str, Any]], list[Keyed]]:
    """Do what is neither done nor being done by another process; the records, and what was left to others."""
    with ExitStack() as held:
        mine, busy = [], []
        for job, key in group:
            try:
                held.enter_context(store.lock(key).acquire(timeout=patience))
                mine.append((job, key))
            except Timeout:
                busy.append((job, key))
        missing = [(job, key) for job, key in mine if store.load(key) is None]
        for _, key in missing:
            for part in store.folder.glob(f".{key}.json.*"):  # of a process that was killed while it wrote
                part.unlink()
        if missing:
            seeds = [job.experiment.seed for job, _ in missing]
            e = missing[0][0].experiment
            for (job, key), result in zip(
                missing, run_seeds(e, seeds, device=device, progress=False, store=prefixes), strict=True
            ):
                store.save(key, {"rows": [job.row], "key": key} | result.to_dict())
        records = [_noted(store, key, job.row) for job, key in mine]
        for _, key in mine:  # the records are there: nobody needs the locks any more
            Path(store.lock(key).lock_file).unlink(missing_ok=True)
    return records, busy


def _noted(store: Store, key: str, row: str) -> dict[str, Any]:
    """A stored record, which from now on names ``row`` among those it stands for."""
    record = store.load(key)
    assert record is not None
    if row not in record["rows"]:  # two rows may be one experiment
        record["rows"].append(row)
        store.save(key, record)
    return record


def interval(values: Sequence[float], n_messages: int) -> float:
    """Half a 95 % interval of the mean accuracy, as a fraction.

    Over several seeds: Student's t on the seeds' values. With one seed: Wilson's binomial interval
    for ``n_messages`` test messages.
    """
    from scipy.stats import binomtest, t

    if len(values) > 1:
        return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    found = binomtest(round(values[0] * n_messages), n_messages).proportion_ci(method="wilson")
    return float(found.high - found.low) / 2


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
    mine = ("row", "rows", "key")
    return [Result.from_dict({k: v for k, v in record.items() if k not in mine}) for record in records]


def by_setting(records: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Records grouped by what is common to a table: ladder, messages, and flags beside the rows' own.

    Each group comes with a title; rows are in the table's order.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=_order):
        groups.setdefault(_setting(record), []).append(record)
    return list(groups.items())


def _setting(record: dict[str, Any]) -> str:
    """What a record's numbers depend on beside its row and seed, in words.

    Read from the record alone: the model's folder or the file of messages may be gone by now.
    """
    e, made = record["experiment"], record["environment"]
    change = TABLE[int(record["row"])].change if str(record["row"]).isdigit() else {}
    model = MODELS.get(e["model_size"])
    row_model = MODELS[BASELINE.but(model_size=change.get("model_size", BASELINE.model_size)).model_size]
    on_ladder = model is not None and model.rung == row_model.rung
    name = model.scale if model is not None and on_ladder else e["model_size"]
    messages = f"{e['dataset']} messages"
    if model is None:  # a folder or a file may change under its name
        name += f" ({made['weights_sha256'][:8]})"
    if e["dataset"] not in ("uci", "pocket"):
        messages += f" ({made['messages_sha256'][:8]})"
    words = [name, messages]
    defaults = dataclasses.asdict(BASELINE) | {"learning_rate": learning_rate_of(e["model_size"])}
    own = {*change, "model_size", "seed", "dataset", "precision"}
    words += [f"{name}={value}" for name, value in e.items() if name not in own and value != defaults.get(name)]
    return ", ".join([*words, made["precision"], f"onechange {made['onechange']}"])


def _order(record: dict[str, Any]) -> tuple:
    row = str(record["row"])
    return (not row.isdigit(), int(row) if row.isdigit() else 0, row, record["experiment"]["seed"])
