"""Reading a message, LoRA by hand, and the house that they stand in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pressed import ROOT, Parts, words

from onechange import Experiment, Result, UsageError, run
from onechange.classifier.reading import classifier, read
from onechange.gpt.lora import SCALINGS
from onechange.show import panels
from onechange.show.guesses import guess
from onechange.show.widgets import LoRAByHand, ReadMessage

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


# LoRA by hand.


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
    pieces = "onechange.show.panels, onechange.show.guesses"
    code = f"import sys, {pieces}, onechange.cli.main; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_colours_are_the_books(runs: list[Result], lora: LoRAByHand) -> None:
    bench_table = panels.comparison(runs, runs[0].experiment)
    asked = guess("How many?", answer=5, low=4, high=6, span=(0, 10), unit="").html
    for html in (ReadMessage(runs[0]).view.value, lora.view.value, asked, bench_table):
        bare = re.sub(r"var\(--oc-[\w-]+, (#\w+)\)", "", html)
        assert re.findall(r"#[0-9a-f]{6}\b", bare) == []
