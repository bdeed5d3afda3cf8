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
