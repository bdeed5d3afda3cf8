"""The twelve conclusions beside their witnesses: verdicts, corrections, readings, probabilities."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import drawn, made_up
from scipy import stats

from onechange import plot
from onechange.evidence.claims import ANY, CLAIMS, Claim, Finding, Part, findings
from onechange.evidence.compare import Comparison, adjust, difference
from onechange.evidence.intervals import estimate
from onechange.evidence.runs import Runs
from onechange.evidence.witnesses import (
    WITNESSES,
    conclusions,
    corrected,
    counts,
    leaning,
    p_of,
    probabilities,
    readings,
    witnesses,
)

ROWS = sorted({row for claim in CLAIMS for part in claim.parts for row in (part.base, part.change)})
LEVELS = {"2": 0.3, "3": 0.0, "13": -1.0}


def study(seed: int, but: tuple[str, ...] = ()) -> dict[str, Runs]:
    """A table whose rows 2, 3 and 13 are far worse; row 18 is the baseline over again."""
    rows = {}
    for i, name in enumerate(ROWS):
        rng = np.random.default_rng([seed, 0 if name in ("1", "18") else i])
        rows[name] = made_up(name, drawn(rng, 4, 80, LEVELS.get(name, 2.5)), train=np.ones(4))
    return {name: runs for name, runs in rows.items() if name not in but}


def comparison(mean: float, se: float) -> Comparison:
    """A difference in points whose standard error is known."""
    e = estimate(np.eye(2))
    return Comparison("1", "4", replace(e, mean=mean / 100, se=se / 100, df=1e6).at(0.95), 0.5, 0.5)


def test_the_probabilities_are_those_of_students_t() -> None:
    """Of a mean with a standard error: the posterior of Benavoli et al. (2017), by hand."""
    d = difference(study(1)["1"], study(1)["4"]).difference
    negative, zero, positive = probabilities(d)
    t = stats.t(d.df, d.mean, d.se)
    assert negative == pytest.approx(t.cdf(-0.01))
    assert positive == pytest.approx(t.sf(0.01))
    assert negative + zero + positive == pytest.approx(1)
    assert probabilities(difference(study(1)["1"], study(1)["18"]).difference) == (0, 1, 0)


@pytest.mark.parametrize("region", [(0, ANY), (-ANY, -5), (-1, 1), (5, ANY), (-5, 0)])
def test_a_parts_p_is_the_level_of_its_verdict(region: tuple[float, float]) -> None:
    """Below 0.05 where the 95 % interval tells, in whichever direction; never both."""
    for mean in np.arange(-9, 9, 0.7):
        part, c = Part("1", "4", *region), comparison(float(mean), 0.6)
        holds, fails = part.p(c)
        assert {(holds < 0.05): "holds", (fails < 0.05): "does not hold"}.get(True, "cannot be told") == part.verdict(c)
        assert not (holds < 0.05 and fails < 0.05)


def test_the_p_of_a_conclusion_is_the_level_of_its_verdict() -> None:
    """All parts for one that holds, any part for one that does not, Bonferroni for either."""
    for seed in range(4):
        for f in findings(study(seed)).values():
            if not f.claim.control:
                p = p_of(f)
                assert p is not None
                assert (p < 0.05) == (f.verdict in ("holds", "does not hold")), f.claim.name
    assert p_of(Finding(CLAIMS[0], "not measured", ())) is None


def test_holm_takes_a_verdict_back() -> None:
    """Where its p is no longer below 0.05 among those of the other conclusions."""
    f = findings(study(0))["last-token"]
    assert f.verdict == "holds"
    assert (corrected(f, 0.04), corrected(f, 0.06), corrected(f, None)) == ("holds", "cannot be told", "holds")
    assert adjust([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])


def test_readings_of_a_word() -> None:
    """Far as three, five and eight points; a conclusion without such a word has none."""
    claim = Claim("far", "", (Part("4", "1", 5, ANY),))
    found = {mean: readings(Finding(claim, "holds", (comparison(mean, 0.1),), claim.parts)) for mean in (4.0, 6.0)}
    assert found[4.0] == {3: "holds", 5: "does not hold", 8: "does not hold"}
    assert found[6.0] == {3: "holds", 5: "holds", 8: "does not hold"}
    plain = Claim("better", "", (Part("1", "4", 0, ANY),))
    assert readings(Finding(plain, "holds", (comparison(4, 0.1),), plain.parts)) == {}


def test_the_table_has_a_line_for_every_part_and_witness() -> None:
    """Numbers of the findings; a witness that lacks rows says so and keeps its lines."""
    one, other = study(0), study(1, but=("9", "12", "17"))
    frame = conclusions({"one": one, "other": other})
    parts = sum(len(claim.parts) for claim in CLAIMS)
    assert frame.groupby("witness", sort=False).size().to_dict() == {"one": parts, "other": parts}
    found = findings(one)
    for line in frame[frame.witness == "one"].itertuples():
        f = found[line.conclusion]
        c = next(c for p, c in zip(f.parts, f.comparisons, strict=True) if f"{p.change} against {p.base}" == line.rows)
        assert (line.difference, line.low, line.high) == pytest.approx(
            tuple(100 * x for x in (c.difference.mean, c.difference.low, c.difference.high))
        )
        assert line.verdict == f.verdict
        assert line.negative + line.zero + line.positive == pytest.approx(1)
    there = frame[frame.witness == "other"].set_index("conclusion")
    assert there.verdict["no-causal-mask"] == "not measured"
    assert math.isnan(there.difference["no-causal-mask"])
    assert frame[frame.control].conclusion.unique().tolist() == ["ignored-label"]


def test_a_control_is_counted_apart() -> None:
    """It holds whatever is measured."""
    found = findings(study(0))
    assert found["ignored-label"].verdict == "holds"
    said = counts(found)
    assert sum(said.values()) == len(CLAIMS) - 1
    assert said["holds"] == sum(f.verdict == "holds" for f in found.values()) - 1


def test_a_verdict_may_lean_on_a_seed() -> None:
    """One left out at a time: what is far stays; of two seeds one alone tells little."""
    frame = leaning(study(0))
    assert frame.of.unique().tolist() == [4]
    assert frame.stays["last-token"] == frame.stays["ignored-label"] == 4


def test_witnesses_are_the_studies_that_are_stored() -> None:
    """By the words for them; the published split is one."""
    found = witnesses()
    assert set(found) <= set(WITNESSES.values())
    assert "1" in found[WITNESSES["table-uci"]]


def test_the_figure_says_what_the_table_says() -> None:
    frame = conclusions({"one": study(0), "other": study(1, but=("17",))})
    chart = plot.conclusions(frame)
    assert "last-token: holds (one), holds (other)" in chart.alt
    assert "no-causal-mask: cannot be told (one), not measured (other)" in chart.alt
    for layout in (plot.WIDE, plot.NARROW):
        words = [text.get_text() for text in chart.figure(layout).axes[0].texts]
        assert words.count("●") == (frame.drop_duplicates(["conclusion", "witness"]).verdict == "holds").sum()
        assert words.index("ignored-label") > words.index("pooling"), "the control stands last"
