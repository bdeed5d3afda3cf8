"""What a plan says against what a run does; and running out of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toys import few_messages

from onechange.cli.main import main
from onechange.cost import plan
from onechange.cost.plan import lengths_of, make_plan
from onechange.data.messages import Source, load_messages
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import ROWS, TABLE
from onechange.gpt.tokenizer import tokenizer_for
from onechange.training import memory, train
from onechange.training.build import build
from onechange.training.memory import Memory, memory_of, nearest_that_fits
from onechange.training.train import run

CPU = torch.device("cpu")
UCI = (1494, 120)  # messages, and tokens of the longest, in the published split

Make = Callable[..., Experiment]


@pytest.fixture
def make(toy: Path) -> Make:
    """A row on a toy model with 48 pocket messages to train on."""

    def experiment(row: int = 1, **changes: Any) -> Experiment:
        fixed = {"dataset": "pocket", "learning_rate": 1e-3, "train_size": 48, "num_epochs": 2}
        return Experiment(**(TABLE[row].change | fixed | {"model_size": str(toy)} | changes))

    return experiment


@pytest.mark.parametrize("row", [1, 3, 4, 5, 11])
def test_parameters_are_those_of_the_model(row: int, make: Make) -> None:
    """Exactly, all and trained, without its weights."""
    model, said = build(make(row), 2), make_plan(make(row), timed=False)
    assert said.parameters == sum(p.numel() for p in model.parameters())
    assert said.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_the_published_sizes_are_known_without_a_download() -> None:
    """GPT-2 small as the table had it: 124 million parameters and the two outputs."""
    said = make_plan(ROWS[5], timed=False)
    assert said.parameters == said.trainable == 124_439_808 + 768 * 2 + 2


@pytest.mark.parametrize("prefix_cache", ["on", "off"])
@pytest.mark.parametrize("row", [1, 3, 4, 5, 11, 14, 16, 19])
def test_operations_are_those_of_a_run(
    row: int, prefix_cache: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as PyTorch counts while the run runs, with the prefix computed once and with the plain loop."""
    monkeypatch.setattr(Source, "messages", few_messages)
    e = make(row, prefix_cache=prefix_cache)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(e, progress=False)
    said = make_plan(e, timed=False)
    assert sum(said.operations.values()) == pytest.approx(counter.get_total_flops(), rel=0.005)
    if prefix_cache == "off":
        assert said.operations == said.plain_operations


def test_time_is_given_for_every_part(make: Make) -> None:
    """And a frozen prefix has its share."""
    assert set(make_plan(make()).seconds) == {"prefix", "training", "evaluation"}
    said = make_plan(make(5))
    assert set(said.seconds) == {"training", "evaluation"}
    assert min(said.seconds.values()) > 0


PEAK = """
import re, sys, torch, onechange as oc
from pathlib import Path
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
changes = dict(train_size=16, num_epochs=1)
oc.run(oc.ROWS[2].at("pocket").but(**changes), progress=False)
before = peak()
oc.run(oc.ROWS[int(sys.argv[1])].at("pocket").but(batch_size=int(sys.argv[2]), **changes), progress=False)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")
@pytest.mark.parametrize(("row", "batch"), [(5, 16), (13, 8)])
def test_memory_is_what_a_run_takes(row: int, batch: int) -> None:
    """Within a factor of two of what a process grows by at its peak."""
    e = ROWS[row].at("pocket").but(train_size=16, num_epochs=1, batch_size=batch)
    grown = float(subprocess.check_output([sys.executable, "-c", PEAK, str(row), str(batch)]))
    said = make_plan(e, timed=False).memory
    assert grown / 2 < said.total - said.program < 2 * grown


def test_what_fits_the_usual_gpus() -> None:
    """GPT-2 XL with LoRA in 16 GB, all of it in 40 GB, and not the other way round."""
    lora, everything = (memory_of(ROWS[row], UCI, CPU).total for row in (12, 9))
    assert lora < 16e9 < everything < 40e9


def test_checkpointing_keeps_less() -> None:
    """Where activations are most of it, a third or less of them is left."""
    kept, again = (memory_of(ROWS[12], UCI, CPU, checkpointing).backward for checkpointing in (False, True))
    assert again < kept / 3


def test_checkpointing_changes_no_number(make: Make) -> None:
    """The same losses, probabilities and accuracies, for what is trained through many blocks."""
    for row in (1, 5, 11):
        one, other = run(make(row), progress=False), run(make(row), progress=False, checkpointing=True)
        assert one.train_losses == other.train_losses
        assert one.test_probabilities == other.test_probabilities


def test_the_change_that_fits_is_the_smallest() -> None:
    """What changes no number comes first, then smaller batches, LoRA, fewer layers, smaller models."""

    def needs(**sizes: float) -> Callable[[Experiment, bool], float]:
        def need(e: Experiment, checkpointing: bool) -> float:
            kind = e.model_size if e.model_size != "gpt2-xl (1558M)" else e.trainable_layers
            return (
                sizes.get(kind.split(" ")[0].replace("-", "_"), 99.0)
                / (2 if checkpointing else 1)
                / (2 if e.batch_size == 1 else 1)
            )

        return need

    e = ROWS[9]
    assert nearest_that_fits(needs(all=10), e, 5, "cpu") == "--checkpointing on"
    assert nearest_that_fits(needs(all=10), e, 4, "cpu") == "--batch_size 1 --accumulation_steps 8 --checkpointing on"
    assert nearest_that_fits(needs(lora=4), e, 4, "cpu") == "--trainable_layers lora --lora_rank 16 --lora_alpha 16"
    assert nearest_that_fits(needs(gpt2_medium=4), e, 4, "cpu") == "--model_size 'gpt2-medium (355M)'"
    assert nearest_that_fits(needs(), e, 4, "cpu") == ""


def test_recorded_lengths_are_those_of_the_messages(reference: Path, uci_cache: Path) -> None:
    """The constant that stands in for the UCI messages is what they have, every twentieth of them."""
    tokenizer = tokenizer_for("gpt2", None, 50257)
    messages = load_messages("uci")
    lengths = np.array([len(tokenizer.encode(text)) for text in messages.train.text])
    found = np.quantile(lengths, np.linspace(0, 1, len(plan.UCI_LENGTHS))).astype(int)
    assert list(found) == plan.UCI_LENGTHS
    assert {name: len(getattr(messages, name)) for name in plan.UCI_SPLIT} == plan.UCI_SPLIT


def test_nothing_is_downloaded_and_what_is_assumed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With an empty cache GPT-2's rows are planned from what is recorded."""
    lengths, T, assumed = lengths_of(ROWS[1])
    assert ({name: len(n) for name, n in lengths.items()}, T) == ({"train": 1045, "val": 149, "test": 300}, 120)
    assert "recorded" in assumed
    assert lengths_of(ROWS[13])[1] == 1024
    assert lengths_of(ROWS[1].at("pocket"))[2] == ""


def test_the_command(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text for people, JSON for programs; what does not fit is said with what would."""
    words = ["--model_size", str(toy), "--dataset", "pocket", "--train_size", "16", "--num_epochs", "1"]
    assert main(["plan", *words]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("parameters", "operations", "memory", "time"))
    assert main(["plan", *words, "--trainable_layers", "all", "--memory", "0.41", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fits"] is False
    assert said["memory"]["total"] > 0.41e9
    assert main(["plan", *words, "--memory", "0"]) == 2
    assert "positive number of gigabytes" in capsys.readouterr().err


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["step", "evaluate"])
def test_running_out_of_memory_is_one_line_of_advice(
    error: Exception, where: str, toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, what was needed, and what to change; never a stack trace."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(train.Trainer, where, fail)
    monkeypatch.setattr(memory, "memory_of", lambda e, *_: Memory(8e9 / (1 + (e.batch_size == 1)), 0, 0, 0, 0, 0))
    monkeypatch.setattr(memory, "free_memory", lambda device: 5e9)
    words = ["run", "--model_size", str(toy), "--dataset", "pocket", "--train_size", "16", "--trainable_layers", "all"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("onechange")]
    assert out == ""
    assert "Traceback" not in err
    assert lines == [
        "onechange: out of memory: it needs about 8.0 GB, there are 5.0; "
        "with --batch_size 1 --accumulation_steps 8 it would fit"
    ]


def test_memory_that_runs_out_elsewhere_is_one_line_too(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the weights are read, say."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(train, "build_seeds", fail)
    assert main(["run", "--model_size", str(toy), "--dataset", "pocket"]) == 2
    assert "onechange plan" in capsys.readouterr().err


def test_other_errors_are_not_taken_for_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the code keeps its stack trace."""

    def fail(*_: object) -> None:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(train.Trainer, "step", fail)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        run(make(), progress=False)
