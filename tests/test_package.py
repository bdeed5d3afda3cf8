"""The package as it is given away: what it needs, what is in its wheel, and that the wheel is enough."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
BOOK = [Requirement(line) for line in PROJECT["optional-dependencies"]["book"]]
SMOLLM2 = [Requirement(line) for line in PROJECT["optional-dependencies"]["smollm2"]]
CLUSTER = [Requirement(line) for line in PROJECT["optional-dependencies"]["cluster"]]

# Packages whose names differ: on conda-forge, and in an import statement.
CONDA = {"torch": "pytorch"}
IMPORTS = {"scikit-learn": "sklearn"}


def conda_requirements() -> dict[str, Requirement]:
    """The packages of environment.yml by name."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    lines = re.findall(r"^ +- ([\w-]+ *[<>=!~].*)$", text.partition("dependencies:")[2], re.MULTILINE)
    found = [Requirement(line.split("#")[0].strip()) for line in lines]
    return {requirement.name: requirement for requirement in found}


@pytest.mark.parametrize("requirement", [*RUNTIME, *BOOK], ids=lambda requirement: requirement.name)
def test_conda_asks_for_the_same(requirement: Requirement) -> None:
    """environment.yml names every dependency of the package and the book, with the same bounds."""
    name = CONDA.get(requirement.name, requirement.name)
    assert name in conda_requirements()
    assert conda_requirements()[name].specifier == requirement.specifier


def test_conda_asks_for_nothing_else() -> None:
    """Python has the same floor, and no package is there that pyproject does not know."""
    found = conda_requirements()
    assert str(found.pop("python").specifier) == PROJECT["requires-python"]
    known = {CONDA.get(requirement.name, requirement.name) for requirement in [*RUNTIME, *BOOK]}
    assert set(found) - {"pip"} == known


def test_tested_versions_are_allowed_ones() -> None:
    """Each dependency stands in constraints.txt, with a version that pyproject allows."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for requirement in [*RUNTIME, *BOOK, *SMOLLM2, *CLUSTER]:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_everything_imported_is_a_dependency() -> None:
    """No module of the package counts on a library that only happens to be there."""
    imported = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
    needed = imported - set(sys.stdlib_module_names) - {"onechange"}
    given = {IMPORTS.get(requirement.name, requirement.name) for requirement in [*RUNTIME, *BOOK, *SMOLLM2, *CLUSTER]}
    assert needed <= given | {"IPython", "transformers", "peft"}  # ipywidgets brings one, bench.py compares with two


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree; without isolation where hatchling is here, which needs no network."""
    out = tmp_path_factory.mktemp("wheel")
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *here, "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    (file,) = out.glob("onechange-*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment of its own: the wheel, the libraries of this one, and not the source tree."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    found = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = f"-m pip --python {found} install --quiet --no-deps --no-index".split()
    subprocess.run([sys.executable, *pip, str(wheel)], check=True)
    ask = [str(found), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    # A folder named in a .pth file is searched last, and .pth files in it (the editable install) are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel: Path) -> None:
    """Every module and every file that the package reads; no test, no book."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    source = ROOT / "src"
    kept = [path for path in (source / "onechange").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(source).as_posix() for path in kept} <= held
    for name in ("messages.tsv", "tokenizer.tiktoken", "pocket-small/config.json", "pocket-small/model.safetensors"):
        assert f"onechange/pocket/{name}" in held
    assert {name.split("/")[0].split("-")[0] for name in held} == {"onechange"}


@pytest.mark.slow
def test_the_wheel_is_enough(python: Path, tmp_path: Path) -> None:
    """Installed without the source tree, the command runs from another folder, offline."""
    environment = os.environ | {"ONECHANGE_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)

    def call(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call(str(python), "-c", "import onechange; print(onechange.__file__)")
    assert str(python.parents[1]) in where
    assert str(ROOT) not in where
    onechange = str(python.with_name("onechange"))
    assert call(onechange, "--version").startswith("onechange ")
    small = ["--model_size", "pocket-small", "--train_size", "16", "--num_epochs", "1"]
    result = json.loads(call(onechange, "run", "--json", *small, "--save", "model"))
    assert set(result["final"]) == {"train", "val", "test"}
    assert "hello" in call(onechange, "predict", "model", "hello")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
