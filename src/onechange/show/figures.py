"""Figures of single chapters, in the style of ``onechange.show.plot``, and the package's source as a page shows it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .plot.chart import INK, LINE, PALETTE, Chart, Layout, new_axes, write
from .plot.lines import Line, lines

if TYPE_CHECKING:
    from IPython.display import Markdown


def source(part: Any) -> Markdown:
    """The source of a class or a function of the package, for a notebook to show."""
    from IPython.display import Markdown

    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(part)).rstrip()}\n```")


def lengths(tokens: Mapping[str, Sequence[int] | np.ndarray], cut: int | None = None) -> Chart:
    """How many messages of two classes have how many tokens: one class up, the other down.

    Args:
        tokens: each class's name to its messages' lengths in tokens.
        cut: a length to draw a line at, in front of it.
    """
    classes = {name: np.asarray(values) for name, values in tokens.items()}
    upper, lower = classes
    longest = max(int(values.max()) for values in classes.values())
    step = max(1, round(longest / 25))
    edges = np.arange(0, longest + step + 1, step)
    words = [
        f"{name}: {len(values)} messages, median {np.median(values):.0f}, longest {values.max()}"
        for name, values in classes.items()
    ]
    line = "" if cut is None else f" A line stands before {cut} tokens."
    alt = f"Messages by length in tokens, {upper} above the axis and {lower} below it. {'; '.join(words)}.{line}"

    medians = " and ".join(f"{np.median(values):.0f} ({name})" for name, values in classes.items())
    finding = f"The median lengths are {medians} tokens; the longest message has {longest}."

    def draw(layout: Layout) -> Figure:
        figure, axes = new_axes(layout, left=46, right=12, top=LINE + 14, bottom=46, height=layout.plot)
        for i, (name, colour) in enumerate(zip(classes, (INK, PALETTE["change"]), strict=True)):
            counts, _ = np.histogram(classes[name], edges)
            sign, corner, inwards = ((1, 1.0, "top"), (-1, 0.0, "bottom"))[i]
            axes.stairs(sign * counts, edges, fill=True, color=colour, alpha=0.75, linewidth=0, gid=f"{i}-counts")
            says = f"{name}, median {np.median(classes[name]):.0f}"
            write(axes, -4, -6 * sign, says, at=(1, corner), ha="right", va=inwards, color=colour)
        if cut is not None:
            axes.axvline(cut - 0.5, color=INK, linewidth=1, linestyle=(0, (4, 2.5)), gid="cut")
            write(axes, 0, 6, f"{cut} or more", at=(cut - 0.5, 1), xycoords=("data", "axes fraction"), size=12)
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
        axes.set_xlim(0, edges[-1])
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel("tokens", loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, LINE - 2, "messages", alpha=0.75)
        return figure

    return Chart(draw, alt, finding)


def scores(frame: pd.DataFrame, *, guess: float = 0.5, xlabel: str = "test accuracy") -> Chart:
    """Accuracies of single runs with Wilson's 95% interval, and a line where guessing stands.

    Args:
        frame: columns ``label``, ``right`` and ``n``: right on so many of ``n`` messages.
        guess: the accuracy of a guess, a fraction.
        xlabel: what the accuracies are.
    """
    from scipy.stats import binomtest

    rows = []
    for label, right, n in frame[["label", "right", "n"]].itertuples(index=False):
        found = binomtest(int(right), int(n)).proportion_ci(method="wilson")
        mid, low, high = 100 * right / n, 100 * found.low, 100 * found.high
        rows.append(Line(str(label), mid, low, high, f"{mid:.1f}% [{low:.1f}, {high:.1f}]"))
    key = ["● measured, with its 95% interval", f"│ a guess, {guess:.0%}"]
    says = "; ".join(f"{row.label}: {row.text}" for row in rows)
    alt = f"{xlabel.capitalize()} with 95% intervals; a guess has {guess:.0%}. {says}."
    best = max(rows, key=lambda row: row.mid)
    finding = f"A guess is right on {guess:.0%}, “{best.label}”, the best of {len(rows)}, on {best.mid:.1f}%."
    return Chart(lambda layout: lines(layout, rows, 100 * guess, f"{xlabel} (%)", key), alt, finding)
