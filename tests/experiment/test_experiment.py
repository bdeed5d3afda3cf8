"""An experiment: the published table's options, what is allowed, and what is said about what is not."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onechange import BASELINE, ROWS, Experiment, UsageError, published
from onechange.experiment.experiment import choices_of, names
from onechange.experiment.rows import NAMED, TABLE, parse_rows, row_of
from onechange.gpt.weights import MODELS

# Defaults as the publisher's program has them, word for word.
PUBLISHED_DEFAULTS = {
    "model_size": "gpt2-small (124M)", "weights": "pretrained", "trainable_layers": "last_block",
    "trainable_token_pos": "last", "average_embeddings": False, "context_length": "longest_training_example",
    "lora_rank": 8, "lora_alpha": 8, "no_padding": False, "num_epochs": 5, "batch_size": 8, "accumulation_steps": 1,
    "disable_causal_mask": False, "ignore_index": -100,
}  # fmt: skip

# What the publisher's commands change, word for word.
PUBLISHED_CHANGES: dict[int, dict[str, Any]] = {
    1: {},
    2: {"trainable_token_pos": "first"},
    3: {"trainable_layers": "last_layer"},
    4: {"trainable_layers": "last_two_blocks"},
    5: {"trainable_layers": "all"},
    6: {"model_size": "gpt2-medium (355M)"},
    7: {"model_size": "gpt2-large (774M)"},
    8: {"model_size": "gpt2-xl (1558M)"},
    9: {"model_size": "gpt2-xl (1558M)", "trainable_layers": "all"},
    10: {"weights": "random", "trainable_layers": "all"},
    11: {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 16},
    12: {"trainable_layers": "lora", "lora_rank": 16, "lora_alpha": 8, "model_size": "gpt2-xl (1558M)"},
    13: {"context_length": "model_context_length"},
    14: {"no_padding": True, "batch_size": 1},
    15: {"no_padding": True, "batch_size": 1, "accumulation_steps": 8},
    16: {"trainable_token_pos": "flexible"},
    17: {"disable_causal_mask": True},
    18: {"ignore_index": 50256},
    19: {"average_embeddings": True},
}


def refused(**changes: Any) -> str:
    """The line that refuses an experiment; it is one line."""
    with pytest.raises(UsageError) as caught:
        Experiment(**changes)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


# -- what it is -----------------------------------------------------------------------------------


def test_the_baseline_is_row_1() -> None:
    """Defaults are the published ones, and they are the baseline."""
    assert BASELINE == Experiment() == ROWS[1]
    assert {name: getattr(BASELINE, name) for name in PUBLISHED_DEFAULTS} == PUBLISHED_DEFAULTS
    assert (BASELINE.resolved().learning_rate, BASELINE.weight_decay, BASELINE.seed) == (5e-5, 0.1, 123)


@pytest.mark.parametrize("number", PUBLISHED_CHANGES)
def test_a_row_is_the_baseline_with_its_change(number: int) -> None:
    """Each row differs from row 1 in what the published command says, and in nothing else."""
    assert BASELINE.but(**PUBLISHED_CHANGES[number]) == ROWS[number]
    changed = {name: new for name, (_, new) in ROWS[number].diff(BASELINE).items()}
    assert changed == {n: v for n, v in PUBLISHED_CHANGES[number].items() if v != PUBLISHED_DEFAULTS[n]}


def test_the_published_table() -> None:
    """Nineteen rows in order, each with a command that names its change."""
    table = published()
    assert list(table.row) == list(ROWS) == list(TABLE) == list(range(1, 20))
    for number, command in zip(table.row, table.command, strict=True):
        words = shlex.split(command)
        assert words[:2] == ["onechange", "run"]
        assert words[2:] == ROWS[number].flags


def test_an_experiment_is_frozen_and_equal_by_value() -> None:
    """It can be a key; changing it in place is not possible."""
    assert {BASELINE: 1}[Experiment()] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASELINE.seed = 1


def test_every_field_is_explained() -> None:
    """A flag's help is the text below its field: each field has one."""
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(Experiment))).body[0]
    assert isinstance(body, ast.ClassDef)
    explained = {
        line.target.id
        for line, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }  # fmt: skip
    assert explained == set(names())


@pytest.mark.parametrize("short", [name.split(" ")[0] for name in MODELS])
def test_short_names_of_models(short: str) -> None:
    """``gpt2-xl`` is ``gpt2-xl (1558M)``; both make the same experiment."""
    (full,) = [name for name in MODELS if name.split(" ")[0] == short]
    assert Experiment(model_size=short) == Experiment(model_size=full)


def test_a_learning_rate_and_messages_of_the_models_own() -> None:
    """They follow the model unless they were given."""
    assert BASELINE.at("pocket").resolved().learning_rate == MODELS["pocket-small"].learning_rate
    assert BASELINE.at("pocket").resolved().dataset == "pocket"
    assert BASELINE.resolved().dataset == "uci"
    given_both = BASELINE.but(learning_rate=1e-4, dataset="uci").at("pocket").resolved()
    assert (given_both.learning_rate, given_both.dataset) == (1e-4, "uci")


def test_a_folder_has_the_published_learning_rate(toy: Path) -> None:
    """5e-5 and the UCI messages, as for GPT-2."""
    e = Experiment(model_size=str(toy)).resolved()
    assert (e.learning_rate, e.dataset, e.scale) == (5e-5, "uci", "folder")
    assert e.at("pocket") == e


@pytest.mark.parametrize("number", ROWS)
def test_every_row_on_the_pocket_ladder_and_back(number: int) -> None:
    """small for small, XL for XL; there and back is the same row."""
    pocket = ROWS[number].at("pocket")
    assert pocket.scale == "pocket"
    assert pocket.at("gpt2") == ROWS[number]
    changed = set(pocket.diff(ROWS[number]))
    assert changed == {"model_size"}


def test_a_dictionary_for_json() -> None:
    """Resolved, plain, and enough to make the experiment again."""
    values = ROWS[12].to_dict()
    assert Experiment(**json.loads(json.dumps(values))) == ROWS[12].resolved()


def test_paths_may_be_path_objects(toy: Path, tmp_path: Path) -> None:
    """From Python a folder and a file are often ``Path`` objects; the experiment keeps their text."""
    file = tmp_path / "messages.tsv"
    file.write_text("label\ttext\n")
    e = Experiment(model_size=toy, dataset=file)
    assert (e.model_size, e.dataset) == (str(toy), str(file))


# -- its command ------------------------------------------------------------------------------------


def test_a_command_spells_out_the_learning_rate() -> None:
    """The printed command repeats the run even if a default should change."""
    assert ROWS[2].command == "onechange run --trainable_token_pos first --learning_rate 5e-05"
    assert "'gpt2-medium (355M)'" in ROWS[6].command


@given(st.floats(min_value=1e-300, max_value=1e300), st.floats(min_value=1e-300, max_value=1e300))
def test_numbers_survive_the_command(alpha: float, rate: float) -> None:
    """No digit of a number is lost on the way into a command."""
    e = BASELINE.but(trainable_layers="lora", lora_alpha=alpha, learning_rate=rate)
    words = shlex.split(e.command)
    assert float(words[words.index("--learning_rate") + 1]) == rate
    if alpha != BASELINE.lora_alpha:
        assert float(words[words.index("--lora_alpha") + 1]) == alpha


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, 2**40, True, 1.5, "3", None])
@pytest.mark.parametrize("name", ["lora_rank", "num_epochs", "batch_size", "accumulation_steps", "train_size"])
def test_counts_outside_their_meaning(name: str, value: Any) -> None:
    """Counts are whole numbers from 1; only the number of training messages may be left open."""
    if name == "train_size" and value is None:
        assert Experiment().train_size is None
        return
    more = {"trainable_layers": "lora"} if name == "lora_rank" else {}
    assert name in refused(**{name: value}, **more)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, "1", True])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "lora_alpha"])
def test_rates_outside_their_meaning(name: str, value: Any) -> None:
    """Rates are finite and positive."""
    assert name in refused(**{name: value}, trainable_layers="lora")


def test_zero_rates() -> None:
    """No weight decay is a choice; no learning rate and no change are not."""
    assert Experiment(weight_decay=0).weight_decay == 0
    assert "positive" in refused(learning_rate=0)
    assert "positive" in refused(trainable_layers="lora", lora_alpha=0)


@pytest.mark.parametrize("value", [0, -5, "0", "-5", 1025, "1025", "1.5", "longest", "", "²", "١x", True, None])
def test_lengths_outside_their_meaning(value: Any) -> None:
    """A length is a positive number of tokens within the model's context, or one of two words."""
    assert "context_length" in refused(context_length=value)


def test_a_length_as_text() -> None:
    """The command line has only text: 64 and "64" are one length."""
    assert Experiment(context_length="64") == Experiment(context_length=64)


def test_the_nearest_length() -> None:
    """A word that is nearly right is put right."""
    assert "'longest_training_example'" in refused(context_length="longest_training_exmple")


def test_no_length_beyond_the_folders_context(toy: Path) -> None:
    """The limit is that of the model in question."""
    limit = json.loads((toy / "config.json").read_text())["n_positions"]
    assert Experiment(model_size=str(toy), context_length=limit).context_length == limit
    assert str(limit) in refused(model_size=str(toy), context_length=limit + 1)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, None])
def test_seeds_outside_their_meaning(seed: Any) -> None:
    """A seed is a 32-bit number."""
    assert "seed" in refused(seed=seed)


@pytest.mark.parametrize("label", [0, 1])
def test_an_ignored_label_that_is_one(label: int) -> None:
    """Ignoring a class that is there would train on the other alone."""
    assert "label" in refused(ignore_index=label)


@pytest.mark.parametrize("name", [name for name in names() if choices_of(name)])
def test_choices(name: str) -> None:
    """A wrong word is answered with all right ones and the nearest of them."""
    right = choices_of(name)[-1]
    text = refused(**{name: right[:-1] + "_"})
    assert all(choice in text for choice in choices_of(name))
    assert "did you mean" in text
    assert name in refused(**{name: None})


def test_an_unknown_field() -> None:
    """``but`` knows its fields and names the nearest."""
    with pytest.raises(UsageError, match="'lora_rank'"):
        BASELINE.but(lora_rnk=4)


def test_an_unknown_model() -> None:
    """The nearest name, and what else would do."""
    text = refused(model_size="gpt2-lage")
    assert "'gpt2-large'" in text
    assert "folder" in text


def test_an_unknown_data_set(tmp_path: Path) -> None:
    """A name that is nearly right, a file that is not there, and a folder."""
    assert "'pocket'" in refused(dataset="poket")
    assert "nowhere.tsv" in refused(dataset=str(tmp_path / "nowhere.tsv"))
    assert str(tmp_path) in refused(dataset=str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_rank": 4},
        {"lora_alpha": 4},
        {"lora_scaling": "paper"},
        {"no_padding": True, "context_length": 64},
        {"no_padding": True, "context_length": "model_context_length"},
        {"average_embeddings": True, "trainable_token_pos": "first"},
        {"balance": True},
        {"trainable_layers": "lora", "lora_rank": 769},
    ],
)
def test_options_without_effect_are_refused(changes: dict[str, Any]) -> None:
    """Nothing that was asked for is silently left out."""
    assert any(name in refused(**changes) for name in changes)


@pytest.mark.parametrize("name", names())
def test_a_default_is_always_accepted(name: str) -> None:
    """A field given at its default changes no row, whatever else the row says."""
    for e in ROWS.values():
        if name not in e.diff(BASELINE):
            assert e.but(**{name: getattr(BASELINE, name)}) == e


def test_a_narrow_model_without_lora(toy_of: Any) -> None:
    """The default rank is no matter where there is no LoRA, even in a model of four channels."""
    narrow = str(toy_of((4, 2, 1)))
    assert Experiment(model_size=narrow).lora_rank == 8
    assert "lora_rank 8" in refused(model_size=narrow, trainable_layers="lora")


# -- rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1", "1"), ("1-3", "1 2 3"), ("16,1-2", "16 1 2"), ("1,1-2, 2", "1 2"), ("pad-mask,1", "pad-mask 1"),
        ("0", "0a 0b 0c"), ("0b", "0b"), ("blocks", "blocks-2 blocks-3 blocks-4"), ("rank-4", "rank-4"),
        ("1-19", " ".join(map(str, range(1, 20)))),
    ],
)  # fmt: skip
def test_lists_of_rows(text: str, rows: str) -> None:
    """Numbers, ranges, names and families of names, each row once, in the order they were asked for."""
    assert parse_rows(text) == rows.split()


@pytest.mark.parametrize("name", NAMED)
def test_named_rows_are_experiments(name: str) -> None:
    """Each is possible on both ladders, says what it teaches, and is no other row under a second name."""
    row = row_of(name)
    assert row.why
    e = BASELINE.but(**row.change)
    assert e.at("pocket").scale == "pocket"
    if not name.startswith("0") and name != "rank-16":  # row 11, in its place among the ranks
        assert e not in [*ROWS.values(), *(BASELINE.but(**row_of(n).change) for n in NAMED if n != name)]


@pytest.mark.parametrize("text", ["", "00", "20", "1-20", "5-1", "a", "1,,2", "1-", "-1", "1.5", "²", "1-99999999999"])
def test_what_is_no_list_of_rows(text: str) -> None:
    """Refused at once, in one line."""
    with pytest.raises(UsageError, match="row"):
        parse_rows(text)
