"""The UCI SMS Spam Collection: downloaded once, checked, unpacked into the cache."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import pandas as pd

from ..support.cache import check, download, root, sha256
from ..support.errors import UsageError
from ..support.files import write_atomically

UCI_URL = "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"
MIRROR = (
    "https://raw.githubusercontent.com/learn-co-students/dsc-document-classification-with-naive-bayes-lab-online-"
    "ds-pt-051319/2f98ca443ecd26e1088b369260f1e9782e2e36fc/SMSSpamCollection"
)
"""The plain file once more, of the same SHA-256."""
UCI_ZIP = "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3"
UCI_FILE = "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
UCI_MEMBER = "SMSSpamCollection"
ARCHIVE = "sms+spam+collection.zip"
MEGABYTE = 2**20  # the zip has a fifth of one: a larger file need not be hashed


def uci_file() -> Path:
    """The UCI messages in the cache, unpacked from their publisher's zip, downloaded if need be."""
    path = root() / UCI_MEMBER
    if path.exists():
        check(path, UCI_FILE)
        return path
    what = "the UCI SMS Spam Collection"
    try:
        archive = _zip() or download(UCI_URL, root() / ARCHIVE, UCI_ZIP, what)
    except UsageError as error:  # the publisher is not to be had: the same file stands elsewhere
        with contextlib.suppress(UsageError):
            return download(MIRROR, path, UCI_FILE, what)
        raise error from None
    with zipfile.ZipFile(archive) as file:
        write_atomically(path, lambda temporary: Path(temporary).write_bytes(file.read(UCI_MEMBER)))
    check(path, UCI_FILE)
    return path


def uci_messages() -> pd.DataFrame:
    """All of the collection, ``label`` and ``text``, read as the publisher reads it."""
    return pd.read_csv(uci_file(), sep="\t", header=None, names=["label", "text"])


def uci_is_here() -> bool:
    """Whether the UCI messages can be had without a download."""
    return (root() / UCI_MEMBER).exists() or _zip() is not None


def _zip() -> Path | None:
    """The publisher's zip in the cache, under any name; a zip of somebody else's is none of our business."""
    small = (path for path in sorted(root().glob("*.zip")) if path.is_file() and path.stat().st_size < MEGABYTE)
    return next((path for path in small if sha256(path) == UCI_ZIP), None)
