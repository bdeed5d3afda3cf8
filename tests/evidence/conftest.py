"""A few messages and a small experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from onechange import Experiment


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short messages of two classes: a run over them takes a moment."""
    file = tmp_path_factory.mktemp("messages") / "messages.tsv"
    lines = [f"{'ham' if i % 2 else 'spam'}\tmessage number {i} {'win' * (1 - i % 2)}" for i in range(40)]
    file.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return file


@pytest.fixture
def base(toy: Path, messages: Path) -> Experiment:
    """A row 1 that takes a moment."""
    return Experiment(str(toy), dataset=str(messages), num_epochs=1, learning_rate=1e-3)
