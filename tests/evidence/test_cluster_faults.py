"""What is lost on the way: workers, nodes, disks, the driver. Nothing of a study is lost with them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import NODE, nodes, same, workers  # noqa: F401
from records import files, table_words

from onechange import Experiment
from onechange.cli.main import main
from onechange.evidence.study import Store, jobs_of, run_study, table_rows

pytestmark = pytest.mark.slow

EVERY_KIND = ["0a", "1", "2", "3", "5", "11", "14", "16", "19", "pad-mask", "biases", "random-trunk"]


def test_every_kind_of_row_though_workers_and_a_node_are_lost(
    nodes: Any, base: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    """Nothing is lost, nothing done twice, and a line says what happened; a node without a disk is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONECHANGE_CACHE", "/dev/full/cache")
        nodes.add_node(**NODE)
    told: list[str] = []

    def done(record: dict[str, Any]) -> None:
        told.append(record["key"])
        if len(told) in (3, 9):
            workers()[0].kill()
        if len(told) == 16:
            for node in sorted(nodes.worker_nodes, key=str):
                nodes.remove_node(node)

    jobs = jobs_of(table_rows(base, EVERY_KIND), [1, 2])
    ours = run_study(jobs, Store(tmp_path / "a"), progress=False, cluster=nodes.address, done=done)
    nodes.add_node(**NODE)
    same(ours, run_study(jobs, Store(tmp_path / "b"), progress=False))
    assert len(told) == len(set(told)) == len(jobs)
    said = capsys.readouterr().err
    assert "cannot have its files" in said
    assert "was lost: row" in said


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends(nodes: Any, base: Experiment, tmp_path: Path, ends: signal.Signals) -> None:  # noqa: F811
    """Killed or stopped, and started again: what was finished is not touched, and nobody goes on in vain."""
    out = tmp_path / "store"
    words = table_words(base, out, "--rows", "1-3,16,19", "--seeds", "4", "--cluster", nodes.address)
    driver = subprocess.Popen([sys.executable, "-m", "onechange", *words], stderr=subprocess.PIPE, text=True)
    while len(list(out.glob("*.json")) if out.exists() else []) < 3:
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    driver.send_signal(ends)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == (130 if ends == signal.SIGINT else -signal.SIGKILL), err
    assert ends == signal.SIGKILL or (err.strip().endswith("onechange: stopped") and "Traceback" not in err)
    before = {name: when for name, when in files(out).items() if name.endswith(".json")}
    assert 3 <= len(before) < 20
    patience = 240
    while workers() and (patience := patience - 1):
        time.sleep(0.5)
    assert not workers()
    assert main(words) == 0
    after = files(out)
    assert len(after) == 20
    assert {name: after[name] for name in before} == before


def test_a_hundred_workers_are_killed(nodes: Any, base: Experiment, tmp_path: Path) -> None:  # noqa: F811
    """One after the other, each as soon as it has done a run; every run is there, once."""
    told: list[str] = []

    def done(record: dict[str, Any]) -> None:
        told.append(record["key"])
        if len(told) <= 100:
            workers()[0].kill()

    jobs = jobs_of({"1": base}, range(110))  # the seed splits the messages, so that each is a task of its own
    assert len(run_study(jobs, Store(tmp_path), progress=False, cluster=nodes.address, done=done)) == 110
    assert len(told) == len(set(told)) == 110
