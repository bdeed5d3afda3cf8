"""A download and the ways in which it can fail, against a server on this machine that misbehaves."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from onechange import UsageError
from onechange.support import cache
from onechange.support.cache import download

FILE = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(FILE).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[Counter[str]] = Counter()
    ranges: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        how = self.path.strip("/").split("/")[0]
        self.asked[how] += 1
        first = self.asked[how] == 1
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start:
            self.ranges.append(how)
        if how == "nonsense":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            return
        if how in ("403", "404", "500") or (how in ("busy", "long") and first):
            self.send_response(429 if how in ("busy", "long") else int(how))
            self.send_header("Retry-After", "0" if how == "busy" else "3600")
            self.end_headers()
            return
        if start >= len(FILE):
            self.send_response(416)
            self.end_headers()
            return
        content = FILE[::-1] if how == "wrong" and first else FILE
        start = 0 if how == "rangeless" else start
        self.send_response(206 if start else 200)
        length = {"lengthless": None, "letters": "many"}.get(how, len(content) - start)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        cut = how == "severed" or (how in ("cut", "rangeless") and first)
        self.wfile.write(content[start : start + (len(content) - start) // 2 if cut else None])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def anew() -> None:
    Handler.asked.clear()
    Handler.ranges.clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("how", ["good", "lengthless", "letters", "busy"])
def test_a_file_arrives(how: str, address: str, tmp_path: Path) -> None:
    """Also where its length is not said, or in words, and where the server is busy for a moment."""
    path = download(f"{address}/{how}", tmp_path / "it", DIGEST, "it")
    assert path.read_bytes() == FILE
    assert names(tmp_path) == ["it"]
    before = Handler.asked.total()
    download(f"{address}/{how}", tmp_path / "it", DIGEST, "it")
    assert Handler.asked.total() == before


@pytest.mark.parametrize(("how", "goes_on"), [("cut", True), ("rangeless", False)])
def test_what_was_cut_off_is_kept_and_gone_on_with(how: str, goes_on: bool, address: str, tmp_path: Path) -> None:
    """A server that knows no ranges sends all of it once more."""
    with pytest.raises(UsageError, match=r"cut off after 128,000 of 256,000 bytes") as told:
        download(f"{address}/{how}", tmp_path / "it", DIGEST, "what is wanted")
    assert str(told.value).startswith(f"cannot download what is wanted: it would go to {tmp_path} (")
    assert names(tmp_path) == [".it.part"]
    assert download(f"{address}/{how}", tmp_path / "it", DIGEST, "it").read_bytes() == FILE
    assert Handler.ranges == [how]
    assert names(tmp_path) == ["it"]


def test_a_part_that_is_longer_than_the_file_is_begun_anew(address: str, tmp_path: Path) -> None:
    (tmp_path / ".it.part").write_bytes(FILE + b"more")
    assert download(f"{address}/good", tmp_path / "it", DIGEST, "it").read_bytes() == FILE
    assert names(tmp_path) == ["it"]


def test_a_wrong_hash_leaves_nothing_behind(address: str, tmp_path: Path) -> None:
    """Neither the file nor a part of it; the next try begins anew."""
    with pytest.raises(UsageError, match=r"^it has the wrong SHA-256"):
        download(f"{address}/wrong", tmp_path / "it", DIGEST, "it")
    assert names(tmp_path) == []
    assert download(f"{address}/wrong", tmp_path / "it", DIGEST, "it").read_bytes() == FILE


@pytest.mark.parametrize("how", ["403", "404", "500", "nonsense", "long", "severed"])
def test_whatever_a_server_does_is_one_line(how: str, address: str, tmp_path: Path) -> None:
    for _ in range(1 + (how == "severed")):
        with pytest.raises(UsageError, match=r"^cannot download it: .*pocket-small") as told:
            download(f"{address}/{how}", tmp_path / "it", DIGEST, "it")
        assert "\n" not in str(told.value)
    assert names(tmp_path) == ([".it.part"] if how == "severed" else [])


def test_a_server_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, and says nothing."""
    import socket

    monkeypatch.setattr(cache, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UsageError, match="timed out"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/", tmp_path / "it", DIGEST, "it")


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot download it"):
        download("http://127.0.0.1:9/", tmp_path / "it", DIGEST, "it")
