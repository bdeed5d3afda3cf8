"""The rows: nineteen published ones, each the baseline with its change, and further ones by name.

Published numbers are the publisher's own, from one run with one seed on an A100; they are data
here, shown beside this project's results and never mixed with them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..support.errors import UsageError, nearest
from .experiment import BASELINE, Experiment


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: a few words for the change.
        home: the chapter that discusses it.
        change: the fields that differ from the baseline's.
        train, val, test: the published accuracies in percent.
        minutes: the published training time.
        why: for a row that was not published, what it is there to teach.
    """

    title: str
    home: str
    change: dict[str, Any]
    train: float = math.nan
    val: float = math.nan
    test: float = math.nan
    minutes: float = math.nan
    why: str = ""


RANDOM = {"weights": "random", "trainable_layers": "all"}
LORA = {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16}
FIRST = {"trainable_token_pos": "first"}
LAYER = {"trainable_layers": "last_layer"}
OPEN = {"disable_causal_mask": True}
END = {"trainable_token_pos": "flexible"}
XL = {"model_size": "gpt2-xl"}
ALONE = {"no_padding": True, "batch_size": 1}
EIGHT = {**ALONE, "accumulation_steps": 8}
TWO = {"trainable_layers": "last_two_blocks"}
FULL = {"context_length": "model_context_length"}
MEAN = {"average_embeddings": True}

TABLE = {
    1: Row("the baseline", "baseline", {}, 96.63, 99.33, 95.00, 0.28),
    2: Row("first token", "token", FIRST, 78.46, 80.54, 75.00, 0.28),
    3: Row("last layer", "layers", LAYER, 78.65, 79.87, 72.00, 0.25),
    4: Row("last two blocks", "layers", TWO, 98.85, 98.66, 98.33, 0.33),
    5: Row("all layers", "layers", {"trainable_layers": "all"}, 99.62, 96.64, 96.67, 0.69),
    6: Row("medium", "size", {"model_size": "gpt2-medium"}, 87.50, 91.28, 84.67, 0.75),
    7: Row("large", "size", {"model_size": "gpt2-large"}, 99.52, 98.66, 96.67, 1.50),
    8: Row("XL", "size", XL, 99.81, 99.81, 98.33, 2.83),
    9: Row("XL, all layers", "size", {**XL, "trainable_layers": "all"}, 100.00, 98.66, 98.67, 8.12),
    10: Row("random weights", "pretraining", RANDOM, 100.00, 96.64, 93.67, 0.69),
    11: Row("LoRA", "lora", LORA, 100.00, 97.32, 96.67, 0.75),
    12: Row("XL, LoRA", "lora", {**XL, **LORA, "lora_alpha": 8}, 100.00, 98.66, 98.33, 5.79),
    13: Row("full context", "padding", FULL, 83.08, 87.92, 78.33, 2.46),
    14: Row("no padding, one by one", "padding", ALONE, 100.00, 98.66, 98.00, 1.75),
    15: Row("no padding, batches of 8", "padding", EIGHT, 99.33, 98.66, 98.33, 1.70),
    16: Row("last real token", "token", END, 99.42, 98.66, 98.33, 0.30),
    17: Row("no causal mask", "masks", OPEN, 99.23, 98.66, 95.33, 0.29),
    18: Row("ignored label", "masks", {"ignore_index": 50256}, 96.63, 99.33, 95.00, 0.28),
    19: Row("average over positions", "token", MEAN, 97.79, 99.33, 96.33, 0.32),
}
"""The published rows by their number."""

NAMED = {
    "0a": Row("a rule on length", "data", {}, why="what the number of tokens alone tells"),
    "0b": Row("TF-IDF of words", "data", {}, why="what words tell, without a network"),
    "0c": Row("TF-IDF of characters", "data", {}, why="what pieces of words tell, without a network"),
    "pad-mask": Row("padding hidden", "padding", {"mask_padding": True}, why="the same read-out, blind to padding"),
    "left-pad": Row("padding on the left", "padding", {"padding_side": "left"}, why="the last token is a real one"),
    "mean-real": Row(
        "average over real tokens",
        "token",
        {**END, "average_embeddings": True},
        why="row 19 without the padding",
    ),
    "biases": Row("biases only", "layers", {"trainable_layers": "biases"}, why="how little can be trained (BitFit)"),
    "lora-attention": Row(
        "LoRA on attention only", "lora", {**LORA, "lora_layers": "attention"}, why="where adapters are needed"
    ),
    "lora-paper": Row("LoRA, alpha / r", "lora", {**LORA, "lora_scaling": "paper"}, why="the LoRA paper's scaling"),
    "lora-rslora": Row("LoRA, alpha / √r", "lora", {**LORA, "lora_scaling": "rslora"}, why="a scaling for any rank"),
    "random-trunk": Row(
        "random trunk", "pretraining", {"weights": "random"}, why="what pretraining does for frozen blocks"
    ),
    "end-64": Row(
        "last real token, 64 messages",
        "pretraining",
        {**END, "train_size": 64},
        why="what few are enough for",
    ),
    "end-64-random": Row(
        "last real token, 64 messages, random trunk",
        "pretraining",
        {**END, "train_size": 64, "weights": "random"},
        why="the same without pretraining",
    ),
    "random-gpt2": Row(
        "random weights, as GPT-2's", "pretraining", {**RANDOM, "weights": "random_gpt2"}, why="a gentler start"
    ),
}
"""Further rows: baselines without a network, and changes that were not published."""

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Three decades of learning rates."""

HEADS = tuple(range(123, 131))
"""Seeds of new layers, each to meet the same orders of the messages."""

for family, home, field, values, change, title, why in (
    ("blocks", "layers", "trainable_blocks", (2, 3, 4), {}, "last {} blocks", "how deep to train"),
    ("rank", "lora", "lora_rank", (1, 2, 4, 8, 16, 32, 64), LORA, "LoRA of rank {}", "what the rank does"),
    ("rate", "size", "learning_rate", RATES, {}, "learning rate {}", "whether the rate decides the rest"),
    ("end-rate", "token", "learning_rate", RATES, END, "last real token, learning rate {}", "the rate of row 16"),
    ("first-rate", "knobs", "learning_rate", RATES, FIRST, "first token, learning rate {}", "the rate of row 2"),
    ("layer-rate", "knobs", "learning_rate", RATES, LAYER, "last layer, learning rate {}", "the rate of row 3"),
    ("open-rate", "knobs", "learning_rate", RATES, OPEN, "no causal mask, learning rate {}", "the rate of row 17"),
    ("two-rate", "knobs", "learning_rate", RATES, TWO, "last two blocks, learning rate {}", "the rate of row 4"),
    ("full-rate", "knobs", "learning_rate", RATES, FULL, "full context, learning rate {}", "the rate of row 13"),
    ("alone-rate", "knobs", "learning_rate", RATES, ALONE, "no padding, learning rate {}", "the rate of row 14"),
    ("eight-rate", "knobs", "learning_rate", RATES, EIGHT, "batches of 8, learning rate {}", "the rate of row 15"),
    ("mean-rate", "knobs", "learning_rate", RATES, MEAN, "average, learning rate {}", "the rate of row 19"),
    ("messages", "pretraining", "train_size", (16, 64, 256), {}, "{} training messages", "how many it takes"),
    ("batch", "knobs", "batch_size", (4, 16, 32), {}, "batches of {}", "how many at a time"),
    ("epochs", "knobs", "num_epochs", (1, 2, 10), {}, "{} epochs", "how often"),
    ("decay", "knobs", "weight_decay", (0, 0.01, 1), {}, "weight decay {}", "how strong"),
    ("noise", "data", "label_noise", (0.1, 0.2, 0.3, 0.4), {}, "{} of the labels wrong", "how wrong they may be"),
    ("head-1", "knobs", "head_seed", HEADS, {}, "row 1, head {}", "what is the head's chance, what the order's"),
    ("head-4", "knobs", "head_seed", HEADS, TWO, "row 4, head {}", "the same of row 4"),
    ("head-16", "knobs", "head_seed", HEADS, END, "row 16, head {}", "the same of row 16"),
):  # fmt: skip
    for value in values:
        NAMED[f"{family}-{value:g}"] = Row(title.format(f"{value:g}"), home, {**change, field: value}, why=why)

ROWS: dict[int, Experiment] = {number: BASELINE.but(**row.change) for number, row in TABLE.items()}
"""The experiments of the table by their published number."""


def row_of(name: str | int) -> Row:
    """A row by its number or name.

    Raises:
        UsageError: if there is none.
    """
    if str(name).isdecimal() and int(name) in TABLE:
        return TABLE[int(name)]
    if name in NAMED:
        return NAMED[str(name)]
    if str(name).isdecimal():
        raise UsageError(f"there is no row {name}: the table has rows 1 to {len(TABLE)}")
    raise UsageError(f"there is no row {name!r}{nearest(str(name), NAMED)}")


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


def is_baseline(name: str) -> bool:
    """Whether a row is one without a network."""
    return name.startswith("0")


def is_fixed(name: str, e: Experiment) -> bool:
    """Whether no seed decides anything about a row: without a network, one split, no labels drawn."""
    return is_baseline(name) and e.one_test_set and not e.label_noise


def parse_rows(text: str) -> list[str]:
    """``"1-3,16,pad-mask,rank"`` to ``["1", "2", "3", "16", "pad-mask", "rank-1", "rank-2", ...]``.

    A word that begins several rows' names, such as ``rank`` or ``0``, stands for all of them.

    Raises:
        UsageError: for anything else, or a row that does not exist.
    """
    rows: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if first.isdecimal() and (not dash or last.isdecimal()) and part != "0":
            low, high = int(first), int(last if dash else first)
            for row in (low, high):
                row_of(row)
            if low > high:
                raise UsageError(f"rows {text!r} runs backwards: write {high}-{low}")
            rows += map(str, range(low, high + 1))
        elif part in NAMED:
            rows.append(part)
        elif family := [name for name in NAMED if part and (name.startswith(f"{part}-") or name[:-1] == part)]:
            rows += family
        elif re.search("[a-z]", part):
            row_of(part)
        else:
            raise UsageError(f"rows {text!r} is not a list of rows like 1-5,16,pad-mask")
    return list(dict.fromkeys(rows))
