"""The README says what is there."""

import re
from pathlib import Path

from onechange.evidence.summary import readme_rows

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_rows_is_the_packages():
    """`make readme` writes it; nobody edits it by hand."""
    assert readme_rows() in README


def test_the_tree_has_a_line_for_every_wing():
    """Every folder of the package stands in the tree, in the order of the floors, and no file that is not there."""
    tree = README[README.index("## What is where") :]
    package = ROOT / "src" / "onechange"
    named = re.findall(r"^  (\w+)/ ", tree, re.M)
    there = {path.name for path in package.iterdir() if path.is_dir() and any(path.iterdir())} - {"__pycache__"}
    assert set(named) == there
    assert set(re.findall(r"\b(\w+\.py)\b", tree)) <= {path.name for path in package.rglob("*.py")}


def test_every_make_target_it_names_exists():
    """The commands a reader is told to run are there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"[`\n]make ([a-z-]+)", README)) <= targets


def core() -> list[Path]:
    """The files with a number in the README's tree, in that order."""
    tree = README[README.index("## What is where") :]
    found = sorted((int(n), name) for name, n in re.findall(r"^    (\w+\.py) +\((\d+)\)", tree, re.M))
    assert [n for n, _ in found] == list(range(1, len(found) + 1))
    return [next((ROOT / "src" / "onechange").rglob(name)) for _, name in found]


def test_the_core_can_be_read_in_an_evening():
    """Few enough lines; the book's page shows a piece of each file, in the same order, and links its source."""
    files = core()
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 1720
    page = (ROOT / "book" / "evening.md").read_text(encoding="utf-8")
    names = [path.relative_to(ROOT / "src").with_suffix("").as_posix() for path in files]
    assert re.findall(r'href="_modules/([\w/]+)\.html"', page) == names
    shown = re.findall(r"literalinclude} \.\./src/([\w/]+)\.py", page)
    assert shown == [name for name in names if not name.endswith("schedule")]
