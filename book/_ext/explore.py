"""Make what the page "The table, live" reads: every stored row, and every two rows of it compared.

The page sorts, filters and draws. It computes no statistics: its numbers are those of
:mod:`onechange.evidence.compare`, written here as a script, the one thing that a page opened from the disk may
load. Studies on the same messages and the same ladder are one table. What is not stored yet is left out,
and what was made from the same package and results is left alone.

    python book/_ext/explore.py
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import onechange as oc
from onechange import Runs, UsageError
from onechange.evidence.compare import DIFFER, SIZES, Comparison, agreement, difference
from onechange.evidence.intervals import Estimate
from onechange.evidence.studies import STUDIES
from onechange.experiment.rows import row_of
from onechange.training.result import finite

sys.path.insert(0, str(Path(__file__).parent))
from fresh import digest, remake

EXPLORE = Path(__file__).parents[1] / "_assets" / "explore"
WORDS = (
    {"uci": "UCI messages", "pocket": "pocket messages"},
    {"pocket": "pocket models", "smollm2": "SmolLM2", "gpt2": "GPT-2"},
)
SIGNS = {"better": 1, "worse": -1, DIFFER: 2}
FIELDS = ("mean", "low", "high", "p", "sign", "seeds", "needed", "together")
"""What is kept of a pair: the change's difference from the base in points, and what is said of it. The other
way round is the same with the signs turned, which is left to the page."""

Study = dict[str, Runs]


def tables() -> list[tuple[str, list[Study]]]:
    """The stored studies by what they have in common: its name, and the studies, the table's own first.

    What has no baseline yet is no table.
    """
    found: dict[str, list[Study]] = {}
    for name, study in STUDIES.items():
        if not study.listed:
            continue
        try:
            rows = oc.stored(name)
        except UsageError:  # not made yet
            continue
        datasets, scales = WORDS
        found.setdefault(f"{datasets[study.dataset]}, {scales[study.scale]}", []).append(rows)
    return [(name, studies) for name, studies in found.items() if any("1" in rows for rows in studies)]


def joined(studies: list[Study]) -> Study:
    """Their rows; one that several have, from the first that ran it with the most seeds."""
    rows: Study = {}
    for name, runs in (item for study in studies for item in study.items()):
        if len(runs.seeds) > (len(rows[name].seeds) if name in rows else 0):
            rows[name] = runs
    return rows


def line(runs: Runs) -> dict[str, Any]:
    """A row of the table: ``values`` to sort by and to draw, in percent, and ``shown``, as they are printed."""
    row, test, clean = row_of(runs.row), oc.accuracy(runs), oc.accuracy(runs, clean=True)
    values = {
        "test": 100 * test.mean,
        "clean": 100 * clean.mean,
        "val": 100 * float(runs.val.mean()),
        "train": 100 * float(runs.train.mean()),
        "trained": runs.n_trainable,
        "seconds": runs.took,
        "seeds": math.nan if runs.fixed else len(runs.seeds),
        "published": row.test,
    }
    styles = {"trained": ",", "seeds": ".0f", "published": ".2f"}
    seeds = [] if runs.fixed else (100 * runs.test).round(2).tolist()
    shown = {name: "–" if math.isnan(x) else format(x, styles.get(name, ".1f")) for name, x in values.items()}
    if runs.failed:
        shown["seeds"] += f" of {len(runs.seeds) + runs.failed}"
    return {
        "row": runs.row,
        "title": runs.title,
        "label": runs.label,
        "home": row.home,
        "kind": "plain" if runs.fixed else "published" if runs.row.isdecimal() else "further",
        "why": row.why,
        "values": values,
        "shown": shown,
        "each": seeds,
        "stuck": runs.stuck + " %" * bool(runs.stuck and runs.started.any()),
        "intervals": {"test": interval(test), "clean": interval(clean)},
    }


def interval(e: Estimate) -> dict[str, Any]:
    low, high = 100 * e.low, 100 * e.high
    return {"low": low, "high": high, "shown": "" if math.isnan(low) else f"[{low:.1f}, {high:.1f}]"}


def pair(base: Runs, change: Runs) -> list[Any] | str:
    """Two rows compared, in the order of :data:`FIELDS`; or why they cannot be."""
    try:
        c, together = difference(base, change), agreement([base, change])[0, 1]
    except UsageError as error:
        return str(error)
    d = c.difference
    points = [round(100 * x, 1) for x in (d.mean, d.low, d.high)]
    needed = [c.seeds_for(size) for size in SIZES]
    return [*points, c.said_p, sign(c), d.seeds, needed, f"{100 * together:.1f}"]


def sign(c: Comparison) -> int:
    """1 better, -1 worse, 2 where two single runs differ, 0 where no difference could be shown."""
    return SIGNS.get(c.verdict, 0)


def table(name: str, studies: list[Study]) -> dict[str, Any]:
    """One table of the page: rows, all pairs, and the comparisons with the baseline as the chapter corrects them."""
    rows = joined(studies)
    runs = list(rows.values())
    corrected = oc.against_baseline(studies[0]) if "1" in studies[0] else {}
    return {
        "name": name,
        "messages": runs[0].right.shape[1],
        "clean": oc.accuracy(runs[0], clean=True).messages,
        "rows": [line(x) for x in runs],
        "pairs": [[pair(base, change) for change in runs[i + 1 :]] for i, base in enumerate(runs)],
        "corrected": {row: [c.said_p, sign(c)] for row, c in corrected.items()},
    }


def make(folder: Path, found: list[tuple[str, list[Study]]]) -> None:
    """Write the tables as one script."""
    index = {"fields": FIELDS, "sizes": [100 * size for size in SIZES], "tables": [table(*each) for each in found]}
    text = json.dumps(finite(index), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    (folder / "index.js").write_text(f"const EXPLORE = {text};\n", encoding="utf-8")


def main(folder: Path = EXPLORE) -> None:
    remake(folder, digest(), __file__, lambda folder: make(folder, tables()))


if __name__ == "__main__":
    main()
