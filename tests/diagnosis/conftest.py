"""Sound messages and a sound model, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_ill import messages, trained, write

from onechange.classifier.saved import save
from onechange.training.result import Result


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of sound messages."""
    return write(messages(), tmp_path_factory.mktemp("sound") / "messages.csv")


@pytest.fixture(scope="session")
def model(sound: str) -> Result:
    """A sound model."""
    return trained(sound)


@pytest.fixture(scope="session")
def folder(model: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model, saved."""
    return save(model, tmp_path_factory.mktemp("saved") / "M")
