"""The table of finished runs, in every format."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import COLUMNS, broken, made_up, table_words

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.evidence.study import Job, Store, run_study, table_rows
from onechange.evidence.summary import by_setting, summary
from onechange.gpt.checkpoint import find
from onechange.training.result import Result


def test_a_line_of_the_table_by_hand() -> None:
    """Means in percent, the interval of the test accuracy, seeds that failed apart."""
    records = [made_up(1, 123, 0.90), made_up(1, 124, 0.94), made_up(1, 125, 0.5, error="the loss", final={})]
    (line,) = summary(records).to_dict("records")
    assert list(line) == COLUMNS
    assert (line["row"], line["title"], line["model"]) == ("1", "the baseline", "pocket-small")
    assert line["train"] == pytest.approx(100)
    assert line["test"] == pytest.approx(92)
    assert line["sd"] == pytest.approx(2 * math.sqrt(2))
    assert 0 <= line["low"] < 90 < 94 < line["high"] <= 100
    assert (line["seeds"], line["failed"], line["trainable"], line["seconds"]) == (2, 1, 10, 2.0)


def test_a_row_that_failed_with_every_seed() -> None:
    """It keeps its line, without numbers."""
    (line,) = summary([made_up(1, seed, error="the loss", final={}) for seed in (1, 2)]).to_dict("records")
    assert (line["seeds"], line["failed"]) == (0, 2)
    assert math.isnan(line["test"])


def test_the_clean_messages_alone() -> None:
    """``clean`` leaves out the test messages that stand in the training set, in whatever form."""
    seen = [2] * 30 + [1] * 20 + [0] * 250
    (line,) = summary([made_up(1, test=0.9, test_seen=seen)], clean=True).to_dict("records")
    assert line["messages"] == 250
    assert line["test"] == pytest.approx(100 * 220 / 250)  # made_up is right on the first ones


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_number_of_seeds(seeds: int, base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--seeds N`` runs N seeds from ``--seed`` upwards, and says so."""
    words = table_words(base.but(seed=40), tmp_path, "--rows", "3", "--seeds", str(seeds), "--json")
    assert main(words) == 0
    out, _ = capsys.readouterr()
    (line,) = json.loads(out)
    assert line["seeds"] == seeds
    assert sorted(record["experiment"]["seed"] for record in Store(tmp_path).records()) == list(range(40, 40 + seeds))


def test_every_format_shows_the_same(base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` prints what ``table`` printed, as text, Markdown, CSV and JSON."""
    assert main(table_words(base, tmp_path, "--rows", "1,3", "--seeds", "2")) == 0
    text, _ = capsys.readouterr()

    def shown(*words: str) -> str:
        assert main(["show", "--out", str(tmp_path), *words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    assert shown().endswith(text)
    frame = pd.read_csv(io.StringIO(shown("--csv")))
    assert shown("--format", "csv") == shown("--csv")
    assert list(frame.columns)[: len(COLUMNS)] == COLUMNS
    assert frame.row.tolist() == [1, 3]
    lines = json.loads(shown("--json"), parse_constant=broken)
    assert shown("--format", "json") == shown("--json")
    assert [line["title"] for line in lines] == frame.title.tolist() == ["the baseline", "last layer"]
    assert np.allclose([line["test"] for line in lines], frame.test)
    markdown = [line for line in shown("--format", "markdown").splitlines() if line.startswith("|")]
    assert len(markdown) == 4
    assert set(markdown[1]) <= set("|-: ")
    for line, row in zip(markdown[2:], lines, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == row["title"]
        assert f"{row['test']:.2f}" in cells
        assert f"{row['trainable']:,}" in cells
        assert all(cell in text for cell in cells)


def test_settings_are_not_mixed() -> None:
    """Runs that differ in more than row and seed are never averaged."""
    records = [
        made_up(1),
        made_up(1, 124),
        made_up(1, experiment={"learning_rate": 1e-2}),
        made_up(1, experiment={"num_epochs": 1}),
        made_up(1, experiment={"dataset": "uci"}),
        made_up(1, experiment={"model_size": "pocket-medium"}),
        made_up(1, environment={"precision": "bf16"}),
        made_up(1, environment={"onechange": "0.0.1"}),
        *(made_up(1, experiment={"model_size": "a/folder"}, environment={"weights_sha256": sha}) for sha in "ab"),
        *(made_up(1, experiment={"dataset": "a/file.tsv"}, environment={"messages_sha256": sha}) for sha in "ab"),
    ]
    groups = by_setting(records)
    assert sorted(len(group) for _, group in groups) == [1] * 10 + [2]
    assert len({title for title, _ in groups}) == 11


def test_the_ladder_is_one_setting() -> None:
    """Rows 1 and 6 to 8 name four sizes and belong into one table."""
    sizes = {1: "pocket-small", 6: "pocket-medium", 7: "pocket-large", 8: "pocket-xl"}
    experiments = {row: {"model_size": size, "learning_rate": find(size).learning_rate} for row, size in sizes.items()}
    records = [made_up(row, experiment=changes) for row, changes in experiments.items()]
    records += [made_up(2, experiment={"trainable_token_pos": "first"})]
    ((title, group),) = by_setting(records)
    assert title.startswith("pocket, pocket messages")
    assert [record["row"] for record in group] == ["1", "2", "6", "7", "8"]


def test_several_settings_are_one_document(
    base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON and CSV stay readable whatever is in the folder, and say which line is which."""
    for rate in (1e-3, 1e-4):
        assert main(table_words(base.but(learning_rate=rate), tmp_path, "--rows", "3")) == 0
    capsys.readouterr()
    assert main(["show", "--out", str(tmp_path), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert len(lines) == len({json.dumps(line) for line in lines}) == 2
    assert main(["show", "--out", str(tmp_path), "--csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert frame.row.tolist() == [3, 3]
    assert main(["show", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("last layer") == 2


def test_show_needs_neither_model_nor_messages(
    base: Experiment, toy: Path, messages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records outlive what they were made from."""
    model, text = tmp_path / "model", tmp_path / "messages.tsv"
    shutil.copytree(toy, model)
    shutil.copyfile(messages, text)
    run_study([Job("1", base.but(model_size=str(model), dataset=str(text)))], Store(tmp_path / "store"), progress=False)
    shutil.rmtree(model)
    text.unlink()
    assert main(["show", "--out", str(tmp_path / "store")]) == 0
    assert "the baseline" in capsys.readouterr().out
    (record,) = Store(tmp_path / "store").records()
    result = Result.from_dict(record)
    assert 0 <= result.scores["accuracy"] <= 1


def test_rows_on_top_of_a_base(base: Experiment) -> None:
    """A base with a model of its own keeps it; its other flags reach every row; a row's change comes on top."""
    rows = table_rows(base.but(train_size=16), ["1", "8", "12", "14"])
    assert list(rows) == ["1", "8", "12", "14"]
    assert {e.model_size for e in rows.values()} == {base.model_size}
    assert {e.train_size for e in rows.values()} == {16}
    assert rows["12"].trainable_layers == "lora"
    assert rows["14"].no_padding
    assert table_rows(Experiment(), ["8"], "pocket")["8"].model_size == "pocket-xl"


def test_a_row_that_cannot_be(base: Experiment) -> None:
    """The line says which row a flag does not go with."""
    with pytest.raises(UsageError, match="row 14"):
        table_rows(base.but(context_length=32), ["1", "14"])
