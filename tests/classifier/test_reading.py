"""One message as a model reads it: every number against what the model itself computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from onechange import UsageError
from onechange.classifier import reading
from onechange.classifier.reading import PIECES, Reading, read, show
from onechange.classifier.saved import Classifier
from onechange.experiment.experiment import Experiment
from onechange.gpt import model
from onechange.gpt.tokenizer import END
from onechange.training.build import build
from onechange.training.reader import Reader
from onechange.training.result import Result

TEXT = "You have WON a free phone! 😀 Reply now"
LENGTH = 30  # what messages are padded and cut to

VARIANTS: dict[str, dict[str, Any]] = {
    "last": {},
    "first": {"trainable_token_pos": "first"},
    "flexible": {"trainable_token_pos": "flexible"},
    "average": {"average_embeddings": True},
    "average of the real tokens": {"average_embeddings": True, "trainable_token_pos": "flexible"},
    "no mask": {"disable_causal_mask": True},
    "first, no mask": {"disable_causal_mask": True, "trainable_token_pos": "first"},
    "no padding": {"no_padding": True},
    "no padding, average, no mask": {"no_padding": True, "average_embeddings": True, "disable_causal_mask": True},
    "padding hidden": {"mask_padding": True},
    "padding before": {"padding_side": "left"},
    "padding before and hidden": {"padding_side": "left", "mask_padding": True},
    "LoRA": {"trainable_layers": "lora", "lora_rank": 4},
}
each_variant = pytest.mark.parametrize("name", list(VARIANTS))


@pytest.fixture(scope="module")
def reader(toy: Path) -> Callable[..., Classifier]:
    """A toy model with a random head that is far from indifferent."""

    def make(**changes: Any) -> Classifier:
        e = Experiment(model_size=str(toy), dataset="pocket", **changes)
        made = build(e, 2)
        with torch.no_grad():
            for parameter in made.head.parameters():
                parameter.mul_(8)
        return Classifier(made, e, e.checkpoint.tokenizer, ("ham", "spam"), LENGTH)

    return make


def log_odds(p: np.ndarray) -> np.ndarray:
    return np.log(p[..., 1] / p[..., 0])


@each_variant
def test_the_answer_is_the_classifiers(name: str, reader: Callable) -> None:
    found = read(reader(**VARIANTS[name]), TEXT)
    assert found.answer == pytest.approx(reader(**VARIANTS[name]).probabilities([TEXT])[0], abs=1e-6)


@each_variant
def test_read_positions_give_the_answer(name: str, reader: Callable) -> None:
    """One position, or the mean of several positions' logits."""
    found = read(reader(**VARIANTS[name]), TEXT)
    assert log_odds(found.by_position[found.read]).mean() == pytest.approx(log_odds(found.answer), abs=1e-4)
    assert np.ptp(log_odds(found.by_position)) > 0.1


def test_positions_are_where_the_experiment_reads(reader: Callable) -> None:
    n = len(reader().tokenizer.encode(TEXT))
    places = {name: np.flatnonzero(read(reader(**change), TEXT).read).tolist() for name, change in VARIANTS.items()}
    assert places["last"] == places["padding before"] == [LENGTH - 1]
    assert places["first"] == [0]
    assert places["flexible"] == places["no padding"] == [n - 1]
    assert places["average"] == list(range(LENGTH))
    assert places["average of the real tokens"] == places["no padding, average, no mask"] == list(range(n))


def test_padding_is_told_from_the_message(reader: Callable) -> None:
    n = len(reader().tokenizer.encode(TEXT))
    behind, before = read(reader(), TEXT), read(reader(padding_side="left"), TEXT)
    assert behind.own.tolist() == [True] * n + [False] * (LENGTH - n)
    assert before.own.tolist() == [False] * (LENGTH - n) + [True] * n
    assert read(reader(no_padding=True), TEXT).own.tolist() == [True] * n
    assert "".join(behind.tokens[:n]).startswith("You␣have␣WON")
    assert before.tokens[-n:] == behind.tokens[:n]


@each_variant
def test_attention_is_what_the_model_attends_with(name: str, reader: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from outside: the queries, keys and masks that the plain model hands to PyTorch's own attention."""
    asked = reader(**VARIANTS[name])
    found = read(asked, TEXT)
    calls: list[tuple[Tensor, Tensor, Tensor | None, bool]] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        calls.append((q, k, mask, is_causal))
        return attention(q, k, v, mask, is_causal=is_causal)

    monkeypatch.setattr(model.F, "scaled_dot_product_attention", spy)
    tokens = reading._padded(asked, [asked.tokenizer.encode(TEXT)])
    view = Reader.of(asked.experiment).view(torch.from_numpy(tokens.lengths), tokens.ids.size(1))
    with torch.no_grad():
        asked.model.run(asked.model.embed(tokens.ids), model.View(None, view.keys))
    assert len(calls) == len(found.attention) == 3
    for (q, k, mask, is_causal), row in zip(calls, found.attention, strict=True):
        ones = torch.eye(k.size(-2)).expand(*k.shape[:-1], -1)
        weights = attention(q, k, ones, mask, is_causal=is_causal)[..., found.read, :]
        assert row == pytest.approx(weights.mean((0, 1, 2)).numpy(), abs=1e-5)
    assert found.attention.sum(1) == pytest.approx(np.ones(3), abs=1e-5)


def test_the_first_token_sees_itself_and_hidden_padding_is_not_seen(reader: Callable) -> None:
    first = read(reader(trainable_token_pos="first"), TEXT)
    assert first.attention[:, 0] == pytest.approx([1, 1, 1])
    hidden = read(reader(mask_padding=True), TEXT)
    others = ~hidden.own & ~hidden.read  # a padding token that is read still sees itself
    assert hidden.attention[:, others].max() == 0
    assert read(reader(), TEXT).attention[:, others].min() > 0


@pytest.mark.parametrize("name", ["last", "first", "flexible", "no padding", "padding before"])
def test_leaving_a_token_out_changes_the_answer_by_its_effect(name: str, reader: Callable) -> None:
    """Against the model's own forward pass over the shorter message."""
    asked = reader(**VARIANTS[name])
    found, ids, e = read(asked, TEXT), asked.tokenizer.encode(TEXT), asked.experiment
    effects = found.effect[found.own]
    for i in range(len(ids)):
        short = ids[:i] + ids[i + 1 :]
        fill = [] if e.no_padding else [asked.tokenizer.end] * (LENGTH - len(short))
        row = fill + short if e.padding_side == "left" else short + fill
        at = {"first": 0, "flexible": len(short) - 1}.get(e.trainable_token_pos, len(row) - 1)
        with torch.no_grad():
            p = asked.model(torch.tensor([row]))[0, at].softmax(-1)[1]
        assert effects[i] == pytest.approx(found.answer[1] - float(p), abs=1e-5)
    assert np.isnan(found.effect[~found.own]).all()
    assert np.abs(effects).max() > 1e-3


def test_a_long_message_is_cut_and_its_tokens_are_left_out_in_groups(
    reader: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECES", 7)
    asked = reader()
    tried: list[int] = []
    ask = reading._probabilities

    def spy(classifier: Classifier, rows: list[list[int]]) -> np.ndarray:
        tried.append(len(rows))
        return ask(classifier, rows)

    monkeypatch.setattr(reading, "_probabilities", spy)
    text = " ".join(f"word{i}" for i in range(700))[:5000]
    found = read(asked, text)
    assert tried == [1, 7]
    assert found.own.all()
    assert found.cut == len(asked.tokenizer.encode(text)) - LENGTH > 1000
    assert len(set(found.effect.tolist())) == 7
    assert PIECES == 64


def test_without_padding_a_message_must_fit_the_model(reader: Callable) -> None:
    with pytest.raises(UsageError, match=r"^the message has \d+ tokens, the model's context 160$"):
        read(reader(no_padding=True), "word " * 1000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "the message is empty"), (" \n\t", "the message is empty"), (f"a {END} b", f"the message contains {END}")],
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str, complaint: str, reader: Callable) -> None:
    with pytest.raises(UsageError, match="^" + complaint.replace("|", r"\|")) as caught:
        read(reader(), text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a", "漢字かな交じり文", "السلام عليكم", "🏳️‍🌈👩‍👩‍👧", "Zażółć gęślą jaźń", "\x00\x07", "‮tfel"]
)
def test_any_script_is_read(text: str, reader: Callable) -> None:
    found = read(reader(), text)
    assert np.isfinite(found.by_position).all()
    assert np.isfinite(found.attention).all()
    assert found.answer.sum() == pytest.approx(1)
    assert np.isnan(found.effect[found.own]).all() == (found.own.sum() == 1)


def test_tokens_are_shown_as_something_to_see() -> None:
    assert [show(token) for token in (b" free", b"\n", "é".encode(), b"\xf0\x9f")] == ["␣free", "⏎", "é", "\\xf0\\x9f"]


def test_of_many_classes_the_likeliest_is_looked_at(reader: Callable) -> None:
    asked = reader()
    asked.model.head = torch.nn.Linear(asked.model.config.emb_dim, 3)
    asked.classes = ("a", "b", "c")
    found = read(asked, TEXT)
    assert found.target == found.answer.argmax()
    assert found.answer.shape == (3,)


def test_a_result_without_its_model_is_refused(reader: Callable) -> None:
    e = reader().experiment
    bare = Result(e.resolved(), 0, 0, LENGTH, ("ham", "spam"), {})
    with pytest.raises(UsageError, match=r"has no model: run it again"):
        reading.classifier(bare)


def test_reading_changes_nothing(reader: Callable) -> None:
    """The model is as it was: no gradient kept, no hook, no weight moved."""
    asked = reader()
    before = [p.clone() for p in asked.model.parameters()]
    first: Reading = read(asked, TEXT)
    assert all(torch.equal(p, q) for p, q in zip(before, asked.model.parameters(), strict=True))
    assert all(p.grad is None for p in asked.model.parameters())
    assert np.array_equal(first.effect, read(asked, TEXT).effect, equal_nan=True)
    assert math.isclose(first.answer.sum(), 1, abs_tol=1e-6)
