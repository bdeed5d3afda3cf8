"""How a learning rate is chosen: by validation messages, by a rule that is the same for every model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onechange.evidence.runs import Runs, stored
from onechange.evidence.studies import STUDIES, best_rate, own_rates
from onechange.experiment.experiment import BASELINE
from onechange.experiment.rows import parse_rows, row_of
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


def test_every_row_gets_the_rate_of_its_lowest_validation_loss() -> None:
    """Accuracies have no say, and neither has another row's rate or the rate that the row would have by itself."""
    end = BASELINE.but(trainable_token_pos="flexible").at("pocket")
    last = {(1, 1e-4): 0.4, (1, 1e-3): 0.3, (1, 3e-3): 0.5, (16, 1e-4): 0.2, (16, 3e-3): 0.1}
    study = {}
    for (row, rate), loss in last.items():
        runs = tried(str(row), rate, [0.9 + loss / 10] * 3, loss)
        read = "flexible" if row == 16 else "last"
        study[f"{row}-{rate}"] = replace(runs, experiment=runs.experiment.but(trainable_token_pos=read))
    assert own_rates(study, {"1": BASELINE.at("pocket").but(dataset="uci"), "16": end.but(dataset="uci")}) == {
        "1": 1e-3,
        "16": 3e-3,
    }


def test_rates_are_chosen_on_splits_and_seeds_that_nothing_else_is_run_with() -> None:
    """The study that chooses, the study that asks for its choices: the same rows, and not one split in common."""
    chosen, tuned = (STUDIES[name] for name in ("choices-uci", "tuned-uci"))
    first = chosen.change["seed"]
    assert not set(range(first, first + chosen.seeds)) & set(range(123, 123 + max(s.seeds for s in STUDIES.values())))
    asked = {row: {**row_of(row).change} for row in parse_rows(tuned.rows)}
    changes = [row_of(row).change for row in parse_rows(chosen.rows)]
    for change in asked.values():
        assert sum({k: v for k, v in other.items() if k != "learning_rate"} == change for other in changes) == 4
    assert len(changes) == 4 * len(asked)
