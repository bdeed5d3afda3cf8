"""What tests of figures share."""

from __future__ import annotations

import numpy as np

from onechange import plot


def drawn(chart: plot.Chart, gid: str) -> np.ndarray:
    """The points of one line of a figure."""
    (line,) = [line for line in chart.figure().axes[0].lines if line.get_gid() == gid]
    return np.array(line.get_xydata())
