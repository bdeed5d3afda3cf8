"""Files that are either whole or not there, and paths as people type them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


def home(path: str | os.PathLike[str]) -> str:
    """A path as a person typed it, ``~`` being their home folder; a leading ``./`` stays, since it tells a folder
    from a model's name."""
    return os.path.expanduser(os.fspath(path))


def write_atomically(path: Path, write: Callable[[str], object]) -> None:
    """Let ``write(temporary)`` make a file beside ``path``, then put it in place in one step.

    A reader, or a process killed half-way, never sees a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())  # the bytes before the name: a power cut leaves the old file or the new one
        os.chmod(temporary, 0o644)  # a temporary file is its maker's alone
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system lets one: Windows opens no folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync(folder: Path) -> None:
    """Bring the files of a folder to the disk, before it is moved to its place."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def digest_of(record: dict[str, Any]) -> str:
    """SHA-256 of what a record says, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_records(path: Path, about: Mapping[str, Any], name: str, records: Iterable[Mapping[str, Any]]) -> None:
    """A JSON file of ``about``, what the records are of, and under ``name`` the records, a line each."""
    lines = ",\n  ".join(map(json.dumps, records))
    text = f'{{"about": {json.dumps(about)},\n "{name}": [\n  {lines}\n ]}}\n'
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
