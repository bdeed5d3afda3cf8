"""Where downloads are kept, how they get there, and how they are checked.

The cache is the folder that ``ONECHANGE_CACHE`` names, else the platform's own. Nothing is taken
from the network without its SHA-256 being known beforehand.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

import platformdirs
from tqdm.auto import tqdm

from .errors import UsageError
from .files import write_atomically

OURS = (
    "hub", "tiktoken", "prefixes", ".prefix.*", "smollm2-*", ".smollm2-*",
    "SMSSpamCollection", ".SMSSpamCollection.*", "sms+spam+collection.zip", ".sms+spam+collection.zip.*",
)  # fmt: skip
"""What this package puts into its cache folder, half-written files too; anything else there is not touched."""

OFFLINE_HELP = "the pocket models (--model_size pocket-small) and the pocket messages need no download"


def root() -> Path:
    """The cache folder; it may not exist yet."""
    chosen = os.environ.get("ONECHANGE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("onechange"))


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing(what: str, name: str, place: Path, reason: object) -> UsageError:
    """The line for a file that cannot be had without a network."""
    short = textwrap.shorten(str(reason), 80, placeholder=" ...") or type(reason).__name__
    return UsageError(f"cannot download {what}: {name} would go to {place} ({short}); {OFFLINE_HELP}")


def download(url: str, path: Path, digest: str, what: str) -> Path:
    """Fetch ``url`` to ``path`` unless it is there; refuse what does not have the SHA-256 ``digest``.

    Raises:
        UsageError: without a network, or when the hash is another.
    """
    if path.exists():
        check(path, digest)
        return path

    def fetch(temporary: str) -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "onechange"})
        with urllib.request.urlopen(request, timeout=30) as reply, open(temporary, "wb") as file:
            size = int(reply.headers.get("Content-Length") or 0)
            with tqdm.wrapattr(reply, "read", total=size or None, desc=path.name) as source:
                shutil.copyfileobj(source, file)
        check(Path(temporary), digest, path.name)

    try:
        write_atomically(path, fetch)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise missing(what, path.name, path.parent, getattr(error, "reason", error)) from None
    return path


def check(path: Path, digest: str, name: str | None = None) -> None:
    """Raise :class:`UsageError` unless ``path`` has this SHA-256."""
    found = sha256(path)
    if found != digest:
        raise UsageError(
            f"{name or path} has the wrong SHA-256 ({found[:12]}..., expected {digest[:12]}...): "
            "it is damaged or another file; delete it and try again"
        )


def is_ours(path: Path) -> bool:
    """Whether something right below the cache folder is a thing that this package puts there."""
    return any(path.match(pattern) for pattern in OURS)


def contents() -> list[tuple[str, int]]:
    """Every file that this package put into the cache with its size in bytes (a link counts for nothing)."""
    children = [child for child in sorted(root().iterdir()) if is_ours(child)] if root().is_dir() else []
    files = (p for child in children for p in [child, *sorted(child.rglob("*"))] if p.is_file() and not p.is_symlink())
    return [(str(p.relative_to(root())), p.stat().st_size) for p in files]


def clear() -> tuple[int, list[str]]:
    """Remove what this package put into the cache; the bytes freed, and the names of what is somebody else's."""
    freed, left = sum(size for _, size in contents()), []
    for child in sorted(root().iterdir()) if root().is_dir() else ():
        if not is_ours(child):
            left.append(child.name)
        elif child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    return freed, left
