"""How the pocket family was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from .chart import INK, LINE, SERIES, Chart, Layout, new_axes, write


def pretraining(cards: Mapping[str, Mapping[str, Any]]) -> Chart:
    """The training loss of each size over the tokens it has read.

    Args:
        cards: up to four names of models to their ``card.json``.
    """
    curves = {name: [(p["tokens"] / 1e6, p["loss"]) for p in card["curve"]] for name, card in cards.items()}
    words = [
        f"{name}: {curve[-1][1]:.2f} nats a token after {curve[-1][0]:.1f} million" for name, curve in curves.items()
    ]
    alt = f"Training loss over the tokens read. {'; '.join(words)}."
    best = min(curves, key=lambda name: curves[name][-1][1])
    finding = f"Lowest in the end is {best}, at {curves[best][-1][1]:.2f} nats a token."

    def draw(layout: Layout) -> Figure:
        head = LINE * len(curves) + 8
        figure, axes = new_axes(layout, left=46, right=20, top=head + 28, bottom=46, height=layout.plot)
        for i, (name, curve) in enumerate(curves.items()):
            colour, marker, sign = SERIES[i]
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=1.8, gid=f"{i}-loss")
            axes.plot(*curve[-1], marker, color=colour, markersize=5, clip_on=False)
            write(axes, -46, head + 10 - LINE * i, f"{sign} {name}", color=colour)
        axes.locator_params(nbins=5)
        axes.set_xlim(0)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel("million tokens", loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, 12, "nats a token", alpha=0.75)
        return figure

    return Chart(draw, alt, finding)
