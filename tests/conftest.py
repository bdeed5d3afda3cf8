"""What every test shares: no network, a cache of its own, small models, and the reference where there is one."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import ipaddress
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from pages import BUILD, DESK, FLAGS, need
from safetensors.numpy import save_file
from toys import write_toy

from onechange.gpt import smollm2
from onechange.gpt.layouts import layout_of
from onechange.gpt.llama import Llama, LlamaConfig
from onechange.gpt.tokenizer import POCKET_RANKS, read_ranks, to_json
from onechange.support import cache
from onechange.training import store

OWN_CACHE = cache.root()  # before the tests get one of their own

# The smallest models are fastest on one thread, and several workers (-n) do not fight over the cores.
torch.set_num_threads(1)

# The same examples every time, and no deadline: a busy machine must not decide whether a test passes.
settings.register_profile(
    "onechange", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("onechange")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: give --slow"))


class NetworkBlocked(ConnectionError):
    """A test tried to leave this machine."""


def is_local(host: object) -> bool:
    """Whether a host is this machine."""
    if host in ("localhost", "", None):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """A socket's method that refuses any address but this machine's."""

    def checked(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and not is_local(address[0]):
            raise NetworkBlocked(f"a test tried to reach {address[0]}")
        return call(self, address)

    return checked


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network but localhost, and an empty cache folder instead of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        look_up = socket.getaddrinfo

        def guarded_look_up(host: object, *args: Any, **kwargs: Any) -> Any:
            if not is_local(host):
                raise NetworkBlocked(f"a test tried to look up {host}")
            return look_up(host, *args, **kwargs)

        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        empty = tmp_path_factory.mktemp("cache")
        patch.setenv("ONECHANGE_CACHE", str(empty))
        patch.setenv("TIKTOKEN_CACHE_DIR", str(empty / "tiktoken"))
        yield


@pytest.fixture(autouse=True)
def fresh_prefixes() -> None:
    """No test finds a prefix that another computed."""
    store.shared.cache_clear()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with the UCI messages, GPT-2's tokenizer and the golden runs."""
    folder = os.environ.get("ONECHANGE_REFERENCE")
    if not folder:
        pytest.skip("ONECHANGE_REFERENCE names no folder with the UCI messages, GPT-2's tokenizer and golden runs")
    return Path(folder)


@pytest.fixture
def real_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SmolLM2-135M's folder, by way of a cache that holds nothing else."""
    if not (OWN_CACHE / smollm2.NAME).is_dir():
        pytest.skip(f"{smollm2.NAME} is not in {OWN_CACHE}: onechange fetch {smollm2.NAME}")
    folder = tmp_path / "cache" / smollm2.NAME
    folder.parent.mkdir()
    folder.symlink_to(OWN_CACHE / smollm2.NAME, target_is_directory=True)
    monkeypatch.setenv("ONECHANGE_CACHE", str(folder.parent))
    return folder


@pytest.fixture(scope="session")
def uci_folder(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that holds the UCI messages."""
    folder = tmp_path_factory.mktemp("uci")
    shutil.copyfile(reference / "data" / "SMSSpamCollection", folder / "SMSSpamCollection")
    return folder


@pytest.fixture
def uci_cache(uci_folder: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache as after the first download: UCI messages and GPT-2's tokenizer are there."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(uci_folder))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(reference / "tiktoken"))
    return uci_folder


@pytest.fixture(scope="session")
def tiny(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three-layer GPT-2 of the golden runs."""
    script = reference / "golden" / "make_tiny_gpt2.py"
    spec = importlib.util.spec_from_file_location("make_tiny_gpt2", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("tiny")
    save_file(module.tensors(), folder / "model.safetensors", {"format": "pt"})
    config = {"n_layer": module.N_LAYER, "n_head": module.N_HEAD, "n_embd": module.D, "vocab_size": module.VOCAB}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": module.CTX} | config))
    return folder


@pytest.fixture(scope="session")
def tokenizer_json() -> str:
    """The pocket tokenizer as the text of a ``tokenizer.json``."""
    return to_json(read_ranks(POCKET_RANKS))


@pytest.fixture(scope="session")
def toy_of(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes toy folders of other shapes: ``toy_of((48, 3, 4))``; the same shape is the same folder."""
    made: dict[tuple, Path] = {}

    def make(shape: tuple[int, int, int] = (32, 4, 3), context: int = 160) -> Path:
        if (shape, context) not in made:
            made[shape, context] = write_toy(tmp_path_factory.mktemp("toy"), tokenizer_json, shape, context)
        return made[shape, context]

    return make


@pytest.fixture(scope="session")
def toy(toy_of: Callable[..., Path]) -> Path:
    """A three-block GPT-2 folder with its own vocabulary: needs nothing from outside."""
    return toy_of()


@pytest.fixture(scope="session")
def toy_llama(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-block Llama folder, two heads to a key, with the pocket vocabulary as its own."""
    shape = LlamaConfig(4096, 160, 32, 4, 3, n_groups=2, hidden_dim=48)
    model, generator = Llama(shape), torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        mean, std = (1.0, 0.1) if "norm" in name else (0.0, 0.5 if "emb" in name else 0.15)
        torch.nn.init.normal_(parameter, mean, std, generator=generator)
    folder, layout = tmp_path_factory.mktemp("llama"), layout_of(shape)
    save_file({name: x.numpy() for name, x in layout.theirs(model).items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(layout.config(shape, 4095)))
    (folder / "tokenizer.json").write_text(tokenizer_json)
    return folder


# -- the built book in a browser ------------------------------------------------------------------


@pytest.fixture(scope="session")
def build() -> Path:
    need((BUILD / "index.html").exists(), "there is no built book: run `make book` first")
    return BUILD


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One for all tests: a process has one Playwright, whose event loop is then the process's."""
    need(importlib.util.find_spec("playwright"), "playwright is not installed")
    from playwright.sync_api import Error, sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            need(False, f"there is no Chromium to look at a page with: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def browser(build: Path, chromium: Any) -> Any:
    """Where there is a built book to look at."""
    return chromium


@pytest.fixture(scope="session")
def server(build: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(build))
    ) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.fixture(params=["http", "file"])
def origin(request: pytest.FixtureRequest, server: str) -> str:
    """Where the book is read from: a server, or the disk."""
    return server if request.param == "http" else BUILD.as_uri()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Open an address. In the end no page may have logged an error or asked another host for anything."""
    complaints: list[str] = []
    contexts = []

    def open_page(address: str, viewport: dict = DESK, theme: str = "light"):
        context = browser.new_context(viewport=viewport, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        home = BUILD.as_uri() if address.startswith("file:") else "http://127.0.0.1:"

        def request(request) -> None:
            if not request.url.startswith((home, "data:", "blob:")):
                complaints.append(f"asked for {request.url}")

        def listen(message) -> None:  # the page that sends one on from index.html names no icon
            if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
                complaints.append(message.text)

        page.on("request", request)
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address, wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
