"""Where downloads are kept, how they get there, and how they are checked.

The cache is the folder that ``ONECHANGE_CACHE`` names, else the platform's own. Nothing is taken
from the network without its SHA-256 being known beforehand.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http
import http.client
import os
import shutil
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import platformdirs
from tqdm.auto import tqdm

from .errors import UsageError
from .files import home, write_atomically

OURS = (
    "hub/CACHEDIR.TAG", "hub/models--openai-community--gpt2*", "hub/.locks/models--openai-community--gpt2*",
    "tiktoken/" + "[0-9a-f]" * 40 + "*", "tiktoken/." + "[0-9a-f]" * 40 + "*",
    "prefixes/*" + "[0-9a-f]" * 40 + ".safetensors*", ".prefix.*",
    "cluster", "smollm2-135m", ".smollm2-135m.*", "SMSSpamCollection", ".SMSSpamCollection.*",
    "sms+spam+collection.zip", ".sms+spam+collection.zip.*",
)  # fmt: skip
"""What this package puts into its cache folder, half-written files too; anything else there is not touched."""

TIMEOUT = 30  # seconds for a server to say something, and the most that one is waited for that is busy

OFFLINE_HELP = "the pocket models (--model_size pocket-small) and the pocket messages need no download"


def root() -> Path:
    """The cache folder; it may not exist yet."""
    chosen = os.environ.get("ONECHANGE_CACHE")
    return Path(home(chosen)) if chosen else Path(platformdirs.user_cache_dir("onechange"))


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

    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # stays where a transfer is cut off; the next one goes on from it
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            part.unlink(missing_ok=True)
            raise
        if made:
            with suppress(OSError):
                path.parent.rmdir()  # unless it holds something, such as the part that came
        raise missing(what, path.name, path.parent, getattr(error, "reason", error)) from None
    try:
        check(part, digest, path.name)
        write_atomically(path, lambda temporary: os.replace(part, temporary))
    except FileNotFoundError as error:  # another process brought it meanwhile
        if not path.exists():
            raise missing(what, path.name, path.parent, error) from None
        check(path, digest)
    finally:
        part.unlink(missing_ok=True)
    return path


def _fetch(url: str, part: Path, patience: int = 1) -> None:
    """Bring the rest of ``url`` into ``part``; a server that is busy for a short while is asked again, once.

    Raises:
        OSError, http.client.HTTPException: whatever went wrong on the way, an end before the end included.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "onechange"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as reply:
            goes_on = getattr(reply, "status", None) == http.HTTPStatus.PARTIAL_CONTENT
            have, left = have if goes_on else 0, getattr(reply, "length", None)  # a file:// says none
            with open(part, "ab" if goes_on else "wb") as file:
                bar = tqdm.wrapattr(reply, "read", total=left, desc=part.name.strip(".").removesuffix(".part"))
                with bar as source:
                    shutil.copyfileobj(source, file)
    except urllib.error.HTTPError as error:
        wait = str(error.headers.get("Retry-After", ""))
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            part.unlink()  # it was longer than the file is: begin anew
            return _fetch(url, part, patience)
        if error.code == http.HTTPStatus.TOO_MANY_REQUESTS and patience and wait.isdecimal() and int(wait) <= TIMEOUT:
            time.sleep(int(wait))
            return _fetch(url, part, patience - 1)
        raise
    if left is not None and part.stat().st_size < have + left:
        raise ConnectionError(f"cut off after {part.stat().st_size:,} of {have + left:,} bytes")
    return None


def is_marked(path: Path) -> bool:
    """Whether a file is still the one that was found to be right: of the same size and time."""
    note, state = _note(path)
    return note.is_file() and note.read_text(encoding="ascii", errors="replace") == state


def mark(path: Path) -> None:
    """Note that a file was found to be right, so that its gigabytes are not hashed again."""
    note, state = _note(path)
    write_atomically(note, lambda temporary: Path(temporary).write_text(state, encoding="ascii"))


def _note(path: Path) -> tuple[Path, str]:
    """Where it is noted that a file is right, and what stands there for as long as it is the same file."""
    stat = path.stat()
    return path.with_name(path.name + ".verified"), f"{stat.st_size} {stat.st_mtime_ns}"


def check(path: Path, digest: str, name: str | None = None) -> None:
    """Raise :class:`UsageError` unless ``path`` has this SHA-256."""
    found = sha256(path)
    if found != digest:
        raise UsageError(
            f"{name or path} has the wrong SHA-256 ({found[:12]}..., expected {digest[:12]}...): "
            "it is damaged or another file; delete it and try again"
        )


def ours() -> list[Path]:
    """What this package put into the cache: files and whole folders."""
    return sorted(path for pattern in OURS for path in root().glob(pattern))


def contents() -> list[tuple[str, int]]:
    """Every file that this package put into the cache with its size in bytes (a link counts for nothing)."""
    files = (p for path in ours() for p in [path, *sorted(path.rglob("*"))] if p.is_file() and not p.is_symlink())
    return [(str(p.relative_to(root())), p.stat().st_size) for p in files]


def clear() -> tuple[int, list[str]]:
    """Remove what this package put into the cache; the bytes freed, and the names of what is somebody else's."""
    freed = sum(size for _, size in contents())
    for path in ours():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in ("hub/.locks", "hub", "tiktoken", "prefixes"):  # goes only where nothing is left in it
        with contextlib.suppress(OSError):
            (root() / name).rmdir()
    return freed, sorted(path.name for path in root().iterdir()) if root().is_dir() else []
