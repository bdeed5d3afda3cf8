"""The controls of an ablation, and what is run with them."""

from __future__ import annotations

import itertools
import math
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pressed import POCKET, Parts, wait, words

from onechange import ROWS, Experiment, Result, UsageError, run
from onechange.experiment.experiment import choices_of, hints, names
from onechange.experiment.fields import explained, idle, kinds, parse, settle
from onechange.show import panels, widgets
from onechange.show.widgets import Fields, MakeAblation
from onechange.training.store import PrefixStore

# Which fields there are and which go together.


def test_every_field_has_a_control_with_its_name_and_its_docstring() -> None:
    fields = Fields(POCKET)
    assert list(fields.controls) == names() == list(explained())
    for name, control in fields.controls.items():
        assert control.description == name
        note = words(fields._notes[name])
        assert note == (explained()[name] if not control.disabled else idle(POCKET, name))
    assert explained()["num_epochs"] == "Passes over the training messages."
    assert fields.experiment == POCKET


def test_a_choice_offers_what_the_dataclass_allows() -> None:
    for name, control in Fields(POCKET).controls.items():
        if choices_of(name):
            assert control.options == choices_of(name)
        elif hints()[name] is bool:
            assert isinstance(control, widgets.ipw.Checkbox)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train_size", "", None), ("train_size", " 64 ", 64), ("train_size", "few", "few"),
        ("learning_rate", "1e-3", 1e-3), ("learning_rate", "fast", "fast"), ("learning_rate", "inf", math.inf),
        ("context_length", "64", 64), ("context_length", "long", "long"),
        ("dataset", "", None), ("dataset", "12", "12"),
    ],
)  # fmt: skip
def test_a_text_is_read_as_the_fields_type(name: str, text: str, value: object) -> None:
    assert parse(name, text) == value


def test_each_row_of_the_table_can_be_started_from() -> None:
    bench = MakeAblation()
    for number, e in ROWS.items():
        bench.row.value = number
        assert bench.fields.experiment == e.at("pocket")
        assert bench.go.disabled is False


RESTS = [
    ({}, {"lora_rank", "lora_alpha", "lora_scaling", "lora_layers", "balance"}),
    ({"trainable_layers": "lora"}, {"trainable_blocks", "balance"}),
    ({"trainable_token_pos": "first"}, {"average_embeddings", "mask_padding"}),
    ({"no_padding": True}, {"context_length", "padding_side", "mask_padding"}),
    ({"context_length": "64"}, {"no_padding"}),
]


@pytest.mark.parametrize(("changes", "resting"), RESTS, ids=lambda value: " ".join(sorted(map(str, value))))
def test_a_field_without_effect_rests(changes: dict[str, Any], resting: set[str]) -> None:
    fields = Fields(POCKET)
    for name, value in changes.items():
        fields.controls[name].value = value
    for name in resting:
        assert fields.controls[name].disabled
        assert words(fields._notes[name]) in (idle(fields.experiment, name),)
    assert not any(fields.controls[name].disabled for name in changes)


def test_a_value_goes_back_to_its_default_when_it_could_have_no_effect() -> None:
    fields = Fields(POCKET)
    fields.controls["trainable_layers"].value = "lora"
    fields.controls["lora_rank"].value = 16
    assert fields.experiment == POCKET.but(trainable_layers="lora", lora_rank=16)
    fields.controls["trainable_layers"].value = "all"
    assert fields.experiment == POCKET.but(trainable_layers="all")
    assert fields.controls["lora_rank"].value == 8


def test_controls_start_from_any_experiment() -> None:
    start = POCKET.but(trainable_layers="lora", lora_rank=4, learning_rate=1e-3, train_size=64, context_length=50)
    fields = Fields(start)
    assert fields.experiment == start
    assert fields.controls["train_size"].value == "64"
    fields.controls["trainable_layers"].value = "last_block"
    assert fields.experiment == start.but(trainable_layers="last_block", lora_rank=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_epochs", 0), ("learning_rate", "quick"), ("learning_rate", "-1"), ("batch_size", -3), ("seed", -1),
     ("context_length", "100000"), ("dataset", "no-such-file.csv"), ("ignore_index", 1), ("weight_decay", -1.0)],
)  # fmt: skip
def test_a_wrong_value_is_explained_and_run_is_disabled(name: str, value: Any) -> None:
    bench = MakeAblation()
    with pytest.raises(UsageError) as caught:
        POCKET.but(**{name: parse(name, value) if isinstance(value, str) else value})
    bench.fields.controls[name].value = value
    assert bench.go.disabled
    assert words(bench.command) == f"⚠ {caught.value}"
    assert Parts(bench.command.value).elements[0][1]["role"] == "alert"
    bench.go.click()
    assert bench.thread is None
    bench.fields.show(POCKET)
    assert not bench.go.disabled
    assert words(bench.command) == POCKET.command


VALUES = {
    name: st.sampled_from(choices_of(name))
    if choices_of(name)
    else st.booleans()
    if hints()[name] is bool
    else st.sampled_from([0, 1, 2, 16, 1000])
    if kinds(name) == (int,)
    else st.sampled_from([0.0, 0.5, 8.0])
    if kinds(name) == (float,)
    else st.sampled_from(["", "64", "0.001", "nonsense"])
    for name in names()
    if name != "model_size"
}


@given(st.lists(st.sampled_from(names()[1:]).flatmap(lambda name: st.tuples(st.just(name), VALUES[name])), max_size=6))
def test_however_the_controls_are_turned_they_say_an_experiment_or_why_not(turns: list[tuple[str, Any]]) -> None:
    fields = Fields(POCKET)
    for name, value in turns:
        fields.controls[name].value = value if not fields.controls[name].disabled else fields.controls[name].value
        assert (fields.experiment is None) == bool(fields.error)
        if fields.experiment is not None:
            told = {name: control.value for name, control in fields.controls.items()}
            read_back = {n: parse(n, v) if isinstance(v, str) and not choices_of(n) else v for n, v in told.items()}
            assert POCKET.but(**read_back) == fields.experiment


def test_what_does_not_go_together_is_refused_with_its_reason() -> None:
    e, refused = settle(POCKET, {"trainable_token_pos": "first", "average_embeddings": True, "num_epochs": 3})
    assert e == POCKET.but(trainable_token_pos="first", num_epochs=3)
    assert list(refused) == ["average_embeddings"]


# Make an ablation.


def test_a_run_goes_to_its_end_and_joins_the_comparison(small: Experiment) -> None:
    bench = MakeAblation(small)
    curves: list[str] = []
    bench.curve.observe(lambda change: curves.append(change["new"]), "value")
    bench.go.click()
    assert bench.go.disabled
    assert not bench.halt.disabled
    wait(bench)
    assert not bench.go.disabled
    assert bench.halt.disabled
    assert bench.bar.value == 1
    assert len(set(curves)) > 1
    (result,) = bench.runs
    again = run(small, progress=False)
    assert result.losses.to_numpy() == pytest.approx(again.losses.to_numpy(), abs=1e-5)
    assert result.seconds > 0
    table = words(bench.table)
    low, high = (f"{100 * x:.1f}" for x in (panels.interval(result).low, panels.interval(result).high))
    for piece in (
        "the baseline",
        small.command,
        f"{result.n_trainable:,}",
        f"[{low}, {high}]",
        f"{result.seconds:.1f}",
    ):
        assert piece in table
    assert "Done" in words(bench.status)


def test_runs_are_compared_with_the_baseline_first_and_the_last_three_drawn(
    small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []
    losses = widgets.plot.losses

    def spy(*results: Result) -> Any:
        drawn.append([result.experiment.seed for result in results])
        return losses(*results)

    monkeypatch.setattr(widgets.plot, "losses", spy)
    bench = MakeAblation(small.but(num_epochs=1))
    for seed in (1, 2, 123, 3, 4):
        bench.fields.controls["seed"].value = seed
        bench.go.click()
        wait(bench)
    assert drawn[-1] == [123, 2, 3, 4]
    assert [result.experiment.seed for result in bench.runs] == [1, 2, 123, 3, 4]
    assert [row in words(bench.table) for row in ("seed 1", "seed 4", "the baseline")] == [True] * 3


def test_drawing_does_not_count_as_the_runs_time(small: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by three seconds whenever one looks; between two drawings twelve seconds pass."""
    finished = run(small, progress=False)
    finished.seconds = 100

    def fake(*_: Any, watch: Any, **__: Any) -> Result:
        for _ in range(6):
            watch(finished)
        return finished

    clock = itertools.count(3, 3)
    monkeypatch.setattr(widgets, "run", fake)
    monkeypatch.setattr(widgets, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    bench = MakeAblation(small)
    bench.go.click()
    wait(bench)
    assert [result.seconds for result in bench.runs] == [94]


@pytest.fixture
def long(small: Experiment) -> Experiment:
    return small.but(num_epochs=500)


def test_stop_ends_a_run_in_its_middle(long: Experiment) -> None:
    bench = MakeAblation(long)
    bench.go.click()
    while "Step" not in words(bench.status):
        time.sleep(0.01)
    bench.go.click()  # a second press changes nothing
    bench.halt.click()
    wait(bench)
    assert re.search(r"left out of the comparison: stopped after step \d+", words(bench.status))
    assert bench.runs == []
    assert (bench.go.disabled, bench.halt.disabled) == (False, True)
    bench.fields.show(long.but(num_epochs=1))
    bench.go.click()
    wait(bench)
    assert len(bench.runs) == 1


def test_the_controls_can_be_turned_while_a_run_is_under_way(long: Experiment) -> None:
    bench = MakeAblation(long)
    bench.go.click()
    bench.fields.controls["seed"].value = 7
    assert bench.go.disabled
    assert "--seed 7" in words(bench.command)
    bench.halt.click()
    wait(bench)
    assert bench.go.disabled is False


@pytest.mark.parametrize(
    ("error", "said"),
    [(UsageError("pocket-xl is not in this release"), "pocket-xl is not in this release"),
     (RuntimeError("out of memory"), "The run failed: RuntimeError: out of memory")],
)  # fmt: skip
def test_a_run_that_fails_says_so_and_another_can_follow(
    error: Exception, said: str, small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Result:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(widgets, "run", fail)
        bench = MakeAblation(small)
        bench.go.click()
        wait(bench)
    assert words(bench.status) == said
    assert (bench.runs, bench.go.disabled, bench.halt.disabled) == ([], False, True)
    bench.go.click()
    wait(bench)
    assert len(bench.runs) == 1


def test_a_loss_that_is_no_number_ends_the_run_with_a_line(small: Experiment) -> None:
    bench = MakeAblation(small.but(learning_rate=1e30))
    bench.go.click()
    wait(bench)
    assert "not a number" in words(bench.status)
    assert bench.runs == []


def test_one_run_at_a_time_and_one_can_stop_waiting(small: Experiment) -> None:
    bench = MakeAblation(small)
    with widgets.TRAINING:
        bench.go.click()
        bench.halt.click()
        wait(bench)
    assert words(bench.status) == "Stopped before it began."


# Stopping, whoever asks.


@pytest.mark.parametrize("layers", ["last_layer", "last_block", "all", "lora"])
def test_a_run_can_be_stopped_at_any_moment(layers: str, small: Experiment) -> None:
    """The prefix, a step, the evaluation at the end: asked before each block, stopped wherever the answer is yes."""
    e = small.but(trainable_layers=layers, num_epochs=1)
    asked = 0

    def never() -> bool:
        nonlocal asked
        asked += 1
        return False

    whole = run(e, progress=False, stop=never, store=PrefixStore())
    assert whole.error == ""
    assert not any(module._forward_pre_hooks for module in whole.model.modules())
    for last in (1, asked // 2, asked):
        left = last

        def count() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        result = run(e, progress=False, stop=count, store=PrefixStore())  # nothing is in hand
        assert left == 0
        assert result.error == (f"stopped after step {result.steps[-1]}" if result.steps else "stopped early")
        assert (result.final, result.test_probabilities) == ({}, [])
        assert result.train_losses == whole.train_losses[: len(result.train_losses)]
        assert not any(module._forward_pre_hooks for module in result.model.modules())


def test_a_stopped_prefix_is_not_taken_for_a_finished_one(small: Experiment) -> None:
    store = PrefixStore()
    assert run(small, progress=False, store=store, stop=lambda: True).error == "stopped early"
    assert run(small, progress=False, store=store).losses.equals(run(small, progress=False).losses)
