"""The published commands, an experiment and its command, and what is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from command_lines import PUBLISHED, PUBLISHED_DEFAULTS, RESULT, SMALL, experiment_of, refuse_constant, snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onechange
from onechange import BASELINE, ROWS, Experiment
from onechange.cli.main import COMMANDS, main
from onechange.experiment.experiment import choices_of, names
from onechange.gpt.weights import MODELS

# -- the published commands -----------------------------------------------------------------------


@pytest.mark.parametrize("number", PUBLISHED)
@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
def test_a_published_command_is_its_row(number: int, dashes: bool) -> None:
    """The publisher's flags verbatim, and with dashes for underscores, make the row's experiment."""
    words = shlex.split(PUBLISHED[number])
    if dashes:
        words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    assert experiment_of(words) == ROWS[number]


@pytest.mark.parametrize("flag", PUBLISHED_DEFAULTS)
def test_a_published_flag_at_its_default(flag: str) -> None:
    """Alone it changes nothing."""
    assert experiment_of(shlex.split(flag)) == BASELINE


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_flags_at_their_defaults_beside_a_row(number: int) -> None:
    """All those that the row does not set are accepted together and leave it as it is."""
    words = shlex.split(PUBLISHED[number])
    defaults = [shlex.split(flag) for flag in PUBLISHED_DEFAULTS]
    more = [word for name, value in defaults if name not in words for word in (name, value)]
    assert experiment_of([*words, *more]) == ROWS[number]


def test_further_published_flags() -> None:
    """Two that no row uses."""
    assert experiment_of(["--trainable_layers", "lora_alternative"]).trainable_layers == "lora_alternative"
    assert experiment_of(["--context_length", "64"]).context_length == 64


@pytest.mark.parametrize("number", PUBLISHED)
def test_a_published_command_runs(number: int, toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All nineteen train and print their accuracies, with a small folder where a size stood."""
    words = shlex.split(PUBLISHED[number])
    if "--model_size" in words:
        at = words.index("--model_size")
        del words[at : at + 2]
    words += ["--model_size", str(toy), *SMALL]
    assert main(["run", *words]) == 0
    out, _ = capsys.readouterr()
    command, accuracies, ham, spam = out.splitlines()
    assert (ham.split(":")[0], spam.split(":")[0]) == ("ham", "* spam")
    assert experiment_of(shlex.split(command)[2:]).resolved() == experiment_of(words).resolved()
    assert accuracies.startswith("train ")
    assert "test " in accuracies
    assert snapshot(here) == {}


# -- an experiment and its command ------------------------------------------------------------------


POSITIVE = st.floats(min_value=1e-30, max_value=1e30)
COUNTS = st.integers(min_value=1, max_value=10_000)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.sampled_from(choices_of(name)) for name in names() if choices_of(name)},
    **{name: st.booleans() for name in ("average_embeddings", "no_padding", "disable_causal_mask")},
    **{name: st.booleans() for name in ("mask_padding", "resplit")},
    "trainable_blocks": st.integers(1, 4),
    "label_noise": st.floats(0, 0.99),
    **dict.fromkeys(("num_epochs", "batch_size", "accumulation_steps"), COUNTS),
    **dict.fromkeys(("lora_alpha", "weight_decay"), POSITIVE),
    "model_size": st.sampled_from(list(MODELS)),
    "context_length": st.one_of(
        st.integers(1, 512), st.sampled_from(["longest_training_example", "model_context_length"])
    ),
    "lora_rank": st.integers(1, 128),
    "ignore_index": st.one_of(st.integers(-(2**31), -1), st.integers(2, 2**31 - 1)),
    "learning_rate": st.one_of(st.none(), POSITIVE),
    "dataset": st.sampled_from([None, "uci", "pocket"]),
    "train_size": st.one_of(st.none(), COUNTS),
    "seed": st.integers(0, 2**32 - 1),
}


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Valid experiments: any values, less the options that would have no effect beside them."""
    values = draw(st.fixed_dictionaries({}, optional=FIELDS))
    if "lora" not in values.get("trainable_layers", ""):
        values = {name: value for name, value in values.items() if not name.startswith("lora")}
    if values.get("trainable_layers", "last_block") != "last_block":
        values.pop("trainable_blocks", None)
    if values.get("no_padding"):
        for name in ("context_length", "padding_side", "mask_padding"):
            values.pop(name, None)
    if not (values.get("disable_causal_mask") or values.get("padding_side") == "left"):
        values.pop("mask_padding", None)
    if values.get("average_embeddings") and values.get("trainable_token_pos") == "first":
        values.pop("trainable_token_pos")
    return Experiment(**values)


@settings(max_examples=60)
@given(experiments())
def test_a_command_makes_its_experiment_again(e: Experiment) -> None:
    """What an experiment prints as its command is read as that experiment, its learning rate filled in."""
    words = shlex.split(e.command)
    assert words[:2] == ["onechange", "run"]
    assert experiment_of(words[2:]) == e.but(learning_rate=e.resolved().learning_rate)


@settings(max_examples=20)
@given(experiments())
def test_flags_make_their_experiment_again(e: Experiment) -> None:
    """The flags alone, an open learning rate left open."""
    assert experiment_of(e.flags) == e


FILE_NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(name=FILE_NAMES)
def test_any_name_of_a_file_survives(name: str, tmp_path: Path) -> None:
    """Spaces, quotes and other letters in a path come back from the printed command."""
    file = tmp_path / f"x{name}"
    file.write_text("")
    e = BASELINE.but(dataset=str(file))
    assert experiment_of(shlex.split(e.command)[2:]).dataset == str(file)


# -- what is printed --------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys that scripts may count on, as plain JSON."""
    assert main(["run", "--json", "--model_size", str(toy), *SMALL]) == 0
    out, _ = capsys.readouterr()
    result = json.loads(out, parse_constant=refuse_constant)
    assert out.count("\n") == 1
    assert set(result) >= RESULT
    assert set(result["final"]) == {"train", "val", "test"}
    assert all(0 <= share <= 1 for share in result["final"].values())
    assert (len(result["train_losses"]), len(result["val_losses"])) == (1, 1)
    assert (len(result["train_accs"]), len(result["val_accs"])) == (1, 1)
    assert Experiment(**result["experiment"]) == experiment_of(shlex.split(result["command"])[2:]).resolved()
    assert {"python", "torch", "device", "weights_sha256", "messages_sha256"} <= set(result["environment"])
    assert result["n_trainable"] > 0
    assert result["max_length"] > 0
    assert result["seconds"] > 0
    assert snapshot(here) == {}


def test_a_loss_that_is_not_a_number(toy: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends, says so, has status 1, and its JSON is still JSON."""
    status = main(["run", "--json", "--model_size", str(toy), "--learning_rate", "1e38", *SMALL])
    result = json.loads(capsys.readouterr().out, parse_constant=refuse_constant)
    assert status == 1
    assert set(result) >= RESULT
    assert "not a number" in result["error"]
    assert result["train_losses"][-1] is None or result["val_losses"][-1] is None
    assert main(["run", "--model_size", str(toy), "--learning_rate", "1e38", *SMALL, "--save", "model"]) == 1
    assert "not a number" in capsys.readouterr().out
    assert snapshot(here) == {}


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to standard output, names every flag, and shows no markup of the source."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    out, err = capsys.readouterr()
    assert caught.value.code in (0, None)
    assert err == ""
    for markup in (":meth:", ":class:", "``", "Args:", "Raises:"):
        assert markup not in out
    if command in (["run"], ["table"]):
        assert all(f"--{name}" in out for name in names())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"onechange {onechange.__version__}\n"


def test_the_cache_is_shown_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is, what it holds, and how much went."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ONECHANGE_CACHE", str(folder))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    weights = folder / "hub" / "models--openai-community--gpt2" / "weights"  # as the Hub's client names its folders
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(2_500_000))
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert "2.5 MB" in out
    assert str(weights.relative_to(folder)) in out
    assert main(["cache", "--clear"]) == 0
    assert "2.5 MB" in capsys.readouterr().out
    assert list(folder.iterdir()) == []
