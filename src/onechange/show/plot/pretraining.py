"""How the pocket family was pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .chart import Chart
from .curves import traces


def pretraining(cards: Mapping[str, Mapping[str, Any]]) -> Chart:
    """The training loss of each size over the tokens it has read.

    Args:
        cards: up to four names of models to their ``card.json``.
    """
    curves = {name: [(p["tokens"] / 1e6, p["loss"]) for p in card["curve"]] for name, card in cards.items()}
    best = min(curves, key=lambda name: curves[name][-1][1])
    finding = f"Lowest in the end is {best}, at {curves[best][-1][1]:.2f} nats a token."
    return traces(curves, "million tokens", "nats a token").says(finding)
