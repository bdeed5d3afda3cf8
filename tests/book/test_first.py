"""The first page: what a reader sees, types and publishes there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import onechange as oc
from onechange.evidence.runs import stored


@pytest.mark.book
def test_three_filters_read_what_is_typed_and_load_only_when_asked(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/intro.html")
    files = "performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname.split('/').pop())"
    assert not {"pretrained.js", "model.js"} & set(page.evaluate(files))
    page.fill("#first-text", "WINNER! You have been picked for a free phone. Claim it today at prize-claim.example")
    table = page.locator("#first-box table")
    table.wait_for()
    answers = table.locator(".live-answer span").all_inner_texts()
    assert len(answers) == 3
    assert all(answer.endswith("%") for answer in answers)
    page.fill("#first-text", "Running late, start without me. Save me some cake?")
    page.wait_for_function(
        "(before) => document.querySelector('#first-box .live-answer span').textContent !== before", arg=answers[0]
    )
    assert [
        float(a[:-1]) < float(b[:-1])
        for a, b in zip(table.locator(".live-answer span").all_inner_texts(), answers, strict=True)
    ] == [True] * 3
    page.fill("#first-text", "  ")
    page.wait_for_function("document.querySelector('#first-box .live-answer span').textContent === '–'")


@pytest.mark.book
def test_a_table_is_ranked_and_the_next_is_another(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/intro.html")
    scores = "[...document.querySelectorAll('.oc-publish .oc-score')].map((cell) => Number(cell.textContent))"
    rows = {name: runs for name, runs in stored("table-uci").items() if not runs.fixed}
    tables = []
    for _ in range(5):
        page.click(".oc-go")
        found = page.evaluate(scores)
        assert len(found) == len(rows)
        assert found == sorted(found, reverse=True)
        tables.append(page.locator(".oc-publish .oc-name").all_inner_texts())
    assert len({tuple(table) for table in tables}) > 1
    assert "came first" in page.inner_text(".oc-said")
    page.check(".oc-all")
    means = sorted((round(100 * oc.accuracy(runs).mean, 1) for runs in rows.values()), reverse=True)
    assert page.evaluate(scores) == pytest.approx(means, abs=0.051)
    dots = page.evaluate(
        "[...document.querySelectorAll('.oc-publish svg')].map((x) => x.querySelectorAll('.oc-ghost').length)"
    )
    assert sorted(dots) == sorted(len(runs.seeds) for runs in rows.values())


@pytest.mark.book
def test_a_name_in_the_figure_leads_to_its_chapter(origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/intro.html")
    page.locator(".oc-figure .oc-wide a", has_text="read the first token").click()
    page.wait_for_url("**/token.html")
