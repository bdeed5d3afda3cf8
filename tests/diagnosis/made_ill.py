"""Messages and models, sound ones and ones with an illness that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onechange import Experiment, run
from onechange.training.result import Result

COMMON = [
    "the", "a", "we", "it", "is", "on", "at", "for", "with", "my", "you", "me", "see", "today", "home", "later", "time",
    "day", "please", "will", "have", "this", "that",
]  # fmt: skip
OWN = {
    "ham": ["dinner", "mother", "lecture", "football", "sister", "kitchen", "train", "sleep", "coffee", "garden"],
    "spam": ["prize", "winner", "claim", "cash", "urgent", "offer", "bonus", "reward", "voucher", "lottery"],
}


def message(rng: np.random.Generator, label: str, words: int, wrong: float) -> str:
    """Some words, three of them the class's own, or with a chance of ``wrong`` the other's: nobody is always right."""
    other = next(name for name in OWN if name != label)
    own = OWN[other if rng.random() < wrong else label]
    text = [*rng.choice(COMMON, words - 3), *rng.choice(own, 3)]
    return " ".join(rng.permutation(text))


def messages(seed: int = 0, n: int = 360, wrong: float = 0.08) -> pd.DataFrame:
    """Sound messages: two classes of one size and one length, told apart by words and not by one word alone."""
    rng = np.random.default_rng(seed)
    labels = ["ham", "spam"] * (n // 2)
    return pd.DataFrame({"label": labels, "text": [message(rng, x, int(rng.integers(7, 15)), wrong) for x in labels]})


def write(frame: pd.DataFrame, path: Path) -> str:
    frame.to_csv(path, index=False)
    return str(path)


SOUND: dict[str, Any] = {
    "model_size": "pocket-small", "trainable_token_pos": "flexible", "trainable_layers": "last_two_blocks",
    "num_epochs": 3, "learning_rate": 1e-3,
}  # fmt: skip


def trained(dataset: str, **change: Any) -> Result:
    """A model of the smallest size, sound but for the change."""
    return run(Experiment(**(SOUND | {"dataset": dataset} | change)), progress=False)
