"""The UCI SMS Spam Collection: downloaded once, checked, unpacked into the cache."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..support.cache import check, download, root
from ..support.files import write_atomically

UCI_URL = "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"
UCI_ZIP = "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3"
UCI_FILE = "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
UCI_MEMBER = "SMSSpamCollection"


def uci_file() -> Path:
    """The UCI messages in the cache, unpacked from their publisher's zip, downloaded if need be."""
    path = root() / UCI_MEMBER
    if path.exists():
        check(path, UCI_FILE)
        return path
    archives = sorted(root().glob("*.zip"))
    archive = archives[0] if archives else root() / "sms+spam+collection.zip"
    download(UCI_URL, archive, UCI_ZIP, "the UCI SMS Spam Collection")
    with zipfile.ZipFile(archive) as file:
        write_atomically(path, lambda temporary: Path(temporary).write_bytes(file.read(UCI_MEMBER)))
    check(path, UCI_FILE)
    return path


def uci_is_here() -> bool:
    """Whether the UCI messages can be had without a download."""
    return (root() / UCI_MEMBER).exists() or any(root().glob("*.zip"))
