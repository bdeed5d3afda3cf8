"""Guess first: a slider that commits before the answer is shown, and what all of a reader's guesses come to.

Each is a piece of HTML with its script, like the panel that publishes a table: it works in a built page, in a notebook
and from the disk. Without scripts a question stands above its folded answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

from ..support.errors import UsageError
from .publish import HERE, Panel
from .questions import BOOK, Answer, Question


def ask(*names: str) -> Panel:
    """Questions of the book. A guess stays in the reader's browser.

    Raises:
        UsageError: if the book has none of such a name.
    """
    book = {question.name: question for question in BOOK}
    if unknown := [name for name in names if name not in book]:
        raise UsageError(f"no question {unknown[0]!r}: {', '.join(book)}")
    return asked([book[name] for name in names])


def guess(
    question: str,
    *,
    answer: float,
    low: float,
    high: float,
    span: tuple[float, float] = (0, 100),
    unit: str = " %",
) -> Panel:
    """Ask for a prediction before the measured value and its interval are shown. This guess is not kept.

    Args:
        question: what to predict.
        answer, low, high: what was measured, and the ends of its interval.
        span: the least and the most that can be guessed.
        unit: what stands behind a number.

    Raises:
        UsageError: if these numbers are not in order.
    """
    step = (span[1] - span[0]) / 200
    return asked([Question("", "", question, lambda: Answer(answer, low, high), unit, span, step)])


def asked(questions: Sequence[Question]) -> Panel:
    """Questions below each other, with a slider each."""
    return _panel("Your guess", "".join(map(_folded, questions)), " ".join(question.words for question in questions))


def _folded(question: Question) -> str:
    known = facts(question)
    name = f" id=guess-{slug(question.name)}" if question.name else ""
    return (
        f"<div class=oc-guess{name} data-question='{_json(known)}'><p class=oc-question>{escape(question.words)}</p>"
        f"<details><summary>Just show me</summary><p>{escape(str(known['said']))}</p></details>"
        "<p class=oc-said role=status tabindex=-1></p></div>"
    )


def slug(name: str) -> str:
    """A question's name as part of an address."""
    return re.sub(r"\W+", "-", name)


def calibration() -> Panel:
    """All guesses that this browser keeps beside what was measured: one figure, how far off, and where to read on."""
    data = f"<script type=application/json>{_json([facts(question) for question in BOOK])}</script>"
    empty = "<p>Your guesses are kept by a script in your browser, and here none has run.</p>"
    return _panel("Your guesses", f"<div class=oc-calibration>{data}{empty}</div>", "Your guesses beside the answers.")


def facts(question: Question) -> dict[str, object]:
    """What the script is told of a question."""
    answer, (least, most) = question.answer(), question.span
    kept = {key: getattr(question, key) for key in ("name", "words", "unit", "step", "digits", "whole")}
    at = f"{question.chapter}#guess-{slug(question.name)}"
    return kept | answer._asdict() | {"at": at, "least": least, "most": most, "said": question.said(answer)}


def _panel(label: str, html: str, words: str) -> Panel:
    style, script = ((HERE / f"guess.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    section = f'<section class="oc-guesses" aria-label="{label}"><style>{style}</style>{html}</section>'
    return Panel(f"{section}<script>{script}</script>", words)


def _json(data: object) -> str:
    """JSON that may stand between single quotes, and in a script."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("'", "\\u0027").replace("<", "\\u003c")
