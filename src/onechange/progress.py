"""Progress bars on standard error."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm


def progress_bar(show: bool, **options: Any) -> tqdm:
    """A bar, or none; the environment's ``TQDM_DISABLE`` hides those that would show."""
    return tqdm(**options) if show else tqdm(**options, disable=True)
