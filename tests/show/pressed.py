"""Widgets as a reader meets them: their words, and waiting for what runs."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from onechange import BASELINE
from onechange.show.widgets import MakeAblation

ROOT = Path(__file__).parents[2]
SCREEN = {"width": 1280, "height": 1000}
PLAYGROUND = ROOT / "book" / "playground.ipynb"
POCKET = BASELINE.at("pocket")


class Parts(HTMLParser):
    """HTML taken apart: its text and its elements, each closed where it has to be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.elements, self.open = "", [], []  # type: ignore[var-annotated]
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


def words(widget: Any) -> str:
    return Parts(widget.value).words


def wait(bench: MakeAblation) -> None:
    assert bench.thread is not None
    bench.thread.join(120)
    assert not bench.thread.is_alive()
