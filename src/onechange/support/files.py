"""Files that are either whole or not there, and paths as people type them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


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
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
