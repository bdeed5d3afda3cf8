"""Where outputs of frozen prefixes are kept for the next row or seed that wants the same: in memory, and on disk.

A prefix of a large model takes minutes and is a constant of its messages. One store serves a whole process, and
what took a while lies in the cache folder too, for the next process.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import shutil
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..support import package
from ..support.cache import root
from ..support.errors import UsageError
from ..support.files import write_atomically

Kept = tuple[Tensor, float]
"""A prefix's output, and the seconds that it took."""

VARIABLE = "ONECHANGE_PREFIX_DISK"
WORTH = 5.0  # seconds: what is computed sooner is not worth a file


class Disk:
    """Prefixes in the cache folder, a file each. Several processes may use them at once.

    A file is written beside its place and moved there, so that it is whole or absent; one that another
    process removes stays readable for those that have it open.

    Args:
        limit: bytes to keep; the least recently used go first, and what is larger by itself is not kept.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    @property
    def folder(self) -> Path:
        return root() / "prefixes"

    def path(self, key: tuple) -> Path:
        """Where a prefix lies. Its name holds all that decides it: the key, the code, PyTorch, the machine."""
        return self.folder / f"{hashlib.sha256(repr((code(), key)).encode()).hexdigest()[:40]}.safetensors"

    def get(self, key: tuple) -> Kept | None:
        """What is kept under a key, read into memory or, where it is large, mapped; or ``None``."""
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                x, about = file.get_tensor("x"), file.metadata()
            kept = x, float(about["seconds"])
            if about["check"] != checksum(x, about["seconds"]):
                raise ValueError("its bytes are others than were written")
            os.utime(path)  # used just now
        except (SafetensorError, KeyError, TypeError, ValueError):  # damaged
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, RuntimeError):  # not there, or taken away while it was opened: torch's word for that
            return None
        return kept

    def put(self, key: tuple, x: Tensor, seconds: float) -> None:
        """Keep a prefix, if it is worth it and there is room; a disk that is full changes nothing but speed."""
        if seconds < WORTH or x.nbytes > self.limit:
            return
        with contextlib.suppress(OSError, SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.make_room(x.nbytes)
            if shutil.disk_usage(self.folder).free > 2 * x.nbytes:
                x = x.detach().cpu().contiguous()
                about = {"seconds": str(seconds), "check": checksum(x, str(seconds))}
                write_atomically(self.path(key), lambda path: save_file({"x": x}, path, about))

    def make_room(self, size: int) -> None:
        """Remove what was not used for longest until ``size`` bytes fit; what a killed process left goes with it."""
        files = sorted(self.files())
        excess = sum(size for _, size, _ in files) + size - self.limit
        for _, size, path in files:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size

    def files(self) -> Iterator[tuple[float, int, Path]]:
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                stat = path.stat()
                yield stat.st_mtime, stat.st_size, path


def checksum(x: Tensor, seconds: str) -> str:
    """CRC-32 of a prefix and of what stands beside it: a bit that a disk turned over is seen, at gigabytes a second."""
    about = f"{x.dtype} {tuple(x.shape)} {seconds}".encode()
    return f"{zlib.crc32(about, zlib.crc32(x.view(torch.uint8).numpy().data)):08x}"


@cache
def code() -> tuple[str, ...]:
    """What decides a prefix beside its key: this package as it is written, PyTorch, the machine."""
    files = sorted(package.HERE.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return digest, torch.__version__, platform.machine(), gpu


def disk(gigabytes: float | None = None) -> Disk | None:
    """The prefixes on disk, or ``None`` where there are to be none.

    Args:
        gigabytes: how much to keep; unless given, what ``ONECHANGE_PREFIX_DISK`` says, else 10.

    Raises:
        UsageError: if that is no number of gigabytes.
    """
    text = os.environ.get(VARIABLE) or "10" if gigabytes is None else str(gigabytes)
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return Disk(1e9 * float(text)) if float(text) else None
    raise UsageError(f"prefixes on disk must be limited to a number of gigabytes, 0 or more, not {text!r}")


class PrefixStore:
    """Outputs of frozen prefixes, kept for the next row or seed that wants the same.

    Args:
        limit: bytes to keep in memory; the least recently used go first, and what is larger by
            itself lies in a file, mapped into memory.
        disk: where to look, and keep them, as well; ``None`` for nowhere.
    """

    def __init__(self, limit: float = 2e9, disk: Disk | None = None) -> None:
        self.limit, self.disk = limit, disk
        self.kept: OrderedDict[tuple, Kept] = OrderedDict()

    def get(self, key: tuple, device: torch.device | None = None) -> Kept | None:
        """What was kept under a key and the seconds it took, or ``None``; from disk it goes to ``device``."""
        if key in self.kept:
            self.kept.move_to_end(key)
        elif self.disk is not None and (found := self.disk.get(key)):
            x, seconds = found
            self.remember(key, x.to(device or "cpu") if x.nbytes <= self.limit else x, seconds)
        return self.kept.get(key)

    def put(self, key: tuple, x: Tensor, seconds: float) -> None:
        """Keep a prefix, and the seconds that it took."""
        self.remember(key, x, seconds)
        if self.disk is not None:
            self.disk.put(key, x, seconds)

    def remember(self, key: tuple, x: Tensor, seconds: float) -> None:
        self.kept[key] = x, seconds
        while len(self.kept) > 1 and sum(min(x.nbytes, self.limit) for x, _ in self.kept.values()) > self.limit:
            self.kept.popitem(last=False)

    def allocate(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Zeros of a shape, in memory or, past the limit, in a file of the cache folder."""
        size = math.prod(shape)
        if 4 * size <= self.limit:
            return torch.zeros(shape, device=device)
        root().mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=root(), prefix=".prefix.")
        try:
            reserve = getattr(os, "posix_fallocate", lambda file, start, length: os.truncate(file, length))
            reserve(handle, 0, 4 * size)  # a full disk is told now, not half-way
            return torch.from_file(path, shared=True, size=size).view(shape)
        finally:
            os.close(handle)
            with contextlib.suppress(PermissionError):  # Windows keeps a mapped file
                os.unlink(path)  # the mapping keeps it alive; nothing is left behind, however the run ends


@cache
def shared() -> PrefixStore:
    """The store of this process, for every run that brings none of its own."""
    return PrefixStore(disk=disk())
