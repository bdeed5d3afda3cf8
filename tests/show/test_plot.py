"""Figures: they show the numbers they were given, say them in words, and are the same every time."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from charts import drawn, reads_well

from onechange import plot
from onechange.experiment.experiment import BASELINE

STEPS = [0, 50, 100]


def result(**changes: Any) -> Any:
    """What a figure asks of a result."""
    drop = 0.2 if changes else 0.9
    loss = [1.5, 1.5 - drop, 1.5 - drop - 0.1]
    losses = pd.DataFrame(
        {"examples": [8, 408, 808], "train": loss, "val": [x + 0.25 for x in loss]}, index=pd.Index(STEPS, name="step")
    )
    accuracies = pd.DataFrame({"train": [0.7, 0.9], "val": [0.65, 0.85]}, index=pd.Index([1, 2], name="epoch"))
    return SimpleNamespace(experiment=BASELINE.but(**changes), losses=losses, accuracies=accuracies, error="")


def seeds() -> pd.DataFrame:
    values = {"the baseline": [0.94, 0.95, 0.96], "first <token> & more": [0.75, 0.77, 0.80]}
    return pd.DataFrame([{"label": k, "seed": i, "value": v} for k, row in values.items() for i, v in enumerate(row)])


def differences() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": ["first token", "two blocks"],
            "diff": [-0.2, 0.02],
            "low": [-0.24, -0.01],
            "high": [-0.16, 0.05],
            "published": [-0.2, math.nan],
        }
    )


def costs() -> pd.DataFrame:
    return pd.DataFrame({"label": ["baseline", "first token"], "before": [2e14, 2e14], "after": [3e13, 5e11]})


def charts() -> dict[str, plot.Chart]:
    first, second = result(), result(trainable_token_pos="first")
    return {
        "losses": plot.losses(first),
        "two losses": plot.losses(first, second),
        "accuracies": plot.accuracies(first, second),
        "strip": plot.strip(seeds()),
        "forest": plot.forest(differences()),
        "pairs": plot.pairs(costs(), xlabel="operations", names=("the plain loop", "this engine")),
    }


CHARTS = charts()
each_chart = pytest.mark.parametrize("name", list(CHARTS))


@pytest.mark.parametrize("column", ["train", "val"])
def test_loss_curves_are_the_results(column: str) -> None:
    runs = [result(), result(trainable_token_pos="first")]
    chart = plot.losses(*runs)
    for i, run in enumerate(runs):
        assert drawn(chart, f"{i}-{column}") == pytest.approx(run.losses[["examples", column]].to_numpy())


@pytest.mark.parametrize("column", ["train", "val"])
def test_accuracy_curves_are_the_results(column: str) -> None:
    run = result()
    wanted = run.accuracies.reset_index()[["epoch", column]].to_numpy()
    assert drawn(plot.accuracies(run), f"0-{column}") == pytest.approx(wanted)


def test_a_strip_shows_every_seed_with_the_mean_and_its_interval() -> None:
    chart = plot.strip(seeds())
    assert drawn(chart, "0-dots")[:, 0] == pytest.approx([94, 95, 96])
    assert drawn(chart, "0-mid")[0, 0] == pytest.approx(95)
    half = 4.302653 / math.sqrt(3)  # Student's t with 2 degrees of freedom; the standard deviation is 1
    assert drawn(chart, "0-bar")[:, 0] == pytest.approx([95 - half, 95 + half])
    assert "the baseline: mean 95.0% ± 2.5" in chart.alt


def test_one_seed_has_no_interval() -> None:
    assert "mean 94.0%." in plot.strip(seeds()[:1]).alt


def test_a_forest_shows_the_differences_and_what_was_published() -> None:
    chart = plot.forest(differences())
    assert drawn(chart, "0-mid")[0, 0] == pytest.approx(-20)
    assert drawn(chart, "0-bar")[:, 0] == pytest.approx([-24, -16])
    assert drawn(chart, "0-published")[0, 0] == pytest.approx(-20)
    assert np.isnan(drawn(chart, "1-published")[0, 0])
    assert "first token: −20.0 [−24.0, −16.0], published −20.0" in chart.alt
    assert "published" not in plot.forest(differences().drop(columns="published")).alt


def test_what_is_not_shown_after_correction_is_hollow() -> None:
    """One verdict a pair: the mark says what the corrected p does, whatever the bar."""
    chart = plot.forest(differences().assign(shown=[i % 2 == 0 for i in range(len(differences()))]))
    axes = chart.figure().axes[0]
    fills = [next(x for x in axes.lines if x.get_gid() == f"{i}-mid").get_fillstyle() for i in (0, 1)]
    assert fills == ["full", "none"]
    assert "not shown" in chart.alt.split(";")[1]
    assert "not shown" not in chart.alt.split(";")[0]


def test_pairs_show_both_costs_and_their_ratio() -> None:
    chart = charts()["pairs"]
    axes = chart.figure().axes[0]
    assert axes.get_xscale() == "log"
    assert drawn(chart, "0-mid")[0, 0] == 3e13
    assert drawn(chart, "0-published")[0, 0] == 2e14
    assert drawn(chart, "1-bar")[:, 0].tolist() == [5e11, 2e14]
    assert "10¹³" in [tick.get_text() for tick in axes.get_xticklabels()]
    assert "baseline: 2.0e+14 and 3.0e+13, 6.7 times; first token: 2.0e+14 and 5.0e+11, 400 times" in chart.alt


@pytest.mark.parametrize("layout", [plot.WIDE, plot.NARROW])
def test_rates_stand_on_powers_of_ten_in_letters(layout: plot.Layout) -> None:
    chart = plot.traces({"row 1": [(1e-5, 71), (1e-3, 93), (1e-2, 94)]}, "rate", "accuracy (%)", logx=True)
    reads_well(chart, layout)
    assert ">10⁻⁵</text>" in chart.svg(layout)


def test_results_are_called_by_their_rows_or_by_what_they_differ_in() -> None:
    alt = plot.losses(result(), result(trainable_token_pos="first")).alt
    assert "1 the baseline, training from 1.50 to 0.50" in alt
    assert "2 first token, validation from 1.75 to 1.45" in alt
    mean = {"average_embeddings": True}
    alt = plot.losses(result(**mean), result(**mean, trainable_token_pos="flexible", num_epochs=2)).alt
    assert "19 average over positions, training" in alt
    assert "average over real tokens, training" in alt
    alt = plot.losses(result(batch_size=4), result(batch_size=4, trainable_token_pos="first")).alt
    assert "trainable_token_pos last, training" in alt
    assert "seed 5" in plot.losses(result(), result(seed=5)).alt
    assert "run 2" in plot.losses(result(), result()).alt


def test_a_caption_states_what_is_found() -> None:
    """Each figure has one, made from its data; another can be put in its place, and it is text, not markup."""
    assert all(chart.finding for chart in CHARTS.values())
    assert CHARTS["two losses"].finding == (
        "On the validation messages the loss ends at 0.75 (1 the baseline), at 1.45 (2 first token)."
    )
    assert CHARTS["pairs"].finding == "The plain loop takes 6.7 to 400 times what this engine takes."
    html = CHARTS["losses"].says("more & <less>")._repr_html_()
    assert '<figcaption>more &amp; &lt;less&gt; <span class="oc-badge">UCI messages</span></figcaption>' in html


def test_a_run_that_ended_early_is_drawn_as_far_as_it_went() -> None:
    run = result()
    run.losses.iloc[2, 1:] = math.nan
    assert len(drawn(plot.losses(run), "0-train")) == 2
    run.losses.iloc[:, 1:] = math.nan
    run.error = "the loss is not a number any more"
    with pytest.raises(ValueError, match="not a number any more"):
        plot.losses(run)


@each_chart
def test_a_page_gets_two_layouts_with_a_text_for_those_who_cannot_see(name: str) -> None:
    html = CHARTS[name]._repr_html_()
    page = ElementTree.fromstring(html)
    figures = page.findall(".//{http://www.w3.org/2000/svg}svg")
    assert [figure.get("class") for figure in figures] == ["oc-wide", "oc-narrow"]
    for figure in figures:
        assert figure.get("role") == "img"
        assert figure.get("aria-label") == CHARTS[name].alt
    assert repr(CHARTS[name]) == CHARTS[name].alt


@each_chart
def test_a_page_decides_the_colours(name: str) -> None:
    html = CHARTS[name]._repr_html_()
    free = re.sub(r"var\(--oc-[\w-]+, #\w{6}\)", "", html)
    assert re.findall(r"#[0-9a-f]{3,6}\b(?![-\w])|\bblack\b|\brgb\(", free) == []
    assert "currentColor" in html
    for text in re.findall(r"<text [^>]*>", html):
        assert "fill: " in text


@each_chart
def test_no_two_figures_share_an_id(name: str) -> None:
    ids = re.findall(r' id="([^"]+)"', CHARTS[name]._repr_html_())
    assert len(ids) == len(set(ids))
    for other in CHARTS:
        if other != name:
            assert set(ids).isdisjoint(re.findall(r' id="([^"]+)"', CHARTS[other]._repr_html_()))


@each_chart
def test_a_figure_is_the_same_every_time(name: str, tmp_path: Path) -> None:
    first, second = CHARTS[name], charts()[name]
    assert first._repr_html_() == second._repr_html_()
    for suffix in (".svg", ".png"):
        one, two = (chart.save(tmp_path / f"{i}{suffix}") for i, chart in enumerate((first, second)))
        assert one.read_bytes() == two.read_bytes()


@each_chart
@pytest.mark.parametrize("layout", [plot.WIDE, plot.NARROW], ids=["wide", "narrow"])
def test_all_text_is_inside_the_figure_and_large_enough(name: str, layout: plot.Layout) -> None:
    figure = ElementTree.fromstring(CHARTS[name].svg(layout))
    assert float(figure.get("viewBox", "").split()[2]) == layout.width
    reads_well(CHARTS[name], layout)


def test_only_svg_and_png_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pdf"):
        CHARTS["losses"].save(tmp_path / "figure.pdf")


def test_labels_keep_their_distance() -> None:
    placed = plot.chart.spread([10.0, 11.0, 12.0, 100.0], 15)
    assert sorted(placed) == placed
    assert np.diff(placed).min() >= 15 - 1e-9
    assert placed[3] == 100
