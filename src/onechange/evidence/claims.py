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
from dataclasses import dataclass, replace
from typing import Literal

from .compare import Comparison, difference
from .intervals import LEVEL
from .runs import Runs

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
        low, high = (f"{x:g}".replace("-", "−") for x in (self.low, self.high))
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


@dataclass(frozen=True)
class Claim:
    """A published conclusion.

    Attributes:
        name: how code and chapters call it.
        words: what was concluded, in this project's words.
        parts: what that says of differences. "Far" and "much" are read as five points or more, "as good" as no
            more than one point behind, "close" as within one point, "slightly worse" as less than five points,
            and "slightly better", near the top of the scale, as less than two.
    """

    name: str
    words: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Finding:
    """A claim beside what was measured: the differences, with intervals that hold for all of them at once."""

    claim: Claim
    verdict: Verdict
    comparisons: tuple[Comparison, ...]

    def __str__(self) -> str:
        points = "; ".join(f"{c.change} against {c.base} {numbers(c)}" for c in self.comparisons)
        together = f" (95 % for all {len(self.comparisons)} at once)" * (len(self.comparisons) > 1)
        return f"{self.verdict}: {points or 'rows are missing'}{together}"


def numbers(c: Comparison) -> str:
    """A difference in points with its interval, in figures."""
    d = c.difference
    return f"{100 * d.mean:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]".replace("-", "−")


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
    Claim("ignored-label", "An ignored label changes nothing.", (Part("1", "18", 0, 0),)),
    Claim("pooling", "Averaging over all positions is better.", (Part("1", "19", 0, ANY),)),
)  # fmt: skip
"""In the order in which they were published."""


def findings(rows: dict[str, Runs], clean: bool = False) -> dict[str, Finding]:
    """Every claim against one study's rows: name to :class:`Finding`."""
    return {claim.name: _finding(claim, rows, clean) for claim in CLAIMS}


def _finding(claim: Claim, rows: dict[str, Runs], clean: bool) -> Finding:
    there = [part for part in claim.parts if part.base in rows and part.change in rows]
    found = [difference(rows[part.base], rows[part.change], clean) for part in there]
    level = 1 - (1 - LEVEL) / len(claim.parts)
    comparisons = tuple(replace(c, difference=c.difference.at(level)) for c in found)
    verdicts = [part.verdict(c) for part, c in zip(there, comparisons, strict=True)]
    if "does not hold" in verdicts:
        return Finding(claim, "does not hold", comparisons)
    if len(there) < len(claim.parts):
        return Finding(claim, "not measured", comparisons)
    return Finding(claim, "cannot be told" if "cannot be told" in verdicts else "holds", comparisons)
