"""Rows times seeds: run them, keep every finished run, go on where it stopped."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..data.messages import Source, messages_of, seen_in_training
from ..experiment.experiment import Experiment
from ..experiment.rows import is_baseline, is_fixed, row_of
from ..support import package
from ..support.errors import UsageError
from ..support.files import digest_of, home, write_atomically
from ..support.progress import progress_bar
from ..training.device import choose_device, choose_precision
from ..training.result import Result, environment
from ..training.store import PrefixStore, shared
from ..training.train import run_seeds, share


class Store:
    """A folder of finished runs, one JSON file each, named by the hash of all that decides its numbers.

    A file is whole or not there; a lock beside it keeps two processes from doing the same run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(home(folder))

    def key(self, e: Experiment, device: str = "auto", method: str = "") -> str:
        """The name of a run: the experiment, the weights, the messages, the package's version.

        ``method`` names a baseline that stands in for the network.
        """
        e = e.resolved()
        decides = (
            e.to_dict()
            | {
                "precision": choose_precision(e.precision, choose_device(device)),
                "weights_sha256": e.checkpoint.digest if e.weights == "pretrained" else None,
                "tokenizer_sha256": e.checkpoint.own_files,
                "messages_sha256": Source.of(e).digest,
                "version": package.__version__,
            }
            | ({"method": method} if method else {})
        )
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:20]

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def load(self, key: str) -> dict[str, Any] | None:
        """A stored record; ``None`` where there is none, or where its file is empty, cut or not one of ours."""
        try:
            record = self.read(self.path(key))
            Result.from_dict(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return record if record.get("key") == key else None

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """A record as it was written: one that knows its digest must have it.

        Raises:
            OSError, ValueError, AttributeError: if it is not there, or another than was written.
        """
        record = json.loads(path.read_text(encoding="utf-8"))
        digest = record.pop("digest", None)  # records of before had none
        if digest is not None and digest != digest_of(record):
            raise ValueError(f"{path} is damaged")
        return record

    def save(self, key: str, record: dict[str, Any]) -> None:
        text = json.dumps(record | {"digest": digest_of(record)}, allow_nan=False)
        write_atomically(self.path(key), lambda temporary: Path(temporary).write_text(text))

    def lock(self, key: str) -> FileLock:
        """Held by the process that computes a run; the system frees it when a process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path(key).is_dir():
            raise UsageError(f"{self.path(key)} is a folder: a record is to be kept there")
        return FileLock(self.folder / f".{key}.lock")

    def records(self) -> list[dict[str, Any]]:
        """Every record in the folder, once for each row that it stands for.

        Raises:
            UsageError: if there is none.
        """
        records = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = self.read(path)
                if record["key"] == path.stem:
                    records += [record | {"row": row} for row in record["rows"]]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # another program's file, or a damaged one
        if not records:
            raise UsageError(f"{self.folder} holds no results: onechange table --out {self.folder} makes some")
        return records


@dataclass(frozen=True)
class Job:
    """One run of a study: which row it belongs to, and the experiment with its seed."""

    row: str
    experiment: Experiment


Keyed = tuple[Job, str]
"""A job and the key of its record."""

Outcome = tuple[list[dict[str, Any]], list[Keyed]]
"""Records, and the jobs that were left to other processes."""

SEEDS_TOGETHER = 20


def jobs_of(rows: dict[str, Experiment], seeds: Sequence[int]) -> list[Job]:
    """Rows times seeds, a row's seeds together; a baseline that no seed changes is run once."""
    return [
        Job(row, e.but(seed=seed)) for row, e in rows.items() for seed in (seeds[:1] if is_fixed(row, e) else seeds)
    ]


def table_rows(base: Experiment, names: Sequence[str], scale: str | None = None) -> dict[str, Experiment]:
    """Rows by their number or name on top of ``base``.

    Where a row names a model size, a ``base`` with a model of its own keeps that.
    """
    rows = {}
    for name in names:
        change = dict(row_of(name).change)
        if base.model_size != Experiment().model_size:
            change.pop("model_size", None)
        try:
            e = base.but(**change)
            rows[name] = e if scale is None else e.at(scale)
        except UsageError as error:
            raise UsageError(f"row {name}: {error}") from None
    return rows


def run_study(
    jobs: Sequence[Job],
    store: Store,
    *,
    device: str = "auto",
    progress: bool = True,
    prefixes: PrefixStore | None = None,
    checkpointing: bool = False,
    workers: int | Literal["auto"] = 1,
    done: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run what is not in the store yet; return the records of all jobs, in order.

    Kill it at any moment and start it again: it goes on. A run that another process is doing is left
    to it and waited for at the end.

    Args:
        workers: processes that share the work, each with its part of the threads and of the prefixes'
            memory; ``"auto"`` starts some where they pay.
    """
    keys = [store.key(job.experiment, device, job.row if is_baseline(job.row) else "") for job in jobs]
    prefixes = shared() if prefixes is None else prefixes
    waiting = list(zip(jobs, keys, strict=True))
    groups = list(_groups([item for item in waiting if not store.path(item[1]).exists()], SEEDS_TOGETHER))
    many = workers_for(groups, device, torch.get_num_threads()) if workers == "auto" else min(workers, len(groups))
    with progress_bar(progress, total=len(jobs), unit="run") as bar:

        def report(records: list[dict[str, Any]]) -> None:
            bar.update(len(records))
            for record in records:
                bar.set_postfix(test=f"{record['final'].get('test', float('nan')):.3f}")
                if done is not None:
                    done(record)

        if many > 1:
            bar.set_description(f"{many} processes")
            waiting = [item for item in waiting if store.path(item[1]).exists()]
            own = PrefixStore(prefixes.limit / many, prefixes.disk)
            for records, busy in _in_processes(many, groups, store, device, own, checkpointing):
                report(records)
                waiting += busy
        # First whatever is free, many seeds at once; then what others were doing, one by one.
        for patience, most in ((0.0, SEEDS_TOGETHER), (-1.0, 1)):
            later = []
            for group in _groups(waiting, most):
                bar.set_description(f"row {group[0][0].row}, seed {group[0][0].experiment.seed}")
                records, busy = _run_group(group, store, device, prefixes, checkpointing, patience)
                later += busy
                report(records)
            waiting = later
    stored = [(job, store.load(key)) for job, key in zip(jobs, keys, strict=True)]
    return [record | {"row": job.row} for job, record in stored if record is not None]


def _groups(waiting: Sequence[Keyed], most: int) -> Iterator[list[Keyed]]:
    """Jobs that can be trained as one model: seeds of one row, with a prefix that does not depend on the seed."""

    def kind(item: Keyed) -> tuple:
        e = item[0].experiment.resolved()
        alone = not share(e) or e.prefix_cache == "off" or e.trainable_layers == "all" or e.uses_lora
        alone = alone or is_baseline(item[0].row)
        return item[0].row, e if alone else e.but(seed=0)

    for _, items in groupby(waiting, kind):
        together = list(items)
        yield from (together[i : i + most] for i in range(0, len(together), most))


def workers_for(groups: Sequence[Sequence[Keyed]], device: str, threads: int) -> int:
    """How many processes pay for groups of runs.

    One model of the pocket family leaves most threads waiting for each other, so every thread gets a process of
    its own, as long as that has two groups or more to earn its start. A larger model, or a GPU, is kept busy by one.
    """
    small = all(job.experiment.resolved().scale == "pocket" for group in groups for job, _ in group)
    return max(1, min(threads, len(groups) // 2)) if small and choose_device(device).type == "cpu" else 1


def _in_processes(
    many: int, groups: list[list[Keyed]], store: Store, device: str, own: PrefixStore, checkpointing: bool
) -> Iterator[Outcome]:
    """What the groups came to, as they end."""
    threads, others = max(1, torch.get_num_threads() // many), active_children()
    pool = ProcessPoolExecutor(many, get_context("spawn"), _start_helper, (threads, own))
    try:
        runs = [pool.submit(_run_group_there, group, store, device, checkpointing) for group in groups]
        yield from (run.result() for run in as_completed(runs))
    except BrokenProcessPool:
        raise UsageError(
            f"one of {many} processes was killed, as happens where memory is short: what was finished is kept, "
            "and --workers 1 needs less"
        ) from None
    finally:  # of an error too: nobody waits for the runs of a study that has ended
        pool.shutdown(wait=False, cancel_futures=True)
        for helper in set(active_children()) - set(others):
            helper.terminate()


_here: list[PrefixStore] = []
"""In a helping process: the prefixes it keeps from group to group."""


def _start_helper(threads: int, prefixes: PrefixStore) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one ends us
    tqdm.set_lock(RLock())  # tqdm's own, between processes, would be left behind by one that is ended
    torch.set_num_threads(threads)
    _here.append(prefixes)


def _run_group_there(group: list[Keyed], store: Store, device: str, checkpointing: bool) -> Outcome:
    return _run_group(group, store, device, _here[0], checkpointing, 0.0)


def _run_group(
    group: list[Keyed], store: Store, device: str, prefixes: PrefixStore, checkpointing: bool, patience: float
) -> Outcome:
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
            if is_baseline(missing[0][0].row):
                made = [baseline_result(missing[0][0].row, e)]
            else:
                made = run_seeds(e, seeds, device=device, progress=False, store=prefixes, checkpointing=checkpointing)
            for (job, key), result in zip(missing, made, strict=True):
                store.save(key, {"rows": [job.row], "key": key} | result.to_dict())
        records = [_noted(store, key, job.row) for job, key in mine]
        for _, key in mine:  # the records are there: nobody needs the locks any more
            Path(store.lock(key).lock_file).unlink(missing_ok=True)
    return records, busy


def baseline_result(row: str, e: Experiment) -> Result:
    """A row without a network as a :class:`Result`: no curves, probabilities 0 and 1, the same messages."""
    from ..data.baselines import run_baseline

    e = e.resolved()
    messages = messages_of(e)
    done = run_baseline(row, messages, e.checkpoint.tokenizer)
    made = environment(torch.device("cpu"), "fp32", done.setting, messages.digest)
    return Result(
        e, done.n_parameters, done.n_parameters, 0, messages.classes, made,
        final={"train": done.train_accuracy, "val": done.val_accuracy, "test": done.test_accuracy},
        seconds=done.seconds, test_labels=done.test_labels.tolist(),
        test_seen=seen_in_training(messages.train, messages.test).tolist(),
        test_probabilities=np.eye(len(messages.classes))[done.test_predicted].tolist(),
    )  # fmt: skip


def _noted(store: Store, key: str, row: str) -> dict[str, Any]:
    """A stored record, which from now on names ``row`` among those it stands for."""
    record = store.load(key)
    assert record is not None
    if row not in record["rows"]:  # two rows may be one experiment
        record["rows"].append(row)
        store.save(key, record)
    return record
