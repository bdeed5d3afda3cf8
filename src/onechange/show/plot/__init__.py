"""Every figure of the book, in one style."""

from .anatomy import anatomy, areas
from .chart import INK, NARROW, PALETTE, WIDE, Chart, Layout
from .conclusions import conclusions
from .curves import accuracies, losses, traces
from .lines import forest, pairs, strip
from .opening import opening
from .pretraining import pretraining
from .study import agreement, bands, cost, differences, rows, sweep

__all__ = [
    "INK",
    "NARROW",
    "PALETTE",
    "WIDE",
    "Chart",
    "Layout",
    "accuracies",
    "agreement",
    "anatomy",
    "areas",
    "bands",
    "conclusions",
    "cost",
    "differences",
    "forest",
    "losses",
    "opening",
    "pairs",
    "pretraining",
    "rows",
    "strip",
    "sweep",
    "traces",
]
