"""Figures of many runs: rows with their intervals, differences, curves with bands, sweeps, costs, agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ...experiment.rows import NAMED, TABLE
from ...support.errors import UsageError
from .chart import INK, LINE, NARROW, PALETTE, ROOM, SERIES, Chart, Layout, badge, new_axes, write
from .lines import Line, forest, lines

if TYPE_CHECKING:
    from ...evidence.compare import Comparison
    from ...evidence.runs import Runs


def rows(runs: Sequence[Runs], *, clean: bool = False) -> Chart:
    """Test accuracy of rows: a dot a seed, the mean and its 95 % interval over seeds and messages.

    Args:
        runs: rows; a line stands at the mean of the baseline, or of the first where that is not among them. How many
            runs of which row did not start stands above.
        clean: without the test messages that stand in the training set.
    """
    from ...evidence.intervals import accuracy

    found = []
    for row in runs:
        e = accuracy(row, clean)
        text = f"{100 * e.mean:.1f}% [{100 * e.low:.1f}, {100 * e.high:.1f}]"
        dots = tuple(100 * row.of_seeds(clean)) if len(row.seeds) > 1 else ()
        found.append(Line(called(row.label), 100 * e.mean, 100 * e.low, 100 * e.high, text, dots))
    zero = next((line.mid for line, row in zip(found, runs, strict=True) if row.row == "1"), found[0].mid)
    words = "; ".join(f"{line.label}: {line.text}" for line in found)
    stuck = stuck_of(runs)
    words = "; ".join([words, *stuck])
    alt = f"Test accuracy by row, one dot a seed, with 95% intervals over seeds and messages. {words}."
    best, worst = (pick(found, key=lambda line: line.mid) for pick in (max, min))
    finding = f"The highest mean has “{best.label}” with {best.text}, the lowest “{worst.label}” with {worst.text}."
    key = ["pale: one seed each; full: their mean, with its 95% interval"] if any(line.dots for line in found) else []
    return Chart(
        lambda layout: lines(layout, found, zero, "test accuracy (%)", key + stuck),
        alt,
        finding,
        badge(r.experiment for r in runs),
    )


def stuck_of(runs: Sequence[Runs]) -> list[str]:
    """Of each row of which some runs did not start how many, in words."""
    return [f"{row.row}: {row.stuck}" for row in runs if row.stuck]


def called(label: str) -> str:
    """A row's label for a reader: a row of the table keeps its number, any other goes without its short name."""
    name, _, title = label.partition(" ")
    return title if name in NAMED and title == NAMED[name].title and not name[0].isdigit() else label


def differences(comparisons: Mapping[str, Comparison], *, published: bool = True) -> Chart:
    """Each row's difference from what it is compared with, its interval, and beside it the published one.

    A mark is full where the difference is shown after the correction that the comparisons went through.

    Args:
        comparisons: of :func:`~onechange.evidence.compare.against_baseline`, by row, or others.
        published: draw the published differences from row 1 too, where there are any.
    """
    records = []
    for row, c in comparisons.items():
        d = c.difference
        old = (TABLE[int(row)].test - TABLE[1].test) / 100 if published and row.isdecimal() else math.nan
        record = {"label": called(c.change), "diff": d.mean, "low": d.low, "high": d.high, "published": old}
        records.append(record | {"shown": c.shown})
    bases = {c.base for c in comparisons.values()}
    against = bases.pop() if len(bases) == 1 else "what each is set beside"
    stuck = list(dict.fromkeys(words for c in comparisons.values() for words in c.stuck))
    return forest(pd.DataFrame(records), against=against, notes=stuck)


def bands(runs: Sequence[Runs], column: str = "val") -> Chart:
    """A loss over the examples seen: the mean over seeds, and the band that holds the middle 80 % of them.

    Args:
        runs: up to four rows.
        column: ``train`` or ``val``.

    Raises:
        UsageError: for more rows than there are colours.
    """
    if len(runs) > len(SERIES):
        raise UsageError(f"bands shows {len(SERIES)} rows at most, not {len(runs)}")
    frames = [row.curve(column) for row in runs]
    what = {"train": "training loss", "val": "validation loss"}[column]
    words = [
        f"{called(r.label)}: from {f['mean'].iloc[0]:.2f} to {f['mean'].iloc[-1]:.2f}"
        for r, f in zip(runs, frames, strict=True)
    ]
    alt = f"{what.capitalize()} over the examples seen, mean and middle 80% of the seeds. {'; '.join(words)}."
    ends = ", ".join(f"{f['mean'].iloc[-1]:.2f} for “{called(r.label)}”" for r, f in zip(runs, frames, strict=True))
    finding = f"In the end the mean {what} is {ends}. The band holds the middle 80% of the seeds."

    def draw(layout: Layout) -> Figure:
        head = LINE * len(runs) + 8
        figure, axes = new_axes(layout, left=46, right=20, top=head + 28, bottom=46, height=layout.plot)
        for i, (row, frame) in enumerate(zip(runs, frames, strict=True)):
            colour, marker, sign = SERIES[i]
            axes.fill_between(frame.index, frame["low"], frame["high"], color=colour, alpha=0.15, linewidth=0)
            axes.plot(frame.index, frame["mean"], color=colour, linewidth=1.8, gid=f"{i}-{column}")
            axes.plot(frame.index[-1:], frame["mean"][-1:], marker, color=colour, markersize=5, clip_on=False)
            write(axes, -46, head + 10 - LINE * i, f"{sign} {called(row.label)}", color=colour)
        axes.set_ylim(0, 1.06 * max(float(frame["high"].max()) for frame in frames))
        axes.set_xlim(0, float(max(frame.index[-1] for frame in frames)))
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel("examples seen", loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, 12, what, alpha=0.75)
        return figure

    return Chart(draw, alt, finding, badge(r.experiment for r in runs))


def sweep(points: Mapping[float, Runs], xlabel: str, *, log: bool = True, clean: bool = False) -> Chart:
    """Test accuracy against a number that was varied, with 95 % intervals over seeds and messages.

    Args:
        points: the number to its runs.
        xlabel: what was varied.
        log: on a logarithmic axis.
        clean: without the test messages that stand in the training set.
    """
    from ...evidence.intervals import accuracy

    values = sorted(points)
    found = [accuracy(points[value], clean) for value in values]
    mid, low, high = (100 * np.array([getattr(e, name) for e in found]) for name in ("mean", "low", "high"))
    words = "; ".join(f"{v:g}: {m:.1f}% [{a:.1f}, {b:.1f}]" for v, m, a, b in zip(values, mid, low, high, strict=True))
    stuck = stuck_of([points[value] for value in values])
    alt = f"Test accuracy against {xlabel}, with 95% intervals. {'; '.join([words, *stuck])}."
    top, foot = int(mid.argmax()), int(mid.argmin())
    high_low = (f"at {xlabel} {values[i]:g}, {mid[i]:.1f}%" for i in (top, foot))
    finding = f"The mean is highest {', and lowest '.join(high_low)}."

    def draw(layout: Layout) -> Figure:
        figure, axes = new_axes(layout, left=46, right=20, top=28 + LINE * len(stuck), bottom=46, height=layout.plot)
        for i, says in enumerate(stuck):
            write(axes, -46, 12 + LINE * (len(stuck) - i), says, size=12, alpha=0.8)
        axes.plot(values, mid, color=PALETTE["change"], linewidth=1.2, alpha=0.5)
        axes.vlines(values, low, high, color=PALETTE["change"], linewidth=2, gid="bars")
        axes.plot(values, mid, "o", color=PALETTE["change"], markersize=6, gid="mid")
        if log:
            axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(values, [f"{value:g}" for value in values], fontsize=12)
        axes.set_ylim(max(0.0, low.min() - 3), min(101.0, high.max() + 3))
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel(xlabel, loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, 12, "test accuracy (%)", alpha=0.75)
        return figure

    return Chart(draw, alt, finding, badge(r.experiment for r in points.values()))


def cost(runs: Mapping[str, Runs], by: str = "took") -> Chart:
    """Test accuracy against what a row costs, and the rows that no cheaper row beats.

    Args:
        runs: rows by their number or name.
        by: ``took`` (seconds for prefix, training and evaluation: see ``Runs.took``) or ``n_trainable``.
    """
    price = {name: float(getattr(row, by)) for name, row in runs.items()}
    level = {name: 100 * float(row.test.mean()) for name, row in runs.items()}
    front: list[str] = []
    for name in sorted(runs, key=lambda name: (price[name], -level[name])):
        if not front or level[name] > level[front[-1]]:
            front.append(name)
    what = {"took": "seconds", "n_trainable": "trainable parameters"}[by]
    points = "; ".join(f"{runs[n].label}: {level[n]:.1f}% for {price[n]:,.0f}" for n in front)
    alt = f"Test accuracy of {len(runs)} rows against {what}. No cheaper row is better than these: {points}."
    named = _join([called(runs[name].label) for name in front])
    finding = f"No cheaper row has a higher mean than {named}; the other {len(runs) - len(front)} cost more for less."

    def draw(layout: Layout) -> Figure:
        figure, axes = new_axes(layout, left=46, right=20, top=28, bottom=46, height=1.3 * layout.plot)
        axes.set_xscale("log")
        axes.step([price[n] for n in front], [level[n] for n in front], where="post",
                  color=PALETTE["change"], linewidth=1.2, alpha=0.6, gid="front")  # fmt: skip
        axes.plot([*price.values()], [*level.values()], ".", color=INK, markersize=6, gid="rows")
        axes.plot([price[n] for n in front], [level[n] for n in front], "o", color=PALETTE["change"],
                  markersize=6, gid="best")  # fmt: skip
        axes.autoscale_view()
        spots = {name: tuple(axes.transData.transform((price[name], level[name]))) for name in runs}
        for names, shift in labels_of(spots, layout.width).items():
            best = any(name in front for name in names)
            write(axes, *shift, ", ".join(names), at=(price[names[0]], level[names[0]]), xycoords="data", size=12,
                  color=PALETTE["change"] if best else INK, alpha=1 if best else 0.75)  # fmt: skip
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.minorticks_off()
        axes.tick_params(length=0, pad=6)
        few = max(price.values()) < 100 * min(price.values())
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))  # never one tick alone
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g} M" if x >= 1e6 else f"{x:,g}")
        axes.set_xlabel(what, loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, 12, "test accuracy (%)", alpha=0.75)
        return figure

    return Chart(draw, alt, finding, badge(r.experiment for r in runs.values()))


def _join(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return " and ".join([", ".join(f"“{n}”" for n in names[:-1])] * (len(names) > 1) + [f"“{names[-1]}”"])


def labels_of(spots: Mapping[str, tuple[float, ...]], width: float) -> dict[tuple[str, ...], tuple[float, float]]:
    """Where labels go, in pixels from their points: where they lie on as little else as can be.

    Args:
        spots: each name's point, in pixels; those that fall onto one another get one label.
        width: of the figure, which no label should leave.

    Returns:
        names that share a label, and the shift of its lower left corner.
    """
    groups: list[list[str]] = []
    for name, spot in spots.items():
        near = [group for group in groups if math.dist(spots[group[0]], spot) < 3]
        if near:
            near[0].append(name)
        else:
            groups.append([name])
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in spots.values()]
    placed: dict[tuple[str, ...], tuple[float, float]] = {}
    for group in groups:
        (x, y), w = spots[group[0]], ROOM * len(", ".join(group))

        def crowded(shift: tuple[float, float], x: float = x, y: float = y, w: float = w) -> float:
            left, low = x + shift[0], y + shift[1]
            beyond = max(0.0, left + w - width) + max(0.0, -left)
            return beyond + sum(
                max(0.0, min(left + w, r) - max(left, a)) * max(0.0, min(low + 12, t) - max(low, b))
                for a, b, r, t in taken
            )

        sides = [(6.0, 3.0), (-6 - w, 3.0), (6.0, -14.0), (-6 - w, -14.0), (-w / 2, 7.0), (-w / 2, -19.0)]
        shift = min(sides, key=crowded)
        placed[tuple(group)] = shift
        taken.append((x + shift[0], y + shift[1], x + shift[0] + w, y + shift[1] + 12))
    return placed


def agreement(runs: Mapping[str, Runs]) -> Chart:
    """How often two rows are right or wrong on the same test message, for every pair of rows.

    Squares with much ink are pairs that agree; the lightest pair in the picture has no ink at all, as its key says.
    """
    from ...evidence.compare import agreement as share

    names = list(runs)
    pairs = share(list(runs.values()))
    apart = np.triu(np.ones_like(pairs), 1) > 0
    low = float(pairs.min())
    i, j = np.unravel_index(int(np.argmin(np.where(apart, pairs, 2))), pairs.shape)
    mean = float(pairs[apart].mean())
    alt = (
        f"Agreement of {len(names)} rows, message by message: {100 * mean:.0f}% on average over pairs; least, "
        f"{100 * low:.0f}%, between {runs[names[i]].label} and {runs[names[j]].label}."
    )

    finding = (
        f"On average two rows agree on {100 * mean:.0f}% of the messages; the pair least alike on {100 * low:.0f}%."
    )

    def draw(layout: Layout) -> Figure:
        left = ROOM * max(map(len, names)) + 10
        size = min(layout.width - left - 10, 24.0 * len(names))
        figure, axes = new_axes(layout, left, layout.width - left - size, top=2 * LINE + 12, bottom=26, height=size)
        write(axes, -left, LINE + 12, "messages on which both are right or both wrong", size=12, alpha=0.8)
        write(axes, -left, 12, f"{100 * low:.0f}%", size=12, alpha=0.8)
        for k in range(1, 6):
            write(axes, 22 + 14 * k - left, 12, "■", size=14, alpha=0.17 * k)
        write(axes, 112 - left, 12, "100%", size=12, alpha=0.8)
        shade = (pairs - low) / max(1e-9, 1 - low)
        for a, b in np.ndindex(*pairs.shape):
            if a != b:
                ink = 0.85 * float(shade[a, b])
                axes.fill([b, b + 1, b + 1, b], [a, a, a + 1, a + 1], color=INK, alpha=ink, linewidth=0)
        axes.set_xlim(0, len(names))
        axes.set_ylim(len(names), 0)
        at = np.arange(len(names)) + 0.5
        skip = 2 if layout is NARROW and len(names) > 12 else 1
        axes.set_yticks(at, names, fontsize=12)
        axes.set_xticks(at[::skip], names[::skip], fontsize=12)
        axes.tick_params(length=0, pad=5)
        axes.spines[["left", "bottom"]].set_visible(False)
        return figure

    return Chart(draw, alt, finding, badge(r.experiment for r in runs.values()))
