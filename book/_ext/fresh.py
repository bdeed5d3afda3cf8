"""Forget what the last build computed when something changed that its notebooks used.

Jupyter Book runs a notebook again when its cells change, not when the package they import does. This
keeps a hash of the package, the stored results and the tested versions beside the build, and empties
the cache of executed notebooks when it differs, so no page ever shows what an older package computed.
Pages are always written anew: a chapter that is gone leaves none behind.

    python book/_ext/fresh.py
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
WATCHED = ("src/onechange", "book/results", "constraints.txt", "pyproject.toml")


def digest(root: Path = ROOT) -> str:
    """One hash of every watched file's name and content."""
    sha = hashlib.sha256()
    for name in WATCHED:
        top = root / name
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            if "__pycache__" not in path.parts:
                sha.update(f"{path.relative_to(root).as_posix()}\n".encode())
                sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def remake(folder: Path, package: str, maker: str, make: Callable[[Path], None]) -> None:
    """Let ``make`` fill ``folder`` anew, unless it was filled from the same package by the same maker.

    Args:
        folder: for generated files and nothing else.
        package: its :func:`digest`.
        maker: the file that ``make`` stands in.
        make: writes into the empty folder.
    """
    stamp, now = folder / ".made-from", f"{package} {hashlib.sha256(Path(maker).read_bytes()).hexdigest()}"
    if stamp.exists() and stamp.read_text() == now:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    stamp.write_text(now)


def main(root: Path = ROOT) -> bool:
    """Remove the pages, and the cache too if it is of another hash; say whether that was kept."""
    build = root / "_build"
    stamp, now = build / ".package-hash", digest(root)
    kept = stamp.exists() and stamp.read_text() == now
    shutil.rmtree(build / "html" if kept else build, ignore_errors=True)
    build.mkdir(exist_ok=True)
    stamp.write_text(now)
    return kept


if __name__ == "__main__":
    main()
