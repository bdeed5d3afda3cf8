"""The style of the book's figures, and what a figure is.

A figure is a :class:`Chart`. In a notebook it shows itself as inline SVG that takes its colours and
its font from the page, so it follows a light or a dark theme; it holds two layouts, one for a column
of text and one for a phone, and its alternative text is made from the data it draws.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ...experiment.experiment import Experiment

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
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
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
    """A figure of the book: ``draw`` makes it for a layout, ``alt`` says in words what it shows.

    ``finding`` is the caption: what there is to see in it. A page numbers its captions. ``badge`` says which set of
    messages the figure is of.
    """

    draw: Callable[[Layout], Figure]
    alt: str
    finding: str = ""
    badge: str = ""

    def says(self, finding: str) -> Chart:
        """The same figure with another caption."""
        return replace(self, finding=finding)

    def figure(self, layout: Layout = WIDE) -> Figure:
        """The figure as a matplotlib object."""
        with matplotlib.rc_context(RC):
            return self.draw(layout)

    def svg(self, layout: Layout = WIDE) -> str:
        """The figure as SVG with fixed colours, a file of its own."""
        return to_svg(self.figure(layout), self.alt)

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
        badge = f' <span class="oc-badge">{escape(self.badge)}</span>' if self.badge else ""
        caption = f"<figcaption>{escape(self.finding)}{badge}</figcaption>" if self.finding else ""
        return f'<figure class="oc-chart"><div class="oc-figure">{STYLE}{"".join(parts)}</div>{caption}</figure>'

    def __repr__(self) -> str:
        return self.alt


STYLE = (
    "<style>.oc-figure{container-type:inline-size;color:inherit;background:none}"
    "body{counter-reset:oc-figure}"
    ".oc-chart{margin:0}"  # a caption stands outside the container, which counts for itself
    ".oc-chart figcaption{counter-increment:oc-figure;font:14px/1.45 var(--oc-font,system-ui);"
    "text-align:left;margin:.7em 0 0;color:inherit}"
    ".oc-chart figcaption::before{content:'Figure ' counter(oc-figure) '. ';font-weight:600}"
    ".oc-badge{white-space:nowrap;font-size:12px;border:1px solid currentColor;border-radius:3px;padding:0 .4em}"
    ".oc-figure svg{display:block;width:100%;height:auto;overflow:visible}"
    ".oc-figure .oc-narrow{display:none}"
    "@container (max-width: 540px){.oc-figure .oc-wide{display:none}.oc-figure .oc-narrow{display:block}}</style>"
)


def badge(experiments: Iterable[Experiment]) -> str:
    """Which messages some runs are of, in words."""
    names = {"uci": "UCI messages", "pocket": "pocket messages"}
    return " and ".join(dict.fromkeys(names.get(str(e.resolved().dataset), "own messages") for e in experiments))


def new_axes(
    layout: Layout, left: float, right: float, top: float, bottom: float, height: float
) -> tuple[Figure, Axes]:
    """A figure of the layout's width with one plot, margins in pixels."""
    whole = top + height + bottom
    figure = Figure(figsize=(layout.width / 72, whole / 72), dpi=72)
    figure.patch.set_visible(False)
    width = layout.width - left - right
    axes = figure.add_axes((left / layout.width, bottom / whole, width / layout.width, height / whole))
    axes.patch.set_visible(False)
    axes.spines["bottom"].set_alpha(0.5)
    return figure, axes


def by_powers(axes: Axes) -> None:
    """Put the x-axis on a logarithmic scale, its powers of ten in letters: in an SVG formulas stay source text."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: "10" + f"{math.log10(x):.0f}".translate(RAISED))
    axes.minorticks_off()


def write(axes: Axes, x: float, y: float, words: str, at: tuple[float, float] = (0, 1), **style: Any) -> None:
    """Text at so many pixels from a point of the plot, its upper left corner unless told otherwise."""
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False, **style}
    axes.annotate(words, at, (x, y), **style)


def spread(heights: list[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours are ``gap`` from each other, each near where it was."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[list[float]] = []  # neighbours that touch, as the heights they would like
    for i in order:
        groups.append([heights[i]])
        while len(groups) > 1 and mean(groups[-1]) - mean(groups[-2]) < gap * len(groups[-2] + groups[-1]) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [mean(group) + gap * (k - (len(group) - 1) / 2) for group in groups for k in range(len(group))]
    return [placed[order.index(i)] for i in range(len(heights))]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def to_svg(figure: Figure, alt: str) -> str:
    """The figure as one ``<svg>`` element, small, the same every time, its ids its own."""
    out = StringIO()
    with matplotlib.rc_context(RC):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg ") :]
    text = text.replace(' target="_blank"', "")  # a chapter opens where the figure stands
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"| transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"<g/>|<g>\s*</g>|<defs>\s*</defs>", "", text)).strip()
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', text))
    mine = "oc" + hashlib.sha256(text.encode()).hexdigest()[:8] + "-"
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{mine}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{mine}", text)
    role = "group" if "<a " in text else "img"  # an image has no parts, so links in one could not be reached
    return text.replace("<svg ", f'<svg role="{role}" aria-label={quoteattr(alt)} stroke-linejoin="round" ', 1)
