"""How a learning rate is chosen: by validation messages, by a rule that is the same for every model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onechange.evidence.runs import Runs, stored
from onechange.evidence.studies import best_rate
from onechange.gpt import smollm2
from onechange.support.package import RESULTS


def tried(row: str, rate: float, val: list[float], loss: float) -> Runs:
    runs = stored("table-uci")["1"].of([123, 124, 125])
    losses = runs.losses.copy()
    losses[:, -1, 1] = loss
    experiment = runs.experiment.but(learning_rate=rate)
    return replace(runs, row=row, experiment=experiment, val=np.array(val), losses=losses)


def test_the_rate_with_the_best_validation_messages_over_all_rows_is_chosen() -> None:
    study = {
        "a-1": tried("1", 1e-4, [0.9, 0.9, 0.9], 0.2), "a-2": tried("1", 1e-3, [0.95, 0.96, 0.97], 0.3),
        "b-1": tried("16", 1e-4, [0.99, 0.99, 0.99], 0.1), "b-2": tried("16", 1e-3, [0.9, 0.9, 0.9], 0.1),
    }  # fmt: skip
    assert best_rate(study) == 1e-4  # 0.945 on average; the other 0.93


def test_of_equals_the_lower_loss() -> None:
    study = {"a": tried("1", 1e-4, [0.9] * 3, 0.4), "b": tried("1", 1e-3, [0.9] * 3, 0.3)}
    assert best_rate(study) == 1e-3


@pytest.mark.skipif(not (RESULTS[1] / "rates-smollm2.json").exists(), reason="the study of its rates is not stored")
def test_the_models_rate_is_the_one_its_study_chooses() -> None:
    assert best_rate(stored("rates-smollm2")) == smollm2.LEARNING_RATE
