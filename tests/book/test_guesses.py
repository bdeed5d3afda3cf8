"""Guesses in the built book: committed, kept by the browser, and set beside the answers in the end."""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections.abc import Callable

import pytest
from pages import PHONE, need

from onechange.show.guesses import facts
from onechange.show.questions import BOOK

KEY = "onechange.guesses"
LENGTH, XL = "#guess-length-alone", "#guess-XL"
REFUSED = """
for (const name of ["getItem", "setItem", "removeItem"]) {
  const known = Storage.prototype[name];
  Storage.prototype[name] = function (key, ...more) {  // of the page's own scripts: the theme needs its storage
    if (key.startsWith("onechange.")) throw new DOMException("The operation is insecure.", "SecurityError");
    return known.call(this, key, ...more);
  };
}
"""


def commit(page, where: str, value: float) -> None:
    page.locator(f"{where} input").fill(str(value))
    page.click(f"{where} .oc-commit")


def kept(page) -> dict[str, float]:
    return json.loads(page.evaluate(f"localStorage.getItem('{KEY}')") or "{}")


def again(page, address: str = "") -> None:
    """Read the page again, or another, when nothing is on its way any more that would be lost."""
    page.wait_for_load_state("networkidle")
    page.goto(address or page.url)


def keep(page, text: str) -> None:
    """Put a text where guesses are kept, and read the page again."""
    page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, text])
    again(page)


@pytest.mark.book
def test_a_guess_that_was_committed_is_there_when_one_comes_back(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/data.html")
    assert page.locator(f"{LENGTH} .oc-commit").is_disabled()
    assert page.get_attribute(f"{LENGTH} input", "aria-valuetext") == "no guess yet"
    commit(page, LENGTH, 71.5)
    said = page.inner_text(f"{LENGTH} .oc-said")
    again(page)
    assert page.inner_text(f"{LENGTH} .oc-said") == said
    assert page.input_value(f"{LENGTH} input") == "71.5"
    assert page.locator(f"{LENGTH} input").is_disabled()
    assert page.locator(f"{LENGTH} summary").is_hidden()
    assert page.locator("#guess-counted-words .oc-commit").is_visible()  # which was not guessed
    assert kept(page) == {"length alone": 71.5}


@pytest.mark.book
def test_a_guess_can_be_made_with_the_keyboard(server: str, visit: Callable) -> None:
    page = visit(f"{server}/size.html", viewport=PHONE)
    page.focus(f"{XL} input")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(f"{XL} input", "aria-valuetext") == "+0.5 points"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "oc-said"
    assert page.get_by_role("slider", name="Take the largest of four sizes").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert kept(page) == {"XL": 0.5}


@pytest.mark.book
def test_a_browser_that_keeps_nothing_still_answers(server: str, visit: Callable) -> None:
    page = visit(f"{server}/data.html")
    page.add_init_script(REFUSED)
    again(page)
    commit(page, LENGTH, 60)
    assert page.inner_text(f"{LENGTH} .oc-said").endswith("the guess is gone when you leave the page.")
    again(page)
    assert page.locator(f"{LENGTH} .oc-commit").is_visible()
    again(page, f"{server}/guesses.html")
    assert "You have committed to no guess yet" in page.inner_text(".oc-calibration")


@pytest.mark.book
def test_rubbish_where_guesses_are_kept_is_no_guess(server: str, visit: Callable) -> None:
    page = visit(f"{server}/size.html")
    for rubbish in ("[1", "null", "7", '{"XL": "6"}', '{"XL": 101}', '{"XL": null}', '[["XL", 1]]'):
        keep(page, rubbish)
        commit(page, XL, 6)
        assert kept(page)["XL"] == 6, rubbish
    again(page)
    assert page.input_value(f"{XL} input") == "6"


@pytest.mark.book
def test_all_guesses_meet_the_answers(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/guesses.html")
    assert "You have committed to no guess yet" in page.inner_text(".oc-calibration")
    assert page.locator(".oc-calibration svg").count() == 0
    told = {q.name: facts(q) for q in BOOK if q.name in ("length alone", "counted words", "XL", "the sender's own")}
    mine = {"length alone": told["length alone"]["low"], "counted words": 50, "XL": -10, "the sender's own": 701}
    keep(page, json.dumps(mine))
    scale = {name: 100 / fact["whole"] for name, fact in told.items()}
    off = {name: scale[name] * abs(mine[name] - fact["value"]) for name, fact in told.items()}
    said = page.inner_text(".oc-summary")
    assert said.startswith(f"You committed to 4 of {len(BOOK)} guesses. Of 3 about something measured, 1 lay inside")
    assert f"On average you were {statistics.mean(off.values()):.1f} points off." in said
    lines = page.locator(".oc-calibration tbody tr")
    order = sorted(off, key=lambda name: -off[name])
    assert [line.locator("td").nth(1).inner_text() for line in lines.all()] == order
    assert [line.locator("td").nth(4).inner_text() for line in lines.all()] == [f"{off[name]:.1f}" for name in order]
    pictures = page.locator(".oc-calibration svg")
    assert [picture.locator("circle").count() for picture in pictures.all()] == [3, 1]
    assert page.locator(".oc-rest a").count() == len(BOOK) - 4
    page.get_by_role("link", name="XL").click()
    page.wait_for_url(f"**/size.html{XL}")
    assert "Your guess of −10 points" in page.inner_text(f"{XL} .oc-said")


@pytest.mark.book
def test_guesses_are_forgotten_by_who_asks_twice(server: str, visit: Callable) -> None:
    page = visit(f"{server}/size.html")
    commit(page, XL, 5)
    page.click(f"{XL} .oc-forget")
    assert kept(page) == {"XL": 5}
    assert page.inner_text(f"{XL} .oc-forget").startswith("Really forget")
    page.click(f"{XL} .oc-forget")
    page.wait_for_selector(f"{XL} .oc-commit")
    assert kept(page) == {}


@pytest.mark.book
def test_without_scripts_the_answer_is_folded_under_its_question(server: str, browser) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{server}/data.html")
    assert page.locator(".admonition.guess").is_visible()
    assert page.locator(f"{LENGTH} .oc-question").is_visible()
    assert page.locator(f"{LENGTH} details p").is_hidden()
    page.click(f"{LENGTH} summary")
    assert page.inner_text(f"{LENGTH} details p").startswith("Measured: ")
    page.context.close()


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_read_what_a_guess_came_to(theme: str, server: str, visit: Callable) -> None:
    need(importlib.util.find_spec("axe_playwright_python"), "axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{server}/data.html", theme=theme)
    commit(page, LENGTH, 30)
    page.locator("#guess-counted-words input").fill("60")
    bad = []
    for name in ("data", "guesses"):
        again(page, f"{server}/{name}.html")
        found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
        bad += [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert page.locator(".oc-calibration circle").count() == 1
    assert bad == []
