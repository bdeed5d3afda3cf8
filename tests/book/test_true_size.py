"""Every chapter on GPT-2 and the UCI messages, as on a machine with a GPU: its four sizes are small stand-ins."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from hub_stand_in import COMMIT, Hub, hub
from nbclient import NotebookClient
from safetensors.numpy import save
from toys import hf_tensors

from onechange.gpt.weights import MODELS

BOOK = Path(__file__).parents[2] / "book"
SHAPES = {"gpt2-small (124M)": (64, 2, 4), "gpt2-medium (355M)": (72, 3, 5), "gpt2-large (774M)": (80, 4, 6),
          "gpt2-xl (1558M)": (96, 6, 8)}  # fmt: skip
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.ipynb") if "oc.scale()" in path.read_text(encoding="utf-8"))

# A kernel runs this first: the ladder's names mean the stand-ins, whose hashes are as pinned as the real ones.
STARTUP = """
import json, os
from dataclasses import replace
import onechange
from onechange.experiment.rows import ROWS
from onechange.gpt.weights import MODELS
for name, (shape, digest) in json.loads(os.environ["STAND_INS"]).items():
    config = replace(MODELS[name].shape, emb_dim=shape[0], n_heads=shape[1], n_layers=shape[2])
    MODELS[name] = replace(MODELS[name], shape=config, revision="{commit}", sha256=digest)
for e in (onechange.BASELINE, *ROWS.values()):
    e.__dict__.pop("checkpoint", None)
"""


@pytest.fixture(scope="module")
def weights() -> dict[str, bytes]:
    """A file in Hugging Face's layout for each of GPT-2's names."""
    return {name: save(hf_tensors(shape, 50257, 1024), {"format": "pt"}) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def stand_in(weights: dict[str, bytes]) -> Iterator[Hub]:
    with hub({MODELS[name].repo: content for name, content in weights.items()}) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_on_gpt2(
    chapter: str, weights: dict[str, bytes], stand_in: Hub, uci_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From the first cell to the last, the weights taken from the Hub, without an error and on that ladder alone."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-stand-ins.py").write_text(STARTUP.replace("{commit}", COMMIT))
    digests = {name: (SHAPES[name], hashlib.sha256(content).hexdigest()) for name, content in weights.items()}
    for name, value in (stand_in.variables | {
        "IPYTHONDIR": str(startup.parents[1]), "STAND_INS": json.dumps(digests),
        "ONECHANGE_SCALE": "gpt2", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }).items():  # fmt: skip
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(BOOK)}}).execute()
    assert stand_in.asked["GET", "openai-community/gpt2"] >= 1
