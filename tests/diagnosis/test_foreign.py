"""Classifiers of other programs: what transformers answers is what the doctor is told, padded and not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onechange as oc
from onechange.diagnosis.admission import admit
from onechange.gpt.tokenizer import pocket_encoding
from onechange.support.errors import UsageError

transformers = pytest.importorskip("transformers")

END, PAD = 4095, 7
TEXTS = ["WIN a prize now", "see you at six then", "call", "a longer message that says what there is to be said"]
SHAPES: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 160},
    "Llama": {
        "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
        "intermediate_size": 48, "max_position_embeddings": 160, "bos_token_id": None,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
    """Makes one of their classifiers with random weights, and the folder in which it is saved."""

    def make(kind: str, **words: Any) -> tuple[Any, Path]:
        torch.manual_seed(0)
        words = {"pad_token_id": END, "eos_token_id": END, "initializer_range": 0.3} | words
        config = getattr(transformers, f"{kind}Config")(vocab_size=4096, **SHAPES[kind], **words)
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tokenizer_json)
        return model, folder

    return make


def ids_of(texts: list[str]) -> list[list[int]]:
    return [pocket_encoding().encode_ordinary(text) for text in texts]


@torch.no_grad()
def ask(model: Any, rows: list[list[int]], fill: int, left: bool = False, mask: bool = False) -> np.ndarray:
    """Their answers, padded to the longest as a collator does it."""
    T = max(map(len, rows))
    padded = [[fill] * (T - len(r)) + r if left else r + [fill] * (T - len(r)) for r in rows]
    seen = [[0] * (T - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (T - len(r)) for r in rows]
    words = {"attention_mask": torch.tensor(seen)} if mask else {}
    return model(torch.tensor(padded), **words).logits.softmax(-1).double().numpy()


@pytest.mark.parametrize("kind", SHAPES)
class TestAsTransformers:
    def test_alone(self, kind: str, theirs: Callable) -> None:
        model, folder = theirs(kind)
        patient, rows = admit(folder), ids_of(TEXTS)
        assert patient.rows(TEXTS) == rows
        assert np.allclose(patient.answers(rows), np.concatenate([ask(model, [row], END) for row in rows]), atol=1e-6)

    def test_in_a_batch(self, kind: str, theirs: Callable) -> None:
        model, folder = theirs(kind)
        patient, rows = admit(folder), ids_of(TEXTS)
        T = max(map(len, rows))
        assert np.allclose(patient.asked(rows, T), ask(model, rows, END), atol=1e-6)
        assert np.allclose(patient.asked(rows, T, left=True, masked=True), ask(model, rows, END, True, True), atol=1e-6)

    def test_padded_with_another_token(self, kind: str, theirs: Callable) -> None:
        """The tokenizer pads with one token, the model takes another for padding: padding is read."""
        model, folder = theirs(kind)
        word = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        token = next(word for word, i in word.items() if i == PAD)
        (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": token}))
        patient, rows = admit(folder), ids_of(TEXTS)
        assert patient.fill == PAD
        assert np.allclose(patient.asked(rows, max(map(len, rows))), ask(model, rows, PAD), atol=1e-6)
        assert oc.doctor(folder, progress=False)["padding"].level == "act"

    def test_a_message_that_ends_with_the_padding_token(self, kind: str, theirs: Callable) -> None:
        """It is read before its end."""
        rows = ids_of(TEXTS)
        model, folder = theirs(kind, pad_token_id=rows[0][-1])
        patient = admit(folder)
        assert np.allclose(patient.answers(rows), np.concatenate([ask(model, [row], END) for row in rows]), atol=1e-6)

    def test_no_padding_token(self, kind: str, theirs: Callable) -> None:
        model, folder = theirs(kind, pad_token_id=None)
        patient, rows = admit(folder), ids_of(TEXTS)
        longer = [[*row, END, END] for row in rows]
        asked = np.concatenate([patient.asked([row], len(row) + 2) for row in rows])
        assert np.allclose(asked, np.concatenate([ask(model, [row], END) for row in longer]), atol=1e-6)
        found = oc.doctor(folder, progress=False)
        assert "config.pad_token_id is not set" in found.understood[0]
        assert found["neighbours"].level == "act"
        assert "transformers refuses a batch" in found["neighbours"].title


def test_with_its_padding_token_padding_changes_nothing(theirs: Callable) -> None:
    found = oc.doctor(theirs("GPT2")[1], progress=False)
    assert found["padding"].level == found["neighbours"].level == "well"
    assert found["side"].level != "well"  # positions are counted from the left


def test_classes_are_matched_by_name(theirs: Callable) -> None:
    names = {"id2label": {0: "Spam", 1: "Ham"}, "label2id": {"Spam": 0, "Ham": 1}}
    model, folder = theirs("GPT2", **names)
    patient = admit(folder).known_as(("ham", "spam"))
    assert np.allclose(patient.answers(ids_of(TEXTS[:1])), ask(model, ids_of(TEXTS[:1]), END)[:, ::-1], atol=1e-6)
    with pytest.raises(UsageError, match="give the labels the same names"):
        admit(folder).known_as(("ham", "offer"))
    with pytest.raises(UsageError, match="the model's own classes"):
        admit(folder).known_as(("ham", "spam", "news"))


def test_a_start_mark_is_put_where_the_tokenizer_puts_one(theirs: Callable) -> None:
    from tokenizers import Tokenizer, processors

    folder = theirs("Llama")[1]
    engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", END)]
    )
    engine.save(str(folder / "tokenizer.json"))
    assert admit(folder).rows(TEXTS[:1])[0] == [END, *ids_of(TEXTS)[0]]
