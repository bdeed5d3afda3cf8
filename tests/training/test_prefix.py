"""What is computed once: with the prefix kept, and only what is read computed, no number changes."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_runs import MORE, Make, assert_same, trainer_of

from onechange.experiment.experiment import Experiment
from onechange.experiment.rows import TABLE
from onechange.gpt.model import ALL, GPT, View
from onechange.training import prefix
from onechange.training.reader import Reader
from onechange.training.store import PrefixStore
from onechange.training.train import run

pytestmark = pytest.mark.usefixtures("short_runs")


@pytest.mark.parametrize("row", [*TABLE, *MORE])
def test_the_shortcuts_change_nothing(row: int | str, make: Make, outcome: Callable) -> None:
    """With the prefix kept, and only what is read computed, a run gives what the plain loop gives."""
    one, other = outcome(make(row)), outcome(make(row, prefix_cache="off"))
    assert len(one.train_losses) == math.ceil(len(one.examples)) >= 2
    assert_same(one, other)


SHARING = [
    *(1, 2, 3, 4, 13, 14, 16, 17, 18, 19),
    *(
        "flexible, average",
        "no padding, no mask",
        "no padding, first",
        "head, average",
        "head, first",
        "head, flexible",
    ),
    *("two blocks, first", "two blocks, flexible", "random, last block", "cut to 20"),
    *("hidden padding", "hidden padding, average", "left", "left, hidden", "left, hidden, head"),
]


@pytest.mark.parametrize("order", ["as listed", "reversed", "shuffled"])
def test_rows_may_share_their_prefixes(order: str, make: Make, outcome: Callable) -> None:
    """Whoever comes first, with one store for all rows each gives what it gives alone."""
    rows = list(SHARING)
    if order == "reversed":
        rows.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(rows)
    store, less = PrefixStore(), {"num_epochs": 1, "train_size": 40}
    for row in rows:
        assert_same(run(make(row, **less), progress=False, store=store), outcome(make(row, **less)))
    assert 0 < len(store.kept) < 3 * len(rows)


def test_a_small_store_forgets(make: Make, outcome: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with next to no room keeps one prefix, and nobody's numbers change; no file of it is left behind."""
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path))
    store = PrefixStore(limit=1)
    for row in (1, 16, 3, "no padding, no mask", 1):
        assert_same(run(make(row), progress=False, store=store), outcome(make(row)))
        assert len(store.kept) == 1
    assert list(tmp_path.rglob("*")) == []


def test_the_same_weights_in_another_shape(make: Make, tmp_path: Path) -> None:
    """With another number of heads the same file is another model, and shares no prefix with the first."""
    config = json.loads((Path(make(1).model_size) / "config.json").read_text())
    other = Path(shutil.copytree(make(1).model_size, tmp_path / "other"))
    (other / "config.json").write_text(json.dumps(config | {"n_head": 2}))
    store, less = PrefixStore(), {"num_epochs": 1, "train_size": 16}
    run(make(1, **less), progress=False, store=store)
    e = make(1, model_size=str(other), **less)
    assert_same(run(e, progress=False, store=store), run(e, progress=False))


def test_the_least_recently_used_goes_first() -> None:
    """What was asked for lately stays."""
    store = PrefixStore(limit=3 * 40)
    for name in "abc":
        store.put((name,), torch.zeros(10), 1.0)
    assert store.get(("a",)) is not None
    store.put(("d",), torch.zeros(10), 1.0)
    assert [key for (key,) in store.kept] == ["c", "a", "d"]


def test_a_prefix_is_computed_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 1, 16, 18, 19 and other seeds share row 1's; row 3 goes on from it; other weights or another mask do not."""
    asked: list[tuple[int, int]] = []
    compute = prefix._prefix

    def counting(model: GPT, reader: Reader, source: prefix.Inputs, stage: int, *more: Any) -> torch.Tensor:
        asked.append((source.stage, stage))
        return compute(model, reader, source, stage, *more)

    monkeypatch.setattr(prefix, "_prefix", counting)
    store = PrefixStore()

    def computed(e: Experiment) -> list[tuple[int, int]]:
        asked.clear()
        trainer_of(e, store)
        return list(asked)

    assert computed(make(1)) == [(0, 2)] * 3  # train, validation, test
    for row in (1, 2, 16, 18, 19):
        assert computed(make(row, seed=row)) == [], row
    assert computed(make(3)) == [(2, 4)] * 3
    assert computed(make(17)) == [(0, 2)] * 3
    assert computed(make("random, last block")) == [(0, 2)] * 3
    assert computed(make("random, last block", seed=5)) == [(0, 2)] * 3
    assert computed(make(5)) == []


@pytest.mark.parametrize(("causal", "tokens"), [(True, {1}), (False, {90})])
def test_the_first_token_needs_no_other(
    causal: bool, tokens: set[int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a causal mask nothing behind the first token is computed; without one everything is."""
    seen = set()
    embed = GPT.embed
    monkeypatch.setattr(GPT, "embed", lambda self, ids: seen.add(ids.size(1)) or embed(self, ids))
    trainer = trainer_of(make(2, trainable_layers="all", context_length=90, disable_causal_mask=not causal))
    trainer.losses("train", np.arange(8))
    assert seen == tokens


def test_views_are_what_the_model_is_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last block a run asks for one query a message; the plain loop asks for all."""
    asked = []
    forward = prefix.GPT.run

    def spy(self: GPT, x: torch.Tensor, view: View = ALL, start: int = 0, stop: int | None = None) -> torch.Tensor:
        y = forward(self, x, view, start, stop)
        asked.append((x.shape[1], y.shape[1]))
        return y

    monkeypatch.setattr(prefix.GPT, "run", spy)
    for switch, shape in (("on", (90, 1)), ("off", (90, 90))):
        trainer = trainer_of(make(1, prefix_cache=switch, context_length=90))
        asked.clear()
        trainer.losses("train", np.arange(8))
        assert asked == [shape]
