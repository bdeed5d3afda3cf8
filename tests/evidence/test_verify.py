"""Stored runs made again: what agrees, and to which digit; single answers in a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from onechange import UsageError
from onechange.cli.main import main
from onechange.evidence import answers as single
from onechange.evidence.runs import Runs, runs_of, write
from onechange.evidence.study import Store, jobs_of, run_study, table_rows
from onechange.evidence.verify import digits
from onechange.experiment.experiment import BASELINE
from onechange.support.cache import sha256
from onechange.training.device import processor


@pytest.fixture(scope="module")
def study(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a tiny stored study, ``tiny``, and beside it the records that it was made from."""
    folder = tmp_path_factory.mktemp("study")
    base = BASELINE.but(model_size=str(toy), dataset="pocket", train_size=16, num_epochs=1, learning_rate=1e-3)
    records = run_study(jobs_of(table_rows(base, ["0a", "3"]), [123, 124]), Store(folder / "runs"), progress=False)
    write(folder / "results" / "tiny.json", runs_of(records))
    patch = pytest.MonkeyPatch()
    patch.setattr("onechange.evidence.runs.RESULTS", (folder / "results",))
    yield folder
    patch.undo()


def spoil(study: Path, **changes: object) -> None:
    """Write the study as another, ``spoilt``, of whose row 3 something is changed."""
    rows = single.stored("tiny")
    write(study / "results" / "spoilt.json", rows | {"3": replace(rows["3"], **changes)})


def test_runs_made_again_agree(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the same machine every answer, and every digit that is kept; runs made here are not made twice."""
    words = ["verify", "tiny", "--rows", "0a,3", "--seeds", "2", "--out", str(tmp_path), "--device", "cpu"]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 + 3 + 1
    assert processor(torch.device("cpu")) in out[0]
    assert processor(torch.device("cpu")) in out[1]
    assert out[2].startswith("row 0a, seed 123: 400 of 400 answers are the stored ones; accuracies of")
    assert out[4] == (
        "row 3, seed 124: 400 of 400 answers are the stored ones; losses agree to 4 digits, "
        "accuracies of training and validation to 6 behind the point"
    )
    assert out[5] == "all 1,200 answers of 3 runs are the stored ones"
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.json")}
    assert len(kept) == 3
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.json")} == kept


def test_what_differs_is_said(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers by their number, losses and accuracies by the digit to which they agree; and the status is 1."""
    runs = single.stored("tiny")["3"]
    right = runs.right.copy()
    right[1, :7] ^= True
    spoil(study, right=right, losses=runs.losses + 0.003, val=runs.val + 2e-5)
    assert main(["verify", "spoilt", "--rows", "3", "--seeds", "2", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert "400 of 400 answers are the stored ones; losses agree to 2 digits, " in out[2]
    assert out[2].endswith("accuracies of training and validation to 4 behind the point")
    assert "row 3, seed 124: 393 of 400 answers" in out[3]
    assert out[4] == "1 of 2 runs differ from the stored ones, in 7 of 800 answers"


@pytest.mark.parametrize(("gap", "found"), [(0, 4), (4.9e-5, 4), (6e-5, 3), (0.04, 1), (0.06, 0), (np.inf, 0)])
def test_digits(gap: float, found: int) -> None:
    """Numbers agree to k digits where they are no more than half of the k-th apart."""
    assert digits(gap, 4) == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tyni"], "no results are stored as 'tyni'"),
        (["tiny", "--rows", "5"], "tiny has no row 5: it has 0a, 3"),
        (["tiny", "--rows", "nothing"], "there is no row"),
        (["tiny", "--rows", "3", "--seeds", "3"], "seeds must be between 1 and 2, which tiny has of row 3"),
        (["tiny", "--rows", "3", "--seeds", "0"], "seeds must be between 1 and 2"),
        (["tiny", "--rows", "3", "--device", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """On standard error, with status 2, and nothing is run."""
    assert main(["verify", *words, "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def test_other_messages_or_weights_are_no_repetition(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = single.stored("tiny")["3"].made
    for key, says in (("messages_sha256", "other messages"), ("weights_sha256", "other weights")):
        spoil(study, made=made | {key: "0" * 64})
        assert main(["verify", "spoilt", "--rows", "3", "--out", str(tmp_path)]) == 2
        assert says in capsys.readouterr().err


# -- single answers ---------------------------------------------------------------------------------


def test_single_answers_are_the_studys(study: Path, tmp_path: Path) -> None:
    """A line for each row, seed and message; probabilities from the records, empty without them."""
    single.main(("tiny",), target=tmp_path, out=study / "runs")
    frame = pd.read_parquet(tmp_path / "tiny.parquet")
    assert list(frame.columns) == list(single.COLUMNS)
    for name, runs in single.stored("tiny").items():
        mine = frame[frame.row == name]
        S, N = runs.right.shape
        assert (mine.right.to_numpy().reshape(S, N) == runs.right).all()
        assert (mine.seen.to_numpy().reshape(S, N) == runs.seen).all()
        assert mine.seed.unique().tolist() == runs.seeds
        assert ((mine.probability > 0.5) == mine.right).all(), "of two classes the right one has more than half"
    single.main(("tiny",), target=tmp_path)
    assert pd.read_parquet(tmp_path / "tiny.parquet").probability.isna().all()


def test_a_record_of_other_answers_gives_no_probability(study: Path) -> None:
    """It is another run, whatever its row and seed."""
    rows: dict[str, Runs] = single.stored("tiny")
    records = Store(study / "runs").records()
    assert set(single.known_of(rows, records)) == {("0a", 123), ("3", 123), ("3", 124)}
    other = {name: replace(runs, right=~runs.right) for name, runs in rows.items()}
    assert single.known_of(other, records) == {}


def test_the_card_says_what_is_in_the_file(study: Path, tmp_path: Path) -> None:
    single.main((), target=tmp_path, out=study / "runs")
    text = (tmp_path / "tiny.md").read_text()
    assert sha256(tmp_path / "tiny.parquet") in text
    assert "1,200 answers of 2 rows" in text
    assert "Probabilities: 100 %" in text
    assert all(f"- `{column}`: " in text for column in single.COLUMNS)
    assert "| 3 | last layer | 2 | 400 |" in text


def test_no_study_of_that_name(study: Path, tmp_path: Path) -> None:
    """Said before anything is written; a file in the folder's place too."""
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        single.main(("tinny",), target=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        single.main(("tiny",), target=tmp_path / "file")
