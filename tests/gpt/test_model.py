"""The model against Hugging Face's, and what its shortcuts promise."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from onechange.gpt.layouts import layout_of
from onechange.gpt.model import GPT, GPTConfig, View, init_gpt2_, take
from onechange.gpt.weights import load_weights, read_config

transformers = pytest.importorskip("transformers")

SHAPES = [(16, 1, 1, 8), (24, 3, 2, 16), (32, 4, 3, 20), (40, 5, 2, 33)]  # channels, heads, blocks, context


def config_of(shape: tuple[int, int, int, int], causal: bool = True) -> GPTConfig:
    C, H, blocks, context = shape
    return GPTConfig(97, context, C, H, blocks, causal)


def wild(shape: tuple[int, int, int, int], causal: bool = True, seed: int = 0) -> GPT:
    """A model whose every parameter is random: biases and norms too, so that nothing hides behind a zero."""
    model = GPT(config_of(shape, causal))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    return model.requires_grad_(False)


def some_ids(B: int, T: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(97, (B, T), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT, torch.nn.Module, Path]:
    """Our model and Hugging Face's with the same random weights, by way of a folder that the latter saved."""
    C, H, blocks, context = request.param
    config = transformers.GPT2Config(
        vocab_size=97, n_positions=context, n_embd=C, n_head=H, n_layer=blocks, bos_token_id=96, eos_token_id=96
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    folder = tmp_path_factory.mktemp("hf")
    theirs.save_pretrained(folder)
    ours = GPT(read_config(folder))
    load_weights(ours, folder / "model.safetensors")
    return ours, theirs, folder


@pytest.mark.parametrize("length", [1, 5, "full"])
@torch.no_grad()
def test_logits_equal_hugging_face(pair: tuple, length: int | str) -> None:
    """The same logits at every position, from one token to a full context."""
    ours, theirs, _ = pair
    T = ours.config.context_length if length == "full" else length
    ids = some_ids(3, T)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_hugging_face_reads_what_we_write(pair: tuple, tmp_path: Path) -> None:
    """A layout's ``theirs`` and ``config`` make a folder that transformers loads whole, with equal logits."""
    ours, _, _ = pair
    save_file(layout_of(ours.config).theirs(ours), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(layout_of(ours.config).config(ours.config, 96)))
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = some_ids(2, 7)
    torch.testing.assert_close(theirs.eval()(ids).logits, ours(ids), rtol=1e-4, atol=1e-4)
    assert read_config(tmp_path) == ours.config


def test_round_trip_through_hugging_face_is_exact(pair: tuple, tmp_path: Path) -> None:
    """Out and in again, every number is the same."""
    ours, _, _ = pair
    save_file(layout_of(ours.config).theirs(ours), tmp_path / "model.safetensors")
    again = GPT(ours.config)
    load_weights(again, tmp_path / "model.safetensors")
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


@pytest.mark.parametrize("head", [None, 2, 3])
@torch.no_grad()
def test_shapes(head: int | None) -> None:
    """``(B, T)`` becomes ``(B, T, V)``, or ``(B, Q, K)`` where it is asked for."""
    model = wild((24, 3, 2, 16))
    if head:
        model.head = torch.nn.Linear(24, head)
    assert model(some_ids(5, 7)).shape == (5, 7, head or 97)
    assert model(some_ids(5, 7), View(torch.tensor([[6, 0]] * 5))).shape == (5, 2, head or 97)
    assert model.run(model.embed(some_ids(5, 7)), stop=1).shape == (5, 7, 24)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("changed", [1, 4, 8])
@torch.no_grad()
def test_a_token_sees_only_what_it_may(causal: bool, changed: int) -> None:
    """With a causal mask another token leaves every earlier output as it was; without one it moves them all."""
    model, ids = wild((24, 3, 2, 16), causal), some_ids(2, 9)
    other = ids.clone()
    other[:, changed] = (other[:, changed] + 1) % 97
    moved = (model(ids) - model(other)).abs().amax(-1)  # (B, T)
    assert bool((moved[:, changed:] > 1e-3).all())
    if causal:
        assert bool((moved[:, :changed] == 0).all())
    else:
        assert bool((moved[:, :changed] > 1e-3).all())


@given(st.data())
@torch.no_grad()
def test_reading_some_positions_equals_picking_them(data: st.DataObject) -> None:
    """``View.at`` gives what a full computation gives there, whoever may see whom, whatever is hidden."""
    shape = data.draw(st.sampled_from(SHAPES))
    B, T, Q = data.draw(st.integers(1, 4)), data.draw(st.integers(1, shape[3])), data.draw(st.integers(1, 3))
    one = st.lists(st.integers(0, T - 1), min_size=Q, max_size=Q)
    at = torch.tensor(data.draw(st.lists(one, min_size=B, max_size=B)))
    keys = None
    if data.draw(st.booleans(), label="hide"):
        lengths = torch.tensor(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
        keys = torch.arange(T) < lengths[:, None]
    model, ids = wild(shape, causal=data.draw(st.booleans(), label="causal")), some_ids(B, T)
    everywhere = model(ids, View(None, keys))
    torch.testing.assert_close(model(ids, View(at, keys)), take(everywhere, at), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 2), st.booleans(), st.integers(1, 20))
@torch.no_grad()
def test_stopping_and_going_on_changes_nothing(stage: int, causal: bool, T: int) -> None:
    """A prefix of blocks, then the rest, is the whole model."""
    model, ids = wild((32, 4, 3, 20), causal), some_ids(2, T)
    view = View(torch.full((2, 1), T - 1))
    hidden = model.run(model.embed(ids), view, stop=stage)
    torch.testing.assert_close(model.read(model.run(hidden, view, stage)), model(ids, view), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_hidden_keys_are_as_good_as_absent(causal: bool) -> None:
    """A message with hidden tokens behind it is the message alone, whatever those tokens are."""
    model, ids = wild((24, 3, 2, 16), causal), some_ids(2, 10)
    keys = (torch.arange(10) < 6).expand(2, 10)
    seen = model(ids, View(None, keys))[:, :6]
    torch.testing.assert_close(seen, model(ids[:, :6]), rtol=1e-5, atol=1e-5)
    noise = torch.cat([ids[:, :6], some_ids(2, 4, seed=9)], 1)
    assert torch.equal(model(noise, View(None, keys))[:, :6], seen)


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_attention_by_hand(causal: bool) -> None:
    """One head's attention is softmax(q k / sqrt(D)) v, written out as in the paper."""
    attention = wild((16, 1, 1, 8), causal).blocks[0].attn
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(2))
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    score = q @ k.transpose(1, 2) / math.sqrt(16)
    if causal:
        score = score.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    torch.testing.assert_close(attention(x), attention.out(score.softmax(-1) @ v), rtol=1e-4, atol=1e-5)


def test_too_long_a_message_is_refused() -> None:
    """One token more than the context raises; the context itself does not."""
    model = wild((16, 1, 1, 8))
    assert model(some_ids(1, 8)).shape[1] == 8
    with pytest.raises(ValueError, match="9 tokens do not fit a context of 8"):
        model(some_ids(1, 9))


def test_heads_must_divide_the_channels() -> None:
    """A width that cannot be split into its heads is no shape."""
    with pytest.raises(ValueError, match="not a multiple"):
        GPTConfig(97, 8, 30, 4, 1)


def test_gpt2_initialisation() -> None:
    """Normal with 0.02, the residual writers smaller by sqrt(2 blocks), biases 0, norms 1; a generator decides it."""
    model = init_gpt2_(GPT(GPTConfig(500, 64, 128, 4, 4)), torch.Generator().manual_seed(1))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert bool((p == 0).all()), name
        elif "norm" in name:
            assert bool((p == 1).all()), name
        else:
            std = 0.02 / math.sqrt(8) if ".out." in name or ".down." in name else 0.02
            assert p.std().item() == pytest.approx(std, rel=0.05), name
            assert abs(p.mean().item()) < 5 * std / math.sqrt(p.numel()), name
    again = init_gpt2_(GPT(model.config), torch.Generator().manual_seed(1))
    assert torch.equal(model.tok_emb.weight, again.tok_emb.weight)


def test_a_model_that_waits_for_its_weights_loads_no_compiler() -> None:
    """Drawing on the meta device would: a second or two that a prediction need not wait."""
    code = (
        "import sys, onechange as oc; from onechange.training.build import trunk; "
        "trunk(oc.ROWS[16].at('pocket')); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", done.stderr
