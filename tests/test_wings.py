"""The wings of the package: each imports only from those below it, and no module imports in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import onechange

PACKAGE = Path(onechange.__file__).parent
WINGS = (
    "support", "gpt", "experiment", "data", "training", "classifier",
    "evidence", "cost", "pretraining", "show", "diagnosis", "cli",
)  # fmt: skip
ROOT = {"__init__", "__main__", "scale"}  # the face, the command and the choice of a scale stand above all wings
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "__pycache__" not in path.parts
}


def imported(name: str, tree: ast.AST) -> set[str]:
    """The package's modules that one imports, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            top = name.split(".")[: -node.level] + (node.module.split(".") if node.module else [])
            inside = [".".join([*top, alias.name]) for alias in node.names]
            found |= {module if module in MODULES else ".".join(top) for module in inside}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "onechange":
            found.add((node.module or "").partition(".")[2])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("onechange.")}
    return {module if module in MODULES else f"{module}.__init__".lstrip(".") for module in found}


IMPORTS = {name: imported(name, ast.parse(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}


def floor(module: str) -> int:
    """The floor that a module stands on: that of its wing, or above them all."""
    wing = module.split(".")[0]
    return len(WINGS) if wing in ROOT else WINGS.index(wing)


def test_imports_are_read() -> None:
    """The reader of imports finds those at the top, those in functions and whole modules."""
    source = "from ..gpt.model import GPT\nfrom ..support import cache\ndef f():\n    from .prefix import prepare"
    assert imported("training.train", ast.parse(source)) == {"gpt.model", "support.cache", "training.prefix"}


def test_every_module_stands_in_a_wing() -> None:
    assert {name.split(".")[0] for name in MODULES} == {*WINGS, *ROOT}


@pytest.mark.parametrize("module", MODULES)
def test_no_import_goes_up(module: str) -> None:
    upward = {other for other in IMPORTS[module] if floor(other) > floor(module)}
    assert not upward, f"{module} imports {', '.join(sorted(upward))}"


def test_no_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"modules import in a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_it_is(wing: str) -> None:
    """Two lines: what it holds, what it may import; and it hands nothing on, but for the figures' module."""
    tree = ast.parse((PACKAGE / wing / "__init__.py").read_text(encoding="utf-8"))
    assert "Imports from" in (ast.get_docstring(tree) or "")
    assert len(tree.body) == 1
