"""How often an honest message is taken for spam."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from onechange.data.messages import load_messages
from onechange.data.uci import UCI_FILE, uci_messages
from onechange.evidence import alarms
from onechange.evidence.alarms import ROWS, SEEDS, Alarms, log_odds, main, stored_alarms, unused
from onechange.evidence.runs import stored_json
from onechange.experiment.experiment import BASELINE

RNG = np.random.default_rng(5)


def row(honest: list[list[float]], spam: list[list[float]]) -> Alarms:
    return Alarms("1", np.array(honest), tuple(map(np.array, spam)))


def test_an_alarm_is_an_honest_message_that_is_likelier_spam() -> None:
    a = row([[-1, -2, 3, -4], [-1, 2, 3, -4]], [[1, -1], [2, 2]])
    assert a.rate().mean == 3 / 8
    assert a.rate().low < 3 / 8 < a.rate().high
    assert a.recall == 3 / 4
    quiet = row([[-1, -2, -3, -4], [-1, -2, -3, 4]], [[1, 1], [2, 2]])
    assert a.beyond(quiet).mean == 3 / 8 - 1 / 8
    assert quiet.rate().low == 0


def test_at_a_given_recall_every_run_has_a_threshold_of_its_own() -> None:
    """Half of the spam of the first run is at 4 or above, of the second at 1 or above; all of it at 1, and at -3."""
    a = row([[0, 1, 3, 5], [0, 0, 2, 9]], [[1, 2, 4, 5], [-3, 0, 1, 7]])
    assert a.thresholds(0.5).tolist() == [4, 1]
    assert a.rate(0.5).mean == (1 + 2) / 8
    assert a.rate(0.51).mean == (2 + 4) / 8
    assert a.rate(1.0).mean == (3 + 4) / 8


def test_the_area_is_scikit_learns() -> None:
    honest, spam = RNG.normal(size=(3, 40)).round(1), RNG.normal(1, 1, size=(3, 25)).round(1)
    a = Alarms("1", honest, tuple(spam))
    labels = [0] * 40 + [1] * 25
    own = [roc_auc_score(labels, np.concatenate(pair)) for pair in zip(honest, spam, strict=True)]
    assert a.area == pytest.approx(np.mean(own), abs=1e-12)


def test_more_recall_costs_more_alarms_and_rare_spam_makes_an_alarm_worth_less() -> None:
    a = Alarms("1", RNG.normal(-2, 1, (2, 300)), tuple(RNG.normal(2, 1, (2, 100))))
    rates = [rate for rate, _ in a.roc]
    assert rates == sorted(rates)
    shares = [a.precision(share) for share in (0.001, 0.1, 0.5, 0.9)]
    assert shares == sorted(shares)
    assert a.precision(0.5) == pytest.approx(a.recall / (a.recall + a.rate().mean))


@pytest.mark.usefixtures("uci_cache")
def test_no_run_has_seen_a_message_that_it_is_asked() -> None:
    """Nor its copy: all parts of every turn of the split are cut from the same messages."""
    used = set()
    for seed in SEEDS:
        m = load_messages("uci", seed, folds=True)
        used |= {*m.train.text, *m.val.text, *m.test.text}
    honest = unused()
    assert not used & set(honest.text)
    assert set(honest.label) == {"ham"}
    assert len(honest) == stored_alarms()["1"].honest.shape[1]
    gathered = uci_messages()
    assert set(honest.text) <= set(gathered.text[gathered.label == "ham"])
    assert (gathered.label == "spam").mean() == alarms.GATHERED


@pytest.mark.slow
@pytest.mark.usefixtures("uci_cache")
@pytest.mark.parametrize("name", ["0c", "16"])
def test_a_stored_run_can_be_repeated(name: str) -> None:
    """Rounded to half precision, as it is stored; on another processor single answers may differ."""
    base = BASELINE.but(dataset="uci", folds=True)
    e = alarms.table_rows(base, [name], "pocket")[name]
    (honest,) = log_odds(name, e, [unused().text.tolist()], "cpu")
    kept = stored_alarms()[name].honest[0]
    assert abs((honest >= 0).mean() - (kept >= 0).mean()) < 0.005
    assert np.corrcoef(honest, kept)[0, 1] > 0.99


def test_what_is_stored_is_whole() -> None:
    assert tuple(stored_alarms()) == ROWS
    honest = {a.honest.shape for a in stored_alarms().values()}
    assert len(honest) == 1
    for a in stored_alarms().values():
        assert len(a.spam) == len(a.honest) == len(SEEDS)
        assert np.isfinite(a.honest).all()
    assert stored_json("alarms")["about"]["messages_sha256"] == UCI_FILE


@pytest.mark.usefixtures("uci_cache")
def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file holds is not run again, and the file is whole after every run."""
    ran = []

    def stand_in(row: str, e: object, texts: list[list[str]], device: str) -> list[np.ndarray]:
        ran.append(row)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return [np.full(len(part), float(len(ran))) for part in texts]

    monkeypatch.setattr(alarms, "log_odds", stand_in)
    monkeypatch.setattr(alarms, "SEEDS", (123,))
    monkeypatch.setattr(alarms, "ROWS", ("0c", "1", "16"))
    monkeypatch.setattr("onechange.evidence.runs.RESULTS", (tmp_path,))
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path)
    assert list(stored_alarms()) == ["0c", "1"]
    main(tmp_path)
    assert ran == ["0c", "1", "16", "16"]
    assert stored_alarms()["1"].honest[0, 0] == 2
    assert json.loads((tmp_path / "alarms.json").read_text())["runs"][2]["row"] == "16"
