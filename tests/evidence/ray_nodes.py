"""A Ray cluster of two nodes on this machine, for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

HEAD = {"include_dashboard": False, "no_monitor": True}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
ALONE = {  # Ray on this machine's loopback, silent, and patient with a busy machine
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes with a processor each, whose cache is not the driver's."""
    quick = tmp_path_factory.mktemp("quick")
    # Each of Ray's processes imports jsonschema, which builds a grammar for seconds if this extra is there.
    (quick / "rfc3987_syntax.py").write_text("raise ImportError('not needed')\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ALONE.items():
            patch.setenv(name, value)
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'onechange[cluster]'")
        from ray.cluster_utils import Cluster

        with pytest.MonkeyPatch.context() as theirs:
            theirs.setenv("PYTHONPATH", os.pathsep.join([str(quick), *filter(None, sys.path)]))
            theirs.setenv("ONECHANGE_CACHE", str(tmp_path_factory.mktemp("theirs")))
            both = Cluster(initialize_head=True, head_node_args=NODE | HEAD)
            both.add_node(**NODE)
        yield both
        both.shutdown()


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Records of the same runs, the numbers equal to rounding."""
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("key", "row", "rows", "experiment", "command", "classes", "n_trainable", "test_labels", "find"):
            assert mine[name] == other[name], name
        for name in ("train_losses", "val_losses", "test_probabilities"):
            assert np.allclose(np.array(mine[name], float), np.array(other[name], float), atol=1e-4), (
                mine["row"],
                name,
            )


def workers() -> list[Any]:
    """The processes of Ray's workers on this machine."""
    psutil = pytest.importorskip("psutil")
    every = psutil.process_iter(["cmdline"])
    return [one for one in every if " ".join(one.info["cmdline"] or []).startswith("ray::Worker")]
