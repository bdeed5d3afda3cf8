"""Progress bars, and what is worth a line beside them, on standard error."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

from tqdm.auto import tqdm


def progress_bar(show: bool, **options: Any) -> tqdm:
    """A bar, or none; the environment's ``TQDM_DISABLE`` hides those that would show.

    tqdm heeds that variable in a terminal, but not in a notebook.
    """
    hidden = not show or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(**options, disable=hidden)


def tell(line: str) -> None:
    """One line, above the bars that are there."""
    tqdm.write(line, file=sys.stderr)


@cache
def say_once(text: str) -> None:
    """A line, once a process."""
    tell(f"onechange: {text}")
