"""The stored results: made of experiments that exist, with the weights that ship; and what chapters say of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from onechange.data.messages import Source, load_messages
from onechange.data.uci import UCI_FILE
from onechange.evidence.claims import CLAIMS, Claim, findings
from onechange.evidence.compare import difficulty
from onechange.evidence.runs import runs_of, stored, write
from onechange.evidence.studies import STUDIES, make
from onechange.evidence.study import Store
from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE, is_baseline, row_of
from onechange.gpt.checkpoint import find
from onechange.support.package import RESULTS

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in RESULTS[1].glob("*.json") if path.stem in STUDIES)
each_study = pytest.mark.parametrize("name", FILES)


def test_there_are_results() -> None:
    """The book has something to show, and no file that no command makes."""
    assert "table-uci" in FILES
    others = {path.stem for path in RESULTS[1].glob("*.json")} - set(FILES)
    assert others <= {"leakage", "speed", "bench", "coverage", "alarms"}


@each_study
def test_a_stored_result_is_of_an_experiment_that_exists(name: str) -> None:
    """Row by row: the experiment of today, its learning rate and all; the weights and the messages of today."""
    experiments = STUDIES[name].experiments()
    for row, runs in stored(name).items():
        row_of(row)
        today = experiments[row].resolved()
        assert runs.experiment == today, f"{name}, row {row}: make results again"
        assert runs.experiment == Experiment(**today.to_dict())
        assert runs.made["messages_sha256"] == (UCI_FILE if today.dataset == "uci" else Source("pocket").digest)
        if not is_baseline(row) and today.weights == "pretrained" and today.scale == "pocket":
            assert runs.made["weights_sha256"] == find(today.model_size).digest


@each_study
def test_a_stored_result_is_whole(name: str) -> None:
    """All rows with all their seeds; as much of everything as there are seeds, one curve point for each step."""
    assert list(stored(name)) == list(STUDIES[name].experiments())
    for row, runs in stored(name).items():
        S, wanted = len(set(runs.seeds)), 1 if runs.fixed else STUDIES[name].seeds_of(row)
        assert len(runs.seeds) == S, row
        assert S + runs.failed >= wanted, f"{name}, row {row}: make results goes on"  # of other names perhaps more
        for field in ("right", "seen", "train", "val", "seconds", "losses"):
            assert len(getattr(runs, field)) == S, (row, field)
        assert runs.right.shape == runs.seen.shape
        if not runs.fixed:
            assert runs.losses.shape == (S, len(runs.steps), 2)
            assert np.isfinite(runs.losses).all()
        assert {"torch", "device", "onechange", "precision"} <= set(runs.made)


@each_study
def test_stored_curves_come_down(name: str) -> None:
    """Training that did nothing would be a broken run: the mean training loss ends below where it began."""
    for row, runs in stored(name).items():
        if not is_baseline(row) and runs.experiment.learning_rate >= 1e-4:
            curve = runs.curve("train")["mean"]
            assert curve.iloc[-1] < curve.iloc[0] or len(curve) == 1, row  # forty steps are looked at once


def test_a_study_is_made_resumed_and_cut_short(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row is written as it is done; what cannot be had is named; what is there is not run again."""
    from onechange.evidence import studies
    from onechange.experiment.experiment import BASELINE

    small = BASELINE.but(model_size=str(toy), dataset="pocket", train_size=16, num_epochs=1)
    rows = {"3": small.but(trainable_layers="last_layer"), "2": small.but(trainable_token_pos="first")}
    monkeypatch.setattr(studies.Study, "experiments", lambda self: rows)
    store, target = Store(tmp_path / "store"), tmp_path / "results"
    made = make("table-pocket", 2, store, target, "cpu")
    assert {row: len(runs.seeds) for row, runs in made.items()} == {"3": 2, "2": 2}
    kept = {file: file.stat().st_mtime_ns for file in store.folder.glob("*.json")}
    text = (target / "table-pocket.json").read_text()
    assert make("table-pocket", 2, store, target, "cpu").keys() == made.keys()
    assert {file: file.stat().st_mtime_ns for file in store.folder.glob("*.json")} == kept
    assert (target / "table-pocket.json").read_text() == text
    rows["8"] = small.but(train_size=10**6)
    make("table-pocket", 1, store, target, "cpu")
    assert "table-pocket, row 8: train_size" in capsys.readouterr().err


def test_a_rerun_gives_the_same_numbers(toy: Path, tmp_path: Path) -> None:
    """On the same machine nothing but the seconds changes, to 1e-6."""
    from onechange.evidence.study import jobs_of, run_study
    from onechange.experiment.experiment import BASELINE

    e = BASELINE.but(model_size=str(toy), dataset="pocket", train_size=32, num_epochs=1)
    files = []
    for i in range(2):
        records = run_study(jobs_of({"1": e}, [1, 2]), Store(tmp_path / str(i)), progress=False)
        write(tmp_path / f"{i}.json", runs_of(records))
        files.append(json.loads((tmp_path / f"{i}.json").read_text())["1"])
    for name in ("right", "train", "val", "losses"):
        assert files[0][name] == files[1][name], name


# -- what the chapters say ---------------------------------------------------------------------------


def text_of(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


CHAPTERS = {path.stem: text_of(path) for path in sorted((ROOT / "book").glob("*.ipynb"))}
MARK = re.compile(r"<!-- claim: ([\w-]+) -->")


def test_every_row_has_a_home() -> None:
    """A chapter that is there and names the row."""
    for number, row in TABLE.items():
        assert row.home in CHAPTERS, f"row {number} lives in {row.home}.ipynb, which is not there"


def test_every_published_conclusion_is_discussed_once() -> None:
    """In the home of one of its rows, with its verdict taken from the results and not typed."""
    places = {name: [chapter for chapter, text in CHAPTERS.items() if name in MARK.findall(text)] for name in claims()}
    assert {name: len(where) for name, where in places.items()} == dict.fromkeys(claims(), 1)
    for name, (chapter,) in places.items():
        homes = {TABLE[int(row)].home for part in claims()[name].parts for row in (part.base, part.change)}
        assert chapter in homes, (name, chapter)
        assert re.search(rf"{{glue:(text)?}}`[^`]*{name}", CHAPTERS[chapter]) or "findings" in CHAPTERS[chapter]


def claims() -> dict[str, Claim]:
    return {claim.name: claim for claim in CLAIMS}


def test_messages_that_are_discussed_are_among_the_hardest() -> None:
    """The chapter quotes what most rows get wrong; with other results its words have to change."""
    rows = [runs for runs in stored("table-pocket").values() if not runs.fixed]
    test = load_messages("pocket").test
    hard = test.text.iloc[np.argsort(-difficulty(rows), kind="stable")[:12]]
    (paragraph,) = [line for line in CHAPTERS["table"].splitlines() if "language of offers" in line]
    quotes = re.findall(r"\*([^*]+)\*", paragraph)
    assert len(quotes) >= 4
    for quote in quotes:
        assert hard.str.contains(quote, regex=False).any(), quote


def test_no_verdict_is_typed() -> None:
    """Chapters take the verdicts of the twelve conclusions from :func:`findings`; none states one by hand."""
    found = findings(stored("table-uci"))
    assert set(found) == set(claims())
    for chapter, text in CHAPTERS.items():
        for line in text.splitlines():
            if MARK.search(line):
                words = re.sub(r"\{glue:\w*\}`[^`]*`", "", line)
                assert not re.search(r"\b(holds|does not hold|cannot be told)\b", words), (chapter, line[:80])
