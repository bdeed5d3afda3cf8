"""The first page's figure and its panel: every row under its question, and tables of one seed a row."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from charts import drawn, reads_well

import onechange as oc
from onechange.experiment.rows import TABLE, row_of
from onechange.show.plot.chart import NARROW, WIDE
from onechange.show.plot.opening import NAMES, QUESTIONS
from onechange.show.publish import publish
from onechange.support.signs import signed

ROWS = oc.stored("table-uci")
AGAINST = oc.against_baseline(ROWS)
CHART = oc.plot.opening(ROWS, AGAINST, {"2": "sees one token"})


def test_every_row_is_in_it_with_its_number_and_leads_to_its_chapter() -> None:
    for row, c in AGAINST.items():
        ((x, _),) = drawn(CHART, f"{row}-mid")
        assert x == pytest.approx(100 * c.difference.mean)
        assert f"{NAMES[row]}: {signed(100 * c.difference.mean)}".replace("-", "−") in CHART.alt
    for layout in (WIDE, NARROW):
        root = ElementTree.fromstring(CHART.svg(layout))
        leads = [a.get("{http://www.w3.org/1999/xlink}href") for a in root.iter("{http://www.w3.org/2000/svg}a")]
        assert leads.count("token.html") == 1 + sum(row_of(row).home == "token" for row in AGAINST)
        assert {f"{row_of(row).home}.html" for row in AGAINST} == set(leads)


def test_a_figure_with_links_is_no_image() -> None:
    """Parts of an image cannot be reached by keyboard or read aloud."""
    assert 'role="group"' in CHART.svg()
    assert 'role="img"' in oc.plot.rows(list(ROWS.values())).svg()


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_reads_well(layout: oc.plot.Layout) -> None:
    reads_well(CHART, layout)


def test_every_published_row_has_a_name_and_a_question() -> None:
    assert {str(row) for row in TABLE} - {"1"} <= set(NAMES)
    assert {row_of(name).home for name in NAMES} <= set(QUESTIONS)


def test_what_is_not_shown_is_hollow() -> None:
    axes = CHART.figure().axes[0]
    fills = {line.get_gid(): line.get_fillstyle() for line in axes.lines if str(line.get_gid()).endswith("-mid")}
    assert fills == {f"{row}-mid": "full" if c.shown else "none" for row, c in AGAINST.items()}


def test_the_panel_holds_every_seed_of_every_row_that_has_some() -> None:
    html = publish(ROWS)._repr_html_()
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    rows = {line["row"]: line for line in json.loads(text)}
    assert list(rows) == [name for name, runs in ROWS.items() if not runs.fixed]
    for name, line in rows.items():
        np.testing.assert_allclose(line["each"], 100 * ROWS[name].test, atol=0.005)
        e = oc.accuracy(ROWS[name])
        wanted = [100 * x for x in (e.low, e.mean, e.high)]
        np.testing.assert_allclose([line["low"], line["mean"], line["high"]], wanted, atol=0.005)
    assert "://" not in html.replace("http://www.w3.org", "")  # asks for nothing
