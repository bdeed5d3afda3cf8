"""Where finished runs are kept: a folder, one file each, and a lock beside what is being done."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..data.messages import Source
from ..experiment.experiment import Experiment, decides
from ..support import package
from ..support.errors import UsageError
from ..support.files import digest_of, home, write_atomically
from ..training.device import choose_device, choose_precision
from ..training.result import Result


@dataclass(frozen=True)
class Job:
    """One run of a study: which row it belongs to, and the experiment with its seed."""

    row: str
    experiment: Experiment


Keyed = tuple[Job, str]
"""A job and the key of its record."""


def ingredients(e: Experiment, device: str = "auto", precision: str | None = None) -> dict[str, str | None]:
    """What decides a run's numbers beside its experiment: hashes, the number format, the package's version."""
    e = e.resolved()
    return {
        "precision": precision or choose_precision(e.precision, choose_device(device)),
        "weights_sha256": e.checkpoint.digest if e.weights == "pretrained" else None,
        "tokenizer_sha256": e.checkpoint.own_files,
        "messages_sha256": Source.of(e).digest,
        "version": package.__version__,
    }


class Store:
    """A folder of finished runs, one JSON file each, named by the hash of all that decides its numbers.

    A file is whole or not there; a lock beside it keeps two processes from doing the same run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(home(folder))

    def key(self, e: Experiment, device: str = "auto", method: str = "", precision: str | None = None) -> str:
        """The name of a run: the experiment, the weights, the messages, the package's version.

        Args:
            e: the experiment.
            device: where it is run, which decides what a precision of ``auto`` is.
            method: a baseline that stands in for the network.
            precision: what it is, where the device is another machine's.
        """
        what = decides(e.to_dict()) | ingredients(e, device, precision) | ({"method": method} if method else {})
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]

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


class Claims:
    """What one process has taken on in a store: nobody else does it meanwhile, and nobody else writes it.

    Args:
        store: where the records go.
        report: told each record, once for every job that wanted it.
    """

    def __init__(self, store: Store, report: Callable[[dict[str, Any]], None]) -> None:
        self.store, self.report = store, report
        self.held: dict[str, FileLock] = {}
        self.busy: list[Keyed] = []

    def take(self, jobs: Sequence[Keyed], patience: float = 0.0) -> list[Keyed]:
        """Take on jobs; those that are still to be done.

        One that is stored is reported and let go; one that another process is doing goes to ``busy``.

        Args:
            jobs: which.
            patience: seconds to wait for another process; below 0 as long as it takes.
        """
        missing = []
        for job, key in jobs:
            lock = self.store.lock(key)
            try:
                lock.acquire(timeout=patience)
            except Timeout:
                self.busy.append((job, key))
                continue
            self.held[key] = lock
            if self.store.load(key) is None:
                for part in self.store.folder.glob(f".{key}.json.*"):  # of a process that was killed while it wrote
                    part.unlink()
                missing.append((job, key))
            else:
                self.done(job, key)
        return missing

    def save(self, jobs: Sequence[Keyed], records: Sequence[dict[str, Any]]) -> None:
        """Write the records of jobs that were taken on, all of them before any is let go."""
        for (job, key), record in zip(jobs, records, strict=True):
            self.store.save(key, {"rows": [job.row], "key": key} | record)
        for job, key in jobs:
            self.done(job, key)

    def done(self, job: Job, key: str) -> None:
        """Report a stored record, which from now on names the job's row among those it stands for, and let it go."""
        record = self.store.load(key)
        assert record is not None
        if job.row not in record["rows"]:  # two rows may be one experiment
            record["rows"].append(job.row)
            self.store.save(key, record)
        self.report(record)
        self.let_go([(job, key)], True)

    def let_go(self, jobs: Sequence[Keyed], stored: bool = False) -> None:
        """Free jobs; where the records are there nobody needs their locks any more."""
        for lock in (self.held.pop(key) for _, key in jobs if key in self.held):
            if stored:
                with contextlib.suppress(PermissionError):  # Windows removes no file that is open
                    Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def close(self) -> None:
        """Free whatever is held."""
        for lock in self.held.values():
            lock.release()
        self.held.clear()
