"""One line a row: its value, its interval, and both in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ...support.signs import interval, printed
from .chart import INK, LINE, NARROW, PALETTE, ROOM, Chart, Layout, by_powers, new_axes, write


@dataclass(frozen=True)
class Line:
    label: str
    mid: float
    low: float
    high: float
    text: str
    dots: tuple[float, ...] = ()
    published: float = math.nan
    hollow: bool = False


def lines(layout: Layout, rows: list[Line], zero: float, xlabel: str, key: list[str], log: bool = False) -> Figure:
    """A row for every label: dots, an interval, and its numbers; a line at ``zero`` unless that is no number."""
    stacked = layout is NARROW
    step = 44 if stacked else 30
    left = 10 if stacked else min(240, round(ROOM * max(len(r.label) for r in rows)) + 16)
    right = 10 if stacked else round(ROOM * max(len(r.text) for r in rows)) + 14
    top = LINE * len(key) + 12
    figure, axes = new_axes(layout, left, right, top, bottom=46, height=step * len(rows))
    for i, words in enumerate(key):
        write(axes, -left, top - LINE * (i + 1), words, size=12, alpha=0.8)
    for i, row in enumerate(rows):
        y = (len(rows) - 1 - i) * step + (11 if stacked else step / 2)
        colour = INK if row.dots and i == 0 else PALETTE["change"]
        wobble = [y + 3.5 * (1 - (j * 3) % 5 / 2) for j in range(len(row.dots))]
        axes.plot(
            [zero, zero],
            [y - (11 if stacked else step / 2), y + (9 if stacked else step / 2)],
            color=INK,
            linewidth=1,
            alpha=0.4,
        )
        axes.plot(row.dots, wobble, "o", color=colour, markersize=5, alpha=0.35, markeredgewidth=0, gid=f"{i}-dots")
        bar: dict[str, Any] = {"linewidth": 2, "alpha": 0.55 if row.hollow else 1.0, "solid_capstyle": "butt"}
        axes.plot([row.low, row.high], [y, y], color=colour, gid=f"{i}-bar", **bar)
        fill = "none" if row.hollow else "full"
        axes.plot([row.mid], [y], "o", color=colour, fillstyle=fill, markersize=7, gid=f"{i}-mid")
        axes.plot([row.published], [y], "D", color=INK, fillstyle="none", markersize=6.5, gid=f"{i}-published")
        side: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
        level = 17 if stacked else 0
        write(axes, -left, level, row.label, at=(0, y), color=colour if row.dots else INK, **side)
        write(axes, right, level, row.text, at=(1, y), ha="right", size=12, alpha=0.8, **side)
    values = [v for r in rows for v in (r.low, r.high, *r.dots, r.published, zero) if not math.isnan(v)]
    pad = 0.04 * (max(values) - min(values)) or 0.5
    axes.set_xlim(min(values) - pad, max(values) + pad)
    if log:
        by_powers(axes)
        axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
    else:
        axes.locator_params(axis="x", nbins=5 if stacked else 7)
    axes.set_ylim(0, step * len(rows))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=3, pad=5)
    axes.set_xlabel(xlabel, loc="left" if stacked else "center", labelpad=4, alpha=0.75)
    return figure


def strip(frame: pd.DataFrame, *, xlabel: str = "test accuracy") -> Chart:
    """One dot a seed, with the mean and its 95% interval (Student's t) for every row.

    Args:
        frame: columns ``label``, ``seed`` and ``value``, a fraction. Rows stand in order of first
            appearance; the first is the baseline.
        xlabel: what the values are.
    """
    from scipy import stats  # not at the top: it takes half a second

    rows = []
    for label, group in frame.groupby("label", sort=False):
        values = 100 * group["value"].to_numpy(float)
        n, mean = len(values), float(values.mean())
        half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5) if n > 1 else 0.0
        text = f"{mean:.1f}% ± {half:.1f}" if n > 1 else f"{mean:.1f}%"
        rows.append(Line(str(label), mean, mean - half, mean + half, text, tuple(values)))
    alt = f"{xlabel.capitalize()} by row, one dot a seed. " + "; ".join(f"{r.label}: mean {r.text}" for r in rows) + "."
    low, high = min(min(row.dots) for row in rows), max(max(row.dots) for row in rows)
    finding = f"One seed and another differ: from {low:.1f}% to {high:.1f}%."
    return Chart(lambda layout: lines(layout, rows, rows[0].mid, f"{xlabel} (%)", []), alt, finding)


def forest(
    frame: pd.DataFrame,
    *,
    xlabel: str = "difference in test accuracy",
    against: str = "the baseline",
    notes: Sequence[str] = (),
) -> Chart:
    """Differences with their intervals, and a line at zero.

    Args:
        frame: columns ``label``, ``diff``, ``low``, ``high`` and perhaps ``published`` (missing where
            there is none), all fractions; and perhaps ``shown``: whether the difference is, after whatever
            correction was made. One that is not has a hollow mark.
        xlabel: what the differences are of.
        against: what they are differences from.
        notes: lines that stand above, below the key.
    """
    rows, words = [], []
    for record in frame.to_dict("records"):
        diff, low, high = (100 * float(record[name]) for name in ("diff", "low", "high"))
        published = 100 * float(record.get("published", math.nan))
        text = interval(diff, low, high)
        shown = bool(record.get("shown", True))
        rows.append(Line(str(record["label"]), diff, low, high, text, published=published, hollow=not shown))
        also = "" if math.isnan(published) else f", published {printed(published)}"
        words.append(f"{record['label']}: {text}{also}{'' if shown else ', not shown'}")
    key = ["● measured, with its 95% interval"]
    if any(row.hollow for row in rows):
        key = ["● shown after correction, with its 95% interval", "○ not shown"]
    if not all(math.isnan(row.published) for row in rows):
        key.append("◇ published, one seed")
    alt = f"{xlabel.capitalize()} from {against} in points, with 95% intervals. {'; '.join([*words, *notes])}."
    key += notes
    largest, full = max(rows, key=lambda row: abs(row.mid)), sum(not row.hollow for row in rows)
    says = printed(largest.mid)
    finding = f"The largest difference is that of “{largest.label}”, {says} points."
    if "shown" in frame:
        finding = f"{full} of {len(rows)} {'is' if full == 1 else 'are'} shown after correction. {finding}"
    return Chart(lambda layout: lines(layout, rows, 0.0, f"{xlabel} (points)", key), alt, finding)


def pairs(frame: pd.DataFrame, *, xlabel: str, names: tuple[str, str]) -> Chart:
    """Two costs of every row on a logarithmic axis, and how many times the first is the second.

    Args:
        frame: columns ``label``, ``before`` and ``after``, numbers above zero.
        xlabel: what the costs are counted in.
        names: what the two are.
    """
    rows = []
    for label, before, after in frame[["label", "before", "after"]].itertuples(index=False):
        times = float(f"{before / after:.2g}")
        rows.append(
            Line(str(label), after, min(before, after), max(before, after), f"{times:g} times", published=before)
        )
    words = "; ".join(f"{row.label}: {row.published:.1e} and {row.mid:.1e}, {row.text}" for row in rows)
    alt = f"{xlabel[0].upper()}{xlabel[1:]} by row, {names[0]} and {names[1]}, on a logarithmic axis. {words}."
    ratios = [before / after for before, after in zip(frame["before"], frame["after"], strict=True)]
    least, most = (f"{float(f'{pick(ratios):.2g}'):g}" for pick in (min, max))
    finding = f"{names[0][0].upper()}{names[0][1:]} takes {least} to {most} times what {names[1]} takes."
    key = [f"◇ {names[0]}", f"● {names[1]}"]
    return Chart(lambda layout: lines(layout, rows, math.nan, xlabel, key, log=True), alt, finding)
