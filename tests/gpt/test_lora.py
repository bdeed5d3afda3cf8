"""LoRA: what it must leave alone, what merging must not change, and peft's adapters beside ours."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from onechange.gpt.lora import SCALINGS, LoRALinear, add_lora, merge_lora
from onechange.gpt.model import GPT, GPTConfig, View

CONFIG = GPTConfig(97, 16, 24, 3, 2)
LINEAR = ["attn.query", "attn.key", "attn.value", "attn.out", "mlp.up", "mlp.down"]
IDS = torch.randint(97, (5, 9), generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 1, 0, 1])


def base_model() -> GPT:
    """A frozen classifier whose every parameter is random."""
    model = GPT(CONFIG)
    model.head = nn.Linear(24, 2)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    return model.requires_grad_(False)


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def logits(model: GPT) -> torch.Tensor:
    return model(IDS, View(torch.full((5, 1), 8)))[:, 0]


def loss(model: GPT) -> torch.Tensor:
    return nn.functional.cross_entropy(logits(model), LABELS)


def adapted(scaling: str = "table", merged: bool = False, trained: bool = True, rank: int = 4) -> GPT:
    """The base model with adapters; ``trained`` ones have a random B, untrained ones B = 0."""
    model = base_model()
    torch.manual_seed(1)
    add_lora(model, rank, 8.0, scaling, merged)
    if trained:
        for module in adapters(model).values():
            nn.init.normal_(module.B, 0.0, 0.1)
    return model


@pytest.mark.parametrize("merged", [False, True])
def test_it_starts_as_the_model_it_adapts(merged: bool) -> None:
    """B is zero, so the first output is the base model's."""
    torch.testing.assert_close(logits(adapted(merged=merged, trained=False)), logits(base_model()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("merged", [False, True])
def test_training_leaves_the_base_untouched(merged: bool) -> None:
    """After three steps every adapter has moved, no other number has."""
    model = adapted(merged=merged, trained=False)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    start = loss(model).item()
    for _ in range(3):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    assert loss(model).item() < start
    for name, tensor in model.state_dict().items():
        adapter = name.endswith((".A", ".B"))
        assert torch.equal(tensor, before[name]) is not adapter, name


@torch.no_grad()
def test_merging_computes_the_same() -> None:
    """A merged model is plain, and its outputs are those of the adapted one."""
    model = adapted()
    wanted = logits(model)
    assert not torch.allclose(wanted, logits(base_model()), atol=1e-2)
    merge_lora(model)
    assert adapters(model) == {}
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_merging_twice_is_merging_once() -> None:
    """Without adapters there is nothing to do."""
    model = merge_lora(adapted())
    once = copy.deepcopy(model.state_dict())
    merge_lora(model)
    assert once.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, once[name]), name


def test_merging_draws_no_random_numbers() -> None:
    """The global generator is as it was."""
    model = adapted()
    before = torch.get_rng_state()
    merge_lora(model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("scaling", list(SCALINGS))
@torch.no_grad()
def test_the_merged_weight_is_the_weight_plus_delta(scaling: str) -> None:
    """W_after = W + s (A B)^T, with s written out here again, and the bias stays."""
    model = adapted(scaling)
    layer = model.blocks[1].mlp.up
    s = {"table": 8.0, "paper": 8.0 / 4, "rslora": 8.0 / math.sqrt(4)}[scaling]
    torch.testing.assert_close(layer.delta(), s * (layer.A @ layer.B).T)
    plain = layer.merge()
    torch.testing.assert_close(plain.weight, layer.base.weight + s * (layer.A @ layer.B).T)
    assert torch.equal(plain.bias, layer.base.bias)


def test_both_ways_to_compute_it_agree() -> None:
    """``merged=True`` is the same function: outputs and gradients."""
    one, other = adapted(merged=False), adapted(merged=True)
    torch.testing.assert_close(logits(one), logits(other), rtol=1e-4, atol=1e-5)
    loss(one).backward()
    loss(other).backward()
    for name, parameter in one.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, other.get_parameter(name).grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (2, 1, 4, 3)])
def test_an_adapter_takes_vectors_of_any_shape(shape: tuple[int, ...]) -> None:
    layer = LoRALinear(nn.Linear(3, 2), rank=1, scale=2)
    nn.init.ones_(layer.B)
    x = torch.rand(shape)
    assert torch.allclose(layer(x), layer.base(x) + 2 * x @ layer.A @ layer.B)


def test_every_linear_layer_has_one_and_the_head_comes_last() -> None:
    """Blocks in order; query, key, value, output, MLP up, down; then the head: so are the random numbers dealt out."""
    names = [f"blocks.{i}.{name}" for i in range(2) for name in LINEAR] + ["head"]
    model = adapted(trained=False)
    assert list(adapters(model)) == names
    torch.manual_seed(1)
    for name in names:
        A = torch.empty(adapters(model)[name].base.in_features, 4)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
        assert torch.equal(adapters(model)[name].A, A), name


@pytest.mark.parametrize("rank", [1, 4, 24])
def test_number_of_adapter_parameters(rank: int) -> None:
    """Each layer brings rank times the sum of its two widths."""
    C = 24
    widths = CONFIG.n_layers * (4 * 2 * C + 2 * 5 * C) + C + 2
    trained = [p for p in adapted(rank=rank).parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == rank * widths


def test_the_initial_spread_of_A() -> None:
    """Kaiming-uniform with a = sqrt(5) on an (in, r) tensor is uniform within 1 / sqrt(r)."""
    torch.manual_seed(0)
    A = LoRALinear(nn.Linear(400, 10), 16, 1.0).A
    assert A.shape == (400, 16)
    assert 0.24 < A.abs().max().item() <= 0.25


@pytest.mark.parametrize(("scaling", "rslora"), [("paper", False), ("rslora", True)])
def test_the_same_as_peft(scaling: str, rslora: bool) -> None:
    """With the same A and B, peft's adapters on the same model give the same outputs and gradients."""
    peft = pytest.importorskip("peft")
    ours = adapted(scaling)
    targets = [*(name.split(".")[1] for name in LINEAR), "head"]
    config = peft.LoraConfig(r=4, lora_alpha=8, use_rslora=rslora, target_modules=targets, lora_dropout=0.0)
    theirs = peft.inject_adapter_in_model(config, base_model())
    with torch.no_grad():
        for name, module in adapters(ours).items():
            theirs.get_parameter(f"{name}.lora_A.default.weight").copy_(module.A.T)
            theirs.get_parameter(f"{name}.lora_B.default.weight").copy_(module.B.T)
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-5)
    loss(ours).backward()
    loss(theirs).backward()
    for name, module in adapters(ours).items():
        for part in "AB":
            grad = theirs.get_parameter(f"{name}.lora_{part}.default.weight").grad
            assert grad is not None
            assert bool((grad != 0).any()), name
            torch.testing.assert_close(getattr(module, part).grad, grad.T, rtol=1e-4, atol=1e-6)
