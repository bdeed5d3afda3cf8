"""A study on a Ray cluster: the same records, what is refused before any work, and how files get there."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import nodes, same  # noqa: F401
from records import files, table_words

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.data.messages import messages_of
from onechange.evidence import cluster as clusters
from onechange.evidence import studies
from onechange.evidence.parcel import Parcel, deliver
from onechange.evidence.study import Job, Store, jobs_of, run_study, table_rows
from onechange.gpt.checkpoint import find
from onechange.support import cache


def test_two_workers_do_a_table(nodes: Any, base: Experiment, tmp_path: Path) -> None:  # noqa: F811
    """By a command, with messages and weights that only the driver has; the store goes on without the cluster."""
    out = tmp_path / "store"
    assert main(table_words(base, out, "--rows", "1,5", "--seeds", "2", "--cluster", nodes.address)) == 0
    before = files(out)
    assert len(before) == 4
    jobs = jobs_of(table_rows(base, ["1", "5"]), [123, 124])
    same(run_study(jobs, Store(out), progress=False), run_study(jobs, Store(tmp_path / "b"), progress=False))
    assert files(out) == before


def test_what_no_node_has(
    nodes: Any, base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """A GPU, or more memory than there is: one line before any work; another version is refused by name."""
    jobs = jobs_of({"5": base.but(trainable_layers="all")}, [1])

    def refused(**more: Any) -> str:
        with pytest.raises(UsageError) as error:
            run_study(jobs, Store(tmp_path), progress=False, cluster=nodes.address, **more)
        return str(error.value)

    assert "has no GPU" in refused(device="cuda")
    with monkeypatch.context() as patch:
        patch.setattr(clusters.Cluster, "memory", lambda *_: 1e15)
        assert "what a run needs: 1 processor, 1000000.0 GB of memory" in refused()
    monkeypatch.setattr("onechange.support.package.__version__", "999")
    assert "and this is 999" in refused()
    assert not list(tmp_path.glob("*.json"))


# -- without a cluster --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", "nobody answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", "nobody answers at 127.0.0.1:99999"),
        ("somewhere", "neither auto nor an address"),
        (":6379", "neither auto nor an address"),
    ],
)
def test_an_address_nobody_answers_at(
    address: str, line: str, base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One line and status 2, before any work; so without Ray."""
    words = table_words(base, tmp_path / "store", "--rows", "1", "--cluster", address)
    for found, expected in ((True, line), (None, "pip install 'onechange[cluster]'")):
        monkeypatch.setattr(clusters, "find_spec", lambda name, found=found: found)
        capsys.readouterr()
        assert main(words) == 2
        assert expected in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "store").exists()


def test_a_study_of_the_book_on_a_cluster(
    base: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First each row's first seed, then all; a row whose model is not to be had is named and left out."""
    gone = tmp_path / "gone"
    shutil.copytree(base.model_size, gone)
    rows = {"1": base, "2": base.but(trainable_token_pos="first"), "5": base.but(model_size=str(gone))}
    (gone / "model.safetensors").unlink()
    monkeypatch.setattr(studies.Study, "experiments", lambda self: rows)
    asked: list[list[tuple[str, int]]] = []

    def without(jobs: list[Job], store: Store, *, cluster: str, **more: Any) -> list[dict[str, Any]]:
        assert cluster == "auto"
        asked.append([(job.row, job.experiment.seed) for job in jobs])
        return run_study(jobs, store, progress=False, **more)

    monkeypatch.setattr(studies, "run_study", without)
    made = studies.make_on_cluster("table-pocket", 2, Store(tmp_path / "store"), tmp_path / "results", "cpu", "auto")
    assert asked == [[("1", 123), ("2", 123)], [("1", 123), ("1", 124), ("2", 123), ("2", 124)]]
    assert {row: runs.seeds for row, runs in made.items()} == {"1": [123, 124], "2": [123, 124]}
    assert (tmp_path / "results" / "table-pocket.json").exists()
    assert "table-pocket, row 5: " in capsys.readouterr().err


def test_room_for_workers() -> None:
    """As many as fit beside each other into processors, memory and GPUs, by fractions of these."""
    node = {"Alive": True, "Resources": {"CPU": 16.0, "memory": 64e9, "GPU": 2.0}}
    assert clusters.Need(1, 4e9).room([node, node | {"Alive": False}], 0.0) == 16
    assert clusters.Need(4, 20e9).room([node, node], 0.0) == 6
    need = clusters.Need(1, 4e9, gpu_memory=24e9)
    assert need.fraction(80e9) == 0.3333
    assert need.room([node], need.fraction(80e9)) == 6
    with pytest.raises(UsageError, match=r"24.0 GB of a GPU, and the cluster's GPUs have 16.0 GB"):
        need.fraction(16e9)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_files_travel_by_hash(
    kind: str, base: Experiment, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into another machine's cache, whole and checked; the experiment there is the same one."""
    own = tmp_path / "own"
    shutil.copytree(toy, own)
    e = base.but(model_size=str(own if kind == "folder" else own / "model.safetensors")).resolved()
    parcel, digest = pickle.loads(pickle.dumps(Parcel.of(e))), e.checkpoint.digest
    assert all(item.source is None for item in parcel.items)
    sent = {item.sha256: item.source.read_bytes() for item in Parcel.of(e).items if item.source}
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path / "theirs"))
    shutil.rmtree(own)
    assert not any(item.is_here for item in parcel.items)
    with pytest.raises(UsageError, match="wrong SHA-256"):
        parcel.items[0].receive(b"something else")
    assert not any(item.is_here for item in parcel.items)
    deliver(parcel.items, lambda item: sent[item.sha256])
    deliver(parcel.items, lambda item: pytest.fail("it was there"))
    there = parcel.unpacked(e)
    assert (there.checkpoint.digest, there.checkpoint.shape) == (digest, find(there.model_size).shape)
    assert there.diff(e).keys() == {"model_size", "dataset"}
    assert messages_of(there).test.equals(messages_of(base.resolved()).test)
    assert len(cache.contents()) == 2 * len(parcel.items)  # each with its note that it was found to be right
    cache.clear()
    assert not any(item.is_here for item in parcel.items)


def test_what_has_a_name_goes_to_its_place(uci_cache: Path) -> None:
    """What the package ships goes nowhere; the UCI messages where every machine's cache has them."""
    assert Parcel.of(Experiment("pocket-small").resolved()) == Parcel((), None, None)
    parcel = Parcel.of(Experiment("pocket-small", dataset="uci").resolved())
    assert [item.place for item in parcel.items] == ["SMSSpamCollection"]
    assert parcel.items[0].is_here


@pytest.mark.usefixtures("uci_cache")
def test_gpt2s_tokenizer_and_the_messages_travel_by_their_names(reference: Path) -> None:
    """To where every machine looks for them, under the hashes that they are pinned by."""
    e = Experiment(weights="random", trainable_layers="all").resolved()
    items = {item.place: item for item in Parcel.of(e).items}
    files = sorted(f"tiktoken/{path.name}" for path in (reference / "tiktoken").iterdir())
    assert sorted(items) == ["SMSSpamCollection", *files]
    assert all(cache.sha256(item.source) == item.sha256 for item in items.values() if item.source)
