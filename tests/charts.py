"""What tests of figures share."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from onechange import plot


def drawn(chart: plot.Chart, gid: str) -> np.ndarray:
    """The points of one line of a figure."""
    (line,) = [line for line in chart.figure().axes[0].lines if line.get_gid() == gid]
    return np.array(line.get_xydata())


def reads_well(chart: plot.Chart, layout: plot.Layout) -> None:
    """No text is small or outside, and none is the source of a formula."""
    for text in ElementTree.fromstring(chart.svg(layout)).iter("{http://www.w3.org/2000/svg}text"):
        size = re.search(r"font-size: ([\d.]+)px", text.get("style", ""))
        assert size is not None
        assert float(size[1]) >= 12
        assert 0 <= float(text.get("x", "nan")) <= layout.width
        assert "$" not in (text.text or "")
