"""The source book's checkpoint: nothing but its tensors is read, and its last position, padding or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import onechange as oc
from onechange.diagnosis.admission import BOOKS_LENGTH, admit
from onechange.gpt.foreign import BOOK
from onechange.gpt.model import GPT
from onechange.support.errors import UsageError


@pytest.fixture
def checkpoint(toy: Path, tokenizer_json: str, tmp_path: Path) -> tuple[GPT, Path]:
    """A classifier under the book's names, beside a tokenizer and a configuration of its size."""
    model = oc.Experiment(str(toy)).checkpoint.load(alone=False)
    torch.manual_seed(0)
    model.head = torch.nn.Linear(model.config.emb_dim, 2)
    state = model.state_dict()
    theirs = {theirs: state[ours] for ours, theirs, _ in BOOK.names(model.config)}
    path = tmp_path / "review_classifier.pth"
    torch.save(theirs | {"out_head.weight": model.head.weight.data, "out_head.bias": model.head.bias.data}, path)
    (tmp_path / "config.json").write_text((toy / "config.json").read_text())
    (tmp_path / "tokenizer.json").write_text(tokenizer_json)
    return model, path


@torch.no_grad()
def test_its_answers(checkpoint: tuple[GPT, Path]) -> None:
    """Padded to 120 tokens, as the book pads, and read at the last of them."""
    model, path = checkpoint
    patient = admit(path)
    row = patient.rows(["WIN a prize now"])[0]
    ids = torch.tensor([row + [patient.fill] * (BOOKS_LENGTH - len(row))])
    assert np.allclose(patient.answers([row]), model(ids)[:, -1].softmax(-1), atol=1e-6)


def test_it_reads_padding(checkpoint: tuple[GPT, Path], sound: str) -> None:
    found = oc.doctor(checkpoint[1], sound, progress=False)
    assert "a checkpoint of the source book's" in found.understood[0]
    assert "0, 1 were taken for ham, spam" in found.understood[1]
    assert found["padding"].level in ("act", "know")
    assert "padded to the model's own length" in found["lengths"].measured


@pytest.mark.parametrize("length", [8, 161])
def test_another_length(length: int, checkpoint: tuple[GPT, Path]) -> None:
    make: Callable = lambda: admit(checkpoint[1], length)  # noqa: E731
    if length > 160:
        with pytest.raises(UsageError, match="more than the model's context"):
            make()
    else:
        assert make().length == length
