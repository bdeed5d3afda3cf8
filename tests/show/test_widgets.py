"""The interactive pieces: their controls turned and their buttons pressed, in Python, in a notebook, in JupyterLab."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pages import FLAGS, need

from onechange import BASELINE, ROWS, Experiment, Result, UsageError, run
from onechange.classifier.reading import classifier, read
from onechange.experiment.experiment import choices_of, hints, names
from onechange.experiment.fields import explained, idle, kinds, parse, settle
from onechange.gpt.lora import SCALINGS
from onechange.show import panels, widgets
from onechange.show.widgets import Fields, LoRAByHand, MakeAblation, ReadMessage, guess
from onechange.training.store import PrefixStore

ROOT = Path(__file__).parents[2]
SCREEN = {"width": 1280, "height": 1000}
PLAYGROUND = ROOT / "book" / "playground.ipynb"
POCKET = BASELINE.at("pocket")


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


class Parts(HTMLParser):
    """HTML taken apart: its text and its elements, each closed where it has to be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.elements, self.open = "", [], []  # type: ignore[var-annotated]
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


def words(widget: Any) -> str:
    return Parts(widget.value).words


def wait(bench: MakeAblation) -> None:
    assert bench.thread is not None
    bench.thread.join(120)
    assert not bench.thread.is_alive()


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


# Read one message.


def test_two_models_read_a_message_side_by_side(runs: list[Result]) -> None:
    piece = ReadMessage(*runs, text="win a number")
    shown = Parts(piece.view.value)
    assert [tag for tag, _ in shown.elements].count("table") == 2
    for result, name in zip(runs, ("trainable_token_pos last", "trainable_token_pos first"), strict=True):
        found = read(classifier(result), "win a number")
        assert name in shown.words
        assert f"spam {100 * found.answer[1]:.1f} %" in shown.words
    scrolled = [attrs for tag, attrs in shown.elements if attrs.get("role") == "region"]
    assert all(attrs["aria-label"] and attrs["tabindex"] == "0" for attrs in scrolled)


def test_a_line_stands_for_a_token_or_for_padding_that_is_not_read(runs: list[Result]) -> None:
    found = read(classifier(runs[0]), "win now")
    made = panels.lines(found)
    n, T = int(found.own.sum()), len(found.own)
    assert [line.word for line in made] == [*found.tokens[:n], "padding", "padding"]
    assert [line.place for line in made[n:]] == [f"{n + 1}–{T - 1}" if n + 1 < T - 1 else f"{T - 1}", f"{T}"]
    assert [line.read for line in made] == [False] * (n + 1) + [True]
    assert sum(line.attention for line in made) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_message_can_be_typed_and_read(runs: list[Result]) -> None:
    piece = ReadMessage(runs[0])
    before = piece.view.value
    piece.text.value = "something else"
    piece.go.click()
    assert piece.view.value != before
    assert "␣else" in words(piece.view)


@pytest.mark.parametrize("text", ["", "   ", "<|endoftext|>"])
def test_what_is_no_message_gets_one_line(text: str, runs: list[Result]) -> None:
    piece = ReadMessage(*runs)
    piece.text.value = text
    piece.go.click()
    assert re.fullmatch(r"⚠ the message (is empty|contains .*)", words(piece.view))
    piece.text.value = "fine again"
    piece.go.click()
    assert "␣again" in words(piece.view)


@pytest.mark.parametrize(
    "text", ["x" * 5000, "😀" * 1250, "слово " * 800, "<script>alert(1)</script> & \"quoted\" 'x'"]
)
def test_anything_typed_is_shown_as_text(text: str, runs: list[Result]) -> None:
    piece = ReadMessage(*runs, text=text)
    shown = Parts(piece.view.value)
    assert not any(tag == "script" for tag, _ in shown.elements)
    cut = read(classifier(runs[0]), text).cut
    assert (f"{cut} tokens cut off" in shown.words) == (cut > 0)


def test_there_must_be_something_to_read_with() -> None:
    with pytest.raises(UsageError, match="give the results of one run or more"):
        ReadMessage()


# LoRA by hand, and guesses.


@pytest.fixture(scope="module")
def lora(toy: Path) -> LoRAByHand:
    return LoRAByHand(Experiment(model_size=str(toy)))


@pytest.mark.parametrize("rank", [1, 2, 7, 32])
def test_a_change_of_rank_r_has_r_singular_values(rank: int, lora: LoRAByHand) -> None:
    lora.rank.value = rank
    shown = Parts(lora.view.value)
    assert f"{rank} of 32 singular values are not zero" in shown.words
    assert f"This weight: {rank * 64:,} numbers to train instead of 1,024" in shown.words
    assert ("nothing is saved" in shown.words) == (rank >= 16)
    bars = [attrs for tag, attrs in shown.elements if tag == "rect"]
    assert len(bars) == 32
    assert sum("--oc-change" in str(attrs["fill"]) for attrs in bars) == rank


def test_alpha_and_scaling_scale_the_change(lora: LoRAByHand) -> None:
    lora.rank.value = 4

    def size(scaling: str, alpha: float) -> float:
        lora.scaling.value, lora.alpha.value = scaling, alpha
        found = re.search(r"and ([\d.]+) times as large", words(lora.view))
        assert found is not None
        return float(found[1])

    base = size("table", 32)
    for scaling, alpha in (("table", 16), ("paper", 32), ("rslora", 32)):
        ratio = SCALINGS[scaling](alpha, 4) / 32
        assert size(scaling, alpha) == pytest.approx(base * ratio, abs=0.01)


def test_the_numbers_of_the_whole_model_are_those_that_lora_trains(toy: Path, small: Experiment) -> None:
    piece = LoRAByHand(small)
    piece.rank.value = 4
    trained = run(small.but(trainable_layers="lora", lora_rank=4, num_epochs=1), progress=False).n_trainable
    head = 32 * 2 + 2 + 4 * (32 + 2)
    assert f"{trained - head:,} numbers to train instead of" in words(piece.view)


def test_pictures_say_in_words_what_they_show(lora: LoRAByHand) -> None:
    pictures = [attrs for _, attrs in Parts(lora.view.value).elements if attrs.get("role") == "img"]
    assert len(pictures) == 3
    assert all(len(str(attrs["aria-label"])) > 20 for attrs in pictures)


def test_moving_the_sliders_leaves_the_random_numbers_alone(lora: LoRAByHand) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    lora.rank.value = 9
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [(80, "Your guess of 80 is 10.3 below it."), (92, "Your guess of 92 lies inside it."), (100, "is 6.1 above it.")],
)
def test_a_guess_is_set_beside_what_was_measured(value: float, said: str) -> None:
    piece = guess("How many are right?", answer=92.1, low=90.3, high=93.9)
    question, slider, view = piece.children
    assert words(question) == "How many are right?"
    assert "Your guess" not in view.value
    assert "Measured: 92.1 %, 95 % interval 90.3 to 93.9 %." in view.value
    slider.value = value
    assert said in words(view)
    tags = [tag for tag, _ in Parts(view.value).elements]
    assert tags.index("details") < tags.index("summary") < tags.index("svg")  # folded, with a kernel or without


def test_a_guess_needs_an_interval_in_order() -> None:
    with pytest.raises(UsageError, match="is not in order"):
        guess("?", answer=5, low=6, high=7)
    piece = guess("Seconds?", answer=1234.5, low=1200, high=1300, span=(0, 2000), unit=" s")
    assert "Measured: 1,234 s" in words(piece.children[2])


# The house.


def test_only_the_widgets_need_ipywidgets() -> None:
    """Nothing else imports it, and the package, its figures and its pieces of HTML load without it."""
    users = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            users |= {file.name for module in modules if module.split(".")[0] == "ipywidgets"}
    assert users == {"widgets.py"}
    code = "import sys, onechange.show.panels, onechange.cli.main; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_colours_are_the_books(runs: list[Result], lora: LoRAByHand) -> None:
    bench_table = panels.comparison(runs, runs[0].experiment)
    for html in (ReadMessage(runs[0]).view.value, lora.view.value, panels.measured(5, 4, 6, (0, 10), ""), bench_table):
        bare = re.sub(r"var\(--oc-[\w-]+, (#\w+)\)", "", html)
        assert re.findall(r"#[0-9a-f]{6}\b", bare) == []


# The playground, in a kernel and in JupyterLab.

PRESS = """
import time
bench.fields.controls["num_epochs"].value = 1
bench.go.click()
bench.thread.join()
print(len(bench.runs), bench.runs[0].final["test"] > 0.5)
bench.fields.controls["num_epochs"].value = 500
bench.go.click()
while "Step" not in bench.status.value:
    time.sleep(0.05)
bench.halt.click()
bench.thread.join()
print("stopped after step" in bench.status.value, len(bench.runs))
"""


@pytest.mark.slow
def test_the_playground_runs_and_its_buttons_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TQDM_DISABLE", "1")
    notebook = nbformat.read(PLAYGROUND, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PRESS))
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert said.split() == ["1", "True", "True", "1"]
    views = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(views) == 4


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """JupyterLab with the playground up to its first piece; its address there."""
    need(importlib.util.find_spec("jupyterlab"), "JupyterLab is not installed")
    notebook = json.loads(PLAYGROUND.read_text(encoding="utf-8"))
    end = next(i for i, cell in enumerate(notebook["cells"]) if "MakeAblation" in "".join(cell["source"]))
    (tmp_path / PLAYGROUND.name).write_text(json.dumps(notebook | {"cells": notebook["cells"][: end + 1]}))
    options = "--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port=0 --IdentityProvider.token=book \
--LabApp.expose_app_in_browser=True --LabApp.extension_manager=readonly --LabApp.collaborative=False"
    runtime = {
        name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")
    }
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options.split(), f"--ServerApp.root_dir={tmp_path}"],
        env=os.environ | runtime | {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (found := list((tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))):
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "lab.log").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"] + "lab/tree/playground.ipynb?token=book"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Any]:
    need(importlib.util.find_spec("playwright"), "playwright is not installed")
    from playwright.sync_api import Error, sync_playwright

    try:  # a process has one Playwright: where other tests have opened the book, theirs
        asyncio.get_running_loop()
        yield request.getfixturevalue("browser").new_page(viewport=SCREEN)
        return
    except RuntimeError:
        pass
    found = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            need(False, f"there is no Chromium to open JupyterLab with: {str(error).splitlines()[0]}")
        yield browser.new_page(viewport=SCREEN)
        browser.close()


@pytest.mark.slow
def test_in_jupyterlab_run_moves_the_curve_and_stop_ends_it(lab: str, page: Any) -> None:
    page.set_default_timeout(240_000)
    page.goto(lab)
    page.wait_for_function(
        "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    )
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    go = page.get_by_role("button", name="Run", exact=True)
    halt = page.get_by_role("button", name="Stop", exact=True)
    go.wait_for()
    lines = "[...document.querySelectorAll('.oc-wide path')].map(path => path.getAttribute('d')).join()"
    assert page.evaluate(lines) == ""
    assert halt.is_disabled()
    page.get_by_text("What the table held fixed").click()
    page.get_by_label("num_epochs").fill("500")
    page.get_by_label("num_epochs").press("Enter")
    go.click()
    for _ in range(3):  # a first curve, and twice another
        page.wait_for_function(f"before => {lines} !== before", arg=page.evaluate(lines))
    halt.click()
    page.get_by_text(re.compile(r"left out of the comparison: stopped after step \d+")).wait_for()
    assert go.is_enabled()
    assert halt.is_disabled()
