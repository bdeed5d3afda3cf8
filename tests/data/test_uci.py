"""The UCI messages in the cache: which file is theirs, and which is somebody else's."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from onechange import UsageError
from onechange.data import uci
from onechange.support.cache import sha256

TEXT = b"ham\tsee you at five\nspam\tWIN a prize now\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two zips in it that are somebody else's, one of which is no zip at all."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    (tmp_path / "a.zip").write_bytes(b"holiday pictures")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr(uci.UCI_MEMBER, b"other messages")
    (tmp_path / "c.zip").mkdir()
    return tmp_path


@pytest.fixture
def publishers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A zip that passes for the publisher's."""
    path = tmp_path / "made"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(uci.UCI_MEMBER, TEXT)
        file.writestr("readme", b"about")
    monkeypatch.setattr(uci, "UCI_ZIP", sha256(path))
    monkeypatch.setattr(uci, "UCI_FILE", hashlib.sha256(TEXT).hexdigest())
    whole = path.read_bytes()
    path.unlink()
    return whole


def test_somebody_elses_zip_is_left_alone(folder: Path) -> None:
    """It is neither used nor called damaged, and with it alone the messages are not here."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert not uci.uci_is_here()
    with pytest.raises(UsageError, match=r"^cannot download the UCI SMS Spam Collection"):
        uci.uci_file()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["0.zip", "sms+spam+collection.zip", "z (1).zip"])
def test_the_publishers_zip_is_found_under_any_name(name: str, folder: Path, publishers: bytes) -> None:
    """Before and behind others in the order of names."""
    (folder / name).write_bytes(publishers)
    assert uci.uci_is_here()
    assert uci.uci_file().read_bytes() == TEXT
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [name, "SMSSpamCollection", "a.zip", "b.zip", "c.zip"]
    )


def test_a_large_zip_is_not_even_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of somebody's archives costs nothing."""
    with open(folder / "a.zip", "wb") as file:
        file.truncate(2**21)
    hashed: list[str] = []
    monkeypatch.setattr(uci, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    assert not uci.uci_is_here()
    assert hashed == ["b.zip"]


def test_a_second_address_of_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked where the publisher is not to be had; the first failure is what is said if it is not there either."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "plain").write_bytes(TEXT)
    monkeypatch.setattr(uci, "UCI_FILE", hashlib.sha256(TEXT).hexdigest())
    monkeypatch.setattr(uci, "UCI_URL", "http://127.0.0.1:9/zip")
    monkeypatch.setattr(uci, "MIRROR", (tmp_path / "nowhere").as_uri())
    with pytest.raises(UsageError, match=r"sms\+spam\+collection.zip would go to"):
        uci.uci_file()
    monkeypatch.setattr(uci, "MIRROR", (tmp_path / "plain").as_uri())
    assert uci.uci_file().read_bytes() == TEXT
