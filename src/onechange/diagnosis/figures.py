"""The report's figures, in the style of :mod:`onechange.show.plot`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..show.plot import INK, PALETTE, Chart, Layout
from ..show.plot.chart import LINE, new_axes, write


def curve(frame: pd.DataFrame, x: str, y: str, xlabel: str, ylabel: str, ideal: bool = False) -> Chart:
    """Shares in per cent with their 95 % intervals over something.

    Args:
        frame: columns ``x``, ``y``, ``low``, ``high``, the last three in per cent.
        ideal: draw the line on which both axes agree, and make them alike.
    """
    points = frame[[x, y, "low", "high"]].astype(float)
    says = "; ".join(f"{row[x]:.0f}: {row[y]:.0f} [{row.low:.0f}, {row.high:.0f}]" for _, row in points.iterrows())
    alt = f"{ylabel} by {xlabel}, with 95 % intervals. {says}."

    def draw(layout: Layout) -> Figure:
        figure, axes = new_axes(layout, left=46, right=16, top=LINE + 12, bottom=46, height=layout.plot)
        if ideal:
            ends = float(np.floor(points[x].min() / 10) * 10), 100.0
            axes.plot(ends, ends, color=INK, linewidth=1, alpha=0.4, linestyle=(0, (4, 2.5)), gid="ideal")
        colour = PALETTE["change"]
        axes.fill_between(points[x], points.low, points.high, color=colour, alpha=0.18, linewidth=0, gid="interval")
        axes.plot(points[x], points[y], "o-", color=colour, linewidth=1.8, markersize=5, clip_on=False, gid="share")
        axes.set_ylim(-2, 102)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel(xlabel, loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, LINE - 4, ylabel, alpha=0.75)
        return figure

    return Chart(draw, alt)


def padding(frame: pd.DataFrame) -> Chart:
    """How many answers change with the length that is padded to."""
    return curve(frame[frame.length > 0], "length", "flips", "tokens padded to", "answers that change (%)")


def first(frame: pd.DataFrame) -> Chart:
    """How many answers stand after the first tokens."""
    return curve(frame, "tokens", "same", "first tokens of the message", "answers as for the whole (%)")


def calibration(frame: pd.DataFrame) -> Chart:
    """How often answers of some probability are right."""
    percent = frame.assign(**{name: 100 * frame[name] for name in ("said", "right", "low", "high")})
    return curve(percent, "said", "right", "probability that is said (%)", "of these right (%)", ideal=True)
