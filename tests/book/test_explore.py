"""The page with the stored results: its numbers are Python's, and it can be used by everyone.

What the page does is tested twice: on made-up results in a page of its own, which needs Chromium and no
book, and on the built book (marked ``book``).
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import BUILD, PHONE, ROOT, load, need

import onechange as oc
from onechange.evidence.runs import Runs

BOOK = ROOT / "book"
Study = dict[str, Runs]


@pytest.fixture(scope="module")
def explore() -> ModuleType:
    return load("explore")


def runs(row: str, share: float, seeds: int = 3, n: int = 60, first: int = 123, **changes: Any) -> Runs:
    """Made-up runs of a row that is right on about this share of ``n`` messages."""
    rng = np.random.default_rng(round(1e4 * share) + seeds)
    hard = np.random.default_rng(0).random(n) - 0.5
    right = rng.random((seeds, n)) + 0.3 * hard < share
    seen = np.tile(np.arange(n) % 5 == 0, (seeds, 1)).astype(np.int8)
    each = rng.random((3, seeds))
    made = {"messages_sha256": "a" * 64}
    values = (row, oc.BASELINE, int(1e6 * share**9), list(range(first, first + seeds)), right, seen)
    return replace(Runs(*values, *each, np.zeros((seeds, 1, 2)), [0], [0], made=made), **changes)


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    """Rows with many seeds, few, one, none in common, other messages, some that failed; with and without a network."""
    table = [
        *(runs("0a", 0.7, 1), runs("0c", 0.9, 1), runs("1", 0.85), runs("2", 0.6, failed=2)),
        *(runs("4", 0.9, 1), runs("16", 0.95), replace(runs("1", 0.85), row="18")),
    ]
    beyond = [runs("1", 0.85, 2), runs("pad-mask", 0.9, 2), runs("rank-1", 0.8, 2, first=900), runs("16", 0.93, 5)]
    other = [runs("1", 0.8, n=50), runs("3", 0.7, n=50)]
    groups = {"table-uci": table, "beyond-uci": beyond, "table-pocket": other}
    return {name: {x.row: x for x in group} for name, group in groups.items()}


@pytest.fixture(scope="module")
def made(explore: ModuleType, studies: dict[str, Study]) -> list[tuple[str, list[Study]]]:
    """The same as the page groups them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oc, "stored", stand_in(studies))
        return explore.tables()


def stand_in(studies: dict[str, Study]) -> Callable[[str], Study]:
    def stored(name: str) -> Study:
        if name not in studies:
            raise oc.UsageError(f"no results are stored as {name!r}")
        return studies[name]

    return stored


def read(folder: Path) -> dict[str, Any]:
    text = (folder / "index.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("const EXPLORE = ").rstrip(";\n"))


# What is written.


def test_studies_of_the_same_messages_are_one_table(explore: ModuleType, made: list) -> None:
    assert [name for name, _ in made] == ["UCI messages, pocket models", "pocket messages, pocket models"]
    rows = explore.joined(made[0][1])
    assert list(rows) == ["0a", "0c", "1", "2", "4", "16", "18", "pad-mask", "rank-1"]
    assert (len(rows["1"].seeds), len(rows["16"].seeds)) == (3, 5)


def test_a_study_appears_once_it_is_stored(
    explore: ModuleType, studies: dict[str, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oc, "stored", stand_in({"table-uci": studies["table-uci"]}))
    assert [name for name, _ in explore.tables()] == ["UCI messages, pocket models"]
    monkeypatch.setattr(oc, "stored", stand_in({}))
    assert explore.tables() == []


def test_what_cannot_be_compared_says_why(explore: ModuleType) -> None:
    one = runs("1", 0.8)
    assert "same seeds" in explore.pair(one, runs("rank-1", 0.8, first=900))
    assert "same messages" in explore.pair(one, replace(one, row="2", made={"messages_sha256": "b"}))


def test_results_that_are_missing_or_without_value_are_written(explore: ModuleType, made: list, tmp_path: Path) -> None:
    explore.make(tmp_path, made)
    first, second = read(tmp_path)["tables"]
    lines = {line["row"]: line for line in first["rows"]}
    assert lines["0a"]["values"]["seeds"] is None
    assert lines["pad-mask"]["shown"]["published"] == "–"
    assert lines["2"]["shown"]["seeds"] == "3 of 5"
    assert (first["messages"], first["clean"], second["messages"]) == (60, 48, 50)
    explore.make(tmp_path, [])
    assert read(tmp_path)["tables"] == []


def test_what_is_there_is_not_made_again(explore: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(explore, "make", lambda folder, found: calls.append(folder))
    explore.main(tmp_path / "explore")
    explore.main(tmp_path / "explore")
    assert len(calls) == 1
    monkeypatch.setattr(explore, "digest", lambda: "another package")
    explore.main(tmp_path / "explore")
    assert len(calls) == 2


# What is shown: in a page of its own, and in the book.


@pytest.fixture(scope="session")
def build() -> Path:
    """A browser is enough for half of these tests: the book is asked for where it is needed."""
    return BUILD


@pytest.fixture(scope="module")
def own_page(explore: ModuleType, made: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's HTML, scripts and styles around the made-up results."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "_static" / "explore").mkdir(parents=True)
    for path in (BOOK / "_assets").glob("*.*"):
        (folder / "_static" / path.name).symlink_to(path)
    (folder / "_static" / "vendor").symlink_to(BOOK / "_assets" / "vendor")
    explore.make(folder / "_static" / "explore", made)
    blocks = re.findall(r"```\{raw\} html\n(.*?)```", (BOOK / "explore.md").read_text(encoding="utf-8"), re.DOTALL)
    head = '<link rel="stylesheet" href="_static/book.css" /><script src="_static/sort.js" defer></script>'
    start = '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8" /><title>Explore</title>'
    body = f'<body><article class="bd-article">{"".join(blocks)}</article></body>'
    page = folder / "explore.html"
    page.write_text(f"{start}{head}{body}</html>", encoding="utf-8")
    return page


Opened = tuple[Any, list[tuple[str, list[Study]]]]


@pytest.fixture(params=["own", pytest.param("book", marks=pytest.mark.book)])
def opened(request: pytest.FixtureRequest, explore: ModuleType, browser) -> Iterator[Opened]:
    """The open page and what Python has for it."""
    if request.param == "book":
        need((BUILD / "explore.html").exists(), "there is no built book: run `make book` first")
        server, visit = request.getfixturevalue("server"), request.getfixturevalue("visit")
        yield visit(f"{server}/explore.html"), explore.tables()
        return
    errors: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(request.getfixturevalue("own_page").as_uri())
    yield page, request.getfixturevalue("made")
    page.close()
    assert errors == []


def signed(share: float) -> str:
    """A difference in points as the page writes it."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return text[1:] if text[1:] == "0.0" else text


def said(page) -> str:
    return page.inner_text("#explore-verdict")


def facts(page) -> dict[str, str]:
    texts = page.evaluate("[...document.querySelectorAll('#explore-facts > *')].map((e) => e.textContent)")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def listed(page, column: int = 0) -> list[str]:
    """A column of the rows that can be seen, without the marks of the chosen ones."""
    script = f"""[...document.querySelectorAll('#explore-rows tr')].filter((tr) => !tr.hidden)
        .map((tr) => (tr.cells[{column}].querySelector('button') ?? tr.cells[{column}]).textContent)"""
    return page.evaluate(script)


CHOOSE = """([change, base]) => {
    for (const [name, label] of [["change", change], ["base", base]]) {
      const select = document.getElementById(`explore-${name}`);
      select.value = [...select.options].find((option) => option.textContent === label).value;
      if (name === "base") select.dispatchEvent(new Event("change"));
    }
    const guess = document.getElementById("explore-guess");
    if (!guess.hidden) guess.querySelector("button").click();
}"""


def choose(page, change: str, base: str) -> None:
    page.evaluate(CHOOSE, [change, base])


def check_pair(page, base: Runs, change: Runs, corrected: dict[str, Any]) -> None:
    """``corrected``: the comparisons with the baseline, whose verdicts go through the correction."""
    choose(page, change.label, base.label)
    verdict, told = said(page), facts(page)
    try:
        c = oc.difference(base, change)
    except oc.UsageError:
        assert "same" in verdict
        assert told == {}
        return
    d = c.difference
    verdict_of = (corrected.get(change.row, c) if base.row == "1" else c).verdict
    head, _, tail = verdict.partition("\n")
    assert head == f"{change.label} against {base.label}"
    assert tail.strip() == f"{signed(d.mean)} points [{signed(d.low)}, {signed(d.high)}]: {verdict_of}"
    test = "McNemar’s exact test" if d.seeds == 1 else "the larger of Student’s t and a permutation test"
    assert told["test"] == f"{c.said_p}, {test}"
    assert told["on the same"] == f"{d.seeds} seed{'s' * (d.seeds > 1)} and {d.messages} messages"
    if d.seeds > 1 and d.se:
        assert f"to show a difference of {told['to show a difference of']}" == c.outlook()
    else:
        assert "to show a difference of" not in told
    seeds = shared(base, change)
    apart = np.abs(change.of(seeds).right.astype(float) - base.of(seeds).right).mean()
    assert float(told["right or wrong together"].split()[0]) == pytest.approx(100 * (1 - apart), abs=0.051)


def shared(base: Runs, change: Runs) -> list[int]:
    if base.fixed or change.fixed:
        return (change if base.fixed else base).seeds
    return [seed for seed in base.seeds if seed in change.seeds]


def test_a_pairs_numbers_are_pythons(opened: Opened, explore: ModuleType) -> None:
    page, tables = opened
    for i, (_, studies) in enumerate(tables):
        page.select_option("#explore-table", str(i))
        rows = explore.joined(studies)
        corrected = oc.against_baseline(studies[0]) if "1" in studies[0] else {}
        several = list(rows.values())
        pairs = [(a, b) for a in several for b in several if a is not b]
        if len(several) > 10:  # each with the one before it, and with the baseline, both ways round
            near = list(itertools.pairwise(several))
            pairs = [*near, *((b, a) for a, b in near), *((rows["1"], x) for x in several if x.row != "1")]
        for base, change in pairs:
            check_pair(page, base, change, corrected)


def test_what_is_said_against_the_baseline_is_corrected_as_in_the_chapter(opened: Opened) -> None:
    page, tables = opened
    study = tables[0][1][0]
    corrected = oc.against_baseline(study)
    for row, c in corrected.items():
        choose(page, study[row].label, study["1"].label)
        many = f"for all {len(corrected)} comparisons with the baseline (Holm): {c.said_p}, {c.verdict}"
        assert facts(page)["corrected"] == many


def test_a_rows_numbers_are_pythons(opened: Opened, explore: ModuleType) -> None:
    page, tables = opened
    for i, (_, studies) in enumerate(tables):
        page.select_option("#explore-table", str(i))
        for at, (row, x) in enumerate(explore.joined(studies).items()):
            cells = page.locator("#explore-rows tr").nth(at).locator("th, td").all_inner_texts()
            test = oc.accuracy(x)
            assert cells[0].split()[0].rstrip(",") == row
            assert cells[1] == x.title
            assert cells[2].strip() == str(test).replace(" %", "")
            assert cells[4] == f"{100 * oc.accuracy(x, clean=True).mean:.1f}"
            assert cells[5] == f"{x.n_trainable:,}"
            assert cells[6] == f"{x.took:.1f}"
            assert cells[7].split()[0] == ("–" if x.fixed else str(len(x.seeds)))
            old = oc.published().set_index("row")["test"]
            assert cells[8] == (f"{old[int(row)]:.2f}" if row.isdecimal() else "–")


def test_every_row_shows_its_difference_from_the_baseline(opened: Opened, explore: ModuleType) -> None:
    """The number, and a mark that is filled where the difference is shown after the correction."""
    page, tables = opened
    rows, corrected = explore.joined(tables[0][1]), oc.against_baseline(tables[0][1][0])
    cells = dict(zip(listed(page), page.locator("#explore-rows tr td:nth-child(4)").all(), strict=True))
    for row, x in rows.items():
        if row == "1":
            assert cells[row].inner_text() == "–"
            continue
        try:
            d = oc.difference(rows["1"], x).difference
        except oc.UsageError:
            assert cells[row].inner_text() == "–"
            continue
        assert cells[row].inner_text().strip() == signed(d.mean)
        shown = row in corrected and corrected[row].shown
        if row in corrected:
            assert (cells[row].locator(".explore-hollow").count() == 0) == shown


def test_p_is_shown_to_those_who_guessed(opened: Opened) -> None:
    page, _ = opened
    page.reload()
    page.wait_for_selector("#explore-guess:visible")
    assert "test" not in facts(page)
    assert page.inner_text("#explore-verdict").rstrip().endswith("]")
    assert page.inner_text("#explore-short").split() == page.inner_text("#explore-verdict").split()
    page.locator("#explore-guess button").first.click()
    assert facts(page)["test"].startswith("p ")
    assert page.inner_text("#explore-guessed").startswith("Your guesses: ")
    assert page.inner_text("#explore-short").split() == page.inner_text("#explore-verdict").split()
    page.click("#explore-swap")  # the same pair: nothing is asked again
    assert page.locator("#explore-guess").is_hidden()


@pytest.mark.book
def test_no_column_is_cut_off_on_a_small_laptop(book: Path, origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/explore.html", {"width": 1280, "height": 800})
    page.wait_for_selector("#explore-rows tr")
    box = "document.querySelector('.explore-scroll')"
    assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")


def test_a_heading_sorts_and_the_rows_keep_their_numbers(opened: Opened) -> None:
    page, _ = opened
    before = dict(zip(listed(page), listed(page, 2), strict=True))
    heading = page.locator(".explore-rows th", has_text="test %")
    for direction in ("descending", "ascending"):  # the best first
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        scores = [float(text.split()[0]) for text in listed(page, 2)]
        assert scores == sorted(scores, reverse=direction == "descending")
    assert dict(zip(listed(page), listed(page, 2), strict=True)) == before
    published = page.locator(".explore-rows th", has_text="published").get_by_role("button")
    published.click()
    old = [text for text in listed(page, 8) if text != "–"]
    assert listed(page, 8)[: len(old)] == old  # what is missing comes behind
    page.select_option("#explore-table", str(page.locator("#explore-table option").count() - 1))
    page.select_option("#explore-table", "0")
    assert listed(page) == list(before)
    assert page.locator(".explore-rows th[aria-sort]").count() == 0


def test_rows_are_found_and_only_they_are_drawn(opened: Opened) -> None:
    page, _ = opened
    need((BOOK / "_assets/vendor/vega/vega.min.js").exists(), "Vega is not there: book/_ext/assets.py fetches it")
    every = listed(page)
    dots = page.locator("#explore-plot .mark-symbol path")
    assert dots.count() == len(every)
    page.fill("#explore-find", "16 REAL")
    assert listed(page) == ["16"]
    assert page.inner_text("#explore-count") == f"1 of {len(every)} rows"
    assert dots.count() == 1
    page.fill("#explore-find", "nothing is called so")
    assert (listed(page), dots.count()) == ([], 0)
    page.fill("#explore-find", "")
    page.select_option("#explore-kind", "plain")
    assert [row[0] for row in listed(page)] == ["0"] * len(listed(page))
    page.select_option("#explore-home", "token")
    assert listed(page) == []
    page.select_option("#explore-kind", "published")
    assert set(listed(page)) <= {"2", "16", "19"}
    assert set(listed(page)) >= {"2", "16"}


def test_two_rows_are_chosen_by_keyboard(opened: Opened) -> None:
    page, _ = opened
    on_a_row = "document.activeElement.closest('#explore-rows') !== null"
    page.focus("#explore-find")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(on_a_row):
            break
    assert page.evaluate("document.activeElement.textContent") == "0a"
    for key, row in (("ArrowDown", None), ("End", listed(page)[-1]), ("Home", "0a"), ("ArrowDown", listed(page)[1])):
        page.keyboard.press(key)
        assert row is None or page.evaluate("document.activeElement.textContent") == row
    second, third = listed(page)[1:3]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    chosen = page.locator("#explore-rows .explore-chosen").all()
    assert [row.locator("button").inner_text() for row in chosen] == [second, third]
    assert [row.locator("th").inner_text().split(", ")[-1] for row in chosen] == ["compared with", "chosen"]
    assert said(page).startswith(f"{third} ")
    assert f" against {second} " in said(page).partition("\n")[0]
    before = said(page)
    page.locator("#explore-swap").press("Enter")
    assert said(page).startswith(f"{second} ")
    page.locator("#explore-swap").press("Enter")
    assert said(page) == before
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert not page.evaluate(on_a_row), "one row's button takes Tab, the arrow keys the others"


def test_what_is_chosen_stands_in_the_address(opened: Opened) -> None:
    page, _ = opened
    assert "#" not in page.url
    page.fill("#explore-find", "token")
    page.locator("#explore-rows tr:visible").first.click()
    page.select_option("#explore-x", "trained")
    found = (listed(page), said(page), page.input_value("#explore-x"))
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    assert (listed(page), said(page), page.input_value("#explore-x")) == found
    with page.expect_download() as download:
        page.click("#explore-csv")
    frame = pd.read_csv(download.value.path(), dtype={"row": str})
    assert list(frame.row) == listed(page)
    assert [f"{x:.1f}" for x in frame.test] == [cell.split()[0] for cell in listed(page, 2)]
    page.goto("about:blank")
    page.goto(address.partition("#")[0] + "#change=nothing&x=nothing&kind=nothing&base=2")
    assert page.input_value("#explore-x") == "seconds"
    assert " against 2 " in said(page)


def test_the_same_row_twice_is_no_comparison(opened: Opened) -> None:
    page, _ = opened
    page.select_option("#explore-base", label="16 last real token")
    assert said(page) == "Choose two different rows."
    assert facts(page) == {}
    assert page.locator("#explore-axis").is_hidden()
    page.select_option("#explore-change", label="2 first token")
    assert said(page).startswith("2 first token against 16 last real token")
    assert page.locator("#explore-axis").is_visible()


def test_the_axes_can_be_chosen(opened: Opened, explore: ModuleType) -> None:
    page, tables = opened
    need((BOOK / "_assets/vendor/vega/vega.min.js").exists(), "Vega is not there: book/_ext/assets.py fetches it")
    figure = page.locator("#explore-plot")
    rows = explore.joined(tables[0][1])
    page.select_option("#explore-x", "trained")
    best = [
        x.label
        for x in sorted(rows.values(), key=lambda x: x.n_trainable)
        if not any(
            (y.n_trainable, -y.test.mean()) < (x.n_trainable, -x.test.mean()) and y.test.mean() >= x.test.mean()
            for y in rows.values()
        )
    ]
    words = figure.get_attribute("aria-label")
    assert words.startswith(f"test accuracy (%) of {len(rows)} rows against trained parameters.")
    front = re.search(r"beats these: (.*?)\. ", words)
    assert front is not None
    assert len(best) >= 2
    assert [name for name in front[1].split("; ") if name not in best] == []
    page.select_option("#explore-y", "published")
    page.select_option("#explore-x", "test")
    published = sum(row.isdecimal() for row in rows)
    assert page.locator("#explore-plot .mark-symbol path").count() == published
    assert f"{len(rows) - published} row" in figure.get_attribute("aria-label")
    assert "beats these" not in figure.get_attribute("aria-label")
    assert page.locator("#explore-plot .mark-line path[d]").count() == 0


def test_a_point_is_chosen_by_a_click(opened: Opened) -> None:
    page, _ = opened
    need((BOOK / "_assets/vendor/vega/vega.min.js").exists(), "Vega is not there: book/_ext/assets.py fetches it")
    page.fill("#explore-find", "first token")
    page.locator("#explore-plot .mark-symbol path").click()
    assert said(page).startswith("2 first token against 16 ")
    assert page.locator("#explore-plot .mark-symbol path").count() == 1


def test_without_results_the_page_says_so(own_page: Path, browser) -> None:
    page = browser.new_page()
    page.route("**/explore/index.js", lambda route: route.abort())
    page.goto(own_page.as_uri())
    assert page.locator("#explore-problem", has_text="make book").is_visible()
    assert page.locator(".explore:visible").count() == 0
    page.close()
    page = browser.new_page()
    page.route("**/vega.min.js", lambda route: route.abort())
    page.goto(own_page.as_uri())
    assert said(page).startswith("16 last real token against 1 ")
    page.close()


def test_without_scripts_the_page_says_so(own_page: Path, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(own_page.as_uri())
    assert page.locator(".live-missing", has_text="JavaScript").is_visible()
    context.close()


# The book's page alone.


@pytest.fixture
def book() -> Path:
    need((BUILD / "explore.html").exists(), "there is no built book: run `make book` first")
    return BUILD


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_in_use_can_be_read_by_everyone(theme: str, book: Path, server: str, visit: Callable) -> None:
    need(importlib.util.find_spec("axe_playwright_python"), "axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{server}/explore.html", theme=theme)
    page.locator("#explore-rows tr").nth(3).click()
    page.locator(".explore-rows thead button").nth(2).click()
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []
    ink = page.evaluate("getComputedStyle(document.body).color")
    words = "[...document.querySelectorAll('#explore-plot .role-axis-label text')].map((e) => getComputedStyle(e).fill)"
    assert set(page.evaluate(words)) == {ink}


@pytest.mark.book
def test_on_a_phone_the_table_scrolls_and_the_page_does_not(book: Path, origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/explore.html", PHONE)
    for row in range(3):
        page.locator("#explore-rows tr").nth(row).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.evaluate("(({ scrollWidth, clientWidth }) => [scrollWidth, clientWidth])"
                          "(document.querySelector('.explore-scroll'))")  # fmt: skip
    assert sizes[0] > sizes[1]
    svg = page.locator("#explore-plot svg")
    assert svg.bounding_box()["width"] <= PHONE["width"]
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_function("document.querySelector('#explore-plot svg').clientWidth > 500")


@pytest.mark.book
def test_no_other_page_loads_the_results_or_vega(book: Path) -> None:
    others = [path for path in book.glob("*.html") if path.name != "explore.html"]
    assert [path.name for path in others if "explore.js" in path.read_text() or "vega.min" in path.read_text()] == []
