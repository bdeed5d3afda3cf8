"""Finished runs as a table: one line a row, with intervals over seeds and messages."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..experiment.experiment import BASELINE
from ..experiment.rows import NAMED, TABLE, is_baseline, published, row_of
from ..gpt.checkpoint import FOLDER_RATE
from ..gpt.weights import MODELS
from .intervals import accuracy
from .runs import runs_of, stored


def summary(records: Sequence[dict[str, Any]], clean: bool = False) -> pd.DataFrame:
    """One line a row: accuracies in percent, the test's 95 % interval, time, size.

    ``may_stall`` is the largest share of further runs, in percent, that may not start (``Runs.may_stall``).

    Runs that ended early are counted in ``failed`` and left out of the means. ``clean`` scores the test
    messages that do not stand in the training set alone.
    """
    rows = runs_of(records)
    lines = []
    for row, runs in rows.items():
        test = accuracy(runs, clean)
        mean = {name: getattr(runs, name).mean() if runs.seeds else math.nan for name in ("train", "val")}
        lines.append(
            {
                "row": row,
                "title": runs.title,
                "model": runs.experiment.model_size,
                "train": 100 * mean["train"],
                "val": 100 * mean["val"],
                "test": 100 * test.mean,
                "sd": 100 * test.sd,
                "low": 100 * test.low,
                "high": 100 * test.high,
                "seeds": test.seeds,
                "messages": test.messages,
                "failed": runs.failed,
                "stuck": runs.stuck,
                "may_stall": 100 * runs.may_stall[1],
                "trainable": runs.n_trainable,
                "seconds": runs.took if runs.seeds else math.nan,
            }
        )
    return pd.DataFrame(lines)


def render(frame: pd.DataFrame, style: str) -> str:
    """A summary as text, Markdown, CSV or JSON."""
    if style == "csv":
        return frame.to_csv(index=False).rstrip()
    if style == "json":
        return json.dumps(json.loads(frame.to_json(orient="records")), indent=1)
    shown = frame.drop(
        columns=["low", "high", "messages", "stuck", "may_stall"] + ["failed"] * (not frame.failed.any())
    )
    interval = frame.low.map("{:.1f}".format) + "–" + frame.high.map("{:.1f}".format)
    shown.insert(list(shown.columns).index("test") + 1, "95 %", interval)
    for column in ("train", "val", "test", "sd"):
        shown[column] = shown[column].map("{:.2f}".format)
    shown["seconds"] = shown["seconds"].map("{:.1f}".format)
    shown["trainable"] = shown["trainable"].map("{:,}".format)
    few = f"{frame.messages.min()}" + f" to {frame.messages.max()}" * (frame.messages.nunique() > 1)
    alone = " (over messages alone where there is one seed)" * bool((frame.seeds == 1).any())
    caption = f"Accuracies in %; 95 % intervals over seeds and {few} test messages{alone}; sd is over seeds."
    caption += "".join(f" {row}: {words}." for row, words in zip(frame.row, frame.stuck, strict=True) if words)
    began = frame[frame.may_stall.notna() & (frame.stuck == "")]
    if len(began):
        n, most = int(began.seeds.min()), float(began.may_stall.max())
        did = f"all {n} did" if n > 1 else "the one did"
        caption += f" They are of runs that start: where {did}, up to {most:.0f} % of further ones may not."
    if style == "text":
        left = {c: f"{{:<{shown[c].str.len().max()}}}".format for c in ("title", "model")}
        return f"{shown.to_string(index=False, formatters=left)}\n\n{caption}"
    rule = ["---" if c in ("title", "model") else "---:" for c in shown.columns]
    lines = [list(shown.columns), rule, *shown.astype(str).values.tolist()]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", caption])


def by_setting(records: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Records grouped by what is common to a table: ladder, messages, and flags beside the rows' own.

    Each group comes with a title; rows are in the table's order.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=_order):
        groups.setdefault(_setting(record), []).append(record)
    return list(groups.items())


def _setting(record: dict[str, Any]) -> str:
    """What a record's numbers depend on beside its row and seed, in words.

    Read from the record alone: the model's folder or the file of messages may be gone by now.
    """
    e, made = record["experiment"], record["environment"]
    change = row_of(record["row"]).change
    model = MODELS.get(e["model_size"])
    row_model = MODELS[BASELINE.but(model_size=change.get("model_size", BASELINE.model_size)).model_size]
    on_ladder = model is not None and model.rung == row_model.rung
    name = model.scale if model is not None and on_ladder else e["model_size"]
    messages = f"{e['dataset']} messages"
    if model is None:  # a folder or a file may change under its name
        name += f" ({made['weights_sha256'][:8]})"
    if e["dataset"] not in ("uci", "pocket"):
        messages += f" ({made['messages_sha256'][:8]})"
    words = [name, messages]
    rate = model.learning_rate if model is not None else FOLDER_RATE
    defaults = dataclasses.asdict(BASELINE) | {"learning_rate": rate}
    own = {*change, "model_size", "seed", "dataset", "precision"}
    words += [f"{name}={value}" for name, value in e.items() if name not in own and value != defaults.get(name)]
    return ", ".join([*words, made["precision"], f"onechange {made['onechange']}"])


def _order(record: dict[str, Any]) -> tuple:
    row = str(record["row"])
    place = list(NAMED).index(row) if row in NAMED else int(row)
    return row in NAMED and not is_baseline(row), not is_baseline(row), place, record["experiment"]["seed"]


def readme_rows() -> str:
    """The nineteen rows for the README: command, published accuracy, and the pocket family's of the book's results."""
    heads = ("#", "the change", "command", "published %", "pocket family %", "95 %", "seeds")
    lines = [f"| {' | '.join(heads)} |", "|---:|---|---|---:|---:|---:|---:|"]
    measured = stored("table-uci")
    for number, r in zip(TABLE, published().itertuples(), strict=True):
        title = f"[{r.title}](book/{TABLE[number].home}.ipynb)"
        ours = "not yet | |"
        if str(number) in measured:
            x = accuracy(measured[str(number)])
            ours = f"{100 * x.mean:.1f} | {100 * x.low:.1f}–{100 * x.high:.1f} | {x.seeds}"
        lines.append(f"| {number} | {title} | `{r.command}` | {r.test:.2f} | {ours} |")
    return "\n".join(lines)


def update_readme(path: str = "README.md") -> None:
    """Write :func:`readme_rows` between the marks in the README."""
    file = Path(path)
    before, mark, rest = file.read_text(encoding="utf-8").partition("kept by a test -->\n")
    _, end, after = rest.partition("<!-- end of rows -->")
    file.write_text(f"{before}{mark}{readme_rows()}\n{end}{after}", encoding="utf-8")
