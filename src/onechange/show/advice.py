"""What the stored runs say to somebody who has to decide: questions, what each does, what it costs, the command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from ..evidence.claims import numbers
from ..evidence.compare import Comparison, difference, holm
from ..evidence.runs import Runs, stored_json
from ..experiment.rows import ROWS, TABLE

ANSWERS = {"better": "yes", "worse": "no"}
SETS = {
    "uci": ("UCI messages", "real, received by people"),
    "pocket": ("pocket messages", "written for this book"),
}


@dataclass(frozen=True)
class Decision:
    """A question of somebody who finetunes: row ``row`` of the table instead of row ``base``."""

    question: str
    base: int
    row: int


DECISIONS = (
    Decision("read the message's own end", 1, 16),
    Decision("train two blocks, not one", 1, 4),
    Decision("train everything, not two blocks", 4, 5),
    Decision("LoRA, not two blocks", 4, 11),
    Decision("LoRA, not everything", 5, 11),
    Decision("no padding, not the own end", 16, 14),
    Decision("fill up to the whole context", 1, 13),
    Decision("take the causal mask away", 1, 17),
    Decision("take the largest model", 1, 8),
    Decision("take random weights", 5, 10),
)


def decide(table: Mapping[str, Runs]) -> dict[str, Comparison]:
    """Each decision's difference, by its question, corrected for all of them together (Holm).

    Args:
        table: the rows by their number, as :func:`~onechange.evidence.runs.stored` gives them.
    """
    found = holm(difference(table[str(d.base)], table[str(d.row)]) for d in DECISIONS)
    return {d.question: replace(c, change=d.question) for d, c in zip(DECISIONS, found, strict=True)}


def answer(c: Comparison) -> str:
    """Yes, no, or a question mark where nothing is shown, with the points and their interval."""
    return f"{ANSWERS.get(c.verdict, '?')} {numbers(c)}"


def answers(*found: Mapping[str, Comparison]) -> pd.DataFrame:
    """A line for every decision: the answer of each table, the published minutes, the options.

    Args:
        found: what :func:`decide` found on the UCI messages, and on the pocket messages.
    """
    lines = []
    for d in DECISIONS:
        cost = f"{TABLE[d.base].minutes:.2f} → {TABLE[d.row].minutes:.2f}"
        flags = shlex.join(ROWS[d.row].flags).replace(" --", "</code> <code>--")
        lines.append([d.question, *(answer(c[d.question]) for c in found), cost, f"<code>{flags}</code>"])
    heads = [f"on {name}" for name, _ in SETS.values()]
    return pd.DataFrame(lines, columns=["should I ...", *heads, "minutes", "onechange run ..."])


def sets(**tables: Mapping[str, Runs]) -> pd.DataFrame:
    """The two sets of messages side by side: what they are, how many, and the baseline's accuracy on each.

    Args:
        tables: the stored rows of ``uci`` and of ``pocket``.
    """
    lines = {}
    for key, (name, what) in SETS.items():
        counts = stored_json("leakage")[key]
        parts = (counts["train"], counts["val"]["messages"], counts["test"]["messages"])
        base = f"{100 * tables[key]['1'].test.mean():.1f}%"
        lines[name] = {"what": what, "train / val / test": " / ".join(f"{n:,}" for n in parts), "the baseline": base}
    return pd.DataFrame(lines).T
