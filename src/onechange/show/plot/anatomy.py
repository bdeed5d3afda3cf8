"""An experiment as a picture: tokens, the blocks above them, what is trained, who sees whom, where the class is read.

Nothing is drawn by hand: what is trained is asked of the model that the experiment builds (without its numbers), who
sees whom of that model's own mask, what is read of the experiment's :class:`~onechange.training.reader.Reader`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from ...experiment.experiment import Experiment
from ...gpt.model import GPT, View
from ...training.memory import gpt_of
from ...training.reader import Reader
from .chart import INK, LINE, NARROW, PALETTE, Chart, Layout, new_axes

WORDS = ("Win", "a", "car", "now", "!")
TRAINED, READ = PALETTE["change"], PALETTE["change-2"]
LENGTHS = {"longest_training_example": "the longest message", "model_context_length": "the whole context"}


@dataclass(frozen=True)
class Stage:
    """A part of a model from bottom to top: its name, how many numbers it has, how many of them are trained."""

    name: str
    numbers: int
    trained: int

    @property
    def share(self) -> float:
        return self.trained / self.numbers

    def alike(self) -> tuple[str, int, int]:
        """What it has in common with neighbours like it."""
        return self.name.split()[0], self.numbers, self.trained


@dataclass(frozen=True)
class Anatomy:
    """What the picture of an experiment shows.

    Attributes:
        words: ``(T,)`` the tokens of a message, an empty one for padding.
        stages: embedding, blocks, final norm, head.
        sees: ``(T, T)`` booleans: whether the token of the row sees that of the column.
        read: ``(T,)`` booleans: where the class is read.
        hidden: whether padding is hidden from all other tokens.
    """

    words: tuple[str, ...]
    stages: tuple[Stage, ...]
    sees: np.ndarray
    read: np.ndarray
    hidden: bool

    @classmethod
    def of(cls, e: Experiment, padding: int) -> Anatomy:
        """An experiment on a message of a few words, with so many padding tokens where it pads."""
        padding = 0 if e.no_padding else padding
        n, T = len(WORDS), len(WORDS) + padding
        pads = ("",) * padding
        reader, lengths = Reader.of(e), torch.tensor([n])
        view = reader.view(lengths, T)
        everyone = torch.arange(T)[None]
        with torch.device("meta"):
            model = gpt_of(e)
        block: Any = model.blocks[0]
        mask = block.attn.mask(T, View(everyone, view.keys), torch.device("cpu"))
        sees = np.ones((T, T), bool) if mask is None else mask[0, 0].numpy()
        read = np.zeros(T, bool)
        read[(reader.real(lengths, T)[0] if reader.own_end else everyone[0]) if view.at is None else view.at[0]] = True
        return cls(pads + WORDS if reader.left else WORDS + pads, stages(model), sees, read, view.keys is not None)

    @property
    def own(self) -> np.ndarray:
        """``(T,)`` booleans: the message's own tokens."""
        return np.array([bool(word) for word in self.words])

    def where(self) -> str:
        """Where the class is read, in words."""
        at = np.flatnonzero(self.read)
        if len(at) > 1:
            return "as the mean over " + ("all positions" if self.read.all() else "the message's own tokens")
        place = {0: "first", len(self.read) - 1: "last"}.get(int(at[0]), "message's last own")
        what = "a token of the message" if self.own[at[0]] else "padding"
        return f"at the {place} position, which is {what}"

    def say(self) -> str:
        """The picture in words."""
        strip, pads = f"A message of {len(WORDS)} tokens", len(self.words) - len(WORDS)
        if pads:
            strip += f" with padding {'behind' if self.words[0] else 'before'} it"
        trained = "; ".join(_counted([*group]) for _, group in groupby(self.stages, Stage.alike))
        sight = "every token" if self.sees.all() else "itself and those before it"
        sight += ", but no padding" * (self.hidden and pads > 0)
        return f"{strip}. Trained numbers: {trained}. A token sees {sight}. The class is read {self.where()}."


def _counted(same: list[Stage]) -> str:
    """Neighbours alike in words: how many of their numbers are trained."""
    first, last = same[0], same[-1]
    name = first.name if len(same) == 1 else f"{first.name} to {last.name.split()[1]}, each"
    return f"{name} {first.trained:,} of {first.numbers:,}"


def stages(model: GPT) -> tuple[Stage, ...]:
    """A model's parts from bottom to top, counted."""
    embeddings = [part for name, part in model.named_children() if name.endswith("_emb")]
    parts: dict[str, nn.Module] = {"embedding": nn.ModuleList(embeddings)}
    parts |= {f"block {i + 1}": block for i, block in enumerate(model.blocks)}
    parts |= {"norm": model.final_norm, "head": model.head or nn.Module()}
    counts = {name: [(p.numel(), p.requires_grad) for p in part.parameters()] for name, part in parts.items()}
    return tuple(Stage(k, sum(n for n, _ in found), sum(n for n, on in found if on)) for k, found in counts.items())


def shown(parts: tuple[Stage, ...]) -> list[Stage | int]:
    """Parts to draw, from the bottom up: of many neighbours alike the first, how many follow, and the last."""
    found: list[Stage | int] = []
    for _, group in groupby(parts, Stage.alike):
        same = list(group)
        found += [same[0], len(same) - 2, same[-1]] if len(same) > 4 else same
    return found


def anatomy(e: Experiment) -> Chart:
    """What an experiment does, as a picture: a short message, its padding, the blocks above it.

    Coloured is what is trained, a part's filled height being the share of its numbers that are; outlined is where the
    class is read; the square on the right says who sees whom.

    Args:
        e: any experiment; its messages are not needed, nor its weights.
    """
    wide, narrow = Anatomy.of(e, 5), Anatomy.of(e, 3)
    total, trained = (sum(getattr(s, name) for s in wide.stages) for name in ("numbers", "trained"))
    title = f"■ trained: {trained:,} of {total:,} numbers"
    key = [(title, TRAINED), ("■ frozen", INK), ("□ where the class is read", READ)]
    if not e.no_padding:
        key.append((f"· padding, up to {LENGTHS.get(str(e.context_length), f'{e.context_length} tokens')}", INK))
    far = e.context_length != "longest_training_example"

    def draw(layout: Layout) -> Figure:
        picture = narrow if layout is NARROW else wide
        parts = shown(picture.stages[:-1])
        beneath = 12 * len(picture.words) + LINE + 22 if layout is NARROW else 0
        height = max(22 * len(parts) + 100, 0 if layout is NARROW else 244)
        figure, axes = new_axes(layout, 0, 0, top=LINE * len(key) + 4, bottom=0, height=height + beneath)
        axes.set_xlim(0, layout.width)
        axes.set_ylim(-beneath, height)
        axes.set_axis_off()
        for i, (text, colour) in enumerate(key):
            y = height + LINE * (len(key) - i) - 12
            axes.text(0, y, text[0], color=colour, alpha=0.3 if text[0] == "■" and colour == INK else 1)
            axes.text(16, y, text[2:], color=colour, alpha=0.8 if colour == INK else 1)
        left, cell = 84, 32 if layout is not NARROW else 30
        _tokens(axes, picture, left, cell, far)
        _stack(axes, picture, parts, left, cell)
        if layout is NARROW:
            _mask(axes, picture, left, -beneath + 2, 12)
        else:
            _mask(axes, picture, 490, 58, 16)
        return figure

    finding = f"{_percent(trained / total)} of the numbers are trained, and the class is read {wide.where()}."
    return Chart(draw, wide.say(), finding)


def box(axes: Axes, x: float, y: float, w: float, h: float, gid: str | None = None, **style: Any) -> None:
    """A rectangle from its lower left corner."""
    axes.fill([x, x + w, x + w, x], [y, y, y + h, y + h], gid=gid, **{"linewidth": 0, **style})


def _tokens(axes: Axes, picture: Anatomy, left: float, cell: float, far: bool) -> None:
    """The strip of tokens, and what its parts are; one token of padding stands for many where they go ``far``."""
    gap = int(np.flatnonzero(~picture.own)[1]) if far and (~picture.own).any() else -1
    for t, word in enumerate(picture.words):
        x = left + t * cell
        if t == gap:
            axes.text(x + cell / 2, 36, "· · ·", ha="center", va="center", size=12.5, alpha=0.7)
            continue
        box(axes, x + 1, 24, cell - 2, 24, facecolor=INK, alpha=0.16 if word else 0.05)
        if picture.read[t]:
            box(axes, x + 1, 24, cell - 2, 24, f"read-{t}", facecolor="none", edgecolor=READ, linewidth=2)
        axes.text(x + cell / 2, 36, word or "·", ha="center", va="center", size=12.5, alpha=1 if word else 0.5)
    for own, name in ((True, "the message"), (False, "padding")):
        at = np.flatnonzero(picture.own == own)
        if len(at):
            start, stop = left + at[0] * cell + 2, left + (at[-1] + 1) * cell - 2
            axes.plot([start, stop], [19, 19], color=INK, linewidth=0.8, alpha=0.5)
            axes.text(start, 4, name, size=12, alpha=0.8)


def _stack(axes: Axes, picture: Anatomy, parts: list[Stage | int], left: float, cell: float) -> None:
    """The parts of the model, each as wide as the strip, and the head over what is read."""
    width, y = cell * len(picture.words), 58.0
    for part in parts:
        if isinstance(part, int):
            axes.text(left - 8, y + 8, f"{part} more", ha="right", va="center", size=12, alpha=0.7)
            axes.text(left + width / 2, y + 8, "· · ·", ha="center", va="center", size=12, alpha=0.7)
        else:
            _part(axes, part, left, y, width, 17)
        y += 22
    at = left + cell * (np.flatnonzero(picture.read) + 0.5)
    for x in at:
        box(axes, x - cell / 2 + 1, y - 22, cell - 2, 17, facecolor="none", edgecolor=READ, linewidth=2)
        axes.plot([x, x], [y - 5, y + 6], color=READ, linewidth=1.4)
    middle = float(at.mean())
    axes.plot([at[0], at[-1]], [y + 6, y + 6], color=READ, linewidth=1.4)
    axes.plot([middle, middle], [y + 6, y + 14], color=READ, linewidth=1.4)
    head = picture.stages[-1]
    box(axes, middle - cell / 2 + 1, y + 14, cell - 2, 17, f"{head.name}-trained", facecolor=TRAINED)
    side = -1 if middle > left + width / 2 else 1
    words = "head: ham or spam" if len(at) == 1 else "head of the mean"
    axes.text(middle + side * (cell / 2 + 8), y + 22, words, size=12, ha="right" if side < 0 else "left", va="center")


def _part(axes: Axes, part: Stage, x: float, y: float, w: float, h: float) -> None:
    """One part: its frozen ground, and from the foot upwards the share that is trained."""
    box(axes, x, y, w, h, f"{part.name}", facecolor=INK, alpha=0.13)
    if part.trained:
        box(axes, x, y, w, max(2.5, h * part.share), f"{part.name}-trained", facecolor=TRAINED)
    axes.text(x - 8, y + h / 2 - 0.5, part.name, ha="right", va="center", size=12)


def _mask(axes: Axes, picture: Anatomy, left: float, foot: float, cell: float) -> None:
    """Who sees whom: a row is a token that asks, the first on top."""
    T = len(picture.words)
    for t, s in np.ndindex(T, T):
        colour = READ if picture.read[t] else INK
        y = foot + (T - 1 - t) * cell
        seen = bool(picture.sees[t, s])
        box(axes, left + s * cell + 0.5, y + 0.5, cell - 1, cell - 1, f"sees-{t}-{s}" if seen else None,
             facecolor=colour, alpha=(0.75 if picture.own[s] else 0.4) if seen else 0.06)  # fmt: skip
    axes.text(left, foot + T * cell + 6, "who sees whom", size=12)
    axes.text(left - 8, foot + (T - 0.5) * cell, "first", ha="right", va="center", size=12, alpha=0.7)
    axes.text(left - 8, foot + cell / 2, "last", ha="right", va="center", size=12, alpha=0.7)


def areas(choices: Mapping[str, Experiment]) -> Chart:
    """A line for every choice: the model's parts as wide as they have numbers, filled as far as they are trained.

    Args:
        choices: what to call each to the experiment; their models may differ.
    """
    found = {name: Anatomy.of(e, 0).stages for name, e in choices.items()}
    count = {name: [sum(getattr(s, k) for s in parts) for k in ("trained", "numbers")] for name, parts in found.items()}
    text = {name: f"{a:,}, {_percent(a / b)}" for name, (a, b) in count.items()}
    words = "; ".join(f"{name}: {text[name]} of {count[name][1]:,}" for name in found)
    alt = f"The numbers of a model by part, and those that are trained. {words}."

    def draw(layout: Layout) -> Figure:
        step = 50
        figure, axes = new_axes(layout, 0, 0, top=LINE + 12, bottom=LINE, height=step * len(found))
        axes.set_xlim(0, layout.width)
        axes.set_ylim(0, step * len(found))
        axes.set_axis_off()
        for x, words, style in ((0, "■", {"color": TRAINED}), (16, "trained", {"color": TRAINED}),
                                (84, "■", {"alpha": 0.3}), (100, "frozen", {"alpha": 0.8})):  # fmt: skip
            axes.text(x, step * len(found) + 14, words, **style)
        for i, (name, parts) in enumerate(found.items()):
            y = step * (len(found) - 1 - i)
            axes.text(0, y + 30, name)
            axes.text(layout.width, y + 30, text[name], ha="right", color=TRAINED)
            _areas(axes, name, parts, y, layout.width)
            if i == len(found) - 1:
                first, blocks = layout.width * parts[0].numbers / count[name][1], len(parts) - 3
                for x, says in ((first / 2, "embedding"), ((layout.width + first) / 2, f"{blocks} blocks")):
                    axes.text(x, y - 15, says, ha="center", size=12, alpha=0.75)
        return figure

    few, many = (pick(count, key=lambda name: count[name][0] / count[name][1]) for pick in (min, max))
    finding = f"From {text[few]} of the numbers ({few}) to {text[many]} ({many}) are trained."
    return Chart(draw, alt, finding)


def _areas(axes: Axes, name: str, parts: tuple[Stage, ...], y: float, width: float) -> None:
    """A model's parts side by side, each as wide as it has numbers; the smallest as wide as can be seen."""
    x, total = 0.0, sum(part.numbers for part in parts)
    for part in parts:
        w = width * part.numbers / total
        at = min(x + 0.5, width - 3)
        box(axes, at, y, max(3.0, w - 1), 24, f"{name}-{part.name}", facecolor=INK, alpha=0.16)
        if part.trained:
            box(axes, at, y, max(3.0, w - 1), max(1.5, 24 * part.share), f"{name}-{part.name}-trained",
                 facecolor=TRAINED)  # fmt: skip
        x += w


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share > 0.1 else f"{100 * share:.2g}%"
