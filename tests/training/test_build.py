"""How a model begins and what of it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from toy_runs import Make, assert_same

from onechange.gpt.lora import LoRALinear
from onechange.training.build import build, frozen_blocks

pytestmark = pytest.mark.usefixtures("short_runs")


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [("last_layer", 4), ("last_block", 2), ("last_two_blocks", 1), ("all", 0), ("biases", 0), ("lora", 0)],
)
def test_how_much_is_frozen(layers: str, frozen: int, make: Make) -> None:
    """Of three blocks: one more than all where the final norm is frozen too."""
    assert frozen_blocks(build(make(1, trainable_layers=layers), 2)) == frozen


def test_what_biases_train(make: Make) -> None:
    """Every bias and the new head, and nothing else."""
    names = {name for name, p in build(make(1, trainable_layers="biases"), 2).named_parameters() if p.requires_grad}
    everything = {name for name, _ in build(make(1), 2).named_parameters()}
    assert names == {name for name in everything if name.endswith("bias") or name.startswith("head.")}


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


def test_new_layers_may_have_a_seed_of_their_own(make: Make) -> None:
    """The head and the adapters are those of the head's seed, a random trunk that of the seed."""
    for row in (10, 11):
        one, other = build(make(row, seed=5, head_seed=7), 2), build(make(row, seed=7), 2)
        for name, parameter in one.named_parameters():
            new = parameter.requires_grad and (name.startswith("head") or ".A" in name or ".B" in name)
            if row == 11 or new:
                assert torch.equal(parameter, other.get_parameter(name)), name
        assert row == 11 or not torch.equal(one.tok_emb.weight, other.tok_emb.weight)


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
