"""What the doctor says: findings, each with how it was measured and how sure it is.

A check looks at a fact (two messages are the same; an answer changed) or tests something that chance alone could
bring about. All tests of a report are corrected together (Holm, 1979) before any of them may raise an alarm, at the
level ``ALARM``: a report is read once and an alarm costs an evening, so of a hundred reports on what is healthy one
at most should hold a false one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..evidence.compare import adjust
from ..evidence.intervals import Estimate

ALARM = 0.01
"""How likely a report on something healthy may raise any alarm by chance."""

Level = Literal["act", "know", "well"]
LEVELS: dict[Level, str] = {"act": "Do something", "know": "Know this", "well": "In order"}
SIGNS: dict[Level, str] = {"act": "!", "know": "-", "well": "+"}
CHAPTERS = {
    "baseline": "The baseline", "data": "The task and its data", "masks": "Masks and ignored labels",
    "padding": "Padding and length", "table": "The whole table", "token": "Which token?",
}  # fmt: skip
"""The pages of the book that a finding may point to, and what it calls them."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        key: a word for it, the same in every report.
        level: ``act``: do something about it; ``know``: it changes what may be concluded; ``well``: in order.
        title: what was found, in a sentence.
        measured: how.
        sure: how sure it is.
        do: what to do about it, or nothing.
        chapter: the page of the book that explains it.
        p: of a test, corrected for all tests of the report; ``None`` for a fact.
        values: the numbers in it.
    """

    key: str
    level: Level
    title: str
    measured: str
    sure: str
    do: str = ""
    chapter: str = "data"
    p: float | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{SIGNS[self.level]} {self.title}", f"  measured: {self.measured}", f"  how sure: {self.sure}"]
        lines += [f"  do: {self.do}"] * bool(self.do)
        return "\n".join([*lines, f"  chapter: {CHAPTERS[self.chapter]} ({self.chapter})"])


@dataclass(frozen=True)
class Check:
    """What was looked at: a fact, or with ``p`` a test; ``say`` makes the finding, told whether the p stood."""

    say: Callable[[bool], Finding]
    p: float | None = None


def fact(finding: Finding) -> Check:
    """A check in which there is no chance."""
    return Check(lambda _: finding)


def settle(checks: Iterable[Check]) -> list[Finding]:
    """The findings of checks, their tests corrected together: what to do something about comes first."""
    checks = list(checks)
    tests = [check.p for check in checks if check.p is not None]
    ps = iter(adjust(tests))
    findings = []
    for check in checks:
        if check.p is None:
            findings.append(check.say(True))
            continue
        p = next(ps)
        found = check.say(p < ALARM)
        sure = f"{found.sure}; p {say_p(p)} after Holm's correction for the {len(tests)} tests of this report"
        findings.append(replace(found, sure=sure, p=p))
    return sorted(findings, key=lambda finding: list(LEVELS).index(finding.level))  # stable: as they were asked


def say_p(p: float) -> str:
    """A p as it is read; below a ten-thousandth nobody asks how far."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def say(share: Estimate) -> str:
    """A share with its interval, in per cent."""
    return f"{percent(share.mean)} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def counted(n: int, what: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def one_of(texts: Sequence[str], most: int = 3) -> str:
    """The first few messages, short, in quotation marks."""
    from textwrap import shorten

    return ", ".join(f"“{shorten(text, 60, placeholder=' …')}”" for text in list(texts)[:most])
