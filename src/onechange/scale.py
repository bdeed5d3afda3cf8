"""Which scale a notebook runs on."""

from __future__ import annotations

import os

import torch

from .gpt.weights import SCALES
from .support.errors import UsageError, nearest


def scale(quiet: bool = False) -> str:
    """``gpt2`` where there is a GPU and GPT-2's weights and the UCI messages can be had, else ``pocket``.

    Says in one line which and why, unless ``quiet``. Where the variable ``ONECHANGE_SCALE`` is set it decides
    instead, and nothing is said: the book is built with ``pocket``, whatever the machine has.

    Raises:
        UsageError: if the variable names no scale.
    """
    chosen, why = _choose()
    if not quiet and why:
        print(f"scale: {chosen} ({why})")
    return chosen


def _choose() -> tuple[str, str]:
    if asked := os.environ.get("ONECHANGE_SCALE"):
        if asked not in SCALES:
            raise UsageError(f"ONECHANGE_SCALE is {asked!r}{nearest(asked, SCALES)}: use {', '.join(SCALES)}")
        return asked, ""
    if not torch.cuda.is_available():
        return "pocket", "there is no GPU here"
    from .data.uci import uci_file
    from .experiment.experiment import BASELINE

    try:
        model = BASELINE.but().checkpoint  # found anew: what could not be had a minute ago may be here now
        _ = model.file, model.tokenizer
        uci_file()
    except UsageError as error:
        return "pocket", str(error)
    return "gpt2", torch.cuda.get_device_name()
