"""Pictures of how parts of the model work, in the style of ``onechange.show.plot``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..gpt.lora import LoRALinear
from ..support.signs import MINUS
from .plot.anatomy import box
from .plot.chart import INK, PALETTE, Chart, Layout, new_axes, write

TRAINED = PALETTE["change"]


def block() -> Chart:
    """A transformer block: the residual stream, and the two branches that read it and add to it."""
    branches = (("norm 1", "attention", "between positions"), ("norm 2", "MLP", "each by itself"))
    alt = (
        "A transformer block. The residual stream runs through from x to y to z. Two branches leave it one after the "
        "other: norm 1 and attention, which moves things between positions, and norm 2 and the MLP, which works at "
        "each position by itself. What each makes is added to the stream."
    )

    def draw(layout: Layout) -> Figure:
        figure, axes = bare(layout, 176)
        width, step = layout.width, (layout.width - 60) / 2
        arrow = {"arrowstyle": "-|>", "lw": 5, "color": INK, "alpha": 0.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (width - 14, 26), (16, 26), arrowprops=arrow)
        for i, (norm, name, words) in enumerate(branches):
            left, right = 46 + i * step, 6 + (i + 1) * step
            middle = (left + right) / 2
            ways = (([left, left], [26, 61]), ([left, left, middle - 42], [87, 128, 128]),
                    ([middle + 42, right, right], [128, 128, 33]))  # fmt: skip
            for way in ways:
                axes.plot(*way, color=TRAINED, linewidth=1.6)
            for x, y, w, says in ((left, 74, 56, norm), (middle, 128, 84, name)):
                box(axes, x - w / 2, y - 13, w, 26, facecolor="none", edgecolor=INK, linewidth=1.2, gid=f"{i}-{says}")
                axes.text(x, y - 1, says, ha="center", va="center")
            axes.text(middle, 152, words, ha="center", size=12, alpha=0.75)
            axes.plot([right], [26], "o", color=TRAINED, markersize=15, fillstyle="none", markeredgewidth=1.4)
            axes.text(right, 25, "+", ha="center", va="center", color=TRAINED)
        for x, words in ((6, "x"), (26 + step, "y"), (width - 6, "z")):
            axes.text(x, 40, words, ha="center", style="italic")
        axes.text(8, 0, "the residual stream", size=12, alpha=0.75)
        return figure

    return Chart(draw, alt, "A block replaces nothing: what its two branches make is added to the stream.")


def adapter(layer: LoRALinear) -> Chart:
    """A weight and the two thin matrices whose product is added to it, their sides as long as they have numbers."""
    (out, inner), rank = layer.base.weight.shape, layer.A.shape[1]
    thin, full = rank * (out + inner), out * inner
    alt = (
        f"The frozen weight W, {out} by {inner}, plus s times the product of two thin matrices, B transposed, {out} by "
        f"{rank}, and A transposed, {rank} by {inner}."
    )

    def draw(layout: Layout) -> Figure:
        scale = (170 if layout.width > 500 else 86) / max(out, inner)
        h, w, r = scale * out, scale * inner, max(3.0, scale * rank)
        figure, axes = bare(layout, h + 64)
        x = 4.0
        parts = (
            ("W", f"{out} × {inner}", w, h, INK, "frozen"),
            ("+ s ·", "", 44, 0, "", ""),
            ("Bᵀ", f"{out} × {rank}", r, h, TRAINED, "trained"),
            ("·", "", 50, 0, "", ""),
            ("Aᵀ", f"{rank} × {inner}", w, r, TRAINED, "trained"),
        )
        for name, shape, wide, high, colour, state in parts:
            if not shape:
                axes.text(x + wide / 2, 40 + h / 2, name, ha="center", va="center", size=15)
            else:
                box(axes, x, 40 + h - high, wide, high, name, facecolor=colour, alpha=0.2 if colour == INK else 1)
                axes.text(x, 40 + h + 8, name, style="italic")
                axes.text(x, 22 + h - high, shape, size=12, alpha=0.8)
                axes.text(x, 6 + h - high, state, size=12, alpha=0.8)
            x += wide
        return figure

    finding = f"Two thin matrices hold {thin:,} numbers, where the weight that they change has {full:,}."
    return Chart(draw, alt, finding)


def gelu() -> Chart:
    """GPT-2's GELU, beside the plain bend that it smooths."""
    u = np.linspace(-4, 3, 141)
    smooth = torch.nn.functional.gelu(torch.from_numpy(u), approximate="tanh").numpy()
    lowest = int(smooth.argmin())
    deep = f"{smooth[lowest]:.2f} at {u[lowest]:.2f}".translate(MINUS)
    alt = f"The GELU from −4 to 3, close to zero on the left and to its input on the right, lowest {deep}."

    def draw(layout: Layout) -> Figure:
        figure, axes = new_axes(layout, left=34, right=96, top=16, bottom=40, height=0.8 * layout.plot)
        axes.plot(u, np.maximum(u, 0), color=INK, linestyle=(0, (4, 2.5)), linewidth=1.4, alpha=0.6, gid="plain")
        axes.plot(u, smooth, color=TRAINED, linewidth=2, gid="gelu")
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.4)
        axes.set_xlim(-4, 3)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.locator_params(nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.tick_params(length=0, pad=6)
        write(axes, 8, 2, "gelu(u)", at=(1, 1), color=TRAINED, va="top")
        write(axes, 8, -18, "max(0, u)", at=(1, 1), alpha=0.7, va="top")
        axes.set_xlabel("u", loc="left", labelpad=3, alpha=0.75)
        return figure

    return Chart(draw, alt, f"Large numbers pass, what is far below zero is cut off, and between them it dips: {deep}.")


def bars(shares: Mapping[str, float]) -> Chart:
    """Shares of a whole as bars, one below the other, in the order given.

    Args:
        shares: names, such as tokens that could come next, to their shares, fractions.
    """
    says = {name: f"{100 * share:.1f}%" for name, share in shares.items()}
    alt = "; ".join(f"{name} {text}" for name, text in says.items())
    top, rest = next(iter(shares)), 1 - sum(shares.values())

    def draw(layout: Layout) -> Figure:
        step, left = 26, 10 + 8.5 * max(map(len, shares))
        figure, axes = bare(layout, step * len(shares) + 4)
        room = (layout.width - left - 60) / max(shares.values())
        for i, (name, share) in enumerate(shares.items()):
            y = step * (len(shares) - 1 - i) + 4
            axes.text(left - 10, y + 9, name, ha="right", va="center")
            box(axes, left, y, max(1.5, share * room), 18, f"bar-{i}", facecolor=TRAINED, alpha=0.85)
            axes.text(left + share * room + 7, y + 9, says[name], va="center", size=12, alpha=0.85)
        return figure

    finding = f"The likeliest of all is “{top}” with {says[top]}; all that are not shown share {100 * rest:.0f}%."
    return Chart(draw, f"Shares: {alt}.", finding)


def matrix(tokens: Sequence[str], shares: np.ndarray) -> Chart:
    """Who looks at whom, in per cent: the row is the token that asks.

    Args:
        tokens: ``(T,)`` texts.
        shares: ``(T, T)``, of which each row adds up to 1.
    """
    T = len(tokens)
    rows = ("; ".join(f"{100 * x:.0f}% {tokens[s]}" for s, x in enumerate(row) if x) for row in shares)
    alt = ". ".join(f"{token} looks at {row}" for token, row in zip(tokens, rows, strict=True)) + "."
    ahead = float(np.triu(shares, 1).sum() / T)

    def draw(layout: Layout) -> Figure:
        left, high = 8 + 8 * max(map(len, tokens)), 28
        cell = min(62.0, (layout.width - left) / T)
        figure, axes = bare(layout, high * (T + 1))
        for t, s in np.ndindex(T, T):
            x, y, share = left + s * cell, high * (T - 1 - t), float(shares[t, s])
            box(axes, x + 1, y + 1, cell - 2, high - 2, f"{t}-{s}", facecolor=PALETTE["change-2"], alpha=0.6 * share)
            says = f"{100 * share:.0f}" if share else "·"
            axes.text(x + cell / 2, y + high / 2 - 1, says, ha="center", va="center", size=12)
        for t, token in enumerate(tokens):
            axes.text(left - 8, high * (T - 0.5 - t) - 1, token, ha="right", va="center")
            axes.text(left + (t + 0.5) * cell, high * T + 8, token, ha="center")
        return figure

    finding = f"Of a token's attention {100 * ahead:.0f}% goes to tokens behind it, on average over these {T}."
    return Chart(draw, alt, finding)


def bare(layout: Layout, height: float) -> tuple[Figure, Axes]:
    """Axes without anything, a unit a pixel."""
    figure, axes = new_axes(layout, 0, 0, top=0, bottom=0, height=height)
    axes.set_xlim(0, layout.width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    return figure, axes
