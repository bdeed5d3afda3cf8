"""The model in the page, played with: counted characters, the curve, tokens to click, the game, the address."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pages import PHONE, ROOT, in_node, load

from onechange.data.baselines import bag
from onechange.data.messages import load_messages

ASSETS = ROOT / "book" / "_assets"


def test_counting_in_the_page_is_scikit_learns(tmp_path: Path) -> None:
    """The same probabilities, and words whose parts add up to the score."""
    messages = load_messages("pocket")
    _, right, model = load("live").counting_row(messages)
    texts = [*messages.test.text[:60], "Ünïcode ÀÉ  \n x a 🎉🎉 don't", "a", "zzzz qqqq", "İstanbul I"]
    source = (ASSETS / "counted.js").read_text(encoding="utf-8")
    body = (
        f"{source}(async () => {{ const model = new Counted({model}); return {json.dumps(texts)}.map((text) => "
        "[model.spam(text), model.words(text).map(({ adds }) => adds)]); })()"
    )
    got = in_node(tmp_path / "counted.js", body)
    fitted, bias = bag("0c", messages), json.loads(model)["bias"]
    want = fitted.model.predict_proba(fitted.features.transform(texts))[:, 1]
    np.testing.assert_allclose([spam for spam, _ in got], want, atol=1e-3)
    for spam, adds in got:
        assert 1 / (1 + np.exp(-bias - sum(adds))) == pytest.approx(spam, abs=1e-9)
    assert 0.8 < right < 1


def settled(page, rows: int = 3) -> None:
    """Until so many rows have answered and every curve is drawn."""
    page.wait_for_function(f"document.getElementById('live-note').textContent.includes('{rows} answers in')")
    lines = rows - (rows == 8)  # counted characters have no curve
    page.wait_for_function(f"document.querySelectorAll('.live-curve').length === {lines}")


def hash_of(page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


@pytest.mark.book
def test_every_row_can_be_loaded_at_once_and_has_a_curve(visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/live.html")
    settled(page)
    page.click("#live-all")
    settled(page, 8)
    assert page.locator("#live-all").is_hidden()
    words = page.get_attribute("#live-curve", "aria-label")
    assert "row 16 stays at" in words
    assert re.search(r"row 1 from [\d.]+% to", words)
    assert page.locator("#live-words li").count() == len(page.input_value("#live-text").split())


@pytest.mark.book
def test_a_token_is_read_or_left_out_by_a_click(visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/live.html", PHONE)
    settled(page)
    tokens = page.locator("#live-tokens button")
    tokens.nth(2).press("Enter")
    page.wait_for_function("document.getElementById('live-looks').textContent.includes('reads token 3,')")
    assert "every row reads" in page.inner_text("#live-note")
    page.select_option("#live-click", "drop")
    settled(page)
    n = tokens.count()
    tokens.nth(0).press("Enter")
    page.wait_for_function("document.getElementById('live-looks').textContent.includes('reads token 2,')")
    assert tokens.count() == n
    assert hash_of(page) | {"read": "2", "without": "0"} == hash_of(page)
    page.click("#live-again")
    page.wait_for_function("!document.getElementById('live-note').textContent.includes('left out')")
    assert "read" not in hash_of(page)


@pytest.mark.book
def test_a_link_keeps_the_message_and_what_was_chosen(visit: Callable, build: Path) -> None:
    choice = "#text=Win+a+prize%2C+%C3%BCber+now&row=2&block=1&head=0&click=drop&padding=7&read=1&without=0"
    page = visit(f"{build.as_uri()}/live.html{choice}")
    settled(page, 4)  # row 2 was asked for
    assert page.input_value("#live-text") == "Win a prize, über now"
    assert [page.input_value(f"#live-{name}") for name in ("row", "block", "head", "padding")] == ["2", "1", "0", "7"]
    assert hash_of(page) == hash_of(visit(page.url))
    page = visit(f"{build.as_uri()}/live.html#row=99&block=x&read=-4&without=a-b-7777&padding=zz&text=")
    page.wait_for_function("document.getElementById('live-note').textContent.startsWith('Type a message')")


@pytest.mark.book
def test_a_hundred_thousand_letters_are_answered_in_bounded_work(visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/live.html")
    settled(page)
    page.evaluate(
        """() => { const box = document.getElementById('live-text'); box.value = 'abcdefghijklmnopqrst'.repeat(5000);
        box.dispatchEvent(new Event('input')); }"""
    )
    page.wait_for_function("document.getElementById('live-note').textContent.includes('first 5,000 characters')")
    settled(page)
    assert page.evaluate("Math.max(...Object.values(models).map((m) => m.last.tokens.length))") <= 512


@pytest.mark.book
def test_ten_messages_against_the_models(visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/live.html")
    settled(page)
    page.click("#game-go")
    for i in range(10):
        assert page.inner_text("#game-number") == f"Message {i + 1} of 10"
        page.press("#game-1", "Enter")
        assert page.inner_text("#game-said").startswith("That was ")
    score = int(re.search(r"You had (\d+) of 10", page.inner_text("#game-number"))[1])
    rows = dict(line.split("\t") for line in page.inner_text("#game-result").splitlines())
    assert int(rows.pop("you")) == score
    assert set(rows) == {"row 1", "row 3", "row 16"}


@pytest.mark.book
@pytest.mark.parametrize("name", ["live", "explore", "finetune"])
def test_the_projector_shows_the_panels_alone(name: str, visit: Callable, build: Path) -> None:
    page = visit(f"{build.as_uri()}/{name}.html?present", {"width": 1920, "height": 1080})
    page.wait_for_selector("section.live:visible")
    assert page.locator(".bd-sidebar-primary").is_hidden()
    assert page.locator(".bd-article p:visible").count() == page.locator(".bd-article section.live p:visible").count()
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('section.live label')).fontSize)")
    assert size >= 20
