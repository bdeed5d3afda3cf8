"""Figures of many runs show the stored results: what is drawn is what the files hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from charts import drawn

from onechange import UsageError, plot
from onechange.evidence.compare import against_baseline, agreement
from onechange.evidence.intervals import accuracy
from onechange.evidence.runs import stored
from onechange.show.plot.chart import NARROW, WIDE, Layout
from onechange.show.plot.study import called, labels_of

TABLE = stored("table-uci")
NETWORKS = {name: runs for name, runs in TABLE.items() if not runs.fixed}


def test_rows_show_every_seed_and_the_interval() -> None:
    chart = plot.rows(list(TABLE.values()))
    for i, runs in enumerate(TABLE.values()):
        e = accuracy(runs)
        assert drawn(chart, f"{i}-bar")[:, 0] == pytest.approx([100 * e.low, 100 * e.high])
        assert drawn(chart, f"{i}-mid")[0, 0] == pytest.approx(100 * e.mean)
        if len(runs.seeds) > 1:
            assert drawn(chart, f"{i}-dots")[:, 0] == pytest.approx(100 * runs.test)
        assert f"{called(runs.label)}: {100 * e.mean:.1f}%" in chart.alt


def test_clean_rows_leave_out_what_was_seen() -> None:
    runs = TABLE["1"]
    chart = plot.rows([runs], clean=True)
    new = runs.right[:, (runs.seen == 0).all(0)]
    assert drawn(chart, "0-dots")[:, 0] == pytest.approx(100 * new.mean(1))


def test_differences_show_the_comparisons_and_the_published_ones() -> None:
    against = against_baseline(TABLE)
    chart = plot.differences(against)
    for i, (name, c) in enumerate(against.items()):
        assert drawn(chart, f"{i}-bar")[:, 0] == pytest.approx([100 * c.difference.low, 100 * c.difference.high])
        assert np.isnan(drawn(chart, f"{i}-published")[0, 0]) != name.isdecimal()
    assert "published" not in plot.differences(against, published=False).alt


@pytest.mark.parametrize("column", ["train", "val"])
def test_bands_hold_most_seeds(column: str) -> None:
    runs = TABLE["1"]
    chart = plot.bands([runs, TABLE["16"]], column)
    values = runs.losses[:, :, ("train", "val").index(column)]
    assert drawn(chart, f"0-{column}").tolist() == pytest.approx(
        np.column_stack([runs.examples, values.mean(0)]), abs=1e-12
    )


def test_bands_says_how_many_rows_it_shows() -> None:
    with pytest.raises(UsageError, match="4 rows at most, not 5"):
        plot.bands([TABLE["1"]] * 5)


def test_a_sweep_stands_at_its_numbers() -> None:
    points = {3e-4: TABLE["4"], 1e-4: TABLE["1"]}
    chart = plot.sweep(points, "learning rate")
    assert drawn(chart, "mid")[:, 0].tolist() == [1e-4, 3e-4]
    assert drawn(chart, "mid")[:, 1] == pytest.approx([100 * points[v].test.mean() for v in sorted(points)])
    assert chart.figure().axes[0].get_xscale() == "log"
    assert plot.sweep(points, "k", log=False).figure().axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("by", ["took", "n_trainable"])
def test_the_front_is_what_nothing_cheaper_beats(by: str) -> None:
    chart = plot.cost(NETWORKS, by)
    points = {(getattr(r, by), 100 * r.test.mean()) for r in NETWORKS.values()}
    best = {p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)}
    assert {tuple(p) for p in drawn(chart, "best")} == best
    assert len(drawn(chart, "rows")) == len(NETWORKS)


def test_the_time_of_a_row_is_that_of_its_first_seed() -> None:
    """Which runs alone; a share of many at once says little of what a row costs."""
    assert replace(TABLE["1"], seconds=np.array([9.0, 3.0, 3.0])).took == 9.0


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_every_row_has_a_label_in_a_cost_figure(layout: Layout) -> None:
    figure = plot.cost(NETWORKS, "n_trainable").figure(layout)
    said = [name for text in figure.axes[0].texts for name in text.get_text().split(", ")]
    assert {name for name in said if name in NETWORKS} == set(NETWORKS)


def test_labels_keep_off_each_other() -> None:
    spots = {"a": (100.0, 50.0), "b": (104.0, 50.0), "c": (100.5, 50.5), "d": (300.0, 50.0), "e": (335.0, 9.0)}
    shifts = labels_of(spots, 340)
    assert set(shifts) == {("a", "c"), ("b",), ("d",), ("e",)}
    boxes = {k: (spots[k[0]][0] + x, spots[k[0]][1] + y, 7 * len(", ".join(k))) for k, (x, y) in shifts.items()}
    (ax, ay, aw), (bx, by, bw) = boxes["a", "c"], boxes["b",]
    assert ax + aw <= bx + 1 or bx + bw <= ax + 1 or abs(ay - by) >= 12
    assert boxes["e",][0] + boxes["e",][2] <= 341


def test_agreement_is_dark_where_rows_agree() -> None:
    chart = plot.agreement(NETWORKS)
    pairs = agreement(list(NETWORKS.values()))
    inks = [patch.get_alpha() for patch in chart.figure().axes[0].patches]
    off = pairs[~np.eye(len(pairs), dtype=bool)]
    assert np.argmax(inks) == np.argmax(off)
    assert inks[int(np.argmin(off))] == pytest.approx(0.85 * (off.min() - pairs.min()) / (1 - pairs.min()))


def test_a_name_is_not_said_twice() -> None:
    assert replace(TABLE["1"], row="biases").label == "biases only"
    assert replace(TABLE["1"], row="pad-mask").label == "pad-mask padding hidden"


def test_a_figure_says_a_rows_title_and_its_number_if_it_has_one() -> None:
    labels = ("pad-mask padding hidden", "16 last real token", "0b TF-IDF of words", "biases only")
    assert [called(label) for label in labels] == ["padding hidden", *labels[1:]]
