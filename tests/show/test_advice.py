"""The page for readers in a hurry: its answers are the stored runs', and say no more than these show."""

from __future__ import annotations

import pytest

from onechange import difference, published, stored
from onechange.experiment.experiment import BASELINE
from onechange.show import advice

UCI, POCKET = stored("table-uci"), stored("table-pocket")


@pytest.fixture(scope="module")
def found() -> list[dict[str, advice.Comparison]]:
    return [advice.decide(table) for table in (UCI, POCKET)]


def test_a_decision_is_the_difference_of_its_rows(found: list[dict[str, advice.Comparison]]) -> None:
    for d in advice.DECISIONS[:2]:
        for table, compared in zip((UCI, POCKET), found, strict=True):
            alone = difference(table[str(d.base)], table[str(d.row)])
            assert compared[d.question].difference == alone.difference
            assert compared[d.question].adjusted >= alone.p
            assert compared[d.question].family == len(advice.DECISIONS)


def test_only_what_is_shown_is_answered(found: list[dict[str, advice.Comparison]]) -> None:
    for c in (c for compared in found for c in compared.values()):
        assert advice.answer(c).startswith("?") != c.shown
        assert advice.answer(c).startswith("yes") == (c.shown and c.difference.mean > 0)


def test_a_line_has_its_cost_and_its_command(found: list[dict[str, advice.Comparison]]) -> None:
    lines = advice.answers(*found)
    assert len(lines) == len(advice.DECISIONS)
    minutes = published().set_index("row")["minutes"]
    assert lines["minutes"][0] == f"{minutes[1]:.2f} → {minutes[16]:.2f}"
    assert lines["onechange run ..."][0] == "<code>--trainable_token_pos flexible</code>"
    assert BASELINE.flags == []  # every option in the table is a change


def test_the_two_sets_are_not_mixed() -> None:
    table = advice.sets(uci=UCI, pocket=POCKET)
    assert table.loc["UCI messages", "the baseline"] == f"{100 * UCI['1'].test.mean():.1f}%"
    assert table.loc["pocket messages", "train / val / test"] == "1,400 / 200 / 400"
