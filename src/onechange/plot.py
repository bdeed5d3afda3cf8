"""Every figure of the book, in one style.

A figure is a :class:`Chart`. In a notebook it shows itself as inline SVG that takes its colours and
its font from the page, so it follows a light or a dark theme; it holds two layouts, one for a column
of text and one for a phone, and its alternative text is made from the data it draws.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from .train import Result

INK = "#23272d"
"""The baseline, and all text. On a page it is the colour of the text around it."""
PALETTE = {"change": "#b3420d", "change-2": "#1b63a5", "change-3": "#17694f"}
"""The change, and further ones: the book's style sheet gives each name a light and a dark value."""
SERIES = list(zip((INK, *PALETTE.values()), "os^D", "●■▲◆", strict=True))

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "onechange",
    "font.family": ["DejaVu Sans"],
    "font.size": 13,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
MINUS = str.maketrans("-", "−")
LINE = 18  # height of a line of text
ROOM = 6.9  # width to allow for a character


@dataclass(frozen=True)
class Layout:
    """A width to draw for and the height of a plot of curves, in pixels; text is 13 high in each."""

    name: str
    width: int
    plot: int


WIDE = Layout("wide", 680, 270)
NARROW = Layout("narrow", 340, 220)


@dataclass(frozen=True, repr=False)
class Chart:
    """A figure of the book: ``draw`` makes it for a layout, ``alt`` says in words what it shows."""

    draw: Callable[[Layout], Figure]
    alt: str

    def figure(self, layout: Layout = WIDE) -> Figure:
        """The figure as a matplotlib object."""
        with matplotlib.rc_context(RC):
            return self.draw(layout)

    def svg(self, layout: Layout = WIDE) -> str:
        """The figure as SVG with fixed colours, a file of its own."""
        return _svg(self.figure(layout), self.alt)

    def save(self, path: str | Path, layout: Layout = WIDE) -> Path:
        """Write the figure to an ``.svg`` or a ``.png`` file."""
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.svg(layout), encoding="utf-8")
        elif path.suffix == ".png":
            figure = self.figure(layout)
            figure.patch.set(visible=True, facecolor="white")
            FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})
        else:
            raise ValueError(f"a figure is saved as .svg or .png, not {path.suffix or path.name!r}")
        return path

    def _repr_html_(self) -> str:
        parts = []
        for layout in (WIDE, NARROW):
            svg = self.svg(layout).replace(INK, "currentColor").replace("'DejaVu Sans'", "var(--oc-font, system-ui)")
            for name, colour in PALETTE.items():
                svg = svg.replace(colour, f"var(--oc-{name}, {colour})")
            parts.append(svg.replace("<svg ", f'<svg class="oc-{layout.name}" style="max-width: {layout.width}px" ', 1))
        return f'<div class="oc-figure">{STYLE}{"".join(parts)}</div>'

    def __repr__(self) -> str:
        return self.alt


STYLE = (
    "<style>.oc-figure{container-type:inline-size;color:inherit;background:none}"
    ".oc-figure svg{display:block;width:100%;height:auto;overflow:visible}"
    ".oc-figure .oc-narrow{display:none}"
    "@container (max-width: 540px){.oc-figure .oc-wide{display:none}.oc-figure .oc-narrow{display:block}}</style>"
)


def losses(result: Result, *more: Result) -> Chart:
    """Training and validation loss over the examples seen; the first result in ink, others in colour."""
    results = (result, *more)
    return _curves("loss", "examples seen", results, [r.losses.set_index("examples") for r in results])


def accuracies(result: Result, *more: Result) -> Chart:
    """Training and validation accuracy after each epoch, estimated on a few batches as in training."""
    results = (result, *more)
    return _curves("accuracy", "epoch", results, [r.accuracies for r in results])


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
        rows.append(_Row(str(label), mean, mean - half, mean + half, text, tuple(values)))
    alt = f"{xlabel.capitalize()} by row, one dot a seed. " + "; ".join(f"{r.label}: mean {r.text}" for r in rows) + "."
    return Chart(lambda layout: _rows(layout, rows, rows[0].mid, f"{xlabel} (%)", []), alt)


def forest(frame: pd.DataFrame, *, xlabel: str = "difference in test accuracy") -> Chart:
    """Differences from the baseline with their intervals, and a line at zero.

    Args:
        frame: columns ``label``, ``diff``, ``low``, ``high`` and perhaps ``published`` (missing where
            there is none), all fractions.
        xlabel: what the differences are of.
    """
    rows, words = [], []
    for record in frame.to_dict("records"):
        diff, low, high = (100 * float(record[name]) for name in ("diff", "low", "high"))
        published = 100 * float(record.get("published", math.nan))
        text = f"{diff:+.1f} [{low:+.1f}, {high:+.1f}]".translate(MINUS)
        rows.append(_Row(str(record["label"]), diff, low, high, text, published=published))
        also = "" if math.isnan(published) else f", published {published:+.1f}".translate(MINUS)
        words.append(f"{record['label']}: {text}{also}")
    key = ["● measured, with its 95% interval"]
    if not all(math.isnan(row.published) for row in rows):
        key.append("◇ published, one seed")
    alt = f"{xlabel.capitalize()} from the baseline in points, with 95% intervals. {'; '.join(words)}."
    return Chart(lambda layout: _rows(layout, rows, 0.0, f"{xlabel} (points)", key), alt)


def _curves(ylabel: str, xlabel: str, results: Sequence[Result], frames: list[pd.DataFrame]) -> Chart:
    """Two curves for each result: training dashed, validation solid, each named at its end."""
    frames = [frame[["train", "val"]].dropna() for frame in frames]
    for result, frame in zip(results, frames, strict=True):
        if frame.empty:
            raise ValueError(f"a run has no {ylabel} to draw: {result.error or 'it is not finished'}")
    say: Callable[[float], str] = "{:.2f}".format if ylabel == "loss" else "{:.0%}".format
    what, names = _names(results)
    words = []
    for name, frame in zip(names, frames, strict=True):
        who = f"{what} {name}, " if what else ""
        for column, long in (("train", "training"), ("val", "validation")):
            words.append(f"{who}{long} from {say(frame[column].iloc[0])} to {say(frame[column].iloc[-1])}")
    alt = f"{ylabel.capitalize()} by {xlabel}: {'; '.join(words)}."

    def draw(layout: Layout) -> Figure:
        head = LINE * (len(names) + 1) + 6 if what else 0
        figure, axes = _axes(layout, left=46, right=78, top=head + 28, bottom=46, height=layout.plot)
        if what:
            _write(axes, -46, head + 10, what, alpha=0.75)
        tips: list[tuple[float, str, str]] = []
        for i, (name, frame) in enumerate(zip(names, frames, strict=True)):
            colour, marker, sign = SERIES[i % len(SERIES)]
            for column, long, dashes in (("train", "training", (0, (4, 2.5))), ("val", "validation", "solid")):
                curve = frame[column]
                axes.plot(curve.index, curve, color=colour, linestyle=dashes, linewidth=1.8, gid=f"{i}-{column}")
                axes.plot(curve.index[-1:], curve[-1:], marker, color=colour, markersize=5, clip_on=False)
                tips.append((float(curve.iloc[-1]), long, colour))
            if what:
                _write(axes, -46, head + 10 - LINE * (i + 1), f"{sign} {name}", color=colour)
        low, high = min(float(f.min().min()) for f in frames), max(float(f.max().max()) for f in frames)
        if ylabel == "accuracy":
            axes.set_ylim(low - 0.08 * (1 - low) - 0.005, 1.005)
            axes.set_xticks(frames[0].index)
            axes.yaxis.set_major_formatter(lambda value, _: say(value))
        else:
            axes.set_ylim(0, 1.06 * high)
            axes.set_xlim(0, float(max(f.index[-1] for f in frames)))
            axes.locator_params(axis="x", nbins=5)
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel(xlabel, loc="left", labelpad=5, alpha=0.75)
        _write(axes, -46, 12, ylabel, alpha=0.75)
        bottom, top = axes.get_ylim()
        heights = [(value - bottom) / (top - bottom) * layout.plot for value, _, _ in tips]
        for height, (_, long, colour) in zip(_spread(heights, LINE - 3), tips, strict=True):
            _write(axes, 9, height, long, at=(1, 0), color=colour, size=12, va="center")
        return figure

    return Chart(draw, alt)


def _names(results: Sequence[Result]) -> tuple[str, list[str]]:
    """What the experiments differ in, and each one's value of it."""
    first = results[0].experiment
    fields = list(dict.fromkeys(name for r in results[1:] for name in r.experiment.diff(first)))
    if len(fields) > 1 and "seed" in fields:
        fields.remove("seed")
    names = [" · ".join(_say(getattr(r.experiment, name)) for name in fields) for r in results]
    if len(results) > 1 and not fields:
        return "run", [str(i + 1) for i in range(len(results))]
    return " · ".join(fields), names


def _say(value: Any) -> str:
    """A field's value as a reader says it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).translate(MINUS) if isinstance(value, int | float) else str(value or "default")


@dataclass(frozen=True)
class _Row:
    label: str
    mid: float
    low: float
    high: float
    text: str
    dots: tuple[float, ...] = ()
    published: float = math.nan


def _rows(layout: Layout, rows: list[_Row], zero: float, xlabel: str, key: list[str]) -> Figure:
    """A row for every label: dots, an interval, and its numbers; a line at ``zero``."""
    stacked = layout is NARROW
    step = 44 if stacked else 30
    left = 10 if stacked else min(240, round(ROOM * max(len(r.label) for r in rows)) + 16)
    right = 10 if stacked else round(ROOM * max(len(r.text) for r in rows)) + 14
    top = LINE * len(key) + 12
    figure, axes = _axes(layout, left, right, top, bottom=46, height=step * len(rows))
    for i, words in enumerate(key):
        _write(axes, -left, top - LINE * (i + 1), words, size=12, alpha=0.8)
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
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt", gid=f"{i}-bar")
        axes.plot([row.mid], [y], "o", color=colour, markersize=7, gid=f"{i}-mid")
        axes.plot([row.published], [y], "D", color=INK, fillstyle="none", markersize=6.5, gid=f"{i}-published")
        side: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
        level = 17 if stacked else 0
        _write(axes, -left, level, row.label, at=(0, y), color=colour if row.dots else INK, **side)
        _write(axes, right, level, row.text, at=(1, y), ha="right", size=12, alpha=0.8, **side)
    values = [v for r in rows for v in (r.low, r.high, *r.dots, r.published) if not math.isnan(v)] + [zero]
    pad = 0.04 * (max(values) - min(values)) or 0.5
    axes.set_xlim(min(values) - pad, max(values) + pad)
    axes.set_ylim(0, step * len(rows))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5 if stacked else 7)
    axes.tick_params(length=3, pad=5)
    axes.set_xlabel(xlabel, loc="left" if stacked else "center", labelpad=4, alpha=0.75)
    return figure


def _axes(layout: Layout, left: float, right: float, top: float, bottom: float, height: float) -> tuple[Figure, Axes]:
    """A figure of the layout's width with one plot, margins in pixels."""
    whole = top + height + bottom
    figure = Figure(figsize=(layout.width / 72, whole / 72), dpi=72)
    figure.patch.set_visible(False)
    width = layout.width - left - right
    axes = figure.add_axes((left / layout.width, bottom / whole, width / layout.width, height / whole))
    axes.patch.set_visible(False)
    axes.spines["bottom"].set_alpha(0.5)
    return figure, axes


def _write(axes: Axes, x: float, y: float, words: str, at: tuple[float, float] = (0, 1), **style: Any) -> None:
    """Text at so many pixels from a point of the plot, its upper left corner unless told otherwise."""
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False, **style}
    axes.annotate(words, at, (x, y), **style)


def _spread(heights: list[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours are ``gap`` from each other, each near where it was."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[list[float]] = []  # neighbours that touch, as the heights they would like
    for i in order:
        groups.append([heights[i]])
        while len(groups) > 1 and _mean(groups[-1]) - _mean(groups[-2]) < gap * len(groups[-2] + groups[-1]) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [_mean(group) + gap * (k - (len(group) - 1) / 2) for group in groups for k in range(len(group))]
    return [placed[order.index(i)] for i in range(len(heights))]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _svg(figure: Figure, alt: str) -> str:
    """The figure as one ``<svg>`` element, small, the same every time, its ids its own."""
    out = StringIO()
    with matplotlib.rc_context(RC):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"| transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"<g/>|<g>\s*</g>|<defs>\s*</defs>", "", text)).strip()
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', text))
    mine = "oc" + hashlib.sha256(text.encode()).hexdigest()[:8] + "-"
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{mine}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{mine}", text)
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(alt)} stroke-linejoin="round" ', 1)
