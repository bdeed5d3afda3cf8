"""Guess first: the book's questions and their answers, what a reader sees of one, and what is said of a guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pressed import ROOT, Parts

import onechange as oc
from onechange.show import guesses, questions
from onechange.show.guesses import guess
from onechange.show.questions import BOOK, Question

SLOW = {"operations"}  # counted on a model without numbers, of GPT-2's size
each_question = pytest.mark.parametrize(
    "question",
    [pytest.param(q, marks=pytest.mark.slow if q.name in SLOW else ()) for q in BOOK],
    ids=[q.name for q in BOOK],
)


def asked(html: str) -> list[dict]:
    """What the script is told of the questions in a piece of HTML."""
    found = [attrs.get("data-question") for _, attrs in Parts(html).elements]
    return [json.loads(data) for data in found if data]


@each_question
def test_an_answer_lies_within_what_can_be_guessed(question: Question) -> None:
    answer = question.answer()
    assert question.span[0] <= answer.low <= answer.value <= answer.high <= question.span[1]
    assert question.said(answer).startswith("Counted: " if answer.low == answer.high else "Measured: ")


def test_every_chapter_asks_its_questions_once() -> None:
    """In the order in which the calibration lists them, and none that is not in the list."""
    found = []
    for chapter in dict.fromkeys(question.chapter for question in BOOK):
        cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        (source,) = ["".join(c["source"]) for c in cells if "guesses.ask(" in "".join(c["source"])]
        names = [question.name for question in BOOK if question.chapter == chapter]
        assert f"guesses.ask({', '.join(map(json.dumps, names))})" in source
        found += names
    assert len(set(found)) == len(found) == len(BOOK)


def test_measured_answers_are_those_of_the_stored_results() -> None:
    table = oc.stored("table-uci")
    e = oc.difference(table["1"], table["13"]).difference
    question = next(q for q in BOOK if q.name == "full context")
    assert question.answer() == tuple(round(100 * x, 1) for x in (e.mean, e.low, e.high))
    assert question.said(question.answer()).startswith(f"Measured: \N{MINUS SIGN}{abs(100 * e.mean):.1f} points")
    rule = oc.accuracy(oc.stored("table-pocket")["0a"])
    assert BOOK[0].answer() == tuple(round(100 * x, 1) for x in (rule.mean, rule.low, rule.high))


def test_counted_answers_are_those_of_a_count_by_hand() -> None:
    C, L, V, T, r, K = 768, 12, 50257, 1024, 16, 2  # GPT-2 small, LoRA's rank in row 11, classes
    whole = (V + T) * C + L * (12 * C**2 + 13 * C) + 2 * C
    assert questions.mlps().value == pytest.approx(100 * L * (8 * C**2 + 5 * C) / whole)
    lora = 18 * L * r * C + r * (C + K) + K * (C + 1)
    assert questions.adapters().value == pytest.approx(100 * lora / (whole + K * (C + 1)))
    assert questions.own().value == 1  # one message is the longest


def test_what_is_asked_reaches_the_script_and_stays_folded() -> None:
    words = "Is 'less' < \"more\" & why?"
    html = guess(words, answer=92.1, low=90.3, high=93.9).html
    (told,) = asked(html)
    assert told["words"] == words
    assert (told["value"], told["low"], told["high"], told["name"]) == (92.1, 90.3, 93.9, "")
    shown = Parts(html)
    assert words in shown.words
    assert "Measured: 92.1 %, 95 % interval 90.3 to 93.9 %." in shown.words
    tags = [tag for tag, _ in shown.elements]
    assert tags.index("p") < tags.index("details") < tags.index("summary")  # folded, with a script or without


def test_a_guess_needs_an_interval_in_order() -> None:
    with pytest.raises(oc.UsageError, match="is not in order"):
        guess("?", answer=5, low=6, high=7)
    with pytest.raises(oc.UsageError, match="is not in order, or not within 0 to 10"):
        guess("?", answer=5, low=4, high=11, span=(0, 10))
    piece = guess("Seconds?", answer=1234.5, low=1200, high=1300, span=(0, 2000), unit=" s")
    assert "Measured: 1,234 s" in Parts(piece.html).words
    assert repr(piece) == "Seconds?"


def test_a_question_that_the_book_does_not_ask_is_refused() -> None:
    with pytest.raises(oc.UsageError, match=r"no question .nothing.: length alone, "):
        guesses.ask("nothing")


# In a browser, without a book around it.


@pytest.fixture
def shown(browser, tmp_path: Path) -> Callable:
    """A piece of HTML as a page of its own, on the disk."""
    page = browser.new_page()

    def show(html: str):
        file = tmp_path / "page.html"
        file.write_text(f"<!doctype html><meta charset=utf-8><main>{html}</main>", encoding="utf-8")
        page.goto(file.as_uri())
        return page

    yield show
    page.context.close()


def commit(page, value: float) -> str:
    """Guess, and what is said of it."""
    page.locator("input[type=range]").fill(str(value))
    page.click(".oc-commit")
    return page.inner_text(".oc-said")


@pytest.mark.book
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (80, "Your guess of 80 % is 10.3 points below it."),
        (92, "Your guess of 92 % lies inside it."),
        (100, "Your guess of 100 % is 6.1 points above it."),
    ],
)
def test_a_guess_is_set_beside_what_was_measured(value: float, said: str, shown: Callable) -> None:
    page = shown(guess("How many are right?", answer=92.1, low=90.3, high=93.9).html)
    assert page.locator(".oc-commit").is_disabled()
    assert not page.locator(":is(.oc-interval, .oc-measured, .oc-there)").locator("visible=true").count()
    assert commit(page, value) == f"Measured: 92.1 %, 95 % interval 90.3 to 93.9 %. {said}"
    assert page.locator("input").is_disabled()
    line, measured = (page.locator(f".oc-{part}").bounding_box() for part in ("line", "measured"))
    x = (measured["x"] + measured["width"] / 2 - line["x"] - 10) / (line["width"] - 20)
    assert x == pytest.approx(0.921, abs=0.003)
    assert page.inner_text(".oc-yours") == f"{value} %"
    assert page.locator(".oc-yours").evaluate("(node) => Number(node.style.getPropertyValue('--x'))") == value / 100


@pytest.mark.book
def test_other_units_and_answers_that_were_counted(shown: Callable) -> None:
    seconds = guess("Seconds?", answer=1234, low=1200, high=1300, span=(0, 2000), unit=" s").html
    assert commit(shown(seconds), 1100).endswith("Your guess of 1,100 s is 100 s below it.")
    points = guess("Points?", answer=-4, low=-6, high=-2, span=(-10, 10), unit=" points").html
    said = "Measured: −4.0 points, 95 % interval −6.0 to −2.0 points. Your guess of −1 points is 1 point above it."
    assert commit(shown(points), -1) == said
    whole = guess("How many?", answer=5, low=5, high=5, span=(0, 200), unit=" of 200").html
    assert commit(shown(whole), 5) == "Counted: 5 of 200. Your guess of 5 of 200 is right."
    assert commit(shown(whole), 7) == "Counted: 5 of 200. Your guess of 7 of 200 is 2 above it."


@pytest.mark.book
def test_who_only_wants_to_see_is_shown_and_asked_no_more(shown: Callable) -> None:
    page = shown(guess("How many are right?", answer=92.1, low=90.3, high=93.9).html)
    page.locator("summary").press("Enter")
    page.wait_for_selector(".oc-there:visible")
    assert page.locator(":is(input, .oc-commit)").locator("visible=true").count() == 0
    assert page.inner_text("details p").startswith("Measured: 92.1 %")
