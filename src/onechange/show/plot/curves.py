"""Curves: losses and accuracies of a run while it is trained, and one number over another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from ...experiment.experiment import BASELINE, SCALES, Experiment
from ...experiment.rows import NAMED, TABLE, row_of
from ...support.errors import UsageError
from ...support.signs import MINUS
from .chart import INK, LINE, SERIES, Chart, Layout, badge, by_powers, new_axes, spread, write

if TYPE_CHECKING:
    from ...training.result import Result


def losses(result: Result, *more: Result) -> Chart:
    """Training and validation loss over the examples seen; the first result in ink, others in colour."""
    results = (result, *more)
    return _curves("loss", "examples seen", results, [r.losses.set_index("examples") for r in results])


def accuracies(result: Result, *more: Result) -> Chart:
    """Training and validation accuracy after each epoch, estimated on a few batches as in training."""
    results = (result, *more)
    return _curves("accuracy", "epoch", results, [r.accuracies for r in results])


def _curves(ylabel: str, xlabel: str, results: Sequence[Result], frames: list[pd.DataFrame]) -> Chart:
    """Two curves for each result: training dashed, validation solid, each named at its end."""
    frames = [frame[["train", "val"]].dropna() for frame in frames]
    for result, frame in zip(results, frames, strict=True):
        if frame.empty:
            raise ValueError(f"a run has no {ylabel} to draw: {result.error or 'it is not finished'}")
    say: Callable[[float], str] = "{:.2f}".format if ylabel == "loss" else "{:.0%}".format
    names = _names(results) if len(results) > 1 else [""]
    words = []
    for name, frame in zip(names, frames, strict=True):
        who = f"{name}, " if name else ""
        for column, long in (("train", "training"), ("val", "validation")):
            words.append(f"{who}{long} from {say(frame[column].iloc[0])} to {say(frame[column].iloc[-1])}")
    alt = f"{ylabel.capitalize()} by {xlabel}: {'; '.join(words)}."
    ends = [
        f"{say(frame['val'].iloc[-1])}{f' ({name})' if name else ''}" for name, frame in zip(names, frames, strict=True)
    ]
    finding = f"On the validation messages the {ylabel} ends at {', at '.join(ends)}."

    def draw(layout: Layout) -> Figure:
        head = LINE * len(names) + 6 if len(names) > 1 else 0
        figure, axes = new_axes(layout, left=46, right=78, top=head + 28, bottom=46, height=layout.plot)
        tips: list[tuple[float, str, str]] = []
        for i, (name, frame) in enumerate(zip(names, frames, strict=True)):
            colour, marker, sign = SERIES[i % len(SERIES)]
            for column, long, dashes in (("train", "training", (0, (4, 2.5))), ("val", "validation", "solid")):
                curve = frame[column]
                axes.plot(curve.index, curve, color=colour, linestyle=dashes, linewidth=1.8, gid=f"{i}-{column}")
                axes.plot(curve.index[-1:], curve[-1:], marker, color=colour, markersize=5, clip_on=False)
                tips.append((float(curve.iloc[-1]), long, colour))
            if name:
                write(axes, -46, head + 10 - LINE * i, f"{sign} {name}", color=colour)
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
        write(axes, -46, 12, ylabel, alpha=0.75)
        bottom, top = axes.get_ylim()
        heights = [(value - bottom) / (top - bottom) * layout.plot for value, _, _ in tips]
        for height, (_, long, colour) in zip(spread(heights, LINE - 3), tips, strict=True):
            write(axes, 9, height, long, at=(1, 0), color=colour, size=12, va="center")
        return figure

    return Chart(draw, alt, finding, badge(r.experiment for r in results))


def traces(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    xlabel: str,
    ylabel: str,
    *,
    dots: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    logx: bool = False,
) -> Chart:
    """One number over another, a curve a name.

    Args:
        curves: up to four names to their points, from left to right.
        xlabel, ylabel: what the two are, with their units.
        dots: by the same names, single points behind the curves, such as the seeds that one is the mean of.
        logx: on a logarithmic axis.

    Raises:
        UsageError: for more curves than there are colours.
    """
    if len(curves) > len(SERIES):
        raise UsageError(f"traces shows {len(SERIES)} curves at most, not {len(curves)}")
    ends = [
        f"{name} from {c[0][1]:.3g} at {c[0][0]:.3g} to {c[-1][1]:.3g} at {c[-1][0]:.3g}" for name, c in curves.items()
    ]
    alt = f"{ylabel[0].upper()}{ylabel[1:]} over {xlabel}. {'; '.join(ends)}."

    def draw(layout: Layout) -> Figure:
        head = LINE * len(curves) + 8
        figure, axes = new_axes(layout, left=46, right=20, top=head + 28, bottom=46, height=layout.plot)
        for i, (name, curve) in enumerate(curves.items()):
            colour, marker, sign = SERIES[i]
            if dots:
                axes.plot(*zip(*dots[name], strict=True), "o", color=colour, markersize=4, alpha=0.3, markeredgewidth=0)
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=1.8, gid=f"{i}-curve")
            axes.plot(*curve[-1], marker, color=colour, markersize=5, clip_on=False)
            write(axes, -46, head + 10 - LINE * i, f"{sign} {name}", color=colour)
        axes.locator_params(nbins=5)
        if logx:
            by_powers(axes)
        else:
            axes.set_xlim(0)
        axes.grid(axis="y", color=INK, alpha=0.13, linewidth=0.8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_xlabel(xlabel, loc="left", labelpad=5, alpha=0.75)
        write(axes, -46, 12, ylabel, alpha=0.75)
        return figure

    return Chart(draw, alt)


def _names(results: Sequence[Result]) -> list[str]:
    """What to call each run: its row, where every run has one of its own, or else what tells the runs apart."""
    rows = [_row(r.experiment) for r in results]
    if len(set(rows)) == len(rows) and all(rows):
        return [f"{row} {row_of(row).title}" if row.isdecimal() else row_of(row).title for row in rows]
    first = results[0].experiment
    fields = list(dict.fromkeys(name for r in results[1:] for name in r.experiment.diff(first)))
    if len(fields) > 1 and "seed" in fields:
        fields.remove("seed")
    if not fields:
        return [f"run {i + 1}" for i in range(len(results))]
    return [", ".join(f"{name} {_say(getattr(r.experiment, name))}" for name in fields) for r in results]


def _row(e: Experiment) -> str:
    """The row that an experiment is, however long it runs and with whatever seed, messages and rate; or nothing."""
    free = {"seed", "num_epochs", "train_size", "dataset", "learning_rate"}
    for name, row in [*TABLE.items(), *NAMED.items()] if e.scale in SCALES else []:
        if (row.change and not set(row.change) & free) or name == 1:
            other = BASELINE.but(**row.change).at(e.scale)
            if not set(e.diff(other)) - free:
                return str(name)
    return ""


def _say(value: Any) -> str:
    """A field's value as a reader says it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).translate(MINUS) if isinstance(value, int | float) else str(value or "default")
