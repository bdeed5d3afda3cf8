"""Every figure of the book, in one style."""

from .chart import INK, NARROW, PALETTE, WIDE, Chart, Layout
from .conclusions import conclusions
from .curves import accuracies, losses
from .lines import forest, pairs, strip
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
    "bands",
    "conclusions",
    "cost",
    "differences",
    "forest",
    "losses",
    "pairs",
    "pretraining",
    "rows",
    "strip",
    "sweep",
]
