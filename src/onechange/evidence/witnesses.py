"""The twelve conclusions beside every study that can speak of them: one table, with what each verdict leans on.

A witness is a stored study with rows of the table. Beside the verdict of each stand the same verdict without the
messages that leaked, the one that is left after Holm's (1979) correction over the conclusions of that witness, and
those under other readings of "far", "close" and "slightly". Beside each difference stands how probable it is that
it is negative, practically zero (within one point) or positive, as Benavoli, Corani, Demšar and Zaffalon (2017,
*Time for a change*, JMLR 18) propose: see :meth:`~onechange.evidence.intervals.Estimate.below`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..support.errors import UsageError
from .claims import CLAIMS, Claim, Finding, Part, Verdict, findings, judged, numbers
from .compare import adjust
from .intervals import Estimate
from .runs import LEVEL, Runs, stored

WITNESSES = {
    "table-uci": "UCI, published split",
    "folds-uci": "UCI, its folds",
    "tuned-uci": "UCI, rates of their own",
    "table-pocket": "pocket messages",
    "table-uci-smollm2": "UCI, SmolLM2",
    "gpt2-uci": "UCI, GPT-2",
}
"""The studies that can speak of the conclusions, by the names that they are stored under."""

READINGS = {5.0: (3.0, 5.0, 8.0), 2.0: (1.0, 2.0, 4.0), 1.0: (0.5, 1.0, 2.0)}
"""A threshold in points, and the readings of the same word that a verdict is tried with."""

PRACTICALLY = 0.01
"""Differences within this fraction of zero are practically none."""

Study = dict[str, Runs]


def witnesses() -> dict[str, Study]:
    """The stored studies that speak of the conclusions, by the words for each."""
    found = {}
    for name, words in WITNESSES.items():
        try:
            found[words] = stored(name)
        except UsageError:  # not made yet
            continue
    return found


def conclusions(studies: Mapping[str, Study] | None = None) -> pd.DataFrame:
    """Every part of every conclusion beside every witness: one line each.

    Args:
        studies: witnesses by the words for each; those that are stored unless given.

    Returns:
        columns ``conclusion``, ``control``, ``witness``, ``rows`` ("2 against 1"), ``difference``, ``low`` and
        ``high`` (points, an interval that holds for all parts at once), ``measured`` (the three in figures),
        ``region`` (where the difference must lie), ``negative``, ``zero`` and ``positive`` (probabilities) of the
        part; ``verdict``, ``clean`` (without leaked messages), ``holm``, ``p`` and ``readings`` of the whole
        conclusion, the same in all of its lines. A part that a witness has no rows for has NaN and empty words.
    """
    studies = witnesses() if studies is None else studies
    return pd.DataFrame([line for words, rows in studies.items() for line in _of_one(words, rows)])


def _of_one(witness: str, rows: Study) -> list[dict[str, object]]:
    found, clean = findings(rows), findings(rows, clean=True)
    told = {name: p for name, f in found.items() if not f.claim.control and (p := p_of(f)) is not None}
    holm = dict(zip(told, adjust(list(told.values())), strict=True))
    lines = []
    for claim in CLAIMS:
        f = found[claim.name]
        whole = {
            "verdict": f.verdict, "clean": clean[claim.name].verdict, "holm": corrected(f, holm.get(claim.name)),
            "p": told.get(claim.name), "readings": ", ".join(f"{x:g}: {v}" for x, v in readings(f).items()),
        }  # fmt: skip
        measured = dict(zip(f.parts, f.comparisons, strict=True))
        for part in claim.parts:
            line = {"conclusion": claim.name, "control": claim.control, "witness": witness}
            line |= {"rows": f"{part.change} against {part.base}", "region": part.region}
            if c := measured.get(part):
                d = c.difference
                line |= {"difference": 100 * d.mean, "low": 100 * d.low, "high": 100 * d.high, "measured": numbers(c)}
                line |= dict(zip(("negative", "zero", "positive"), probabilities(d), strict=True))
            else:
                line |= {"measured": ""}
            lines.append(line | whole)
    return lines


def probabilities(d: Estimate, practically: float = PRACTICALLY) -> tuple[float, float, float]:
    """How probable it is that a difference is negative, practically zero and positive; they add up to one."""
    below, above = d.below(-practically), 1 - d.below(practically)
    return below, 1 - below - above, above


def p_of(f: Finding) -> float | None:
    """The p of a conclusion's verdict: below 0.05 where it is told, whichever way. ``None`` without rows.

    It holds if all of its parts do, so that p is the largest of theirs; it does not as soon as one does not, which
    is the smallest. Either is taken as often as there are parts, as the intervals are (Bonferroni).
    """
    if not f.comparisons:
        return None
    pairs = [part.p(c) for part, c in zip(f.parts, f.comparisons, strict=True)]
    holds = max(p for p, _ in pairs) if len(pairs) == len(f.claim.parts) else 1.0
    return min(1.0, len(f.claim.parts) * min(holds, min(p for _, p in pairs)))


def corrected(f: Finding, adjusted: float | None) -> Verdict:
    """The verdict that is left once its p is corrected."""
    if f.verdict in ("holds", "does not hold") and adjusted is not None and adjusted >= 1 - LEVEL:
        return "cannot be told"
    return f.verdict


def readings(f: Finding) -> dict[float, Verdict]:
    """The verdicts under other readings of a conclusion's threshold, in points; none where it has no threshold."""
    at = f.claim.threshold
    return {x: judged(f.claim, _read_as(f.parts, x / at), f.comparisons) for x in READINGS.get(at or 0, ()) if at}


def _read_as(parts: Sequence[Part], factor: float) -> list[Part]:
    return [part.at(factor) for part in parts]


def counts(found: Mapping[str, Finding]) -> dict[str, int]:
    """How many conclusions hold, do not hold, cannot be told and were not measured; a control is none of them."""
    said = [f.verdict for f in found.values() if not f.claim.control]
    return {verdict: said.count(verdict) for verdict in ("holds", "does not hold", "cannot be told", "not measured")}


def leaning(rows: Study, claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """How many of the verdicts stay if one seed is left out, each in turn: columns ``verdict``, ``stays``, ``of``.

    A seed is left out of every row that has it; a verdict that one seed decides leans on it.
    """
    seeds = sorted({seed for runs in rows.values() if not runs.fixed for seed in runs.seeds})
    sets = [{row: x if x.fixed else x.of([s for s in x.seeds if s != out]) for row, x in rows.items()} for out in seeds]
    spoken = {row for claim in claims for part in claim.parts for row in (part.base, part.change)}
    others = [findings({row: x for row, x in fewer.items() if row in spoken}) for fewer in sets]
    lines = {
        claim.name: {
            "verdict": f.verdict,
            "stays": sum(other[claim.name].verdict == f.verdict for other in others),
            "of": len(others),
        }
        for claim, f in zip(claims, findings(rows).values(), strict=True)
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("conclusion")
