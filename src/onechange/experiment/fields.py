"""The fields of an experiment for a reader who turns them one by one: what each means, which go together."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from types import NoneType
from typing import Any, get_args

from ..gpt.weights import MODELS
from ..support.errors import UsageError
from .experiment import Experiment, choices_of, hints

SUGGESTED: dict[str, list[str]] = {
    "model_size": list(MODELS),
    "dataset": ["pocket", "uci"],
    "context_length": ["longest_training_example", "model_context_length"],
}
"""Values worth offering for a field that takes others too."""


@cache
def explained() -> dict[str, str]:
    """The docstring of every field of :class:`~onechange.experiment.experiment.Experiment`."""
    (definition,) = ast.parse(inspect.getsource(Experiment)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(words.value.value.split())
        for field, words in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant) and isinstance(words.value.value, str)
    }


def kinds(name: str) -> tuple[type, ...]:
    """The types a field's value may have."""
    return get_args(hints()[name]) or (hints()[name],)


def parse(name: str, text: str) -> Any:
    """A field's value from a text; what cannot be one stays a text, for the experiment to complain of.

    Nothing at all is ``None`` where the field may be left open.
    """
    if not text.strip() and NoneType in kinds(name):
        return None
    for kind in (int, float):
        if kind in kinds(name):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def settle(base: Experiment, wanted: dict[str, Any]) -> tuple[Experiment, dict[str, str]]:
    """As many of the ``wanted`` values as go together, in the order of the fields, and why each other is refused."""
    e, left = base, {name: value for name, value in wanted.items() if value != getattr(base, name)}
    while True:
        refused = {}
        for name, value in left.items():
            try:
                e = e.but(**{name: value})
            except UsageError as error:
                refused[name] = str(error)
        if len(refused) == len(left):
            return e, refused
        left = {name: left[name] for name in refused}


def idle(e: Experiment, name: str) -> str:
    """Why no other value of a field could have an effect on an experiment, or an empty string."""
    reason = ""
    for value in _others(name, getattr(e, name)):
        try:
            e.but(**{name: value})
        except UsageError as error:
            reason = str(error)
        else:
            return ""
    return reason


def _others(name: str, value: Any) -> list[Any]:
    """Other values that a field might have."""
    if choices_of(name):
        return [choice for choice in choices_of(name) if choice != value]
    if kinds(name) == (bool,):
        return [not value]
    tries = [*SUGGESTED.get(name, []), *((2, 3) if int in kinds(name) else (0.5, 0.25) if float in kinds(name) else ())]
    return [other for other in tries if other != value]
