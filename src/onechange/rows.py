"""The nineteen rows of the published table: each the baseline with its change, and what was published.

Published numbers are the publisher's own, from one run with one seed on an A100; they are data
here, shown beside this project's results and never mixed with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import UsageError
from .experiment import BASELINE, Experiment


@dataclass(frozen=True)
class Row:
    """A row of the published table.

    ``train``, ``val`` and ``test`` are the published accuracies in percent, ``minutes`` the
    published training time.
    """

    title: str
    change: dict[str, Any]
    train: float
    val: float
    test: float
    minutes: float


def _size(name: str, **more: Any) -> dict[str, Any]:
    return {"model_size": name, **more}


TABLE = {
    1: Row("the baseline", {}, 96.63, 99.33, 95.00, 0.28),
    2: Row("first token", {"trainable_token_pos": "first"}, 78.46, 80.54, 75.00, 0.28),
    3: Row("last layer", {"trainable_layers": "last_layer"}, 78.65, 79.87, 72.00, 0.25),
    4: Row("last two blocks", {"trainable_layers": "last_two_blocks"}, 98.85, 98.66, 98.33, 0.33),
    5: Row("all layers", {"trainable_layers": "all"}, 99.62, 96.64, 96.67, 0.69),
    6: Row("medium", _size("gpt2-medium"), 87.50, 91.28, 84.67, 0.75),
    7: Row("large", _size("gpt2-large"), 99.52, 98.66, 96.67, 1.50),
    8: Row("XL", _size("gpt2-xl"), 99.81, 99.81, 98.33, 2.83),
    9: Row("XL, all layers", _size("gpt2-xl", trainable_layers="all"), 100.00, 98.66, 98.67, 8.12),
    10: Row("random weights", {"weights": "random", "trainable_layers": "all"}, 100.00, 96.64, 93.67, 0.69),
    11: Row(
        "LoRA", {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16}, 100.00, 97.32, 96.67, 0.75
    ),
    12: Row(
        "XL, LoRA",
        _size("gpt2-xl", trainable_layers="lora", lora_rank=16, lora_alpha=8),
        100.00, 98.66, 98.33, 5.79,
    ),
    13: Row("full context", {"context_length": "model_context_length"}, 83.08, 87.92, 78.33, 2.46),
    14: Row("no padding, one by one", {"no_padding": True, "batch_size": 1}, 100.00, 98.66, 98.00, 1.75),
    15: Row(
        "no padding, batches of 8",
        {"no_padding": True, "batch_size": 1, "accumulation_steps": 8},
        99.33, 98.66, 98.33, 1.70,
    ),
    16: Row("last real token", {"trainable_token_pos": "flexible"}, 99.42, 98.66, 98.33, 0.30),
    17: Row("no causal mask", {"disable_causal_mask": True}, 99.23, 98.66, 95.33, 0.29),
    18: Row("ignored label", {"ignore_index": 50256}, 96.63, 99.33, 95.00, 0.28),
    19: Row("average over positions", {"average_embeddings": True}, 97.79, 99.33, 96.33, 0.32),
}  # fmt: skip

ROWS: dict[int, Experiment] = {number: BASELINE.but(**row.change) for number, row in TABLE.items()}
"""The experiments of the table by their published number."""


def published() -> pd.DataFrame:
    """The published table: row, title, command, and accuracies in percent, minutes."""
    return pd.DataFrame(
        [
            {
                "row": number,
                "title": row.title,
                "command": " ".join(["onechange run", *quoted(ROWS[number].flags)]),
                "train": row.train,
                "val": row.val,
                "test": row.test,
                "minutes": row.minutes,
            }
            for number, row in TABLE.items()
        ]
    )


def quoted(words: list[str]) -> list[str]:
    """Shell words, in double quotes where they hold a space."""
    return [f'"{word}"' if " " in word or "(" in word else word for word in words]


def parse_rows(text: str) -> list[int]:
    """``"1-5,16"`` to ``[1, 2, 3, 4, 5, 16]``.

    Raises:
        UsageError: for anything else, or a row that is not in the table.
    """
    rows: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"rows {text!r} is not a list of rows like 1-5,16")
        low, high = int(first), int(last if dash else first)
        for row in (low, high):
            if row not in TABLE:
                raise UsageError(f"there is no row {row}: the table has rows 1 to {len(TABLE)}")
        if low > high:
            raise UsageError(f"rows {text!r} runs backwards: write {high}-{low}")
        rows += range(low, high + 1)
    return list(dict.fromkeys(rows))


def as_markdown() -> str:
    """The published table with this package's commands, for the README."""
    lines = ["| # | the change | command | published test % |", "|---:|---|---|---:|"]
    lines += [f"| {r.row} | {r.title} | `{r.command}` | {r.test:.2f} |" for r in published().itertuples()]
    return "\n".join(lines)


def update_readme(path: str = "README.md") -> None:
    """Write :func:`as_markdown` between the marks in the README."""
    file = Path(path)
    before, mark, rest = file.read_text(encoding="utf-8").partition("kept by a test -->\n")
    _, end, after = rest.partition("<!-- end of rows -->")
    file.write_text(f"{before}{mark}{as_markdown()}\n{end}{after}", encoding="utf-8")
