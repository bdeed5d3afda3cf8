"""Many seeds in one model against one at a time."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onechange import Result
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.training import train
from onechange.training.build import build, build_seeds
from onechange.training.store import PrefixStore
from onechange.training.train import run, run_seeds

SEEDS = [123, 7, 8]
CACHED = [
    row for row, r in TABLE.items() if r.change.get("trainable_layers") not in ("all", "lora") and row not in (6, 7, 8)
]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses noted every five batches, so that short runs have a curve."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 5)


@pytest.fixture
def make(toy: Path) -> Callable[..., Experiment]:
    def experiment(**changes: Any) -> Experiment:
        fixed = {"model_size": str(toy), "dataset": "pocket", "train_size": 44, "num_epochs": 2, "learning_rate": 1e-3}
        return Experiment(**(fixed | changes))

    return experiment


def assert_same(one: Result, other: Result) -> None:
    """Equal curves, accuracies, probabilities and counts."""
    assert one.experiment == other.experiment
    assert (one.steps, one.examples, one.error) == (other.steps, other.examples, other.error)
    assert (one.n_trainable, one.n_parameters) == (other.n_trainable, other.n_parameters)
    for name in ("train_losses", "val_losses"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4, err_msg=name)
    for name in ("train_accs", "val_accs"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-9, err_msg=name)
    assert one.final == pytest.approx(other.final, abs=1e-9)
    np.testing.assert_allclose(one.test_probabilities, other.test_probabilities, atol=1e-4)


@pytest.mark.parametrize("row", CACHED)
def test_together_is_one_at_a_time(row: int, make: Callable) -> None:
    """Every row with a cached prefix gives each seed the numbers it has alone."""
    store, e = PrefixStore(), make(**TABLE[row].change)
    for seed, result in zip(SEEDS, run_seeds(e, SEEDS, progress=False, store=store), strict=True):
        assert_same(result, run(e, seed, progress=False, store=store))


@pytest.mark.parametrize(
    "change",
    [
        {"trainable_layers": "all"},
        {"trainable_layers": "lora", "lora_rank": 4},
        {"trainable_layers": "lora_alternative", "lora_rank": 4},
        {"weights": "random", "trainable_layers": "all"},
        {"no_padding": True, "average_embeddings": True, "disable_causal_mask": True},
        {"prefix_cache": "off"},
    ],
    ids=str,
)
def test_together_without_a_prefix(change: dict[str, Any], make: Callable) -> None:
    """What is true of the cached rows is true of all: the stacked model is the same function."""
    e = make(**change)
    for seed, result in zip(SEEDS[:2], run_seeds(e, SEEDS[:2], progress=False), strict=True):
        assert_same(result, run(e, seed, progress=False))


def test_a_stacked_model_begins_with_each_seeds_own_weights(make: Callable) -> None:
    """Slice s of every trained weight is what the model of seed s begins with."""
    es = [make(trainable_layers="lora", lora_rank=4, seed=seed) for seed in SEEDS]
    together = build_seeds(es, 2)
    for s, e in enumerate(es):
        for name, parameter in build(e, 2).named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(attrgetter(name)(together)[s], parameter, rtol=0, atol=0)


def test_one_seed_that_diverges_leaves_the_others_alone(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed whose loss is not a number ends with a record that says so; its neighbours go on."""
    e = make()
    original = train.build_seeds

    def spoiled(es: list[Experiment], n_classes: int) -> Any:
        model = original(es, n_classes)
        if len(es) > 1:
            with torch.no_grad():
                model.head.weight[1] = float("nan")
        return model

    monkeypatch.setattr(train, "build_seeds", spoiled)
    fine, broken, also_fine = run_seeds(e, SEEDS, progress=False)
    assert "not a number" in broken.error
    assert broken.final == {}
    assert_same(fine, run(e, SEEDS[0], progress=False))
    assert also_fine.error == ""


def test_seeds_that_cannot_share_are_run_alone(make: Callable, tmp_path: Path) -> None:
    """A file is split by the seed, and a random trunk is the seed's own: neither may be the first seed's."""
    lines = [f"{'ab'[i % 2]}\tmessage {i} of {'ab'[i % 2] * (i % 7 + 1)}" for i in range(120)]
    (tmp_path / "own.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    for e in (make(dataset=str(tmp_path / "own.tsv")), make(weights="random")):
        for seed, result in zip(SEEDS[:2], run_seeds(e, SEEDS[:2], progress=False), strict=True):
            assert result.test_labels == run(e, seed, progress=False).test_labels
            assert_same(result, run(e, seed, progress=False))
