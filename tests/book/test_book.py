"""The book: its notebooks as files, and its built pages in a browser.

The first half needs nothing but the files. The second half, marked ``book``, looks at ``_build/html``
in Chromium, from a server and from the disk; it is skipped where there is no build or no browser, but
not where ``ONECHANGE_BOOK=required`` is set.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pytest
import yaml
from jupyter_cache import get_cache
from pages import DESK, PHONE, ROOT, load, need

from onechange import plot

stamp, fresh, execute = load("stamp"), load("fresh"), load("execute")
NOTEBOOKS: list[Path] = stamp.notebooks()


def toc() -> list[str]:
    """The pages of the book, in order."""
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    pages = [contents["root"]]

    def walk(node: object) -> None:
        if isinstance(node, dict):
            pages.extend(node[key] for key in ("file",) if key in node)
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(contents.get("parts", contents.get("chapters")))
    return pages


PAGES = toc()

# The files.

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


@each_notebook
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    assert [cell for cell in cells(path) if cell["outputs"] or cell["execution_count"] is not None] == []


@each_notebook
def test_the_first_cell_installs_from_the_address_in_the_configuration(path: Path) -> None:
    first = json.loads(path.read_text())["cells"][0]
    assert source(first) == stamp.cell()
    assert "torch" not in source(first)
    assert first["metadata"]["tags"] == ["remove-cell"]


@each_notebook
def test_cells_are_short(path: Path) -> None:
    lines = [source(cell).splitlines() for cell in cells(path)]
    assert max(len(cell) for cell in lines) <= 25
    assert statistics.median(len(cell) for cell in lines[1:]) <= 5  # the first is the same everywhere
    assert [line for cell in lines[1:] for line in cell if len(line) > 72] == []


def test_the_contents_list_every_page_once() -> None:
    files = [path for suffix in ("ipynb", "md") for path in (ROOT / "book").rglob(f"*.{suffix}")]
    inside = [path.relative_to(ROOT / "book") for path in files]
    pages = sorted(path.with_suffix("").as_posix() for path in inside if not path.as_posix().startswith(("_", ".")))
    assert sorted(PAGES) == [page for page in pages if "/_" not in page and "/." not in page]


def test_another_address_goes_everywhere(tmp_path: Path) -> None:
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "book").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path / "book")
    stamp.main(["https://github.com/someone/their-book"], tmp_path)
    texts = [path.read_text() for path in (tmp_path / "_config.yml", *stamp.notebooks(tmp_path))]
    assert all("https://github.com/someone/their-book" in text for text in texts)
    assert not any("OWNER/REPOSITORY" in text for text in texts)


def test_stamping_the_same_address_changes_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "book").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path / "book")
    stamp.main([stamp.address()], tmp_path)
    for path in NOTEBOOKS:
        assert (tmp_path / "book" / path.name).read_bytes() == path.read_bytes()


def test_a_change_of_the_package_forgets_what_was_computed(tmp_path: Path) -> None:
    module = tmp_path / "src" / "onechange" / "x.py"
    module.parent.mkdir(parents=True)
    module.write_text("x = 1\n")
    assert fresh.main(tmp_path) is False
    executed, page = tmp_path / "_build" / ".jupyter_cache", tmp_path / "_build" / "html"
    executed.mkdir()
    page.mkdir()
    assert fresh.main(tmp_path) is True
    assert executed.exists()
    assert not page.exists()
    module.write_text("x = 2\n")
    assert fresh.main(tmp_path) is False
    assert not executed.exists()


def test_notebooks_run_beside_each_other_and_only_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def notebook(name: str, code: str) -> Path:
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id=name)]), path)
        return path

    nothing = [sys.executable, "-c", ""]
    fine, wrong = notebook("fine", "print(6 * 7)"), notebook("wrong", "1 / 0")
    assert execute.main([fine, wrong], tmp_path / "cache", first=nothing) == 1
    said = capsys.readouterr().err
    assert "fine.ipynb ran" in said
    assert "ZeroDivisionError" in said
    assert execute.main([fine], tmp_path / "cache", first=nothing) == 0
    assert capsys.readouterr().err == ""
    _, done = get_cache(str(tmp_path / "cache")).merge_match_into_notebook(nbformat.read(fine, as_version=4))
    assert done.cells[0].outputs[0].text == "42\n"


def test_figures_and_pages_share_one_palette() -> None:
    light = re.search(r'data-theme="light"\] \{(.*?)\}', (ROOT / "book/_assets/book.css").read_text(), re.DOTALL)
    assert light is not None
    colours = dict(re.findall(r"--oc-([\w-]+): (#\w+);", light[1]))
    assert {name: colours[name] for name in ("ink", *plot.PALETTE)} == {"ink": plot.INK, **plot.PALETTE}


# The pages.


each_page = pytest.mark.parametrize("name", PAGES)


@pytest.mark.book
@each_page
def test_a_page_stands_on_its_own_on_a_desk_and_on_a_phone(name: str, origin: str, visit: Callable) -> None:
    page = visit(f"{origin}/{name}.html")
    assert page.locator(".bd-article h1").count() == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator(".text_html svg:not([aria-label])").count() == 0
    page.wait_for_function("!document.querySelector('.math') || document.querySelector('mjx-container')")
    for viewport in (DESK, PHONE):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.book
@each_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_can_be_read_by_everyone(name: str, theme: str, server: str, visit: Callable) -> None:
    need(importlib.util.find_spec("axe_playwright_python"), "axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{server}/{name}.html", theme=theme)
    assert page.locator("html").get_attribute("data-theme") == theme
    colours = page.evaluate(
        "[document.body, ...document.querySelectorAll('.oc-figure')].map(e => getComputedStyle(e).color)"
    )
    assert len(set(colours)) == 1
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []


@pytest.mark.book
def test_the_theme_can_be_changed(server: str, visit: Callable) -> None:
    page = visit(server + "/intro.html")
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(colour)}
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        seen.add(page.evaluate(colour))
    assert len(seen) == 2


@pytest.mark.book
def test_one_can_read_from_the_first_page_to_the_last(origin: str, visit: Callable) -> None:
    page = visit(origin + "/index.html")
    page.wait_for_url("**/intro.html")
    seen = ["intro"]
    while page.locator("a.right-next").count():
        page.locator("a.right-next").click()
        page.wait_for_load_state()
        seen.append(urlsplit(page.url).path.rpartition("/")[2].removesuffix(".html"))
    assert seen == PAGES


@pytest.mark.book
def test_search_finds_a_page(origin: str, visit: Callable) -> None:
    page = visit(origin + "/search.html?q=baseline")
    page.locator("#search-results li a", has_text="The baseline").first.wait_for()


@pytest.mark.book
def test_a_table_sorts_by_the_column_one_asks_for(server: str, visit: Callable) -> None:
    page = visit(server + "/intro.html")
    heading = page.locator("table.sortable th", has_text="published")
    values = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => Number(row.cells[2].textContent))"
    for direction in ("ascending", "descending"):
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        numbers = page.evaluate(values)
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert len(numbers) == 19


@pytest.mark.book
def test_answers_are_folded_until_asked_for(server: str, visit: Callable) -> None:
    page = visit(server + "/baseline.html")
    answer = page.locator("details.sd-dropdown").first
    assert answer.get_attribute("open") is None
    answer.locator("summary").press("Enter")
    assert answer.get_attribute("open") is not None


@pytest.mark.book
def test_numbers_are_written_for_readers(build: Path) -> None:
    """Not as Python shows them: no ``np.int64(1)``, no number in the quotation marks of a string."""
    shown = re.compile(r"np\.\w+\(|‘[-−+\d.,%\[\] ]+’")
    for page in sorted(build.glob("*.html")):
        text = re.sub(r"<(script|pre|code|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert shown.findall(text) == [], page.name


@pytest.mark.book
def test_every_link_inside_the_book_leads_somewhere(build: Path) -> None:
    class Page(HTMLParser):
        def __init__(self, path: Path) -> None:
            super().__init__()
            self.links: set[str] = set()
            self.ids: set[str] = set()
            self.feed(path.read_text(encoding="utf-8"))

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for key, value in attrs:
                if key in ("href", "src") and value:
                    self.links.add(value)
                elif key in ("id", "name") and value:
                    self.ids.add(value)

    pages = {
        path: Page(path) for path in build.rglob("*.html") if path.name != "404.html" and "_static" not in path.parts
    }
    dead = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            state = "=" in anchor  # settings that a page's script reads, and no place in it
            if not file.exists() or (anchor and not state and file in pages and anchor not in pages[file].ids):
                dead.append(f"{path.name}: {link}")
    assert dead == []
