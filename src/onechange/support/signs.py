"""Differences as they are printed."""

from __future__ import annotations

MINUS = str.maketrans("-", "−")
"""A hyphen to a minus sign."""


def signed(points: float) -> str:
    """One digit behind the point and a sign in front; what rounds to nothing has none: ``+1.2``, ``-0.3``, ``0.0``."""
    text = f"{points:+.1f}"
    return "0.0" if float(text) == 0 else text


def printed(points: float) -> str:
    """The same with a minus sign, for a page."""
    return signed(points).translate(MINUS)


def interval(mean: float, low: float, high: float) -> str:
    """A difference with its interval, for a page: ``+1.2 [−0.3, +2.7]``."""
    return f"{printed(mean)} [{printed(low)}, {printed(high)}]"
