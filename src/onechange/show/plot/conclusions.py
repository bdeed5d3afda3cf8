"""The twelve conclusions beside their witnesses: a grid of verdicts."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .chart import INK, LINE, PALETTE, ROOM, Chart, Layout, new_axes, write

SIGNS = {"holds": "●", "does not hold": "✕", "cannot be told": "○", "not measured": "·"}
COLOURS = {"holds": PALETTE["change-3"], "does not hold": PALETTE["change"]}
STEP = 26


def conclusions(frame: pd.DataFrame, column: str = "verdict") -> Chart:
    """Every conclusion's verdict by every witness; below a line, the control, which holds by construction.

    Args:
        frame: of :func:`~onechange.evidence.witnesses.conclusions`.
        column: ``verdict``, ``clean`` or ``holm``.
    """
    each = frame.drop_duplicates(["conclusion", "witness"])
    grid = each.pivot(index="conclusion", columns="witness", values=column)
    controls = each.drop_duplicates("conclusion").set_index("conclusion")["control"]
    order = [*controls.index[~controls.to_numpy(bool)], *controls.index[controls.to_numpy(bool)]]
    grid = grid.loc[order, each["witness"].unique()]
    said = [
        f"{name}: {', '.join(f'{verdict} ({witness})' for witness, verdict in line.items())}"
        for name, line in grid.iterrows()
    ]
    alt = f"Verdicts on {len(grid)} conclusions by {len(grid.columns)} witnesses. {'; '.join(said)}."
    shown = [sign for verdict, sign in SIGNS.items() if (grid == verdict).to_numpy().any()]
    words = [f"{SIGNS[verdict]} {verdict}" for verdict in SIGNS if SIGNS[verdict] in shown]
    numbered = [f"{i + 1}  {witness}" for i, witness in enumerate(grid.columns)]

    def draw(layout: Layout) -> Figure:
        left = ROOM * max(map(len, order)) + 16
        per_line = max(1, layout.width // round(ROOM * max(map(len, words)) + 24))
        keys = ["   ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)] + numbered
        width = min(layout.width - left - 10, 64.0 * len(grid.columns))
        top = LINE * (len(keys) + 1) + 14
        height = STEP * len(grid)
        figure, axes = new_axes(layout, left, layout.width - left - width, top, bottom=8, height=height)
        for i, key in enumerate(keys):
            write(axes, -left, top - LINE * (i + 1), key, size=12, alpha=0.85)
        for j in range(len(grid.columns)):
            write(axes, 0, 8, str(j + 1), at=((j + 0.5) / len(grid.columns), 1), ha="center", size=12, alpha=0.85)
        for i, name in enumerate(order):
            y = len(order) - i - 0.5
            write(axes, -left, 0, name, at=(0, y), xycoords=("axes fraction", "data"), va="center")
            for j, verdict in enumerate(grid.loc[name]):
                colour = COLOURS.get(str(verdict), INK)
                write(axes, 0, 0, SIGNS[str(verdict)], at=(j + 0.5, y), xycoords="data", ha="center", va="center",
                      color=colour)  # fmt: skip
        if controls.any():
            axes.axhline(int(controls.sum()), color=INK, linewidth=0.8, alpha=0.4)
        axes.set_xlim(0, len(grid.columns))
        axes.set_ylim(0, len(grid))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        return figure

    return Chart(draw, alt)
