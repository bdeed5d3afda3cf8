"""A study's single answers as a table of their own: one Parquet file, and a card that says what is in it.

    python -m onechange.evidence.answers                    # every stored study, into the folder answers
    python -m onechange.evidence.answers table-uci --out onechange-results

Which answers are right stands in the stored studies; the probabilities only in the records of the runs, a folder of
which is given with ``--out``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from ..support.cache import sha256
from ..support.errors import UsageError, nearest
from ..support.files import home, write_atomically
from .runs import Runs, stored, study_names
from .study import Store

COLUMNS = {
    "row": "the row's number or name",
    "seed": "the run's seed; a row without a network has one, which decides nothing",
    "message": "the message's place in the run's test set, from 0: the messages themselves are not in the file",
    "right": "whether the run's answer is the message's label",
    "probability": "what the model gave the message's label, where the run's record was at hand, else empty",
    "seen": "whether the message stands in the training set: 2 word for word, 1 after masking, 0 not",
}
"""The file's columns, and what each holds."""

Probabilities = Mapping[tuple[str, int], np.ndarray]
"""Of a row with a seed the probability of every test message's label, ``(N,)``."""


def answers(rows: Mapping[str, Runs], known: Probabilities | None = None) -> pd.DataFrame:
    """Rows x seeds x messages, one line each, with :data:`COLUMNS`."""
    parts = []
    for name, runs in rows.items():
        S, N = runs.right.shape
        none = np.full(N, np.nan, np.float32)
        probability = np.array([(known or {}).get((name, seed), none) for seed in runs.seeds], np.float32)
        columns = {
            "row": pd.Categorical([name] * (S * N), categories=list(rows)),
            "seed": np.repeat(np.array(runs.seeds, np.int32), N), "message": np.tile(np.arange(N, dtype=np.int32), S),
            "right": runs.right.ravel(), "probability": probability.reshape(S * N), "seen": runs.seen.ravel(),
        }  # fmt: skip
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def known_of(rows: Mapping[str, Runs], records: list[dict[str, Any]]) -> Probabilities:
    """The probabilities in those records that are the runs of a study: same experiment, messages and answers."""
    found: dict[tuple[str, int], np.ndarray] = {}
    for record in records:
        runs = rows.get(str(record["row"]))
        seed = record["experiment"]["seed"]
        if runs is None or record["error"] or seed not in runs.seeds:
            continue
        p, labels = np.array(record["test_probabilities"]), np.array(record["test_labels"])
        mine = record["experiment"] == runs.experiment.but(seed=seed).to_dict()
        if mine and np.array_equal(p.argmax(1) == labels, runs.right[runs.seeds.index(seed)]):
            found[runs.row, seed] = p[np.arange(len(p)), labels]
    return found


def card(name: str, frame: pd.DataFrame, rows: Mapping[str, Runs], digest: str) -> str:
    """The data card, Markdown."""
    made = sorted({", ".join(f"{k} {r.made[k]}" for k in MADE if r.made.get(k) is not None) for r in rows.values()})
    known = frame.probability.notna().mean()
    messages = sorted({f"{r.experiment.dataset} (SHA-256 {r.messages})" for r in rows.values()})
    seeds = [len(r.seeds) for r in rows.values() if not r.fixed]
    heads = ["row", "change", "seeds", "messages", "right"]
    table = [[n, r.title, len(r.seeds), r.right.shape[1], f"{100 * r.test.mean():.1f} %"] for n, r in rows.items()]
    about = (
        f"`{name}.parquet`, SHA-256 {digest}: {len(frame):,} answers of {len(rows)} rows, with {min(seeds, default=0)} "
        f"to {max(seeds, default=0)} seeds each, to test messages. Probabilities: {100 * known:.0f} % of the answers."
    )
    lines = [
        f"# Single answers of {name}", "",
        about, "",
        "Read it with `pandas.read_parquet`.", "", "## Columns", "",
        *(f"- `{column}`: {words}" for column, words in COLUMNS.items()), "",
        "## Where it comes from", "",
        f"Finetuned classifiers of *One Change at a Time*, which `python -m onechange.evidence.studies {name}` runs "
        f"again, and `onechange verify {name}` compares. Messages: {'; '.join(messages)}. The test set is what "
        "`onechange.data.messages.messages_of` gives for a row's experiment; where the seed splits the messages, "
        "every seed has its own.", "", *(f"- made with {words}" for words in made), "",
        "## What it is not", "",
        "No message's text is in it. Answers of one seed to one message are no independent draws: rows share messages "
        "and seeds. A row whose runs did not all start has seeds of two kinds.", "", "## Rows", "",
        f"| {' | '.join(heads)} |", "|---|---|---:|---:|---:|",
        *(f"| {' | '.join(map(str, line))} |" for line in table),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


MADE = ("onechange", "torch", "python", "device_name", "precision", "threads")


def export(name: str, target: Path, records: list[dict[str, Any]]) -> Path:
    """Write ``NAME.parquet`` and ``NAME.md``; returns the first. Either is whole or not there."""
    rows = stored(name)
    frame = answers(rows, known_of(rows, records))
    target.mkdir(parents=True, exist_ok=True)
    file = target / f"{name}.parquet"
    write_atomically(file, lambda path: frame.to_parquet(path, compression="zstd", index=False))
    text = card(name, frame, rows, sha256(file))
    write_atomically(target / f"{name}.md", lambda path: Path(path).write_text(text, encoding="utf-8"))
    return file


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (), /, out: Path | None = None, target: Path = Path("answers")
) -> None:
    """Write the single answers of stored studies.

    Args:
        names: which studies; all that are stored unless given.
        out: a folder of finished runs (that of `onechange.evidence.studies --out`), for their probabilities.
        target: the folder to write to.
    """
    there = study_names()
    for name in names:
        if name not in there:
            raise UsageError(f"no study is stored as {name!r}{nearest(name, there)}: there are {', '.join(there)}")
    records = Store(out).records() if out is not None else []
    folder = Path(home(target))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{target} is a file: a folder is needed")
    for name in names or there:
        file = export(name, folder, records)
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UsageError as error:
        print(f"onechange.answers: {error}", file=sys.stderr)
        sys.exit(2)
