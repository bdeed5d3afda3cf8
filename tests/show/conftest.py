"""Small runs for the pieces of a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from onechange import Experiment, Result, run
from onechange.show.widgets import LoRAByHand


@pytest.fixture(scope="module")
def small(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment that takes a moment: a toy model and a file of 80 messages."""
    file = tmp_path_factory.mktemp("messages") / "few.csv"
    lines = [f"{label},{words} number {i}" for i in range(40) for label, words in (("ham", "see you"), ("spam", "win"))]
    file.write_text("label,text\n" + "\n".join(lines) + "\n")
    return Experiment(model_size=str(toy), dataset=str(file), num_epochs=2, batch_size=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def runs(small: Experiment) -> list[Result]:
    return [run(e, progress=False) for e in (small, small.but(trainable_token_pos="first"))]


@pytest.fixture(scope="module")
def lora(toy: Path) -> LoRAByHand:
    return LoRAByHand(Experiment(model_size=str(toy)))
