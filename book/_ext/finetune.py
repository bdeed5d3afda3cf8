"""Make what the page "Run it yourself" reads: the pretrained weights, the messages, and what is stored of its rows.

The page trains; it is given what a run of the package starts from. Its threads must be made of text where a page
is opened from the disk, so the scripts that they run stand in ``index.js`` too. What was made from the same
package and results is left alone.

    python book/_ext/finetune.py
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import onechange as oc
from onechange.data.messages import load_messages
from onechange.experiment.experiment import BASELINE, Experiment
from onechange.experiment.rows import row_of
from onechange.gpt.tokenizer import POCKET_RANKS, tokenizer_for
from onechange.support.errors import UsageError
from onechange.training.build import trunk

sys.path.insert(0, str(Path(__file__).parent))
from explore import joined, tables
from fresh import digest, remake
from live import cut, write

ASSETS = Path(__file__).parents[1] / "_assets"
FINETUNE = ASSETS / "finetune"
ROWS = ("2", "3", "16", "17", "pad-mask", "left-pad")
FIELDS = (
    *("model_size", "trainable_layers", "trainable_token_pos", "padding_side", "mask_padding", "num_epochs"),
    *("disable_causal_mask", "learning_rate", "weight_decay", "dataset", "train_size", "label_noise"),
)
"""The fields of an experiment that the page can set, in the order of its flags."""
THREAD = ("model.js", "product.js", "random.js", "train.js", "finetune.js", "worker.js")
REACH = 256  # tokens of the longest message that the page takes


def setting(e: Experiment) -> dict[str, Any]:
    """An experiment's fields that the page knows."""
    values = e.to_dict()
    return {name: values[name] for name in FIELDS}


def start() -> Experiment:
    """The baseline as the page offers it first."""
    return BASELINE.at("pocket").resolved().but(train_size=400)


def thread() -> str:
    """What a side's thread runs."""
    return "".join((ASSETS / name).read_text(encoding="utf-8") for name in THREAD)


def stored() -> dict[str, Any]:
    """Of each row, its difference from the baseline in the stored runs on the same messages, in points."""
    found = {}
    rows = next((joined(studies) for name, studies in tables() if name == "pocket messages, pocket models"), {})
    for row in ROWS:
        try:
            d = oc.difference(rows["1"], rows[row]).difference
        except (KeyError, UsageError):  # not made yet
            continue
        points = {name: 100 * getattr(d, name) for name in ("mean", "low", "high")}
        found[row] = points | {"seeds": d.seeds, "messages": d.messages}
    return found


def make(folder: Path) -> None:
    """Write everything."""
    e, messages = start(), load_messages("pocket")
    model = trunk(e)
    config = {name: getattr(model.config, name) for name in ("emb_dim", "n_heads", "n_layers")}
    splits = {name: getattr(messages, name) for name in ("train", "val", "test")}
    defaults = {name: value for name, value in Experiment().to_dict().items() if name in FIELDS}
    index = {
        "config": config | {"context_length": REACH},
        "end": tokenizer_for("pocket").end,
        "ranks": POCKET_RANKS.read_text(encoding="ascii"),
        "classes": messages.classes,
        "messages": {name: [frame.label.tolist(), frame.text.tolist()] for name, frame in splits.items()},
        "defaults": defaults | {"learning_rate": None, "dataset": None},
        "start": setting(e) | {"dataset": None},
        "rows": {row: {name: getattr(row_of(row), name) for name in ("title", "home", "change")} for row in ROWS},
        "stored": stored(),
        "weights": write(folder, "pretrained", cut(model.state_dict(), REACH)),
        "thread": thread(),
    }
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    (folder / "index.js").write_text(f"const FINETUNE = {text};\nconst PARTS = {{}};\n", encoding="utf-8")


def main(folder: Path = FINETUNE) -> None:
    scripts = hashlib.sha256(thread().encode()).hexdigest()
    remake(folder, f"{digest()} {scripts}", __file__, make)


if __name__ == "__main__":
    main()
