"""What tests of the built book share: where it is, what it needs, and how the book's scripts are loaded."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "_build" / "html"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def load(name: str) -> ModuleType:
    """One of the book's scripts."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def need(what: object, reason: str) -> None:
    """Skip where something is not there, unless it has to be."""
    if not what:
        (pytest.fail if os.environ.get("ONECHANGE_BOOK") == "required" else pytest.skip)(reason)


def in_node(path: Path, source: str) -> Any:
    """What a JavaScript promise comes to: ``source`` is an expression behind any declarations, run from ``path``."""
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    path.write_text(f"{source}.then((x) => console.log(JSON.stringify(x)));", encoding="utf-8")
    done = subprocess.run([node, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
