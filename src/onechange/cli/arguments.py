"""Command-line words to commands, by tyro; and its complaints on one line."""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any

import tyro

from ..support.errors import UsageError, nearest


def read(commands: dict[str, type], argv: list[str]) -> Any:
    """Arguments to a command; a mistake in them becomes a :class:`UsageError` of one line."""
    choices = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())
    union: Any = functools.reduce(operator.or_, choices)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                union,
                prog="onechange",
                description="What matters when you finetune a GPT: one change at a time. (--version: which release.)",
                args=argv,
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.ConsolidateSubcommandArgs),
            )
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UsageError(one_line(said.getvalue(), commands)) from None


def one_line(box: str, commands: Iterable[str]) -> str:
    """The message inside tyro's box on one line, with the nearest right word where there is one."""
    lines = [line.strip(" │╭╮╰╯─") for line in box.splitlines()]
    lines = [line for line in lines if line.strip("-")]  # rules are dashes where there is no Unicode
    ends = ("Argument helptext", "For full helptext", "Usage")
    stop = next((i for i, line in enumerate(lines) if line.startswith(ends)), len(lines))
    text = " ".join(" ".join(lines[1:stop]).split())  # the first line is the box's title
    if unknown := re.match(r"Unrecognized options: ([^\s,]+)(?:.*Perhaps you meant: (\S+))?", text):
        word, near = unknown.groups()
        if "Available subcommands" in text and not word.startswith("-"):
            return f"there is no command {word!r}{nearest(word, commands)}: use one of {', '.join(commands)}"
        text = f"there is no option {word}" if word.startswith("-") else f"{word!r} is a word too many"
        return text + (f" (did you mean {near!r}?)" if near else "")
    if wrong := re.search(r"invalid choice '?(.+?)'? for argument '-*(.+?)'.*one of \((.+)\)", text):
        known = [word for word in re.findall(r"'([^']+)'", wrong[3]) if word != "None"]
        return f"{wrong[2]} {wrong[1]!r} is not one of {', '.join(known)}{nearest(wrong[1], known)}"
    if number := re.match(r"Error parsing --(\S+): .*?(?:base 10: |from \[|to float: )('.*?')", text):
        kind = "whole number" if re.search(r"int\(\)|\bINT\b", text) else "number"
        return f"{number[1]} must be a {kind}, not {number[2]}"
    return text or "the arguments could not be read"
