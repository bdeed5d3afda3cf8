"""What ships with the package: its version, the pocket family's folder, the stored results of the book."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

HERE = Path(__file__).parents[1]

POCKET = HERE / "pocket"
"""Tokenizer, weights and messages of the pocket family."""

RESULTS = (HERE / "results", HERE.parents[1] / "book" / "results")
"""Where stored studies lie: in an installed package, in a checkout."""
