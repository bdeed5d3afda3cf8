"""The engine's shortcuts against the plain loop, and the training loop against the published schedule."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from onechange import Result, UsageError
from onechange.data.messages import Messages, Source, messages_of
from onechange.data.tokens import tokens_of
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.gpt.lora import LoRALinear
from onechange.gpt.model import ALL, GPT, View
from onechange.training import prefix
from onechange.training.build import build, frozen_blocks
from onechange.training.prefix import logits_of, prepare
from onechange.training.reader import Reader
from onechange.training.schedule import Look, Step, schedule
from onechange.training.store import PrefixStore
from onechange.training.train import Autocast, Trainer, run

Make = Callable[..., Experiment]

# What stands for the table's larger models: channels, heads, blocks.
LADDER = {"gpt2-medium": (24, 2, 4), "gpt2-large": (40, 5, 2), "gpt2-xl": (32, 2, 5)}

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


WHOLE = Source.messages


@cache
def few_messages(dataset: str, seed: int = 123, balance: bool = False, resplit: bool = False) -> Messages:
    """The shorter pocket messages, with less to validate and to test on; a file as it is."""
    messages = WHOLE(Source(dataset, seed, balance, resplit))
    if dataset != "pocket":
        return messages
    parts = {name: getattr(messages, name) for name in ("train", "val", "test")}
    short = {name: part[part.text.str.len() < 120].reset_index(drop=True) for name, part in parts.items()}
    return replace(messages, train=short["train"], val=short["val"][:45], test=short["test"][:60])


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages, losses noted every five batches so that short runs have a curve, prefixes in many chunks."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 5)
    monkeypatch.setattr(prefix, "CHUNK_TOKENS", 400)
    monkeypatch.setattr(Source, "messages", lambda source: few_messages(*astuple(source)))


@pytest.fixture(scope="session")
def make(toy: Path, toy_of: Callable[..., Path]) -> Make:
    """A row of the table (by number or by name in ``MORE``) on a toy model, pocket messages and 64 to train on."""

    def experiment(row: int | str = 1, **changes: Any) -> Experiment:
        change = dict(TABLE[row].change if isinstance(row, int) else MORE[row])
        size = change.pop("model_size", None)
        folder = toy_of(LADDER[size]) if size else toy
        fixed = {"model_size": str(folder), "dataset": "pocket", "learning_rate": 1e-3, "train_size": 64}
        return Experiment(**(fixed | {"num_epochs": 2} | change | changes))

    return experiment


@pytest.fixture(scope="session")
def outcome() -> Callable[[Experiment], Result]:
    """Runs an experiment from nothing, once."""
    known: dict[Experiment, Result] = {}

    def result(e: Experiment) -> Result:
        if e not in known:
            known[e] = run(e, progress=False)
        return known[e]

    return result


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


# -- shortcuts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*TABLE, *MORE])
def test_the_shortcuts_change_nothing(row: int | str, make: Make, outcome: Callable) -> None:
    """With the prefix kept, and only what is read computed, a run gives what the plain loop gives."""
    one, other = outcome(make(row)), outcome(make(row, prefix_cache="off"))
    assert len(one.train_losses) == math.ceil(len(one.examples)) >= 2
    assert_same(one, other)


SHARING = [
    *(1, 2, 3, 4, 13, 14, 16, 17, 18, 19),
    *(
        "flexible, average",
        "no padding, no mask",
        "no padding, first",
        "head, average",
        "head, first",
        "head, flexible",
    ),
    *("two blocks, first", "two blocks, flexible", "random, last block", "cut to 20"),
    *("hidden padding", "hidden padding, average", "left", "left, hidden", "left, hidden, head"),
]


@pytest.mark.parametrize("order", ["as listed", "reversed", "shuffled"])
def test_rows_may_share_their_prefixes(order: str, make: Make, outcome: Callable) -> None:
    """Whoever comes first, with one store for all rows each gives what it gives alone."""
    rows = list(SHARING)
    if order == "reversed":
        rows.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(rows)
    store, less = PrefixStore(), {"num_epochs": 1, "train_size": 40}
    for row in rows:
        assert_same(run(make(row, **less), progress=False, store=store), outcome(make(row, **less)))
    assert 0 < len(store.kept) < 3 * len(rows)


def test_a_small_store_forgets(make: Make, outcome: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with next to no room keeps one prefix, and nobody's numbers change; no file of it is left behind."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    store = PrefixStore(limit=1)
    for row in (1, 16, 3, "no padding, no mask", 1):
        assert_same(run(make(row), progress=False, store=store), outcome(make(row)))
        assert len(store.kept) == 1
    assert list(tmp_path.rglob("*")) == []


def test_the_same_weights_in_another_shape(make: Make, tmp_path: Path) -> None:
    """With another number of heads the same file is another model, and shares no prefix with the first."""
    config = json.loads((Path(make(1).model_size) / "config.json").read_text())
    other = Path(shutil.copytree(make(1).model_size, tmp_path / "other"))
    (other / "config.json").write_text(json.dumps(config | {"n_head": 2}))
    store, less = PrefixStore(), {"num_epochs": 1, "train_size": 16}
    run(make(1, **less), progress=False, store=store)
    e = make(1, model_size=str(other), **less)
    assert_same(run(e, progress=False, store=store), run(e, progress=False))


def test_the_least_recently_used_goes_first() -> None:
    """What was asked for lately stays."""
    store = PrefixStore(limit=3 * 40)
    for name in "abc":
        store.put((name,), torch.zeros(10), 1.0)
    assert store.get(("a",)) is not None
    store.put(("d",), torch.zeros(10), 1.0)
    assert [key for (key,) in store.kept] == ["c", "a", "d"]


def test_a_prefix_is_computed_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 1, 16, 18, 19 and other seeds share row 1's; row 3 goes on from it; other weights or another mask do not."""
    asked: list[tuple[int, int]] = []
    compute = prefix._prefix

    def counting(model: GPT, reader: Reader, source: prefix.Inputs, stage: int, *more: Any) -> torch.Tensor:
        asked.append((source.stage, stage))
        return compute(model, reader, source, stage, *more)

    monkeypatch.setattr(prefix, "_prefix", counting)
    store = PrefixStore()

    def computed(e: Experiment) -> list[tuple[int, int]]:
        asked.clear()
        trainer_of(e, store)
        return list(asked)

    assert computed(make(1)) == [(0, 2)] * 3  # train, validation, test
    for row in (1, 2, 16, 18, 19):
        assert computed(make(row, seed=row)) == [], row
    assert computed(make(3)) == [(2, 4)] * 3
    assert computed(make(17)) == [(0, 2)] * 3
    assert computed(make("random, last block")) == [(0, 2)] * 3
    assert computed(make("random, last block", seed=5)) == [(0, 2)] * 3
    assert computed(make(5)) == []


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [("last_layer", 4), ("last_block", 2), ("last_two_blocks", 1), ("all", 0), ("biases", 0), ("lora", 0)],
)
def test_how_much_is_frozen(layers: str, frozen: int, make: Make) -> None:
    """Of three blocks: one more than all where the final norm is frozen too."""
    assert frozen_blocks(build(make(1, trainable_layers=layers), 2)) == frozen


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("causal", [True, False])
def test_hidden_padding_is_not_seen(side: str, causal: bool, make: Make) -> None:
    """Whatever stands in the padding, the logits of a message read at its last token stay what they are."""
    pos = "flexible" if side == "right" else "last"
    e = make(1, padding_side=side, mask_padding=side == "left" or not causal, disable_causal_mask=not causal,
             trainable_token_pos=pos)  # fmt: skip
    trainer, index = trainer_of(e), np.arange(8)
    inputs = trainer.splits["val"]
    tokens = tokens_of(e.resolved(), messages_of(e))[0]["val"]
    real = trainer.reader.real(torch.from_numpy(tokens.lengths), tokens.ids.size(1))
    assert real.sum() == tokens.lengths.sum()
    other = replace(inputs, x=torch.where(real, tokens.ids, 7), stage=0)
    one = replace(inputs, x=tokens.ids, stage=0)
    logits = [prefix.logits_of(trainer.model, trainer.reader, x, index) for x in (one, other)]
    torch.testing.assert_close(*logits)
    seen = replace(trainer.reader, masked=False)
    if side == "left" or not causal:
        logits = [prefix.logits_of(trainer.model, seen, x, index) for x in (one, other)]
        assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_what_biases_train(make: Make) -> None:
    """Every bias and the new head, and nothing else."""
    names = {name for name, p in build(make(1, trainable_layers="biases"), 2).named_parameters() if p.requires_grad}
    everything = {name for name, _ in build(make(1), 2).named_parameters()}
    assert names == {name for name in everything if name.endswith("bias") or name.startswith("head.")}


@pytest.mark.parametrize(("causal", "tokens"), [(True, {1}), (False, {90})])
def test_the_first_token_needs_no_other(
    causal: bool, tokens: set[int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a causal mask nothing behind the first token is computed; without one everything is."""
    seen = set()
    embed = GPT.embed
    monkeypatch.setattr(GPT, "embed", lambda self, ids: seen.add(ids.size(1)) or embed(self, ids))
    trainer = trainer_of(make(2, trainable_layers="all", context_length=90, disable_causal_mask=not causal))
    trainer.losses("train", np.arange(8))
    assert seen == tokens


@pytest.mark.parametrize(
    "kind", [19, *(name for name in MORE if "average" in name and name[:4] not in ("head", "hidd", "left"))]
)
@torch.no_grad()
def test_averages_by_hand(kind: int | str, make: Make) -> None:
    """The mean of the logits: over the message's own tokens, or, in row 19, over the padding too."""
    trainer = trainer_of(make(kind))
    e, model = trainer.e, trainer.model
    tokens, _ = tokens_of(e, messages_of(e))
    split = tokens["train"]
    found = logits_of(model, trainer.reader, trainer.splits["train"], np.arange(8))
    for i in range(8):
        n = int(split.lengths[i])
        ids = split.ids[i : i + 1, :n] if e.no_padding else split.ids[i : i + 1]
        each = model(ids)[0]  # (T, K)
        wanted = each.mean(0) if kind == 19 else each[:n].mean(0)
        torch.testing.assert_close(found[i], wanted, rtol=1e-4, atol=1e-4)


# -- rows that must agree -----------------------------------------------------------------------


def test_row_18_is_row_1(make: Make, outcome: Callable) -> None:
    """No label is 50256: not one number differs."""
    one, other = outcome(make(1)), outcome(make(18))
    for name in ("train_losses", "val_losses", "train_accs", "val_accs", "final", "test_probabilities", "n_trainable"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.experiment != other.experiment


@pytest.mark.parametrize("prefix_cache", ["on", "off"])
@pytest.mark.parametrize("n", [8, 5], ids=["a whole window", "the last, shorter one"])
def test_a_window_of_single_messages_is_a_batch(prefix_cache: str, n: int, make: Make) -> None:
    """Row 15's step over n messages one by one is row 16's over a batch of n: the same gradients, the same new weights.

    So the shorter window at an epoch's end counts by its own size, not by eight.
    """
    chosen = np.array([3, 41, 5, 17, 60, 22, 9, 30])[:n]
    singles, batch = trainer_of(make(15, prefix_cache=prefix_cache)), trainer_of(make(16, prefix_cache=prefix_cache))
    gradients = [gradients_of(singles, [chosen[i : i + 1] for i in range(n)]), gradients_of(batch, [chosen])]
    trained = {name for name, p in batch.model.named_parameters() if p.requires_grad}
    assert gradients[0].keys() == gradients[1].keys() == trained
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
        # Adam's first step is lr * sign(g), which turns over where g is zero (a key's bias): compare where it is not.
        clear = gradient.abs() > 1e-5
        moved = [t.model.get_parameter(name).detach() for t in (singles, batch)]
        torch.testing.assert_close(moved[0][clear], moved[1][clear], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("row", [1, 5, 15, 16])
def test_a_step_by_hand(row: int, make: Make) -> None:
    """One step is AdamW on the mean of the messages' own cross-entropies, computed here in the open."""
    e = make(row).resolved()
    trainer, by_hand = trainer_of(e), build(e, 2)
    tokens, _ = tokens_of(e, messages_of(e))
    split, chosen = tokens["train"], np.array([7, 2, 50])
    losses = []
    for i in chosen:
        n = int(split.lengths[i])
        out = by_hand(split.ids[i : i + 1, :n] if e.no_padding else split.ids[i : i + 1])[0]  # (T, K)
        losses.append(F.cross_entropy(out[n - 1 if row in (15, 16) else -1], split.labels[i]))
    trained = [p for p in by_hand.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)
    torch.stack(losses).mean().backward()
    found = gradients_of(trainer, [chosen[i : i + e.batch_size] for i in range(0, 3, e.batch_size)])
    wanted = {name: p.grad for name, p in by_hand.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    # Adam's first step hardly depends on a gradient's size, and on its sign where that is rounding alone.
    clear = {name: gradient.abs() > 1e-5 for name, gradient in wanted.items()}
    optimizer.step()
    assert sum(int(mask.sum()) for mask in clear.values()) > 1000
    for name, parameter in by_hand.named_parameters():
        mask = clear.get(name, torch.ones_like(parameter, dtype=torch.bool))
        moved = trainer.model.get_parameter(name)
        torch.testing.assert_close(moved[mask], parameter[mask], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("scaling", ["table", "paper", "rslora"])
def test_lora_alternative_is_lora(scaling: str, make: Make, outcome: Callable) -> None:
    """The same losses; and the adapters of every block and of the head are the merging kind, or none is."""
    one = outcome(make(11, lora_scaling=scaling))
    other = outcome(make("lora_alternative", lora_scaling=scaling))
    assert_same(one, other)
    for result, merged in ((one, False), (other, True)):
        kinds = {name: m.merged for name, m in result.model.named_modules() if isinstance(m, LoRALinear)}
        assert len(kinds) == 3 * 6 + 1
        assert set(kinds.values()) == {merged}


@pytest.mark.parametrize("row", [1, 3, 4, 5, 11])
def test_training_moves_what_is_trained_and_nothing_else(row: int, make: Make, outcome: Callable) -> None:
    """Frozen weights are the checkpoint's to the last bit; every trained tensor has moved."""
    e = make(row)
    before = dict(build(e, 2).named_parameters())
    for name, parameter in outcome(e).model.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same is not parameter.requires_grad, name


# -- how a model begins -------------------------------------------------------------------------


def test_random_weights_in_the_published_order(make: Make) -> None:
    """PyTorch's defaults after the seed: embeddings, each block's six layers; then, from the seed again, the head."""
    e = make(10, seed=5)
    model = build(e, 2)
    torch.manual_seed(5)
    expected = {"tok_emb": nn.Embedding(4096, 32), "pos_emb": nn.Embedding(160, 32)}
    for i in range(3):
        expected |= {f"blocks.{i}.attn.{name}": nn.Linear(32, 32) for name in ("query", "key", "value", "out")}
        expected |= {f"blocks.{i}.mlp.up": nn.Linear(32, 128), f"blocks.{i}.mlp.down": nn.Linear(128, 32)}
    torch.manual_seed(5)
    expected["head"] = nn.Linear(32, 2)
    for name, layer in expected.items():
        for kind, parameter in layer.named_parameters():
            assert torch.equal(model.get_parameter(f"{name}.{kind}"), parameter), f"{name}.{kind}"
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert bool((parameter == float(name.endswith("weight"))).all()), name


def test_head_and_adapters_in_the_published_order(make: Make) -> None:
    """From the seed: the head, then the blocks' adapters, then the head's own."""
    model = build(make(11, seed=5), 2)
    torch.manual_seed(5)
    head = nn.Linear(32, 2)
    assert torch.equal(model.head.base.weight, head.weight)
    assert torch.equal(model.head.base.bias, head.bias)
    names = ("attn.query", "attn.key", "attn.value", "attn.out", "mlp.up", "mlp.down")
    layers = [model.get_submodule(f"blocks.{i}.{name}") for i in range(3) for name in names]
    for layer in [*layers, model.head]:
        A = torch.empty(layer.base.in_features, 16)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
        assert torch.equal(layer.A, A)


def test_a_run_leaves_the_global_generator_alone(make: Make) -> None:
    """Whatever a run draws, the reader's own random numbers go on as if it had not been there."""
    torch.manual_seed(99)
    wanted = torch.rand(3)
    torch.manual_seed(99)
    run(make(10, num_epochs=1, train_size=16), progress=False)
    assert torch.equal(torch.rand(3), wanted)


def test_the_global_generator_does_not_matter(make: Make, outcome: Callable) -> None:
    """A run's numbers depend on its own seed only; the same seed gives the same to the last bit."""
    torch.manual_seed(4321)
    again = run(make(10), progress=False)
    assert again.train_losses == outcome(make(10)).train_losses
    assert again.test_probabilities == outcome(make(10)).test_probabilities


@pytest.mark.parametrize("row", [1, 10, 11])
def test_seeds_matter(row: int, make: Make, outcome: Callable) -> None:
    """Another seed is another head and another order."""
    other = run(make(row), seed=124, progress=False)
    assert outcome(make(row)).train_losses[0] != pytest.approx(other.train_losses[0], abs=1e-4)


# -- the schedule -------------------------------------------------------------------------------


def published_schedule(e: Experiment, n_train: int, n_val: int, every: int) -> list[tuple[str, Any, Any]]:
    """The published program's loops, with message numbers where it has messages."""
    torch.manual_seed(e.seed)
    data = [TensorDataset(torch.arange(n), torch.arange(n)) for n in (n_train, n_val)]
    train_loader = DataLoader(data[0], batch_size=e.batch_size, shuffle=True, num_workers=0, drop_last=True)
    val_loader = DataLoader(data[1], batch_size=e.batch_size, num_workers=0, drop_last=False)

    def some(loader: DataLoader, num_batches: int | None = None) -> list[list[int]]:
        num_batches = len(loader) if num_batches is None else min(num_batches, len(loader))
        read = []
        for i, (x, _) in enumerate(loader):
            if i >= num_batches:
                break
            read.append(x.tolist())
        return read

    events: list[tuple[str, Any, Any]] = []
    step = -1
    for _ in range(e.num_epochs):
        window = []
        for batch_number, (x, _) in enumerate(train_loader):
            window.append(x.tolist())
            if (batch_number + 1) % e.accumulation_steps == 0 or batch_number + 1 == len(train_loader):
                events.append(("step", window, None))
                window = []
            step += 1
            if step % every == 0:
                events.append(("losses", some(train_loader, 5), some(val_loader, 5)))
        events.append(("accuracies", some(train_loader, 5), some(val_loader, 5)))
    events.append(("final", some(train_loader), some(val_loader)))
    return events


@pytest.mark.parametrize(
    ("sizes", "flags"),
    [
        ((1045, 149), {}),
        ((1045, 149), {"batch_size": 1, "accumulation_steps": 8}),
        ((61, 9), {"batch_size": 1, "accumulation_steps": 8}),
        ((61, 9), {"batch_size": 4, "accumulation_steps": 3, "num_epochs": 3}),
        ((16, 3), {"batch_size": 8, "num_epochs": 1}),
        ((70, 11), {"seed": 7}),
    ],
    ids=str,
)
def test_the_order_is_the_published_one(
    sizes: tuple[int, int], flags: dict, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step and every evaluation reads the messages that the published loops read, in their order."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 50)
    e = make(1, **({"num_epochs": 2} | flags))
    found: list[tuple[str, Any, Any]] = []
    torch.manual_seed(1)  # of no influence
    for event in schedule(e, *sizes):
        torch.rand(1)  # nor this
        if isinstance(event, Step):
            found.append(("step", [b.tolist() for b in event.batches], None))
        else:
            found.append((event.kind, [b.tolist() for b in event.train], [b.tolist() for b in event.val]))
    assert found == published_schedule(e, *sizes, every=50)


@pytest.mark.parametrize(
    ("flags", "points", "steps", "examples"),
    [
        ({}, 13, 650, 8 * 601),
        ({"batch_size": 1}, 105, 5225, 5201),
        ({"batch_size": 1, "accumulation_steps": 8}, 105, 5 * 131, 5201),
    ],
    ids=["batches of 8", "one by one", "windows of 8"],
)
def test_how_often_what_happens(
    flags: dict, points: int, steps: int, examples: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 epochs over 1,045 messages: 13 loss points, or 105 where messages come one by one."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 50)
    events = list(schedule(make(1, num_epochs=5, **flags), 1045, 149))
    losses = [event for event in events if isinstance(event, Look) and event.kind == "losses"]
    assert len(losses) == points
    assert [look.step for look in losses] == [50 * i for i in range(points)]
    assert losses[-1].examples == examples
    assert sum(isinstance(event, Step) for event in events) == steps
    assert [event.kind for event in events if isinstance(event, Look)].count("accuracies") == 5
    assert events[-1].kind == "final"


def test_windows_do_not_reach_into_the_next_epoch(make: Make) -> None:
    """61 messages in windows of 8 end with one of 5, each epoch again, and every epoch reads each message once."""
    events = list(schedule(make(15), 61, 9))
    steps = [event for event in events if isinstance(event, Step)]
    assert [len(step.batches) for step in steps] == [8, 8, 8, 8, 8, 8, 8, 5] * 2
    for epoch in (steps[:8], steps[8:]):
        assert sorted(int(i) for step in epoch for batch in step.batches for i in batch) == list(range(61))


@pytest.mark.parametrize("row", [1, 14, 16, 17, 19])
@torch.no_grad()
def test_an_evaluation_is_the_mean_of_batch_means(row: int, make: Make) -> None:
    """However messages are regrouped: a last batch of five counts as much as one of eight, accuracy counts messages."""
    trainer = trainer_of(make(row))
    order = np.random.default_rng(0).permutation(45)
    batches = [order[i : i + 8] for i in range(0, 43, 8)]
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 5]
    loss, accuracy, logits = trainer.evaluate("val", batches)
    labels = trainer.splits["val"].labels
    means, right = [], []
    for batch in batches:
        each = torch.cat([trainer.losses("val", batch[i : i + 1])[1] for i in range(len(batch))])
        means.append(F.cross_entropy(each, labels[batch]).item())
        right += (each.argmax(1) == labels[batch]).tolist()
    assert loss.item() == pytest.approx(np.mean(means), abs=1e-5)
    assert accuracy.item() == pytest.approx(np.mean(right), abs=1e-6)
    assert logits.shape == (45, 2)


# -- results ------------------------------------------------------------------------------------


def test_a_result_survives_json(make: Make, outcome: Callable) -> None:
    """Written and read again it is equal, field by field."""
    result = outcome(make(1))
    again = Result.from_dict(json.loads(result.to_json()))
    assert again == result
    assert again.experiment == make(1).resolved()
    assert again.scores == result.scores
    assert again.command == result.command


def test_a_result_outlives_what_it_was_made_from(make: Make, outcome: Callable, tmp_path: Path) -> None:
    """A stored record can be read where the model folder and the file of messages are not, or are no more."""
    record = outcome(make(1)).to_dict()
    record["experiment"] |= {"model_size": str(tmp_path / "gone"), "dataset": str(tmp_path / "gone.tsv")}
    again = Result.from_dict(record)
    assert again.experiment.model_size == str(tmp_path / "gone")
    assert again.to_dict() == record | {"command": again.command}
    assert str(tmp_path / "gone.tsv") in again.command


def test_what_a_result_holds(make: Make, outcome: Callable) -> None:
    """Its parts have the right sizes and agree with one another."""
    result = outcome(make(1))
    test = few_messages("pocket").test
    assert result.test_labels == test.label.tolist()
    assert np.array(result.test_probabilities).shape == (len(test), 2)
    np.testing.assert_allclose(np.sum(result.test_probabilities, axis=1), 1, atol=1e-6)
    assert result.final["test"] == (result.test_predictions == test.label).mean() == result.scores["accuracy"]
    assert np.trace(result.confusion) == pytest.approx(len(test) * result.final["test"])
    assert result.confusion.sum(axis=1).tolist() == [(test.label == 0).sum(), (test.label == 1).sum()]
    assert result.losses.index.tolist() == result.steps == [0, 5, 10, 15]
    assert result.losses.examples.tolist() == [8, 48, 88, 128]
    assert result.accuracies.index.tolist() == [1, 2]
    tokenizer = make(1).checkpoint.tokenizer
    assert result.max_length == max(len(tokenizer.encode(text)) for text in few_messages("pocket").train.text[:64])
    assert result.n_trainable == sum(p.numel() for p in result.model.parameters() if p.requires_grad)
    assert result.environment["messages_sha256"] == few_messages("pocket").digest
    assert f"{100 * result.final['test']:.2f}%" in str(result)


def bare(e: Experiment, truth: list[int], probabilities: list[list[float]]) -> Result:
    """A result with just its answers."""
    K = len(probabilities[0])
    return Result(e, 1, 1, 1, tuple("abc"[:K]), {}, test_labels=truth, test_probabilities=probabilities)


def test_scores_of_two_classes_by_hand(make: Make) -> None:
    """The second class is the one to find."""
    spam = [0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.7]
    truth = [1, 1, 1, 0, 0, 0, 1]
    scores = bare(make(1), truth, [[1 - p, p] for p in spam]).scores
    hits = [
        p > q
        for p, is_spam in zip(spam, truth, strict=True)
        for q, also in zip(spam, truth, strict=True)
        if is_spam > also
    ]
    wanted = {"accuracy": 5 / 7, "precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "roc_auc": np.mean(hits)}
    assert scores == pytest.approx(wanted)


def test_scores_of_three_classes(make: Make) -> None:
    """Each is the mean over the classes."""
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    p = rng.dirichlet(np.ones(3), 60) + 0.7 * np.eye(3)[truth]
    p /= p.sum(1, keepdims=True)
    guess = p.argmax(1)
    result = bare(make(1), truth.tolist(), p.tolist())
    each_auc = [roc_auc_score(truth == k, p[:, k]) for k in range(3)]
    wanted = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    assert result.scores == pytest.approx(
        {"accuracy": (guess == truth).mean(), "roc_auc": np.mean(each_auc)}
        | {name: np.mean([score(truth == k, guess == k) for k in range(3)]) for name, score in wanted.items()}
    )
    assert result.confusion.to_numpy().sum() == 60


def test_scores_where_nothing_is_found(make: Make) -> None:
    """A class nobody predicts scores 0 without a warning; one that never occurs has no ROC AUC, and JSON can say so."""
    result = bare(make(1), [0, 0, 0], [[0.9, 0.1]] * 3)
    assert result.scores["f1"] == 0.0
    assert math.isnan(result.scores["roc_auc"])
    assert json.loads(result.to_json())["scores"]["roc_auc"] is None


def test_a_loss_that_is_not_a_number(make: Make) -> None:
    """A run that blows up ends there, with a reason, without accuracies, and with a record that JSON can hold."""
    result = run(make(1, learning_rate=1e30), progress=False)
    assert result.error == f"the loss is not a number any more at step {result.steps[-1]}"
    assert len(result.steps) < 4
    assert (result.final, result.test_probabilities) == ({}, [])
    record = json.loads(result.to_json())
    assert record["train_losses"][-1] is None
    assert Result.from_dict(record).to_dict() == record
    assert str(result).startswith(result.error)


def test_outputs_that_are_not_numbers_at_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong after the last note of the loss is found too."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 1000)

    def spoil(result: Result) -> None:
        result.model.head.weight.data.fill_(math.nan)

    result = run(make(1), progress=False, watch=spoil)
    assert "not numbers at the end" in result.error
    assert (result.final, result.test_probabilities, len(result.train_losses)) == ({}, [], 1)
    json.loads(result.to_json())


def test_watching_and_stopping(make: Make) -> None:
    """The watcher sees each note of the loss; False stops the run there, anything else does not."""
    seen: list[int] = []

    def watch(result: Result) -> bool | None:
        seen.append(len(result.train_losses))
        assert result.steps[-1] == 5 * (seen[-1] - 1)
        return False if seen[-1] == 3 else None

    result = run(make(1), progress=False, watch=watch)
    assert seen == [1, 2, 3]
    assert result.error == "stopped at step 10"
    assert (result.final, result.steps, len(result.train_accs)) == ({}, [0, 5, 10], 1)
    json.loads(result.to_json())


def test_a_file_with_three_classes(make: Make, tmp_path: Path) -> None:
    """A reader's own messages train a head with as many outputs, and its classes keep their names."""
    words = {"news": "the council met today", "joke": "knock knock who is there", "bill": "your payment of £20 is due"}
    rows = [f"{label}\t{text}, {i}" for label, text in words.items() for i in range(20)]
    (tmp_path / "mine.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n")
    e = make(1, dataset=str(tmp_path / "mine.tsv"), train_size=None, num_epochs=8)
    result = run(e, progress=False)
    assert result.classes == ("bill", "joke", "news")
    assert result.model.head.out_features == 3
    assert result.confusion.to_numpy().sum() == 12
    assert result.final["test"] == 1.0
    assert result.scores["roc_auc"] == 1.0


# -- what cannot be run -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_size": 5000}, "train_size 5000 is more than"),
        ({"batch_size": 65}, "batch_size 65 is more than the 64"),
        ({"precision": "fp16"}, "precision fp16 needs a CUDA GPU"),
        ({"precision": "tf32"}, "precision tf32 needs a CUDA GPU"),
    ],
)
def test_what_cannot_be_run(changes: dict, words: str, make: Make) -> None:
    """It is refused before anything is computed."""
    with pytest.raises(UsageError, match=words):
        run(make(1, **changes), progress=False)


def test_a_label_may_not_be_ignored(make: Make, tmp_path: Path) -> None:
    """With three classes 2 is a label as well."""
    (tmp_path / "f.tsv").write_text("label\ttext\n" + "".join(f"{'abc'[i % 3]}\tx {i}\n" for i in range(60)))
    e = make(1, dataset=str(tmp_path / "f.tsv"), train_size=None, ignore_index=2)
    with pytest.raises(UsageError, match="ignore_index 2 is one of the labels"):
        run(e, progress=False)


@pytest.mark.parametrize(("row", "words"), [(14, "no_padding cannot cut it"), (1, "cut them with --context_length")])
def test_messages_that_do_not_fit(row: int, words: str, make: Make, toy_of: Callable[..., Path]) -> None:
    """A context shorter than a message: row 14 cannot help it, row 1 is told how."""
    short = str(toy_of(context=20))
    with pytest.raises(UsageError, match=words):
        run(make(row, model_size=short), progress=False)
    assert run(make(13, model_size=short, num_epochs=1), progress=False).max_length == 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "nonsense"])
def test_a_device_that_is_not_there(device: str, make: Make) -> None:
    """One line instead of a traceback."""
    with pytest.raises(UsageError, match=f"device '{device}' is not here"):
        run(make(1), device=device, progress=False)


def test_bf16_on_a_cpu_is_close(make: Make, outcome: Callable) -> None:
    """Half the bits give nearly the same curve, and not quite the same numbers."""
    rough, fine = run(make(1, precision="bf16"), progress=False), outcome(make(1))
    assert rough.train_losses == pytest.approx(fine.train_losses, abs=0.05)
    assert rough.train_losses != fine.train_losses
    assert rough.environment["precision"] == "bf16"


def test_views_are_what_the_model_is_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last block a run asks for one query a message; the plain loop asks for all."""
    asked = []
    forward = prefix.GPT.run

    def spy(self: GPT, x: torch.Tensor, view: View = ALL, start: int = 0, stop: int | None = None) -> torch.Tensor:
        y = forward(self, x, view, start, stop)
        asked.append((x.shape[1], y.shape[1]))
        return y

    monkeypatch.setattr(prefix.GPT, "run", spy)
    for switch, shape in (("on", (90, 1)), ("off", (90, 90))):
        trainer = trainer_of(make(1, prefix_cache=switch, context_length=90))
        asked.clear()
        trainer.losses("train", np.arange(8))
        assert asked == [shape]
