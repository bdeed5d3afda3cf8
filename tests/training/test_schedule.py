"""The order of steps and evaluations against the published program's loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from toy_runs import Make

from onechange.experiment.experiment import Experiment
from onechange.training.schedule import Look, Step, schedule


def published_schedule(e: Experiment, n_train: int, n_val: int, every: int) -> list[tuple[str, Any, Any]]:
    """The published program's loops, with message numbers where it has messages."""
    torch.manual_seed(e.seed)
    data = [TensorDataset(torch.arange(n), torch.arange(n)) for n in (n_train, n_val)]
    train_loader = DataLoader(data[0], batch_size=e.batch_size, shuffle=True, num_workers=0, drop_last=True)
    val_loader = DataLoader(data[1], batch_size=e.batch_size, num_workers=0, drop_last=False)

    def some(loader: DataLoader, num_batches: int | None = None) -> list[list[int]]:
        num_batches = len(loader) if num_batches is None else min(num_batches, len(loader))
        read = []
        for i, (x, _) in enumerate(loader):
            if i >= num_batches:
                break
            read.append(x.tolist())
        return read

    events: list[tuple[str, Any, Any]] = []
    step = -1
    for _ in range(e.num_epochs):
        window = []
        for batch_number, (x, _) in enumerate(train_loader):
            window.append(x.tolist())
            if (batch_number + 1) % e.accumulation_steps == 0 or batch_number + 1 == len(train_loader):
                events.append(("step", window, None))
                window = []
            step += 1
            if step % every == 0:
                events.append(("losses", some(train_loader, 5), some(val_loader, 5)))
        events.append(("accuracies", some(train_loader, 5), some(val_loader, 5)))
    events.append(("final", some(train_loader), some(val_loader)))
    return events


@pytest.mark.parametrize(
    ("sizes", "flags"),
    [
        ((1045, 149), {}),
        ((1045, 149), {"batch_size": 1, "accumulation_steps": 8}),
        ((61, 9), {"batch_size": 1, "accumulation_steps": 8}),
        ((61, 9), {"batch_size": 4, "accumulation_steps": 3, "num_epochs": 3}),
        ((16, 3), {"batch_size": 8, "num_epochs": 1}),
        ((70, 11), {"seed": 7}),
    ],
    ids=str,
)
def test_the_order_is_the_published_one(
    sizes: tuple[int, int], flags: dict, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step and every evaluation reads the messages that the published loops read, in their order."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 50)
    e = make(1, **({"num_epochs": 2} | flags))
    found: list[tuple[str, Any, Any]] = []
    torch.manual_seed(1)  # of no influence
    for event in schedule(e, *sizes):
        torch.rand(1)  # nor this
        if isinstance(event, Step):
            found.append(("step", [b.tolist() for b in event.batches], None))
        else:
            found.append((event.kind, [b.tolist() for b in event.train], [b.tolist() for b in event.val]))
    assert found == published_schedule(e, *sizes, every=50)


def test_the_order_may_have_a_seed_of_its_own(make: Make) -> None:
    """The order is that of the order's seed, whatever the seed."""

    def order(**seeds: int) -> list[list[int]]:
        return [
            b.tolist() for step in schedule(make(1, **seeds), 61, 9) if isinstance(step, Step) for b in step.batches
        ]

    assert order(seed=5, order_seed=7) == order(seed=7) == order(seed=7, head_seed=5) != order(seed=5)


@pytest.mark.parametrize(
    ("flags", "points", "steps", "examples"),
    [
        ({}, 13, 650, 8 * 601),
        ({"batch_size": 1}, 105, 5225, 5201),
        ({"batch_size": 1, "accumulation_steps": 8}, 105, 5 * 131, 5201),
    ],
    ids=["batches of 8", "one by one", "windows of 8"],
)
def test_how_often_what_happens(
    flags: dict, points: int, steps: int, examples: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 epochs over 1,045 messages: 13 loss points, or 105 where messages come one by one."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 50)
    events = list(schedule(make(1, num_epochs=5, **flags), 1045, 149))
    losses = [event for event in events if isinstance(event, Look) and event.kind == "losses"]
    assert len(losses) == points
    assert [look.step for look in losses] == [50 * i for i in range(points)]
    assert losses[-1].examples == examples
    assert sum(isinstance(event, Step) for event in events) == steps
    assert [event.kind for event in events if isinstance(event, Look)].count("accuracies") == 5
    assert events[-1].kind == "final"


def test_windows_do_not_reach_into_the_next_epoch(make: Make) -> None:
    """61 messages in windows of 8 end with one of 5, each epoch again, and every epoch reads each message once."""
    events = list(schedule(make(15), 61, 9))
    steps = [event for event in events if isinstance(event, Step)]
    assert [len(step.batches) for step in steps] == [8, 8, 8, 8, 8, 8, 8, 5] * 2
    for epoch in (steps[:8], steps[8:]):
        assert sorted(int(i) for step in epoch for batch in step.batches for i in batch) == list(range(61))
