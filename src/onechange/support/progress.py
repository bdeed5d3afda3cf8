"""Progress bars, and what has to be said aloud, on standard error."""

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


@cache
def say_once(text: str) -> None:
    """A line on standard error, once a process."""
    print(f"onechange: {text}", file=sys.stderr, flush=True)
