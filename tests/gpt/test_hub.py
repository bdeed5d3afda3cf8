"""Weights from a Hub that misbehaves: the Hub's own client against a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import COMMIT, DIGEST, Hub, hub

# Each case is a repository, and whether its hash is known beforehand; "damage" flips a bit of a file that came. In a
# process of its own, since the client reads its environment once.
CHILD = """
import json, sys
from onechange.gpt.model import GPTConfig
from onechange.gpt.weights import Model, from_hub
from onechange.support.cache import root, sha256
from onechange.support.errors import UsageError
commit, digest, cases = json.loads(sys.argv[1])
for repo, known in cases:
    if repo == "damage":
        for blob in root().glob("hub/*good*/blobs/*"):
            if not blob.suffix:
                content = bytearray(blob.read_bytes())
                content[1000] ^= 1
                blob.write_bytes(content)
        continue
    model = Model("gpt2", 0, GPTConfig(1, 1, 1, 1, 1), 1.0, repo, commit, digest if known else None)
    try:
        print(json.dumps(["here", sha256(from_hub(model))]), flush=True)
    except UsageError as error:
        print(json.dumps(["line", str(error)]), flush=True)
"""
HERE = ["here", DIGEST]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Hub]:
    with hub() as server:
        yield server


def fetched(server: Hub, cache: Path, *cases: tuple[str, bool], **variables: str) -> tuple[list[Any], str]:
    """What came of each case, and what was written on standard error."""
    own = server.variables | {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
    environment = os.environ | own | {"ONECHANGE_CACHE": str(cache)} | variables
    words = [sys.executable, "-c", CHILD, json.dumps([COMMIT, DIGEST, cases])]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


REFUSALS = ("refused/gpt2", "gone/gpt2", "nonsense/gpt2")
CASES = [
    *(("good/gpt2", True), ("redirect/gpt2", True), ("good/gpt2", False), ("cut/gpt2", True)),
    *(("other/known", True), ("other/known", True), ("other/unknown", False), ("other/unknown", False)),
    *(("damage", True), ("good/gpt2", True), ("good/gpt2", True)),
    *((repo, True) for repo in REFUSALS),
]


@pytest.fixture(scope="module")
def whole(stand_in: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Any], str]:
    """All cases, one after the other, in one process: the cache, each one's answer, standard error."""
    cache = tmp_path_factory.mktemp("cache")
    answers, said = fetched(stand_in, cache, *CASES)
    asked = [i for i, (repo, _) in enumerate(CASES) if repo != "damage"]
    return cache, dict(zip(asked, answers, strict=True)), said


def test_what_is_sent_arrives_and_is_not_asked_for_again(stand_in: Hub, whole: Any) -> None:
    """A first download, one that is sent on to another address, a second use."""
    _, answers, _ = whole
    assert [answers[i] for i in (0, 1, 2)] == [HERE] * 3
    assert stand_in.asked["GET", "redirect/gpt2"] == 2
    assert stand_in.asked["HEAD", "good/gpt2"] == 2  # the first time, and after it was damaged
    assert stand_in.asked["GET", "good/gpt2"] == 2


def test_what_was_cut_off_is_gone_on_with(stand_in: Hub, whole: Any) -> None:
    assert whole[1][3] == HERE
    assert [asked for how, asked in stand_in.ranges if how == "cut"] == ["bytes=10485760-"]


@pytest.mark.parametrize("first", [4, 6], ids=["known", "by the Hub's record"])
def test_another_file_is_refused_and_does_not_stay(first: int, whole: Any) -> None:
    """The next try fetches it anew."""
    kind, line = whole[1][first]
    assert (kind, "wrong SHA-256" in line) == ("line", True)
    assert whole[1][first + 1] == HERE


def test_a_changed_file_is_seen(whole: Any) -> None:
    """A file is hashed once, and again when it is another than it was."""
    kind, line = whole[1][9]
    assert (kind, "wrong SHA-256" in line) == ("line", True)
    assert whole[1][10] == HERE


def test_a_refusal_is_one_line(whole: Any) -> None:
    cache, answers, said = whole
    assert "Traceback" not in said
    for i, repo in enumerate(REFUSALS, start=11):
        kind, line = answers[i]
        assert kind == "line"
        assert line.startswith(f"cannot download {repo}'s weights: model.safetensors would go to {cache}")
        assert "\n" not in line
        assert not list(cache.glob(f"hub/*{repo.split('/')[0]}*/snapshots/*/*"))


def test_without_a_network(stand_in: Hub, whole: Any) -> None:
    """What is there is there, what is not is one line, and nobody is asked."""
    before = sum(stand_in.asked.values())
    answers, _ = fetched(stand_in, whole[0], ("good/gpt2", True), ("busy/gpt2", True), HF_HUB_OFFLINE="1")
    assert answers[0] == HERE
    assert answers[1][0] == "line"
    assert sum(stand_in.asked.values()) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stalled", "severed", "broken"])
def test_a_server_that_never_gets_there_is_one_line(how: str, stand_in: Hub, tmp_path: Path) -> None:
    """The client tries again for a while, from where it was; between two calls it keeps nothing of a part."""
    [[kind, line]], said = fetched(stand_in, tmp_path, (f"{how}/gpt2", True))
    assert kind == "line"
    assert line.startswith("cannot download ")
    assert "Traceback" not in said
    assert not list(tmp_path.glob("hub/*/snapshots/*/*"))


@pytest.mark.slow
def test_a_busy_server_is_waited_for(stand_in: Hub, tmp_path: Path) -> None:
    found, _ = fetched(stand_in, tmp_path, ("busy/gpt2", True))
    assert found == [HERE]
