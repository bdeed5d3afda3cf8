"""What one seed a row makes of a table: a panel that publishes one again and again.

The panel is a piece of HTML with its script and its numbers, so that it works in a built page, in a notebook and
from the disk; it asks for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .plot.opening import NAMES

if TYPE_CHECKING:
    from ..evidence.runs import Runs

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Panel:
    """A piece of HTML that shows itself in a notebook."""

    html: str
    words: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.words


def publish(rows: Mapping[str, Runs]) -> Panel:
    """Tables as they might have been published: one stored seed a row, drawn by chance, and ranked.

    Args:
        rows: a study; rows whose seed decides nothing are left out.
    """
    from ..evidence.intervals import accuracy

    lines = []
    for name, runs in rows.items():
        if runs.fixed:
            continue
        e = accuracy(runs)
        low, mid, high = (round(100 * x, 2) for x in (e.low, e.mean, e.high))
        lines.append({
            "row": name, "name": NAMES.get(name, "the baseline" if name == "1" else runs.title),
            "each": (100 * runs.test).round(2).tolist(), "mean": mid, "low": low, "high": high,
        })  # fmt: skip
    data = json.dumps(lines, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    style, script = ((HERE / f"publish.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    words = f"Tables of {len(lines)} rows, one seed each, drawn from the stored runs."
    html = (
        f'<section class="oc-publish" aria-label="{escape(words)}"><style>{style}</style>'
        '<div class="oc-line"><button type="button" class="oc-go">Publish a table</button>'
        '<label><input type="checkbox" class="oc-all" /> with every seed and its interval</label></div>'
        '<p class="oc-said" role="status"></p><ol class="oc-table"></ol>'
        f'<script type="application/json">{data}</script></section><script>{script}</script>'
    )
    return Panel(html, words)
