"""The picture of an experiment is that of its model, its mask and its reader; schemes show what they were given."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from charts import reads_well
from torch import nn

from onechange import BASELINE, ROWS, Experiment, plot
from onechange.experiment.rows import NAMED
from onechange.gpt.lora import LoRALinear
from onechange.show import panels, schemes
from onechange.show.plot.anatomy import Anatomy, shown
from onechange.training.memory import Split

POCKET = BASELINE.at("pocket")
EACH = {f"row {n}": e.at("pocket") for n, e in ROWS.items()} | {
    "left-pad": POCKET.but(padding_side="left"),
    "pad-mask": POCKET.but(mask_padding=True),
    "biases": POCKET.but(trainable_layers="biases"),
    "GPT-2": BASELINE,
}


def pieces(chart: plot.Chart, layout: plot.Layout = plot.WIDE) -> dict[str, np.ndarray]:
    """The named rectangles of a figure: their corners."""
    (axes,) = chart.figure(layout).axes
    return {str(p.get_gid()): p.get_xy()[:4] for p in axes.patches if p.get_gid()}


@pytest.mark.parametrize("name", EACH)
def test_what_is_coloured_is_what_the_run_trains(name: str) -> None:
    split, stages = Split.of(EACH[name]), Anatomy.of(EACH[name], 5).stages
    assert sum(stage.trained for stage in stages) == split.trainable
    assert sum(stage.numbers for stage in stages) == split.parameters
    assert f"trained: {split.trainable:,} of" in plot.anatomy(EACH[name]).svg()
    coloured = {gid.removesuffix("-trained") for gid in pieces(plot.anatomy(EACH[name])) if gid.endswith("-trained")}
    assert coloured == {s.name for s in [*shown(stages[:-1]), stages[-1]] if not isinstance(s, int) and s.trained}


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({}, [9]),
        ({"trainable_token_pos": "first"}, [0]),
        ({"trainable_token_pos": "flexible"}, [4]),
        ({"average_embeddings": True}, [*range(10)]),
        ({"average_embeddings": True, "trainable_token_pos": "flexible"}, [*range(5)]),
        ({"no_padding": True}, [4]),
        ({"padding_side": "left"}, [9]),
    ],
)
def test_what_is_outlined_is_what_is_read(change: dict[str, object], read: list[int]) -> None:
    found = pieces(plot.anatomy(POCKET.but(**change)))
    assert [int(gid[5:]) for gid in found if gid.startswith("read-")] == read


def test_the_square_is_the_models_mask() -> None:
    causal = np.tri(10, dtype=bool)
    assert (Anatomy.of(POCKET, 5).sees == causal).all()
    assert Anatomy.of(POCKET.but(disable_causal_mask=True), 5).sees.all()
    hidden = Anatomy.of(POCKET.but(mask_padding=True), 5).sees
    assert (hidden == (causal & (np.arange(10) < 5) | np.eye(10, dtype=bool))).all()
    found = pieces(plot.anatomy(POCKET))
    assert sum(gid.startswith("sees-") for gid in found) == causal.sum()


def test_it_is_said_in_words() -> None:
    alt = plot.anatomy(POCKET).alt
    assert "block 1 to 3, each 0 of 198,272; block 4 198,272 of 198,272" in alt
    assert "at the last position, which is padding" in alt
    left = plot.anatomy(POCKET.but(padding_side="left"))
    assert "padding before it" in left.alt
    assert left.finding.endswith("at the last position, which is a token of the message.")
    assert "but no padding" in plot.anatomy(POCKET.but(mask_padding=True)).alt
    assert "every token" in plot.anatomy(POCKET.but(disable_causal_mask=True)).alt
    assert "the whole context" in plot.anatomy(POCKET.but(context_length="model_context_length")).svg()


def test_areas_are_shares() -> None:
    chart = plot.areas({"one": POCKET, "all": ROWS[5].at("pocket")})
    found = pieces(chart)
    widths = {k: np.ptp(v[:, 0]) for k, v in found.items()}
    whole = Split.of(POCKET).parameters
    assert widths["one-block 4-trained"] == pytest.approx(680 * 198_272 / whole - 1)
    assert "one-block 3-trained" not in found
    assert "all-embedding-trained" in found
    assert "all: 1,383,426, 100%" in chart.alt


def test_an_adapter_is_drawn_to_scale() -> None:
    layer = LoRALinear(nn.Linear(40, 20), rank=4, scale=1)
    found = pieces(schemes.adapter(layer))
    for name, wide, high in (("W", 40, 20), ("Bᵀ", 4, 20), ("Aᵀ", 40, 4)):
        assert np.ptp(found[name], axis=0) == pytest.approx(np.array([wide, high]) * 170 / 40)
    assert "240 numbers, where the weight that they change has 800" in schemes.adapter(layer).finding


def test_bars_and_the_curve_are_what_they_say() -> None:
    found = pieces(schemes.bars({"soon": 0.5, "be": 0.25}))
    assert np.ptp(found["bar-0"][:, 0]) == pytest.approx(2 * np.ptp(found["bar-1"][:, 0]))
    assert "share 25%" in schemes.bars({"soon": 0.5, "be": 0.25}).finding
    (axes,) = schemes.gelu().figure().axes
    curve = next(line for line in axes.lines if line.get_gid() == "gelu").get_xydata()
    x = torch.from_numpy(curve[:, 0].copy())
    assert curve[:, 1] == pytest.approx(torch.nn.functional.gelu(x, approximate="tanh").numpy())


def test_a_token_says_where_it_looks() -> None:
    """One picture for all, and words to point at: the same shares in both."""
    shares = np.array([[1.0, 0.0], [0.25, 0.75]])
    chart = schemes.matrix(["<a>", "b"], shares)
    assert chart.alt == "<a> looks at 100% <a>. b looks at 25% <a>; 75% b."
    assert chart.finding.startswith("Of a token's attention 0% ")
    html = panels.looks(["<a>", "b"], {"block 1": shares})
    assert 'data-t="0" style="--w0:40;--w1:13" title="&lt;a&gt; looks at &lt;a&gt; 100%"' in html
    assert 'data-t="1" style="--w0:0;--w1:39" title="b looks at b 75%, &lt;a&gt; 25%"' in html
    assert "span{--w:var(--w1)}" in html  # until a token is asked it is the last


CHARTS = {
    "matrix": schemes.matrix(["you", "win"], np.array([[1.0, 0.0], [0.25, 0.75]])),
    "baseline": plot.anatomy(POCKET),
    "mean": plot.anatomy(POCKET.but(average_embeddings=True)),
    "areas": plot.areas({"one": POCKET, "GPT-2": BASELINE}),
    "block": schemes.block(),
    "adapter": schemes.adapter(LoRALinear(nn.Linear(40, 40), rank=4, scale=1)),
    "gelu": schemes.gelu(),
    "bars": schemes.bars({"soon": 0.5, "be": 0.25}),
}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("layout", [plot.WIDE, plot.NARROW], ids=["wide", "narrow"])
def test_a_picture_reads_well(name: str, layout: plot.Layout) -> None:
    """No text is small or outside, the page decides the colours, and the finding is the caption."""
    chart = CHARTS[name]
    reads_well(chart, layout)
    html = chart._repr_html_()
    assert f"<figcaption>{chart.finding}</figcaption>" in html
    assert (
        re.findall(r"#[0-9a-f]{3,6}\b(?![-\w])|\bblack\b|\brgb\(", re.sub(r"var\(--oc-[\w-]+, #\w{6}\)", "", html))
        == []
    )


def test_every_row_has_a_picture() -> None:
    for row in NAMED.values():
        assert isinstance(plot.anatomy(Experiment(**row.change)).alt, str)
