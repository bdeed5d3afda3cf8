"""Figures of single chapters: they show what they were given, in both layouts, and say it in words."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from charts import reads_well

from onechange import plot
from onechange.gpt.model import GPT, Block
from onechange.show import figures

TOKENS = {"ham": [3, 4, 4, 60], "spam": np.array([30, 40, 40, 50, 50])}
SCORES = pd.DataFrame({"label": ["length & more", "words"], "right": [200, 380], "n": [300, 400]})


def charts() -> dict[str, plot.Chart]:
    return {"lengths": figures.lengths(TOKENS, cut=27), "scores": figures.scores(SCORES)}


def test_lengths_are_counted_up_and_down() -> None:
    chart = figures.lengths(TOKENS, cut=27)
    (axes,) = chart.figure().axes
    up, down = ({p.get_gid(): p for p in axes.patches}[f"{i}-counts"].get_data() for i in range(2))
    for data, values, sign in ((up, TOKENS["ham"], 1), (down, TOKENS["spam"], -1)):
        assert sign * data.values == pytest.approx(np.histogram(values, data.edges)[0])
        assert sign * data.values.sum() == len(values)
    (line,) = [line for line in axes.lines if line.get_gid() == "cut"]
    assert line.get_xdata()[0] == 26.5
    assert "ham: 4 messages, median 4, longest 60" in chart.alt
    assert "A line stands before 27 tokens." in chart.alt
    assert "line" not in figures.lengths(TOKENS).alt


def test_scores_have_wilsons_interval() -> None:
    chart = figures.scores(SCORES)
    lines = {line.get_gid(): line for line in chart.figure().axes[0].lines}
    p, n, z = 380 / 400, 400, 1.959964
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    wanted = [100 * (centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert lines["1-bar"].get_xdata() == pytest.approx(wanted)
    assert lines["1-mid"].get_xdata() == pytest.approx([95])
    assert "a guess has 50%" in chart.alt
    assert f"words: 95.0% [{wanted[0]:.1f}, {wanted[1]:.1f}]" in chart.alt


@pytest.mark.parametrize("name", ["lengths", "scores"])
@pytest.mark.parametrize("layout", [plot.WIDE, plot.NARROW], ids=["wide", "narrow"])
def test_a_figure_reads_well(name: str, layout: plot.Layout) -> None:
    """No text is small or outside, the page decides the colours, and the figure is the same every time."""
    chart = charts()[name]
    reads_well(chart, layout)
    free = re.sub(r"var\(--oc-[\w-]+, #\w{6}\)", "", chart._repr_html_())
    assert re.findall(r"#[0-9a-f]{3,6}\b(?![-\w])|\bblack\b|\brgb\(", free) == []
    assert charts()[name].svg(layout) == chart.svg(layout)


def test_source_is_shown_as_it_stands() -> None:
    """A class and a method of one, the latter without its indentation, as Python."""
    shown = figures.source(Block).data
    assert shown.startswith("```python\nclass Block(nn.Module):\n")
    assert shown.endswith("# (B, Q, C)\n```")
    assert figures.source(GPT.read).data.startswith("```python\ndef read(self, x: Tensor) -> Tensor:\n    ")
