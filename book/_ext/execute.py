"""Run what the book needs run, as many things at a time as the machine has processors.

Jupyter Book runs one notebook after the other. This runs those that its cache does not hold beside each
other, and the rows of the page's model with them, and puts them into the cache: the build that follows
finds every notebook done. A cell that fails ends it, after the others, with that cell's error.

    python book/_ext/execute.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution

sys.path.insert(0, str(Path(__file__).parent))
from stamp import notebooks

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "_build" / ".jupyter_cache"
MAKE_PAGE = [sys.executable, str(Path(__file__).parent / "live.py")]
TIMEOUT = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]  # seconds a cell may take


def execute(path: Path) -> ExecutionResult:
    """Run one notebook in its own folder, as Jupyter Book would."""
    notebook = nbformat.read(path, as_version=4)
    return single_nb_execution(notebook, cwd=str(path.parent), timeout=TIMEOUT, allow_errors=False)


def main(paths: list[Path], folder: Path = CACHE, first: list[str] = MAKE_PAGE) -> int:
    """Run the command ``first`` and, beside it, the notebooks that the cache does not hold; how many failed."""
    cache, failed = get_cache(str(folder)), 0
    new = []
    for path in paths:
        try:
            cache.match_cache_notebook(nbformat.read(path, as_version=4))
        except KeyError:
            new.append(path)
    with ThreadPoolExecutor(processors()) as pool:
        longest = pool.submit(subprocess.run, first, check=True)
        jobs: dict[Future[ExecutionResult], Path] = {pool.submit(execute, path): path for path in new}
        for job in as_completed(jobs):
            path, done = jobs[job], job.result()
            if done.err is not None:
                failed += 1
                print(f"{path.name} failed\n{done.exc_string}", file=sys.stderr)
                continue
            print(f"{path.name} ran in {done.time:.0f} s", file=sys.stderr)
            bundle = CacheBundleIn(done.nb, str(path), data={"execution_seconds": done.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        longest.result()
    return failed


def processors() -> int:
    """How many this process may use, but no more than eight: each notebook takes half a gigabyte."""
    count = os.cpu_count() or 1
    with suppress(AttributeError):  # not on every system
        count = len(os.sched_getaffinity(0))
    return min(count, 8)


if __name__ == "__main__":
    sys.exit(main(notebooks()) > 0)
