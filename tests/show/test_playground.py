"""The playground, in a kernel and in JupyterLab."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import need
from pressed import PLAYGROUND, SCREEN

PRESS = """
import time
bench.fields.controls["num_epochs"].value = 1
bench.go.click()
bench.thread.join()
print(len(bench.runs), bench.runs[0].final["test"] > 0.5)
bench.fields.controls["num_epochs"].value = 500
bench.go.click()
while "Step" not in bench.status.value:
    time.sleep(0.05)
bench.halt.click()
bench.thread.join()
print("stopped after step" in bench.status.value, len(bench.runs))
"""


@pytest.mark.slow
def test_the_playground_runs_and_its_buttons_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TQDM_DISABLE", "1")
    notebook = nbformat.read(PLAYGROUND, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PRESS))
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert said.split() == ["1", "True", "True", "1"]
    views = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(views) == 3
    assert sum("oc-guess" in "".join(output.get("data", {}).get("text/html", "")) for output in outputs) == 1


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """JupyterLab with the playground up to its first piece; its address there."""
    need(importlib.util.find_spec("jupyterlab"), "JupyterLab is not installed")
    notebook = json.loads(PLAYGROUND.read_text(encoding="utf-8"))
    end = next(i for i, cell in enumerate(notebook["cells"]) if "MakeAblation" in "".join(cell["source"]))
    (tmp_path / PLAYGROUND.name).write_text(json.dumps(notebook | {"cells": notebook["cells"][: end + 1]}))
    options = "--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port=0 --IdentityProvider.token=book \
--LabApp.expose_app_in_browser=True --LabApp.extension_manager=readonly --LabApp.collaborative=False"
    runtime = {
        name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR")
    }
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options.split(), f"--ServerApp.root_dir={tmp_path}"],
        env=os.environ | runtime | {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (found := list((tmp_path / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))):
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "lab.log").read_text()
            time.sleep(0.2)
        yield json.loads(found[0].read_text())["url"] + "lab/tree/playground.ipynb?token=book"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    page = chromium.new_page(viewport=SCREEN)
    yield page
    page.close()


@pytest.mark.slow
def test_in_jupyterlab_run_moves_the_curve_and_stop_ends_it(lab: str, page: Any) -> None:
    page.set_default_timeout(240_000)
    page.goto(lab)
    page.wait_for_function(
        "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    )
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    go = page.get_by_role("button", name="Run", exact=True)
    halt = page.get_by_role("button", name="Stop", exact=True)
    go.wait_for()
    lines = "[...document.querySelectorAll('.oc-wide path')].map(path => path.getAttribute('d')).join()"
    assert page.evaluate(lines) == ""
    assert halt.is_disabled()
    page.get_by_text("What the table held fixed").click()
    page.get_by_label("num_epochs").fill("500")
    page.get_by_label("num_epochs").press("Enter")
    go.click()
    for _ in range(3):  # a first curve, and twice another
        page.wait_for_function(f"before => {lines} !== before", arg=page.evaluate(lines))
    halt.click()
    page.get_by_text(re.compile(r"left out of the comparison: stopped after step \d+")).wait_for()
    assert go.is_enabled()
    assert halt.is_disabled()
