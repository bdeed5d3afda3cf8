"""The page with the model: what a reader does there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import PHONE, ROOT

from onechange.data.messages import load_messages
from onechange.gpt.tokenizer import tokenizer_for

ASSETS = ROOT / "book" / "_assets"


def answered(page, rows: int = 3) -> None:
    """Wait until so many rows have answered what stands in the page."""
    page.wait_for_function(f"document.getElementById('live-note').textContent.includes('{rows} answers in')")


def shown(page) -> dict[str, float]:
    """The probabilities that the page's bars show, by row."""
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#live-answers tr')].filter((tr) => tr.querySelector('i'))"
        ".map((tr) => [tr.querySelector('b').textContent, parseFloat(tr.querySelector('i').style.width) / 100]))"
    )


def load_every_row(page) -> None:
    answered(page)
    for _ in range(4):
        page.locator("#live-answers button").first.click()
    answered(page, 7)


def write(page, text: str, rows: int = 3) -> None:
    page.fill("#live-text", text)
    page.wait_for_function("document.getElementById('live-note').textContent.indexOf(' answers in') < 0")
    answered(page, rows)


@pytest.mark.book
def test_the_page_says_what_pytorch_says_of_the_whole_test_set(visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/live.html")
    load_every_row(page)
    texts = list(load_messages("pocket").test.text)
    want = {row: np.array(p) for row, p in json.loads((build / "_static/live/pytorch.json").read_text()).items()}
    got: dict[str, list[float]] = {row: [] for row in want}
    for start in range(0, len(texts), 20):
        part = page.evaluate(
            """(texts) => {
              const tokenizer = new Tokenizer(LIVE.ranks), { max_length, end } = LIVE.config;
              const messages = texts.map((text) => tokenizer.encode(text).slice(0, max_length));
              const ask = (model) => messages.map((tokens) =>
                model.spam([...tokens, ...Array(max_length - tokens.length).fill(end)], tokens.length));
              return Object.fromEntries(Object.entries(models).map(([row, model]) => [row, ask(model)]));
            }""",
            texts[start : start + 20],
        )
        for row, answers in part.items():
            got[row] += answers
    for row in want:
        np.testing.assert_allclose(got[row], want[row], atol=0.01, err_msg=f"row {row}")
    write(page, texts[3], 7)
    for row, p in shown(page).items():
        assert abs(p - want[row][3]) <= 0.01


@pytest.mark.book
def test_the_page_loads_little_and_only_what_is_asked_for(server: str, visit: Callable, build: Path) -> None:
    page = visit(f"{server}/live.html")
    answered(page)
    files = "performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname.split('/').pop())"
    own = {path.name: path for folder in (ASSETS, ASSETS / "live") for path in folder.glob("*.*")}

    def loaded() -> dict[str, int]:
        names = [name for name in page.evaluate(files) if name.endswith((".js", ".css")) and name in own]
        return {name: own[name].stat().st_size for name in names if own[name].parent.name == "live" or "live" in name}

    first = loaded()
    assert {"index.js", "pretrained.js", "row1.js", "row16.js"} < set(first)
    assert sum(first.values()) < 3.5e6
    load_every_row(page)
    assert len(loaded()) == len(first) + 4
    assert sum(loaded().values()) < 9e6
    others = [path for path in build.glob("*.html") if path.name not in ("live.html", "finetune.html")]
    assert [path.name for path in others if "live.js" in path.read_text() or "model.js" in path.read_text()] == []


@pytest.mark.book
def test_padding_is_moved_by_keyboard_and_moves_what_reads_it(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/live.html")
    answered(page)
    slider = page.locator("#live-padding")
    assert int(slider.get_attribute("max")) >= 100
    page.focus("#live-text")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "live-padding":
            break
    before, seen = shown(page), []
    for key in ("End", "Home", "PageUp"):
        page.keyboard.press(key)
        value = slider.input_value()
        page.wait_for_function(
            "n => document.querySelectorAll('.live-pad').length === Number(n) && "
            "document.getElementById('live-note').textContent.includes('answers in')",
            arg=value,
        )
        seen.append(shown(page))
    assert not page.is_checked("#live-trained")
    assert len({answers["1"] for answers in (before, *seen)}) == 4
    assert len({answers["16"] for answers in (before, *seen)}) == 1
    page.check("#live-trained")
    filled = "document.querySelectorAll('#live-tokens li').length === LIVE.config.max_length"
    page.wait_for_function(filled)


@pytest.mark.book
@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a" * 5000, None), ("Привет, 你好, مرحبا", None), ("🎉👩‍👩‍👧🇫🇷", None), ("?", 1), ("\n \t free \n", None)],
    ids=["long", "scripts", "emoji", "short", "spaces"],
)
def test_any_message_is_read(text: str, tokens: int | None, server: str, visit: Callable) -> None:
    page = visit(f"{server}/live.html", PHONE)
    answered(page)
    write(page, text)
    limit = page.evaluate("LIVE.config.max_length")
    n = len(tokenizer_for("pocket").encode(text))
    assert tokens is None or tokens == n
    assert page.locator("#live-tokens li:not(.live-pad)").count() == min(n, limit)
    assert page.locator("#live-tokens li").count() == limit
    note = page.inner_text("#live-note")
    assert note.startswith(f"{n:,} token")
    assert (f"only the first {limit} are read" in note) == (n > limit)
    assert all(0 <= p <= 1 for p in shown(page).values())
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.book
def test_without_a_message_there_is_no_answer(server: str, visit: Callable) -> None:
    page = visit(f"{server}/live.html")
    answered(page)
    for text in ("", "  \n "):
        page.fill("#live-text", text)
        page.wait_for_function("document.getElementById('live-note').textContent.startsWith('Type a message')")
        page.wait_for_function("document.querySelectorAll('#live-tokens li').length === 0")
        assert set(shown(page).values()) == {0.0}
    page.get_by_role("button", name="WINNER!").press("Enter")
    answered(page)
    assert page.input_value("#live-text").startswith("WINNER!")


@pytest.mark.book
def test_what_a_row_looks_at_can_be_chosen(server: str, visit: Callable) -> None:
    page = visit(f"{server}/live.html")
    answered(page)
    sentence, limit = page.locator("#live-looks"), page.evaluate("LIVE.config.max_length")
    own = len(tokenizer_for("pocket").encode(page.input_value("#live-text")))
    assert sentence.inner_text().startswith(f"Row 1 reads token {limit}, padding.")
    assert page.locator(".live-read.live-pad").count() == 1
    page.select_option("#live-row", "16")
    assert sentence.inner_text().startswith(f"Row 16 reads token {own}, ")
    assert page.locator(".live-read:not(.live-pad)").count() == 1
    before = sentence.inner_text()
    page.select_option("#live-block", "0")
    page.select_option("#live-head", "2")
    assert sentence.inner_text() != before
    assert page.locator("#live-row option:enabled").all_inner_texts() == ["1", "3", "16"]


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_in_use_can_be_read_by_everyone(theme: str, server: str, visit: Callable) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{server}/live.html", theme=theme)
    load_every_row(page)
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []
    page.wait_for_function("document.getElementById('live-status').textContent.includes('row 16')")


@pytest.mark.book
def test_the_page_says_what_is_missing(server: str, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server}/live.html")
    assert page.locator(".live-missing", has_text="JavaScript").is_visible()
    assert page.locator("#live").is_hidden()
    context.close()
    page = browser.new_page()
    page.route("**/live/index.js", lambda route: route.abort())
    page.goto(f"{server}/live.html")
    assert page.locator("#live-problem", has_text="make book").is_visible()
    page.close()
