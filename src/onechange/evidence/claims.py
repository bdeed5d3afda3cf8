"""The twelve conclusions that came with the published table, as statements that results can contradict.

A claim is one or more differences in test accuracy and where each must lie. If the whole interval of a
difference lies there, that part holds; if all of it lies elsewhere, it does not; otherwise the runs cannot
tell. A claim holds if all its parts do, and does not as soon as one does not.

The intervals of one claim are simultaneous: wide enough that 95 times in 100 all of its parts are right
(Bonferroni). Between claims there is no correction, as is usual where conclusions of others are put to the
test one by one: a verdict is wrong one time in twenty at most, a list of twelve more often.

What was concluded of seconds, memory and overfitting, and by how many points, is not among the claims: a
model of another size has others.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..support.signs import MINUS
from .compare import Comparison, difference
from .runs import LEVEL, Runs

Verdict = Literal["holds", "does not hold", "cannot be told", "not measured"]
ANY = math.inf


@dataclass(frozen=True)
class Part:
    """The difference ``change`` minus ``base`` lies between ``low`` and ``high``, in points."""

    base: str
    change: str
    low: float
    high: float

    @property
    def region(self) -> str:
        """Where the difference must lie, in words."""
        low, high = (f"{x:g}".translate(MINUS) for x in (self.low, self.high))
        if self.low == self.high:
            return low
        if ANY in (self.high, -self.low):
            return f"above {low}" if self.high == ANY else f"below {high}"
        return f"{low} to {high}"

    def verdict(self, c: Comparison) -> Verdict:
        low, high = 100 * c.difference.low, 100 * c.difference.high
        if self.low < low <= high < self.high or (low, high) == (self.low, self.high):
            return "holds"
        return "does not hold" if high <= self.low or low >= self.high else "cannot be told"

    def p(self, c: Comparison) -> tuple[float, float]:
        """Two p: that the difference does not lie where it must, and that it does.

        The first is below 0.05 where its 95 % interval lies there, the second where the interval lies elsewhere.
        """
        d = c.difference
        below, above = d.below(self.low / 100), 1 - d.below(self.high / 100)
        return min(1.0, 2 * max(below, above)), min(1.0, 2 * (1 - max(below, above)))

    def at(self, factor: float) -> Part:
        """The same part where "far", "close" or "as good" is so many times as many points."""
        low, high = (x * factor if x else x for x in (self.low, self.high))
        return replace(self, low=low, high=high)


@dataclass(frozen=True)
class Claim:
    """A published conclusion.

    Attributes:
        name: how code and chapters call it.
        words: what was concluded, in this project's words.
        parts: what that says of differences. "Far" and "much" are read as five points or more, "as good" as no
            more than one point behind, "close" as within one point, "slightly worse" as less than five points,
            and "slightly better", near the top of the scale, as less than two.
        control: whether it holds by construction, whatever is measured. It is counted apart.
    """

    name: str
    words: str
    parts: tuple[Part, ...]
    control: bool = False

    @property
    def threshold(self) -> float | None:
        """The points that a word of it was read as, if there is such a word; the largest where there are two."""
        ends = [abs(x) for part in self.parts for x in (part.low, part.high)]
        return max((x for x in ends if x and x != ANY), default=None)


@dataclass(frozen=True)
class Finding:
    """A claim beside what was measured: the differences, with intervals that hold for all of them at once, and the
    parts that they are of, which are all of the claim's unless rows are missing."""

    claim: Claim
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        points = "; ".join(f"{c.change} against {c.base} {numbers(c)}" for c in self.comparisons)
        together = f" (95 % for all {len(self.comparisons)} at once)" * (len(self.comparisons) > 1)
        return f"{self.verdict}: {points or 'rows are missing'}{together}"


def numbers(c: Comparison) -> str:
    """A difference in points with its interval, in figures."""
    return c.difference.printed


CLAIMS = (
    Claim("last-token", "Reading the last token is far better than reading the first.", (Part("2", "1", 5, ANY),)),
    Claim("last-block", "Training the last block is far better than training the new layer alone.",
          (Part("3", "1", 5, ANY),)),
    Claim("two-blocks", "Training two blocks is better than training one.", (Part("1", "4", 0, ANY),)),
    Claim("all-layers", "Training everything is better than training the last block, and stays behind two blocks.",
          (Part("1", "5", 0, ANY), Part("5", "4", 0, ANY))),
    Claim("size", "A model three times larger is worse; five and twelve times larger are better.",
          (Part("1", "6", -ANY, 0), Part("1", "7", 0, ANY), Part("1", "8", 0, ANY))),
    Claim("random-weights", "Starting from random weights, with all layers trained, is only slightly worse.",
          (Part("1", "10", -5, 0), Part("5", "10", -5, 0))),
    Claim("lora", "LoRA is as good as training everything.", (Part("5", "11", -1, ANY), Part("9", "12", -1, ANY))),
    Claim("full-context", "Padding to the whole context is much worse.", (Part("1", "13", -ANY, -5),)),
    Claim("no-padding", "No padding is better; accumulating eight messages is slightly better still, and close to "
          "reading the last real token.",
          (Part("1", "14", 0, ANY), Part("1", "15", 0, ANY), Part("14", "15", 0, 2), Part("1", "16", 0, ANY),
           Part("16", "15", -1, 1))),
    Claim("no-causal-mask", "Training without the causal mask is slightly better.", (Part("1", "17", 0, 2),)),
    Claim("ignored-label", "An ignored label changes nothing.", (Part("1", "18", 0, 0),), control=True),
    Claim("pooling", "Averaging over all positions is better.", (Part("1", "19", 0, ANY),)),
)  # fmt: skip
"""In the order in which they were published."""


def findings(rows: dict[str, Runs], clean: bool = False) -> dict[str, Finding]:
    """Every claim against one study's rows: name to :class:`Finding`."""
    return {claim.name: _finding(claim, rows, clean) for claim in CLAIMS}


def _finding(claim: Claim, rows: dict[str, Runs], clean: bool) -> Finding:
    there = _there(claim, rows)
    found = [difference(rows[part.base], rows[part.change], clean) for part in there]
    level = 1 - (1 - LEVEL) / len(claim.parts)
    comparisons = tuple(replace(c, difference=c.difference.at(level)) for c in found)
    return Finding(claim, judged(claim, there, comparisons), comparisons, tuple(there))


def _there(claim: Claim, rows: Container[str]) -> list[Part]:
    return [part for part in claim.parts if part.base in rows and part.change in rows]


def judged(claim: Claim, parts: Sequence[Part], comparisons: Sequence[Comparison]) -> Verdict:
    """What the parts that could be measured say of a claim together."""
    verdicts = [part.verdict(c) for part, c in zip(parts, comparisons, strict=True)]
    if "does not hold" in verdicts:
        return "does not hold"
    if len(parts) < len(claim.parts):
        return "not measured"
    return "cannot be told" if "cannot be told" in verdicts else "holds"
