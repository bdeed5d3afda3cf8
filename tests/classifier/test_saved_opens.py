"""What Hugging Face's classifiers make of a saved folder: the answers up to the head's bias, where their class can hold
them; where it cannot, the folder says so."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onechange import Experiment, run
from onechange.classifier.saved import load, save
from onechange.data.tokens import pad

transformers = pytest.importorskip("transformers")

TEXTS = ["WIN a prize now", "see you at six then", "call"]


@pytest.fixture(scope="module")
def experiment(toy: Path) -> Experiment:
    return Experiment(str(toy), dataset="pocket", train_size=16, num_epochs=1, learning_rate=1e-3)


def opened(folder: Path) -> Any:
    """As a person opens it: nothing of its head is drawn at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, said = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not said["missing_keys"]
    return model.eval()


@torch.no_grad()
def theirs_plus_bias(folder: Path, ids: list[list[int]]) -> np.ndarray:
    """Their probabilities with our bias put back: ``(N, K)``."""
    model, end = opened(folder), load(folder).tokenizer.end
    tokens = pad(ids, [0] * len(ids), end, None, "right")
    logits = model(tokens.ids, attention_mask=(tokens.ids != end).long()).logits
    return (logits + load_file(folder / "model.safetensors")["head.bias"]).softmax(-1).numpy()


HELD: dict[str, dict[str, Any]] = {
    "last own token": {"trainable_token_pos": "flexible"},
    "no padding": {"no_padding": True, "batch_size": 4},
    "merged": {"trainable_token_pos": "flexible", "trainable_layers": "lora", "lora_rank": 4},
}


@pytest.mark.parametrize("architecture", ["toy", "toy_llama"])
@pytest.mark.parametrize("case", HELD)
def test_their_class_gives_our_answers_up_to_the_bias(
    case: str, architecture: str, experiment: Experiment, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """For models that read a message's last own token, in a batch padded on the right."""
    e = experiment.but(model_size=str(request.getfixturevalue(architecture)), **HELD[case])
    folder = save(run(e, progress=False), tmp_path / "M", merge=e.uses_lora)
    classifier = load(folder)
    ids = [classifier.tokenizer.encode(text)[: classifier.max_length] for text in TEXTS]
    assert np.allclose(theirs_plus_bias(folder, ids), classifier.probabilities(TEXTS), atol=1e-5)
    assert "holds it but for the head's bias" in (folder / "README.md").read_text()


def test_row_1_reads_padding_and_the_folder_says_how(experiment: Experiment, tmp_path: Path) -> None:
    """Filled up to its length and without a padding token, their class reads the token that row 1 reads."""
    result = run(experiment, progress=False)
    folder = save(result, tmp_path / "M")
    said = (folder / "README.md").read_text()
    assert "does not give its answers" in said
    assert f"the last of {result.max_length} tokens, padding included" in said
    model, classifier = opened(folder), load(folder)
    model.config.pad_token_id = None
    row, end = classifier.tokenizer.encode(TEXTS[0]), classifier.tokenizer.end
    with torch.no_grad():
        logits = model(pad([row], [0], end, classifier.max_length, "right").ids).logits
    logits = logits + load_file(folder / "model.safetensors")["head.bias"]
    assert np.allclose(logits.softmax(-1).numpy(), classifier.probabilities(TEXTS[:1]), atol=1e-5)


ELSEWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "first": ({"trainable_token_pos": "first"}, "reads the first token"),
    "average": ({"average_embeddings": True}, "average over positions"),
    "no causal mask": ({"disable_causal_mask": True}, "without a causal mask"),
    "padding on the left": ({"trainable_token_pos": "flexible", "padding_side": "left"}, "behind or without"),
    "adapters apart": ({"trainable_layers": "lora", "lora_rank": 4}, "Save with `--merge`"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_their_class_cannot_hold_is_said(case: str, experiment: Experiment, tmp_path: Path) -> None:
    """In the folder; and no file names a head that would answer wrongly for want of its adapters."""
    change, words = ELSEWHERE[case]
    folder = save(run(experiment.but(**change), progress=False), tmp_path / "M")
    assert words in (folder / "README.md").read_text()
    assert ("score.weight" in load_file(folder / "model.safetensors")) == (case != "adapters apart")


def test_the_configuration_names_the_classes(experiment: Experiment, tmp_path: Path) -> None:
    folder = save(run(experiment, progress=False), tmp_path / "M")
    words = json.loads((folder / "config.json").read_text())
    assert words["architectures"] == ["GPT2ForSequenceClassification"]
    assert opened(folder).config.id2label == {0: "ham", 1: "spam"}
    assert words["pad_token_id"] == load(folder).tokenizer.end


def test_a_folder_of_before_still_loads(experiment: Experiment, tmp_path: Path) -> None:
    """Its tensors had no prefix, its configuration no classes, and there was no ``score``."""
    folder = save(run(experiment, progress=False), tmp_path / "M")
    wanted = load(folder).probabilities(TEXTS)
    tensors = load_file(folder / "model.safetensors")
    del tensors["score.weight"]
    save_file({n.removeprefix("transformer."): x for n, x in tensors.items()}, folder / "model.safetensors")
    words = json.loads((folder / "config.json").read_text()) | {"architectures": ["GPT2LMHeadModel"]}
    old = {k: v for k, v in words.items() if k not in ("num_labels", "id2label", "label2id", "pad_token_id")}
    (folder / "config.json").write_text(json.dumps(old))
    (folder / "README.md").unlink()
    about = json.loads((folder / "onechange.json").read_text())
    kept = {k: v for k, v in about.items() if k not in ("files", "digest")}
    (folder / "onechange.json").write_text(json.dumps(kept))
    assert np.array_equal(load(folder).probabilities(TEXTS), wanted)


def test_a_folder_with_the_name_of_a_model(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that was named is asked, not the package's model of that name, nor the Hub's."""
    monkeypatch.chdir(tmp_path)
    result = run(experiment, progress=False)
    for name in ("pocket-small", "gpt2"):
        assert load(save(result, name)).model.config == result.model.config
        assert load(name).model.config.emb_dim == experiment.checkpoint.shape.emb_dim
