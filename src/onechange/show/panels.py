"""What the interactive pieces show, as HTML: tables and small pictures made from plain values.

Colours are the book's custom properties, with its light theme's values where a page has none; every
number that a colour or a length stands for is there as text too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from xml.sax.saxutils import quoteattr

import numpy as np
from matplotlib.image import imsave

from ..classifier.reading import Reading
from ..evidence.intervals import Estimate, accuracy
from ..evidence.runs import runs_of
from ..experiment.experiment import Experiment
from ..support.signs import printed
from ..training.result import Result
from .plot import PALETTE

CHANGE, CHANGE_2 = (f"var(--oc-{name}, {PALETTE[name]})" for name in ("change", "change-2"))

STYLE = """<style>
.oc-panel{color:inherit;font:14px/1.45 var(--oc-font,system-ui,sans-serif);overflow-x:auto;max-width:100%}
.oc-panel table{border-collapse:collapse;color:inherit;font-size:inherit;font-variant-numeric:tabular-nums}
.oc-panel :is(th,td){padding:2px 7px;text-align:right;white-space:nowrap;font-weight:400;border:0;color:inherit}
.oc-panel :is(th,td):first-child{text-align:left}
.oc-panel tbody th:has(code){white-space:normal}
.oc-panel thead th{vertical-align:bottom;border-bottom:1px solid currentColor;white-space:normal}
.oc-panel code{font-size:12px;white-space:normal;background:none;color:inherit}
.oc-panel .oc-read th{font-weight:700}
.oc-panel .oc-scroll{max-height:36em;overflow:auto}
.oc-panel .oc-scroll :is(th,td){padding:1px 3px;font-size:12.5px}
.oc-panel .oc-scroll thead th{line-height:1.2;min-width:1.7em}
.oc-panel thead tr+tr :first-child{text-align:right}
.oc-panel p{margin:0 0 .5em}
.oc-panel svg{display:block;width:100%;max-width:520px;height:auto;overflow:visible}
.oc-panel svg text{fill:currentColor;font-size:12px}
</style>"""


def panel(*parts: str) -> str:
    """Pieces of HTML in one frame with the style they need."""
    return f'<div class="oc-panel">{STYLE}{"".join(parts)}</div>'


def message(text: str, alarm: bool = False) -> str:
    """A line that a screen reader says when it changes."""
    role, sign = ("alert", "⚠ ") if alarm else ("status", "")
    return f'<p role="{role}" style="margin:0;line-height:1.5">{sign}{escape(text)}</p>'


def note(text: str) -> str:
    """Small print under a control."""
    return f'<small style="display:block;line-height:1.4">{escape(text)}</small>'


def change(e: Experiment, base: Experiment) -> str:
    """What an experiment changes of another, in words."""
    return ", ".join(f"{name} {value}" for name, (_, value) in e.diff(base).items()) or "the baseline"


def differences(experiments: Sequence[Experiment]) -> list[str]:
    """What tells experiments apart, for each one in words."""
    fields = dict.fromkeys(name for e in experiments[1:] for name in e.diff(experiments[0]))
    return [
        ", ".join(f"{name} {getattr(e, name)}" for name in fields) or f"run {i + 1}" for i, e in enumerate(experiments)
    ]


def interval(result: Result) -> Estimate:
    """A run's test accuracy with its 95 % interval over the messages."""
    return accuracy(runs_of([{"row": "1"} | result.to_dict()])["1"])


def comparison(results: Sequence[Result], base: Experiment) -> str:
    """A line for every run: what it changed, its accuracy with its interval, its cost, its command."""
    head = (
        "change, and the command that repeats it",
        "test accuracy [95 % interval over messages, this seed]",
        "seconds",
        "trained",
    )
    rows = "".join(
        f"<tr><th scope=row>{escape(change(r.experiment, base.resolved()))}<br><code>{escape(r.command)}</code></th>"
        f"<td>{interval(r)}</td><td>{r.seconds:.1f}</td><td>{r.n_trainable:,}</td></tr>"
        for r in results
    )
    titles = "".join(f"<th scope=col>{title}</th>" for title in head)
    return panel(f"<table class=dataframe><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>")


# -- one message --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of the table of a message: one token, or neighbouring padding tokens that are not read."""

    word: str
    place: str
    read: bool
    probability: float
    attention: np.ndarray
    effect: float


def lines(r: Reading) -> list[Line]:
    """The lines of a message's table. Padding counts with all its attention, and its last position's class."""

    def kind(t: int) -> int:
        return -1 if not r.own[t] and not r.read[t] else t

    made = []
    for _, group in groupby(range(len(r.tokens)), kind):
        at = list(group)
        word = r.tokens[at[0]] if r.own[at[0]] else "padding"
        place = f"{at[0] + 1}" if len(at) == 1 else f"{at[0] + 1}–{at[-1] + 1}"
        p, effect = float(r.by_position[at[-1], r.target]), float(r.effect[at[0]])
        made.append(Line(word, place, bool(r.read[at[0]]), p, r.attention[:, at].sum(1), effect))
    return made


def reading(r: Reading, title: str) -> str:
    """A message as a model reads it: a line for every token."""
    name = escape(r.classes[r.target])
    where = np.flatnonzero(r.read) + 1
    at = f"position {where[0]}" if len(where) == 1 else f"{len(where)} positions"
    pads = int((~r.own).sum())
    words = f"{name} {100 * r.answer[r.target]:.1f} %, read at {at} of {len(r.own)}"
    words += f"; {pads} of them padding" * (pads > 0) + f"; {r.cut} tokens cut off" * (r.cut > 0)
    columns = ["token", "#", f"{name} if read here, %", f"{name} lost without it, points"]
    titles = "".join(f"<th rowspan=2 scope=col>{title}</th>" for title in columns)
    blocks = "".join(f"<th scope=col>{i + 1}</th>" for i in range(len(r.attention)))
    titles += f"<th colspan={len(r.attention)} scope=colgroup>attention in block, %</th></tr><tr>{blocks}"
    rows = "".join(_line(line) for line in lines(r))
    return (
        f'<div style="flex:1 1 320px;min-width:0"><p><b>{escape(title)}</b><br>{words}</p>'
        f'<div class=oc-scroll role=region tabindex=0 aria-label="{escape(title)}: {words}">'
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def readings(pairs: Sequence[tuple[str, Reading]]) -> str:
    """Several models' readings of one message, side by side where there is room."""
    sides = "".join(reading(r, title) for title, r in pairs)
    return panel(f'<div style="display:flex;flex-wrap:wrap;gap:.8em">{sides}</div>')


def _line(line: Line) -> str:
    attention = "".join(f'<td style="background:{_tint(CHANGE_2, 45 * w)}">{_few(w)}</td>' for w in line.attention)
    effect = "–" if np.isnan(line.effect) else printed(100 * line.effect)
    return (
        f"<tr{' class=oc-read' * line.read}><th scope=row>{escape(line.word)}{' ◀' * line.read}</th>"
        f'<td>{line.place}</td><td style="{_bar(CHANGE, line.probability)}">{100 * line.probability:.0f}</td>'
        f'<td style="{_bar(CHANGE, abs(np.nan_to_num(line.effect)))}">{effect}</td>{attention}</tr>'
    )


# -- who looks at whom --------------------------------------------------------------------------


def looks(tokens: Sequence[str], shares: Mapping[str, np.ndarray]) -> str:
    """Tokens of which one is asked by pointing at it, or with Tab, where it looks: the darker, the more.

    Args:
        tokens: ``(T,)`` texts.
        shares: a line of tokens for each name, a block's perhaps: ``(T, T)``, the row being the token that asks.
            Until one is asked it is the last.
    """
    T, where = len(tokens), '[data-t="{}"]'.format
    rules = [f".oc-looks span{{--w:var(--w{T - 1})}}", f".oc-looks:not(:has(:hover,:focus)) {where(T - 1)}{{{ASKED}}}"]
    for t in range(T):
        asked = f".oc-looks:has({where(t)}:is(:hover,:focus))"
        rules += [f"{asked} span{{--w:var(--w{t})}}", f"{asked} {where(t)}{{{ASKED}}}"]
    lines = "".join(
        f"<div role=list aria-label={quoteattr(name)}><small>{escape(name)}</small>{_looking(tokens, share)}</div>"
        for name, share in shares.items()
    )
    return panel(f"<style>{LOOKS}{''.join(rules)}</style><div class=oc-looks>{lines}</div>")


ASKED = "outline:2px solid currentColor"
MOST = 40  # per cent of colour behind a token: with more, its text could not be read in the dark
LOOKS = (
    ".oc-looks{padding:3px}.oc-looks>div{display:flex;flex-wrap:wrap;gap:3px;align-items:center;margin:0 0 6px}"
    ".oc-looks small{flex:0 0 4.5em}"
    ".oc-looks span{padding:3px 6px;border-radius:3px;cursor:default;background:color-mix("
    f"in srgb,{CHANGE_2} calc(var(--w)*1%),transparent)}}"
)


def _looking(tokens: Sequence[str], share: np.ndarray) -> str:
    spans = []
    for s, token in enumerate(tokens):
        tints = ";".join(f"--w{t}:{min(MOST, 1.3 * MOST * share[t, s]):.0f}" for t in range(len(tokens)))
        most = [int(i) for i in np.argsort(-share[s])[:3] if share[s, i] >= 0.005]
        says = f"{token} looks at " + ", ".join(f"{tokens[i]} {100 * share[s, i]:.0f}%" for i in most)
        spans.append(
            f'<span role=listitem tabindex=0 data-t="{s}" style="{tints}" '
            f"title={quoteattr(says)} aria-label={quoteattr(says)}>{escape(token)}</span>"
        )
    return "".join(spans)


def _few(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else "·"


def _tint(colour: str, percent: float) -> str:
    return f"color-mix(in srgb, {colour} {percent:.0f}%, transparent)"


def _bar(colour: str, share: float) -> str:
    """A cell's background as a bar."""
    return f"background:linear-gradient(to right, {_tint(colour, 30)} {100 * share:.0f}%, transparent 0)"


# -- LoRA ---------------------------------------------------------------------------------------


def lora(weight: np.ndarray, delta: np.ndarray, rank: int, scale: float, shapes: Sequence[tuple[int, ...]]) -> str:
    """What an adapter of a rank adds to a weight: a picture, its singular values, the numbers it takes.

    Args:
        weight, delta: ``(out, in)``, the frozen weight and its change.
        rank: the adapter's.
        scale: what the product of its two factors is multiplied by.
        shapes: of all the weights in the model that would get one.
    """
    values = np.linalg.svd(delta, compute_uv=False)
    found = int((values > 1e-9 * values[0]).sum())
    size = np.linalg.norm(delta) / np.linalg.norm(weight)
    full, trained = sum(a * b for a, b in shapes), sum(rank * (a + b) for a, b in shapes)
    out, inner = delta.shape
    facts = (
        f"<b>{found} of {len(values)} singular values are not zero</b>: at rank {rank} the change has rank {found}.",
        f"It is {scale:.3g} times the product of the two factors, and {size:.2f} times as large as the weight.",
        f"This weight: {_instead(rank * (out + inner), out * inner)}.",
        f"All {len(shapes)} weights of the blocks: {_instead(trained, full)}.",
    )
    strong = 3 * float(weight.std())
    pictures = "".join(
        f"<div><p>{name}</p>{matrix(values, strong, f'{name}, {out} by {inner} numbers: {say}')}</div>"
        for name, values, say in (
            ("the frozen weight", weight, "no pattern of rows and columns"),
            ("the change", delta, f"a sum of {found} patterns, each a column times a row"),
        )
    )
    return panel(
        "".join(f"<p>{fact}</p>" for fact in facts),
        f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{pictures}</div>',
        f"<p>singular values of the change, largest first</p>{spectrum(values, found)}",
    )


def _instead(trained: int, full: int) -> str:
    share = f"{100 * trained / full:.1f} %" if trained < full else "nothing is saved"
    return f"{trained:,} numbers to train instead of {full:,} ({share})"


def matrix(values: np.ndarray, full: float, alt: str) -> str:
    """A matrix as a picture: the further a number is from zero, the stronger; ``full`` is as strong as it gets."""
    pixels = np.zeros((*values.shape, 4))
    pixels[..., 3] = np.minimum(1, np.abs(values) / full)
    file = io.BytesIO()
    imsave(file, pixels, format="png")
    mask = f"url(data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}) 0 0 / 100% 100%"
    return (
        f'<div role=img aria-label="{escape(alt)}" style="width:200px;border:1px solid {_tint("currentColor", 30)}">'
        f'<div style="aspect-ratio:{values.shape[1]}/{values.shape[0]};image-rendering:pixelated;'
        f'background:{CHANGE};-webkit-mask:{mask};mask:{mask}"></div></div>'
    )


def spectrum(values: np.ndarray, rank: int) -> str:
    """Singular values as bars, those that are not zero in colour and the others as a line at the foot."""
    n, top = len(values), float(values[0])
    bars = "".join(
        f'<rect x="{i + 0.1:.1f}" y="{100 - 100 * v / top:.1f}" width="0.8" height="{100 * v / top + 1:.1f}" '
        f'fill="{CHANGE if i < rank else "currentColor"}"/>'
        for i, v in enumerate(values)
    )
    words = f"{rank} from {values[0]:.2f} down to {values[rank - 1]:.2f}, {n - rank} that are zero."
    return (
        f'<svg role=img aria-label="{n} singular values: {words}" viewBox="0 0 {n} 101" preserveAspectRatio=none '
        f'style="height:110px">{bars}</svg><p>{words}</p>'
    )
