"""Models with an illness each: it is found; a sound one is told so, whatever its seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_ill import messages, trained, write

import onechange as oc
from onechange.classifier.reading import classifier
from onechange.data.messages import Source
from onechange.diagnosis.admission import admit
from onechange.diagnosis.doctor import messages_for
from onechange.diagnosis.findings import ALARM
from onechange.training.result import Result

ILL: dict[str, tuple[dict[str, Any], str]] = {
    "reads padding": ({"trainable_token_pos": "last"}, "padding"),
    "padding five times as long": ({"trainable_token_pos": "last", "context_length": 120}, "padding"),
    "padding in its average": ({"average_embeddings": True, "trainable_token_pos": "last"}, "padding"),
    "first token alone": ({"trainable_token_pos": "first"}, "first"),
    "cut": ({"context_length": 4}, "lengths"),
    "rate too high": ({"learning_rate": 1.0}, "one_class"),
    "learned nothing": ({"learning_rate": 1e-7, "num_epochs": 1}, "accuracy"),
}


@pytest.mark.parametrize("illness", ILL)
def test_an_illness_is_found(illness: str, sound: str) -> None:
    change, key = ILL[illness]
    found = oc.doctor(trained(sound, **change), progress=False)
    assert found[key].level == "act"
    assert found[key].do


def test_a_sound_model_is_told_so(folder: Path, sound: str) -> None:
    """From its folder, with its own messages found by themselves."""
    found = oc.doctor(folder, progress=False)
    assert found.healthy
    assert found.subject == f"{folder.name} on {Path(sound).name}"  # where they lie is nobody else's business
    assert found["padding"].values["flips"] == 0
    assert set(found.frames) == {
        "scores", "copies", "contradictions", "classes", "calibration", "errors", "padding", "first",
    }  # fmt: skip
    assert set(found.figures) == {"scores", "lengths", "padding", "first", "calibration"}


@pytest.mark.parametrize("how", ["resplit", "folds"])
def test_the_split_is_the_one_that_it_was_trained_with(model: Result, how: str) -> None:
    """A model that was trained on a split of its seed's is asked about the test messages of that."""
    patient = replace(admit(model), trained={"dataset": "pocket", "seed": 124, how: True})
    found = messages_for(patient, None, None)
    assert found is not None
    assert found.test.equals(Source("pocket", 124, **{how: True}).messages().test)
    assert not found.test.equals(Source("pocket").messages().test)


def test_a_run_and_its_folder_have_one_report(model: Result, folder: Path) -> None:
    one, other = (oc.doctor(m, progress=False) for m in (model, folder))
    assert [f.title for f in one.findings] == [f.title for f in other.findings]


def test_without_a_label_it_is_asked_where_it_reads(model: Result) -> None:
    """A classifier in hand has no messages of its own: the pocket ones stand in."""
    found = oc.doctor(classifier(model), progress=False)
    assert {f.key for f in found.findings} == {"padding", "neighbours", "side", "first"}


def test_its_own_answers_are_asked(model: Result, sound: str) -> None:
    """What is set beside everything else is what ``predict`` says."""
    patient, texts = admit(model), list(messages().text[:20])
    assert np.allclose(patient.answers(patient.rows(texts)), classifier(model).probabilities(texts), atol=1e-6)


def test_a_test_set_that_it_has_seen(tmp_path: Path) -> None:
    frame = messages()
    file = write(frame.loc[frame.index.repeat(2)], tmp_path / "twice.csv")
    found = oc.doctor(trained(file), progress=False)
    assert found["copies"].level == found["new"].level == "act"
    assert "On new messages it is right on" in found["new"].title


def test_names_the_other_way_round(model: Result, tmp_path: Path) -> None:
    swapped = messages().assign(label=lambda f: f.label.map({"ham": "spam", "spam": "ham"}))
    found = oc.doctor(model, write(swapped, tmp_path / "swapped.csv"), progress=False)
    assert found["names"].level == "act"


def test_no_numbers(sound: str) -> None:
    ill = trained(sound, num_epochs=1, train_size=16)
    torch.nn.init.constant_(ill.model.head.weight, torch.nan)
    found = oc.doctor(ill, progress=False)
    assert found["numbers"].level == "act"
    assert "padding" not in {f.key for f in found.findings}


def test_probabilities_that_are_too_sure(sound: str) -> None:
    ill = trained(sound)
    with torch.no_grad():
        ill.model.head.weight *= 50
        ill.model.head.bias *= 50
    found = oc.doctor(ill, progress=False)
    assert found["calibration"].level == "know"
    assert found["calibration"].p < ALARM
    assert found["calibration"].values["over"] > 0


@pytest.mark.slow
def test_a_sound_model_raises_no_alarm_in_20_seeds(tmp_path: Path) -> None:
    alarms = []
    for seed in range(20):
        file = write(messages(seed), tmp_path / f"{seed}.csv")
        alarms += [(seed, f.key, f.title) for f in oc.doctor(trained(file, seed=seed), progress=False).of("act")]
    assert alarms == []
