"""Differences as they are printed."""

from __future__ import annotations


def signed(points: float) -> str:
    """One digit behind the point and a sign in front; what rounds to nothing has none: ``+1.2``, ``-0.3``, ``0.0``."""
    text = f"{points:+.1f}"
    return "0.0" if float(text) == 0 else text
