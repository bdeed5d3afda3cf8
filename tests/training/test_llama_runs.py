"""Runs on a small Llama: what is proved of GPT-2 at length holds for it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onechange import Experiment, Result, UsageError
from onechange.classifier.reading import classifier, look, read
from onechange.classifier.saved import load, save
from onechange.cli.main import main
from onechange.cost.plan import make_plan
from onechange.experiment.rows import TABLE
from onechange.gpt.llama import Llama
from onechange.gpt.model import View
from onechange.training.build import build
from onechange.training.store import PrefixStore
from onechange.training.train import run, run_seeds

Make = Callable[..., Experiment]

CHANGES: dict[str, dict[str, Any]] = {f"row {row}": TABLE[row].change for row in (1, 2, 3, 5, 16, 17)} | {
    "LoRA": {"trainable_layers": "lora", "lora_rank": 4},
    "LoRA on attention": {"trainable_layers": "lora", "lora_rank": 4, "lora_layers": "attention"},
    "flexible, average, no mask": {
        "trainable_token_pos": "flexible", "average_embeddings": True, "disable_causal_mask": True
    },
    "left, hidden": {"padding_side": "left", "mask_padding": True},
    "left": {"padding_side": "left"},
    "no padding, no mask": {"no_padding": True, "disable_causal_mask": True},
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("short_runs")


@pytest.fixture
def make(toy_llama: Path) -> Make:
    def experiment(**changes: Any) -> Experiment:
        fixed = {"model_size": str(toy_llama), "dataset": "pocket", "train_size": 40, "num_epochs": 2}
        return Experiment(**(fixed | {"learning_rate": 1e-3} | changes))

    return experiment


def assert_same(one: Result, other: Result) -> None:
    assert one.final == pytest.approx(other.final, abs=1e-9)
    np.testing.assert_allclose(one.train_losses, other.train_losses, atol=1e-4)
    np.testing.assert_allclose(one.test_probabilities, other.test_probabilities, atol=1e-4)


@pytest.mark.parametrize("change", CHANGES)
def test_the_prefix_changes_no_number(change: str, make: Make) -> None:
    """Computed once, or at every step by the plain loop."""
    e = make(**CHANGES[change])
    assert_same(run(e, progress=False), run(e.but(prefix_cache="off"), progress=False))


def test_half_the_bits_and_blocks_computed_twice(make: Make) -> None:
    """bf16 says nearly the same; recomputing blocks says the same."""
    e = make(trainable_layers="all", trainable_token_pos="flexible", learning_rate=1e-4)
    full = run(e, progress=False)
    half = run(e.but(precision="bf16"), progress=False)
    np.testing.assert_allclose(half.test_probabilities, full.test_probabilities, atol=0.05)
    assert_same(run(e, progress=False, checkpointing=True), full)


@pytest.mark.parametrize("change", ["row 1", "row 5", "LoRA", "flexible, average, no mask"])
def test_together_is_one_at_a_time(change: str, make: Make) -> None:
    """Two seeds in one model, whatever of it is trained."""
    store, e = PrefixStore(), make(**CHANGES[change])
    for seed, result in zip((123, 7), run_seeds(e, (123, 7), progress=False, store=store), strict=True):
        assert_same(result, run(e, seed, progress=False, store=store))


@pytest.mark.parametrize(
    ("change", "merge"), [("row 16", False), ("left, hidden", False), ("LoRA", False), ("LoRA", True)]
)
def test_a_saved_model_says_what_the_run_said(change: str, merge: bool, make: Make, tmp_path: Path) -> None:
    """From disk, its adapters apart or folded in."""
    result = run(make(**CHANGES[change]), progress=False)
    saved = load(save(result, tmp_path / "model", merge))
    texts = ["You have won! Reply now", "see you at seven", "Free entry in a weekly draw, text 12345"]
    expected = classifier(result).probabilities(texts)
    np.testing.assert_allclose(saved.probabilities(texts), expected, atol=1e-5)
    assert isinstance(saved.model, Llama)


@torch.no_grad()
def test_attention_is_that_of_the_model(make: Make) -> None:
    """Rows of ``look`` are what each block's heads attend to: they give its output back from its values."""
    model = build(make(), 2).requires_grad_(False)
    ids, at = torch.randint(4096, (1, 9), generator=torch.Generator().manual_seed(0)), torch.tensor([[8]])
    x, rows = look(model, ids, View(at))
    torch.testing.assert_close(x, model.run(model.embed(ids)))
    torch.testing.assert_close(rows.sum(1), torch.ones(3))
    attn, h = model.blocks[0].attn, model.blocks[0].norm1(model.embed(ids))
    q, k, _ = attn.project(h, View(at))
    want = (q @ k.mT / 8**0.5).softmax(-1).mean((0, 1, 2))
    torch.testing.assert_close(rows[0], want)


def test_a_message_is_read(make: Make) -> None:
    """Tokens, attention and effects of a finished run."""
    reading = read(classifier(run(make(**CHANGES["row 16"]), progress=False)), "You have WON a free phone!")
    assert reading.attention.shape == (3, len(reading.tokens))
    assert np.isfinite(reading.effect[reading.own]).all()


@pytest.mark.parametrize("change", ["row 1", "row 5", "LoRA"])
def test_a_plan_counts_what_the_run_has(change: str, make: Make) -> None:
    """Parameters as they are, operations and memory of some size."""
    e = make(**CHANGES[change])
    plan, result = make_plan(e, timed=False), run(e, progress=False)
    assert (plan.parameters, plan.trainable) == (result.n_parameters, result.n_trainable)
    assert sum(plan.operations.values()) < sum(plan.plain_operations.values())


@pytest.mark.parametrize(("option", "value"), [("trainable_layers", "biases"), ("weights", "random_gpt2")])
def test_what_a_llama_has_not(option: str, value: str, make: Make, capsys: pytest.CaptureFixture) -> None:
    """One line and status 2."""
    with pytest.raises(UsageError, match="Llama"):
        make(**{option: value})
    assert main(["run", "--model_size", make().model_size, f"--{option}", value]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
