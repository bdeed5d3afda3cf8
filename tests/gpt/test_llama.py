"""Llama against Hugging Face's, and what its rotary positions promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from onechange.gpt.layouts import layout_of, network
from onechange.gpt.llama import Llama, LlamaConfig, RMSNorm, rotate
from onechange.gpt.model import View, take
from onechange.gpt.weights import load_weights, read_config

transformers = pytest.importorskip("transformers")

# Channels, heads, groups, blocks, width inside the MLP; the last is grouped as SmolLM2-135M is.
SHAPES = [(16, 1, 1, 1, 24), (32, 4, 4, 2, 40), (32, 4, 1, 3, 64), (72, 9, 3, 2, 96)]


def config_of(shape: tuple[int, ...], **more: Any) -> LlamaConfig:
    C, H, G, blocks, wide = shape
    return LlamaConfig(97, 33, C, H, blocks, n_groups=G, hidden_dim=wide, **more)


def wild(shape: tuple[int, ...], **more: Any) -> Llama:
    """A model whose every parameter is random, norms too."""
    model = Llama(config_of(shape, **more))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    return model.requires_grad_(False)


def some_ids(B: int, T: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(97, (B, T), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, torch.nn.Module]:
    """Our model and Hugging Face's with the same random weights, by way of a folder that the latter saved."""
    C, H, G, blocks, wide = request.param
    config = transformers.LlamaConfig(
        vocab_size=97, max_position_embeddings=33, hidden_size=C, num_attention_heads=H, num_key_value_heads=G,
        num_hidden_layers=blocks, intermediate_size=wide, tie_word_embeddings=True, rms_norm_eps=1e-3,
        rope_theta=500.0, bos_token_id=96, eos_token_id=96,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=generator)
    folder = tmp_path_factory.mktemp("hf")
    theirs.save_pretrained(folder)
    ours = network(read_config(folder))
    load_weights(ours, folder / "model.safetensors")
    assert isinstance(ours, Llama)
    return ours, theirs


@pytest.mark.parametrize("T", [1, 5, 33])
@torch.no_grad()
def test_logits_equal_hugging_face(pair: tuple, T: int) -> None:
    """The same logits at every position, from one token to a full context; base and epsilon are read too."""
    ours, theirs = pair
    assert (ours.config.rope_base, ours.config.norm_eps) == (500.0, 1e-3)
    ids = some_ids(3, T)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_left_padding_equals_hugging_face(pair: tuple) -> None:
    """Padding before a message, hidden: theirs counts positions from the message's start, ours need not."""
    ours, theirs = pair
    ids, lengths = some_ids(3, 9), torch.tensor([9, 4, 1])
    keys = torch.arange(9) >= 9 - lengths[:, None]
    positions = (keys.cumsum(1) - 1).clamp(min=0)
    want = theirs(ids, attention_mask=keys.long(), position_ids=positions).logits
    torch.testing.assert_close(ours(ids, View(None, keys))[keys], want[keys], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_hugging_face_reads_what_we_write(pair: tuple, tmp_path: Path) -> None:
    """A layout's tensors and words make a folder that transformers loads whole, with equal logits; so do we."""
    ours, _ = pair
    layout = layout_of(ours.config)
    save_file(layout.theirs(ours), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(layout.config(ours.config, 96)))
    theirs, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = some_ids(2, 7)
    hidden = theirs.eval()(ids).last_hidden_state
    torch.testing.assert_close(hidden @ ours.tok_emb.weight.T, ours(ids), rtol=1e-4, atol=1e-4)
    assert read_config(tmp_path) == ours.config
    again = network(ours.config)
    load_weights(again, tmp_path / "model.safetensors")
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in ours.named_parameters())


@given(st.data())
@torch.no_grad()
def test_reading_some_positions_equals_picking_them(data: st.DataObject) -> None:
    """``View.at`` gives what a full computation gives there, whoever may see whom, whatever is hidden."""
    shape = data.draw(st.sampled_from(SHAPES))
    B, T, Q = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 33)), data.draw(st.integers(1, 3))
    one = st.lists(st.integers(0, T - 1), min_size=Q, max_size=Q)
    at = torch.tensor(data.draw(st.lists(one, min_size=B, max_size=B)))
    keys = None
    if data.draw(st.booleans(), label="hide"):
        lengths = torch.tensor(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
        keys = torch.arange(T) < lengths[:, None]
    model, ids = wild(shape, causal=data.draw(st.booleans(), label="causal")), some_ids(B, T)
    everywhere = model(ids, View(None, keys))
    torch.testing.assert_close(model(ids, View(at, keys)), take(everywhere, at), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("before", [0, 1, 11])
@torch.no_grad()
def test_a_message_may_begin_anywhere(causal: bool, before: int) -> None:
    """Behind hidden tokens, few or many, a message's outputs are those of the message alone."""
    model, ids = wild((32, 4, 1, 3, 64), causal=causal), some_ids(2, 7)
    row = torch.cat([some_ids(2, before, seed=9), ids, some_ids(2, 3, seed=8)], 1)
    keys = ((torch.arange(row.size(1)) >= before) & (torch.arange(row.size(1)) < before + 7)).expand_as(row)
    seen = model(row, View(None, keys))[:, before : before + 7]
    torch.testing.assert_close(seen, model(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_order_matters() -> None:
    """With no position added anywhere, it is the turning that tells one order of words from another."""
    model, ids = wild((32, 4, 1, 3, 64), causal=False), some_ids(2, 7)
    swapped = ids[:, [0, 2, 1, 3, 4, 5, 6]]
    assert float((model(ids)[:, -1] - model(swapped)[:, -1]).abs().max()) > 1e-2


def test_rotation_by_hand() -> None:
    """The pair (0, 2) of four channels turns by one radian a token, the pair (1, 3) by a hundredth."""
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(1, 1, 3, 4)
    got = rotate(x, torch.arange(3), 10000.0)[0, 0]
    for t in range(3):
        fast, slow = torch.tensor(float(t)), torch.tensor(t / 100)
        want = torch.stack([fast.cos(), -slow.sin(), fast.sin(), slow.cos()])
        torch.testing.assert_close(got[t], want)


def test_a_norm_by_hand() -> None:
    """(3, 4) has the mean square 12.5."""
    norm = RMSNorm(2, 0.0)
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]) / 12.5**0.5)


@pytest.mark.parametrize(
    ("shape", "why"),
    [((32, 4, 3, 1, 64), "not a multiple of n_groups"), ((12, 4, 2, 1, 8), "pairs"), ((32, 4, 0, 1, 64), "1 or more")],
)
def test_shapes_that_are_none(shape: tuple[int, ...], why: str) -> None:
    """Heads that cannot share, that have no pairs, or of no size."""
    with pytest.raises(ValueError, match=why):
        config_of(shape)
