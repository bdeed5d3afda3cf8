"""What is read of a message: its positions, their mean, and no padding that is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_runs import MORE, Make, trainer_of

from onechange.data.messages import messages_of
from onechange.data.tokens import tokens_of
from onechange.training import prefix
from onechange.training.prefix import logits_of

pytestmark = pytest.mark.usefixtures("short_runs")


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
