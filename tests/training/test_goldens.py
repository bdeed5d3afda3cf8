"""Numbers that must not drift: the publisher's own, and this project's.

The publisher's come with the reference folder. The project's own, ``golden_pocket.json``, need nothing
from outside: they were made by ``plain_run`` below, which shares no line with the package but its
tokenizer and its messages. It runs Hugging Face's GPT-2 in float64 through the loops of the
published program. ``PYTHONPATH=tests python tests/training/test_goldens.py`` makes the file anew.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onechange import run
from onechange.data.messages import load_messages
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.gpt.tokenizer import tokenizer_for

FILE = Path(__file__).with_name("golden_pocket.json")
POCKET_ROWS = [1, 2, 3, 5, 11, 14, 15, 16, 17, 19]
EVERY = 4  # batches between two notes of the loss, so that a short run has a curve

# Row 11 at this learning rate is chaotic: alpha 16 without a division by the rank makes steps so large
# that differences of 1e-7 between two orders of the same sums grow to 1e-2 after step 100. There
# float64, one or two threads, and the publisher's own operations all part ways. Until step 100 they
# agree to 1e-5, so that much is compared, and nothing later.
CHAOTIC = {11: 3}  # row: loss points to compare


@pytest.mark.usefixtures("uci_cache")
@pytest.mark.parametrize("row", [1, 2, 16, *(pytest.param(row, marks=pytest.mark.slow) for row in (5, 11))])
def test_the_publishers_own_numbers(row: int, reference: Path, tiny: Path) -> None:
    """Every loss to 1e-3, every accuracy exactly, on the UCI messages with the reference's tiny weights."""
    golden = json.loads((reference / "golden" / f"row{row:02}.json").read_text())
    e = Experiment(model_size=str(tiny), learning_rate=1e-3).but(**TABLE[row].change)
    result = run(e, seed=golden["seed"], progress=False)
    assert result.n_trainable == golden["n_trainable"]
    assert result.max_length == golden["max_length"]
    assert len(result.train_losses) == len(golden["train_losses"]) == 13
    n = CHAOTIC.get(row, 13)
    assert result.train_losses[:n] == pytest.approx(golden["train_losses"][:n], abs=1e-3)
    assert result.val_losses[:n] == pytest.approx(golden["val_losses"][:n], abs=1e-3)
    if row not in CHAOTIC:
        assert result.examples[-1] <= golden["examples_seen"] == 5 * 130 * 8
        assert result.train_accs == pytest.approx(golden["train_accs"], abs=1e-6)
        assert result.val_accs == pytest.approx(golden["val_accs"], abs=1e-6)
        assert result.final == pytest.approx(golden["final"], abs=1e-6)


@pytest.mark.parametrize("row", POCKET_ROWS)
def test_the_projects_own_numbers(row: int, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loss to 1e-4, every accuracy exactly, on pocket messages with a toy model."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", EVERY)
    kept = json.loads(FILE.read_text())
    golden = kept["rows"][str(row)]
    assert kept["messages"] == load_messages("pocket").digest, "the messages have changed: python tests/test_goldens.py"
    result = run(pocket_experiment(toy, row), progress=False)
    assert (result.n_trainable, result.max_length) == (golden["n_trainable"], golden["max_length"])
    assert result.steps == golden["steps"]
    assert result.train_losses == pytest.approx(golden["train_losses"], abs=1e-4)
    assert result.val_losses == pytest.approx(golden["val_losses"], abs=1e-4)
    assert result.train_accs == pytest.approx(golden["train_accs"], abs=1e-6)
    assert result.val_accs == pytest.approx(golden["val_accs"], abs=1e-6)
    assert result.final == pytest.approx(golden["final"], abs=1e-6)
    assert [p[1] for p in result.test_probabilities[:20]] == pytest.approx(golden["spam_probabilities"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("row", POCKET_ROWS)
def test_the_file_is_what_the_plain_program_gives(row: int, toy: Path) -> None:
    """``golden_pocket.json`` can be made again."""
    golden = json.loads(FILE.read_text())["rows"][str(row)]
    again = plain_run(toy, pocket_experiment(toy, row))
    assert again.keys() == golden.keys()
    for name, value in again.items():
        assert value == pytest.approx(golden[name], abs=1e-6), name


def pocket_experiment(toy: Path, row: int) -> Experiment:
    """A row on a toy model, one epoch of 61 pocket messages: neither batches nor windows of eight come out even."""
    fixed = {"model_size": str(toy), "dataset": "pocket", "train_size": 61, "num_epochs": 1, "learning_rate": 1e-3}
    return Experiment(**(fixed | TABLE[row].change))


# -- the plain program --------------------------------------------------------------------------


class Adapter(nn.Module):
    """``W x + alpha (x A) B`` beside a column range of one of Hugging Face's fused layers, or beside the head."""

    def __init__(self, n_in: int, n_out: int, e: Experiment) -> None:
        super().__init__()
        A = torch.empty(n_in, e.lora_rank)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
        self.A, self.B = nn.Parameter(A.double()), nn.Parameter(torch.zeros(e.lora_rank, n_out, dtype=torch.float64))
        self.alpha = e.lora_alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alpha * (x @ self.A @ self.B)


class Adapted(nn.Module):
    """A layer and the adapters whose outputs, side by side, are added to its own."""

    def __init__(self, layer: nn.Module, adapters: list[Adapter]) -> None:
        super().__init__()
        self.layer, self.adapters = layer, nn.ModuleList(adapters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.cat([adapter(x) for adapter in self.adapters], -1)


class PlainModel(nn.Module):
    """Hugging Face's GPT-2 trunk in float64 with a head, and a row's own parts trainable."""

    def __init__(self, folder: Path, e: Experiment) -> None:
        from transformers import GPT2Model

        super().__init__()
        self.e = e
        self.trunk = GPT2Model.from_pretrained(folder, attn_implementation="eager").double().requires_grad_(False)
        C = self.trunk.config.n_embd
        torch.manual_seed(e.seed)
        self.head: nn.Module = nn.Linear(C, 2).double()
        blocks = {"last_block": 1, "all": len(self.trunk.h)}.get(e.trainable_layers, 0)
        for block in self.trunk.h[len(self.trunk.h) - blocks :]:
            block.requires_grad_(True)
        self.trunk.ln_f.requires_grad_(blocks > 0)
        if e.trainable_layers == "all":
            self.trunk.requires_grad_(True)
        if e.trainable_layers == "lora":
            for block in self.trunk.h:
                block.attn.c_attn = Adapted(block.attn.c_attn, [Adapter(C, C, e) for _ in range(3)])
                block.attn.c_proj = Adapted(block.attn.c_proj, [Adapter(C, C, e)])
                block.mlp.c_fc = Adapted(block.mlp.c_fc, [Adapter(C, 4 * C, e)])
                block.mlp.c_proj = Adapted(block.mlp.c_proj, [Adapter(4 * C, C, e)])
            self.head = Adapted(self.head, [Adapter(C, 2, e)])

    def forward(self, ids: torch.Tensor, end: int) -> torch.Tensor:
        """Logits ``(B, 2)``: all blocks at all positions, then the row's position of each message."""
        mask = None
        if self.e.disable_causal_mask:
            mask = torch.zeros(1, 1, ids.size(1), ids.size(1), dtype=torch.float64)  # nothing is added to a score
        logits = self.head(self.trunk(ids, attention_mask=mask, use_cache=False).last_hidden_state)  # (B, T, 2)
        if self.e.average_embeddings:
            return logits.mean(1)
        at = {"first": torch.zeros(len(ids), dtype=torch.int64), "flexible": (ids != end).sum(1) - 1}
        return logits[torch.arange(len(ids)), at.get(self.e.trainable_token_pos, torch.tensor(ids.size(1) - 1))]


def plain_run(folder: Path, e: Experiment) -> dict[str, Any]:
    """The published program's loops, in float64, without a single shortcut."""
    state = torch.get_rng_state()
    messages, tokenizer = load_messages("pocket"), tokenizer_for("pocket")
    frames = {"train": messages.train[: e.train_size], "val": messages.val, "test": messages.test}
    rows = {name: [tokenizer.encode(text) for text in frame.text] for name, frame in frames.items()}
    longest = max(map(len, rows["train"]))
    length = 160 if e.no_padding else longest

    model = PlainModel(folder, e)
    torch.manual_seed(e.seed)
    loaders = {}
    for name, frame in frames.items():
        options = {"batch_size": e.batch_size, "shuffle": name == "train", "drop_last": name == "train"}
        loaders[name] = loader_of(rows[name], frame.label, length, tokenizer.end, **options)

    def logits_of(ids: torch.Tensor) -> torch.Tensor:
        return model(ids[:, : int((ids != tokenizer.end).sum())] if e.no_padding else ids, tokenizer.end)

    @torch.no_grad()
    def look(name: str, num_batches: int | None = None) -> tuple[float, float]:
        losses, right, seen = [], 0, 0
        for i, (ids, labels) in enumerate(loaders[name]):
            if num_batches is not None and i >= num_batches:
                break
            logits = logits_of(ids)
            losses.append(F.cross_entropy(logits, labels).item())
            right, seen = right + int((logits.argmax(-1) == labels).sum()), seen + len(labels)
        return sum(losses) / len(losses), right / seen

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=e.learning_rate, weight_decay=e.weight_decay)
    out: dict[str, Any] = {name: [] for name in ("steps", "train_losses", "val_losses", "train_accs", "val_accs")}
    step, n = -1, len(loaders["train"])
    for _ in range(e.num_epochs):
        optimizer.zero_grad()
        for i, (ids, labels) in enumerate(loaders["train"]):
            window = min(e.accumulation_steps, n - i // e.accumulation_steps * e.accumulation_steps)
            (F.cross_entropy(logits_of(ids), labels) / window).backward()
            if (i + 1) % e.accumulation_steps == 0 or i + 1 == n:
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            if step % EVERY == 0:
                out["steps"].append(step)
                out["train_losses"].append(look("train", 5)[0])
                out["val_losses"].append(look("val", 5)[0])
        out["train_accs"].append(look("train", 5)[1])
        out["val_accs"].append(look("val", 5)[1])
    out["final"] = {name: look(name)[1] for name in ("train", "val", "test")}
    with torch.no_grad():
        first = [loaders["test"].dataset[i][0][None] for i in range(20)]
        out["spam_probabilities"] = [logits_of(ids).softmax(-1)[0, 1].item() for ids in first]
    torch.set_rng_state(state)
    return out | {"n_trainable": sum(p.numel() for p in trained), "max_length": longest}


def loader_of(rows: list[list[int]], labels: pd.Series, length: int, end: int, **options: Any) -> DataLoader:
    """Messages cut and padded to ``length``, in a loader on the global generator."""
    ids = torch.tensor([(row[:length] + [end] * length)[:length] for row in rows])
    return DataLoader(TensorDataset(ids, torch.tensor(labels.tolist())), **options)


def main() -> None:
    """Make ``golden_pocket.json`` anew."""
    import tempfile

    from toys import write_toy
    from transformers.utils import logging

    from onechange.gpt.tokenizer import POCKET_RANKS, read_ranks, to_json

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        toy = write_toy(Path(folder), to_json(read_ranks(POCKET_RANKS)))
        rows = {row: plain_run(toy, pocket_experiment(toy, row)) for row in POCKET_ROWS}
    FILE.write_text(json.dumps({"messages": load_messages("pocket").digest, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
