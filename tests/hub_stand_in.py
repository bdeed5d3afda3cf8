"""A stand-in for the Hugging Face Hub on this machine, which the real client talks to; it can misbehave.

The first part of a repository's name says how: ``good/gpt2`` is served well. It speaks the Hub's own protocol: a
HEAD that names the commit, the file's SHA-256 and its size, a GET with ranges.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

COMMIT = "c" * 40
FILE = bytes(range(256)) * 4096 * 24  # 24 MiB: the client keeps what came in pieces of ten
DIGEST = hashlib.sha256(FILE).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """Counts what it was asked for: ``asked["GET", repository]``; notes the ranges.

    ``files`` has what a repository holds; any other holds ``FILE``.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.asked: Counter[tuple[str, str]] = Counter()
        self.ranges: list[tuple[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        """What a client's environment has to say for it to come here, and by no proxy."""
        proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        return dict.fromkeys(proxies, "") | {"HF_ENDPOINT": self.endpoint}

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        path = self.path.strip("/").removeprefix("cdn/")
        moved, how = path != self.path.strip("/"), path.split("/")[0]
        repository = "/".join(path.split("/")[:2])
        self.server.asked[method, repository] += 1
        n = self.server.asked[method, repository]
        if how == "refused":
            return self.fail(403)
        if how == "busy" and method == "GET" and n == 1:
            return self.fail(429, {"Retry-After": "1"})
        if how == "broken":
            return self.fail(500)
        if how == "gone":
            return self.fail(404)
        if how == "nonsense":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
            return None
        if how == "redirect" and method == "GET" and not moved:
            return self.fail(302, {"Location": f"{self.server.endpoint}/cdn{self.path}"})
        self.send(method, how, n)
        return None

    def fail(self, status: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, method: str, how: str, n: int) -> None:
        wrong = how == "other" and n == 1  # another file of the same size, the first time
        whole = self.server.files.get("/".join(self.path.removeprefix("/cdn").split("/")[1:3]), FILE)
        content, digest = whole[::-1] if wrong else whole, hashlib.sha256(whole).hexdigest()
        start = 0
        if method == "GET" and (asked := self.headers.get("Range")):
            self.server.ranges.append((how, asked))
            start = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        headers = {
            "Content-Length": len(content) - start, "Accept-Ranges": "bytes", "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": len(content),
        }  # fmt: skip
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if method == "HEAD":
            return
        if how in ("cut", "severed"):  # once, or whenever it is asked
            half = start + (len(content) - start) // 2
            self.wfile.write(content[start:half] if how == "severed" or n == 1 else content[start:])
            self.close_connection = True
            return
        if how == "stalled":
            self.wfile.write(content[start : start + 1000])
            self.wfile.flush()
            time.sleep(4)
            self.close_connection = True
            return
        self.wfile.write(content[start:])


@contextmanager
def hub(files: Mapping[str, bytes] = MappingProxyType({})) -> Iterator[Hub]:
    """A stand-in that runs, with what some repositories hold."""
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
