"""The book's first figure: every change by the question it asks, for somebody who has read nothing yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...experiment.rows import TABLE, row_of
from ...support.signs import MINUS, interval, printed
from .chart import INK, NARROW, PALETTE, Chart, Layout, new_axes, write

if TYPE_CHECKING:
    from ...evidence.compare import Comparison
    from ...evidence.runs import Runs

QUESTIONS = {
    "token": "Which token is read?",
    "layers": "How much is trained?",
    "lora": "Adapters instead?",
    "size": "A larger model?",
    "pretraining": "Pretrained at all?",
    "padding": "What fills the space behind a message?",
    "masks": "Who sees whom, what counts?",
    "data": "And with no network at all?",
}
"""What each chapter asks, by its name."""

NAMES = {
    "2": "read the first token", "16": "read the last real token", "19": "average over all tokens",
    "3": "train the new layer alone", "4": "train two blocks", "5": "train everything",
    "11": "train adapters (LoRA)", "12": "the largest, with adapters",
    "6": "the next larger one", "7": "one more step up", "8": "the largest", "9": "the largest, all of it trained",
    "10": "start from random weights",
    "13": "pad to the whole context", "14": "no padding, one by one", "15": "no padding, eight together",
    "17": "let tokens see what follows", "18": "ignore a label that no one has",
    "0a": "a rule on the length", "0b": "count words", "0c": "count runs of letters",
}  # fmt: skip
"""What each row does, in words that need no chapter."""

STEP, HEAD, LINEAR = 24, 34, 4.0
"""Pixels a row and a question take; and the points around zero within which the scale is even."""


@dataclass(frozen=True)
class Mark:
    """A row of the figure, differences in points."""

    row: str
    home: str
    mid: float
    low: float
    high: float
    shown: bool
    published: float
    note: str

    @property
    def text(self) -> str:
        return printed(self.mid)

    @property
    def words(self) -> str:
        return f"{interval(self.mid, self.low, self.high)}{'' if self.shown else ', not shown'}"


def opening(rows: Mapping[str, Runs], against: Mapping[str, Comparison], callouts: Mapping[str, str]) -> Chart:
    """Every row's difference from the baseline, by the question it asks; a name leads to its chapter.

    Args:
        rows: a study with row 1.
        against: of :func:`~onechange.evidence.compare.against_baseline`, of the same study.
        callouts: a few words beside some of the rows, by row.
    """
    level = 100 * float(rows["1"].test.mean())
    marks = [_mark(row, c, callouts.get(row, "")) for row, c in against.items()]
    groups = [(home, [m for m in marks if m.home == home]) for home in QUESTIONS]
    groups = [(home, found) for home, found in groups if found]
    said = [f"{NAMES[m.row]}: {m.words}" for _, found in groups for m in found]
    alt = (
        f"Difference in test accuracy from the baseline, which has {level:.1f}% right, in points with 95% intervals, "
        f"by question. {'; '.join(said)}."
    )
    full, largest = sum(mark.shown for mark in marks), max(marks, key=lambda mark: abs(mark.mid))
    finding = (
        f"{full} of {len(marks)} differences are shown after correction; "
        f"the largest is to {NAMES[largest.row]}, {largest.text} points."
    )
    return Chart(lambda layout: _draw(layout, groups, level), alt, finding)


def _mark(row: str, c: Comparison, note: str) -> Mark:
    d = c.difference
    old = TABLE[int(row)].test - TABLE[1].test if row.isdecimal() else math.nan
    return Mark(row, row_of(row).home, 100 * d.mean, 100 * d.low, 100 * d.high, c.shown, old, note)


def _draw(layout: Layout, groups: list[tuple[str, list[Mark]]], level: float) -> Figure:
    stacked = layout is NARROW
    left, right = (10, 52) if stacked else (226, 52)
    step = 40 if stacked else STEP
    height = sum(HEAD + step * len(found) for _, found in groups)
    figure, axes = new_axes(layout, left, right, top=98, bottom=46, height=height)
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=1.1)
    _key(axes, left, level, stacked)
    y = float(height)
    for home, found in groups:
        y -= HEAD
        write(axes, -left, 8, QUESTIONS[home], at=(0, y), xycoords=("axes fraction", "data"), weight="bold", size=13,
              url=f"{home}.html")  # fmt: skip
        for mark in found:
            y -= step
            _line(axes, mark, y + (9 if stacked else step / 2), left, stacked)
    ends = [x for _, found in groups for m in found for x in (m.low, m.high, m.published) if not math.isnan(x)]
    low, high = 1.25 * min(ends), 1.6 * max(ends)
    axes.set_xlim(low, high)
    ticks = [t for t in (-40, -20, -10, -4, -2, 0, 2, 4, 10) if low <= t <= high and not (stacked and t == -10)]
    axes.set_xticks(ticks, [f"{t:+d}".translate(MINUS) if t else "0" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, height)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=3, pad=5)
    axes.set_xlabel(f"points of test accuracy; closer together beyond {LINEAR:g}", loc="left", labelpad=4, alpha=0.75)
    return figure


def _key(axes: Axes, left: float, level: float, stacked: bool) -> None:
    words = ["● the difference that is shown, and its 95% interval", "○ none could be shown"]
    for i, text in enumerate([*words, "◇ GPT-2, as published, one run"]):
        write(axes, -left, 80 - 18 * i, text, size=12, alpha=0.5 if text[0] == "◇" else 0.85)
    where = {"ha": "center", "size": 12}
    write(axes, 0, 8, f"baseline: {level:.1f}% right", at=(0, 1), xycoords=("data", "axes fraction"), **where)


def _line(axes: Axes, mark: Mark, y: float, left: float, stacked: bool) -> None:
    colour = PALETTE["change-2"] if mark.home == "data" else PALETTE["change"]
    bar = axes.plot([mark.low, mark.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")[0]
    bar.set_alpha(1.0 if mark.shown else 0.55)
    fill = "full" if mark.shown else "none"
    axes.plot([0, 0], [y - 10, y + (7 if stacked else 10)], color=INK, linewidth=1, alpha=0.5)
    axes.plot([mark.published], [y], "D", color=INK, fillstyle="none", markersize=6, alpha=0.35)
    axes.plot([mark.mid], [y], "o", color=colour, fillstyle=fill, markersize=7, gid=f"{mark.row}-mid")
    side = {"xycoords": ("axes fraction", "data"), "va": "center"}
    name = {"url": f"{mark.home}.html", "size": 12.5, **side}
    write(axes, -left + (0 if stacked else 12), 16 if stacked else 0, NAMES[mark.row], at=(0, y), **name)
    write(axes, 48, 0, mark.text, at=(1, y), ha="right", size=12, alpha=0.85, **side)
    if mark.note and not stacked:  # on the side where zero is
        end, shift, align = (mark.high, 9, "left") if mark.mid < 0 else (mark.low, -9, "right")
        write(axes, shift, 0, mark.note, at=(end, y), xycoords="data", ha=align, va="center", size=12, alpha=0.8,
              style="italic")  # fmt: skip
