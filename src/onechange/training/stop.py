"""End a run before its end, within one block of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from ..gpt.model import GPT
from .result import Result


class Stopped(Exception):
    """A run was asked to end."""


@contextmanager
def stoppable(model: GPT, stop: Callable[[], bool] | None, results: Sequence[Result]) -> Iterator[None]:
    """Ask ``stop`` before every block and the output layer of a model; once it is true, end what is under way.

    The frozen prefix, the training steps and the evaluations all go through these modules, so the answer
    to a wish to stop is never further away than one of them. The results are told why they end here.
    """

    def ask(*_: object) -> None:
        if stop is not None and stop():
            raise Stopped

    parts: list[nn.Module | None] = [] if stop is None else [*model.blocks, model.head]
    handles = [part.register_forward_pre_hook(ask) for part in parts if part is not None]
    try:
        yield
    except Stopped:
        for result in results:
            result.error = result.error or f"stopped {f'after step {result.steps[-1]}' if result.steps else 'early'}"
    finally:
        for handle in handles:
            handle.remove()
