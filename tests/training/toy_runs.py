"""What tests of runs share: what a short one is made of, its parts, and when two say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from onechange import Result
from onechange.data.messages import messages_of
from onechange.data.tokens import tokens_of
from onechange.experiment.experiment import Experiment
from onechange.training.build import build
from onechange.training.prefix import prepare
from onechange.training.schedule import Step
from onechange.training.store import PrefixStore
from onechange.training.train import Autocast, Trainer

Make = Callable[..., Experiment]

# Combinations that no row of the table has, but that are allowed.
MORE: dict[str, dict[str, Any]] = {
    "flexible, average": {"trainable_token_pos": "flexible", "average_embeddings": True},
    "flexible, no mask": {"trainable_token_pos": "flexible", "disable_causal_mask": True},
    "flexible, average, no mask": {
        "trainable_token_pos": "flexible", "average_embeddings": True, "disable_causal_mask": True
    },
    "first, no mask": {"trainable_token_pos": "first", "disable_causal_mask": True},
    "no padding, batch 8": {"no_padding": True},
    "no padding, no mask": {"no_padding": True, "disable_causal_mask": True},
    "no padding, first": {"no_padding": True, "trainable_token_pos": "first"},
    "no padding, first, no mask": {"no_padding": True, "trainable_token_pos": "first", "disable_causal_mask": True},
    "no padding, average": {"no_padding": True, "average_embeddings": True},
    "no padding, average, no mask": {"no_padding": True, "average_embeddings": True, "disable_causal_mask": True},
    "no padding, two blocks, no mask": {
        "no_padding": True, "trainable_layers": "last_two_blocks", "disable_causal_mask": True
    },
    "head, average": {"trainable_layers": "last_layer", "average_embeddings": True},
    "head, first": {"trainable_layers": "last_layer", "trainable_token_pos": "first"},
    "head, flexible": {"trainable_layers": "last_layer", "trainable_token_pos": "flexible"},
    "head, no padding, no mask": {"trainable_layers": "last_layer", "no_padding": True, "disable_causal_mask": True},
    "two blocks, first": {"trainable_layers": "last_two_blocks", "trainable_token_pos": "first"},
    "two blocks, flexible": {"trainable_layers": "last_two_blocks", "trainable_token_pos": "flexible"},
    "all, flexible": {"trainable_layers": "all", "trainable_token_pos": "flexible"},
    "all, first, no mask": {"trainable_layers": "all", "trainable_token_pos": "first", "disable_causal_mask": True},
    "lora_alternative": {"trainable_layers": "lora_alternative", "lora_rank": 16, "lora_alpha": 16},
    "random, last block": {"weights": "random"},
    "cut to 20": {"context_length": 20, "trainable_token_pos": "flexible"},
    "windows of three": {"accumulation_steps": 3},
    "hidden padding": {"mask_padding": True},
    "hidden padding, no mask": {"mask_padding": True, "disable_causal_mask": True},
    "hidden padding, flexible, no mask": {
        "mask_padding": True, "disable_causal_mask": True, "trainable_token_pos": "flexible"
    },
    "hidden padding, average": {"mask_padding": True, "average_embeddings": True},
    "left": {"padding_side": "left"},
    "left, flexible, average": {
        "padding_side": "left", "trainable_token_pos": "flexible", "average_embeddings": True
    },
    "left, hidden": {"padding_side": "left", "mask_padding": True},
    "left, hidden, no mask": {"padding_side": "left", "mask_padding": True, "disable_causal_mask": True},
    "left, hidden, head": {"padding_side": "left", "mask_padding": True, "trainable_layers": "last_layer"},
    "the last three blocks": {"trainable_blocks": 3},
    "biases": {"trainable_layers": "biases"},
    "LoRA on attention": {"trainable_layers": "lora", "lora_layers": "attention", "lora_scaling": "paper"},
    "random as GPT-2's": {"weights": "random_gpt2", "trainable_layers": "all"},
    "wrong labels": {"label_noise": 0.25},
}  # fmt: skip


def assert_same(one: Result, other: Result, tolerance: float = 1e-4) -> None:
    """Equal curves, accuracies and probabilities.

    Weights are not compared: where a gradient is zero but for rounding (a key's bias), Adam takes a
    full step in the direction of the rounding, and no output notices.
    """
    assert one.steps == other.steps
    assert one.examples == other.examples
    assert one.error == other.error == ""
    for name in ("train_losses", "val_losses"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=tolerance), name
    for name in ("train_accs", "val_accs", "final"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6), name
    np.testing.assert_allclose(one.test_probabilities, other.test_probabilities, atol=tolerance)


def trainer_of(e: Experiment, store: PrefixStore | None = None) -> Trainer:
    """A model and its splits, ready to step."""
    e = e.resolved()
    tokens, _ = tokens_of(e, messages_of(e))
    model = build(e, 2)
    store = store or PrefixStore()
    splits = {name: prepare(model, e, split, store, "fp32") for name, split in tokens.items()}
    return Trainer(model, e, splits, Autocast("fp32", torch.device("cpu")))


def gradients_of(trainer: Trainer, batches: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Take one step; the gradients it was taken with."""
    kept: dict[str, torch.Tensor] = {}
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    before = trainer.optimizer.register_step_pre_hook(
        lambda *args: kept.update({name: p.grad.clone() for name, p in trained.items() if p.grad is not None})
    )
    trainer.step(Step(batches))
    before.remove()
    return kept
