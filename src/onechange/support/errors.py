"""What a user can mend: one clear line, and exit status 2 on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(Exception):
    """Something asked for cannot be had. Its text is one line that says what and what to do.

    Not a ``ValueError``: tyro would catch that and draw a box around it, broken at 80 columns.
    """


def nearest(word: object, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` if one of ``known`` is close to ``word``, else an empty string."""
    close = get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
