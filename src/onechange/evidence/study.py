"""Rows times seeds: run them, keep every finished run, go on where it stopped."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch

from ..data.copies import seen_in_training
from ..data.messages import Source, messages_of
from ..experiment.experiment import Experiment
from ..experiment.rows import is_baseline, is_fixed, row_of
from ..support.errors import UsageError
from ..support.progress import progress_bar
from ..training.device import choose_device
from ..training.memory import RUNTIME
from ..training.result import Result, environment
from ..training.store import PrefixStore, shared
from ..training.train import run_seeds, share
from .cluster import Cluster, joined
from .parcel import Parcel
from .spread import Hand, Here, kept, processes, spread
from .store import Claims, Job, Keyed, Store, ingredients

SEEDS_TOGETHER = 20
Workers = int | Literal["auto"] | Executor | None
"""How many workers, or whose. ``None``: one here, as many as find room on a cluster."""
MOST_AT_ONCE = 40  # tasks that an executor is given at a time: each of their runs holds a lock, an open file


def jobs_of(rows: dict[str, Experiment], seeds: Sequence[int]) -> list[Job]:
    """Rows times seeds, a row's seeds together; a baseline that no seed changes is run once."""
    return [
        Job(row, e.but(seed=seed)) for row, e in rows.items() for seed in (seeds[:1] if is_fixed(row, e) else seeds)
    ]


def table_rows(base: Experiment, names: Sequence[str], scale: str | None = None) -> dict[str, Experiment]:
    """Rows by their number or name on top of ``base``.

    Where a row names a model size, a ``base`` with a model of its own keeps that.
    """
    rows = {}
    for name in names:
        change = dict(row_of(name).change)
        if base.model_size != Experiment().model_size:
            change.pop("model_size", None)
        try:
            e = base.but(**change)
            rows[name] = e if scale is None else e.at(scale)
        except UsageError as error:
            raise UsageError(f"row {name}: {error}") from None
    return rows


@dataclass(frozen=True, eq=False)
class Group:
    """Jobs that are trained as one model: seeds of one row. What stands on one frozen prefix has one ``prefix``."""

    jobs: tuple[Keyed, ...]

    @property
    def experiment(self) -> Experiment:
        return self.jobs[0][0].experiment

    @property
    def row(self) -> str:
        return self.jobs[0][0].row

    @cached_property
    def prefix(self) -> str:
        e = self.experiment.resolved()
        if is_baseline(self.row) or not stands_on_a_prefix(e):
            return ""
        reads = (e.disable_causal_mask, e.no_padding, e.mask_padding, e.padding_side, e.context_length, e.precision)
        source = Source.of(e)
        seed = e.seed if e.weights != "pretrained" or not e.one_test_set else None
        return repr((e.model_size, e.weights, seed, replace(source, seed=0), e.train_size, reads))

    def __str__(self) -> str:
        return f"row {self.row}, seed {self.experiment.seed}"


@dataclass(frozen=True)
class Order:
    """A group as a worker is told to do it, wherever it is: no path, unless the worker is known to have it.

    Attributes:
        row: its row.
        experiment: the experiment, resolved.
        seeds: the seeds to run as one.
        device: where.
        checkpointing: compute blocks twice instead of keeping what they computed.
        expects: the :func:`~onechange.evidence.store.ingredients` that its records will be known by.
        parcel: what it needs on another machine; ``None`` on this one.
    """

    row: str
    experiment: Experiment
    seeds: tuple[int, ...]
    device: str
    checkpointing: bool
    expects: dict[str, str | None] = field(default_factory=dict)
    parcel: Parcel | None = None


def run_study(
    jobs: Sequence[Job],
    store: Store,
    *,
    device: str = "auto",
    progress: bool = True,
    prefixes: PrefixStore | None = None,
    checkpointing: bool = False,
    workers: Workers = None,
    done: Callable[[dict[str, Any]], None] | None = None,
    cluster: str | None = None,
) -> list[dict[str, Any]]:
    """Run what is not in the store yet; return the records of all jobs, in order.

    Kill it at any moment and start it again: it goes on. A run that another process is doing is left
    to it and waited for at the end. This process alone writes the store.

    Args:
        workers: processes that share the work, each with its part of the threads and of the prefixes'
            memory; ``"auto"`` starts some where they pay. Or an executor of ``concurrent.futures`` whose
            workers are processes that have this package and the same files: threads share one source of
            random numbers, so that only one of them is taken.
        done: told each record.
        cluster: the address of a Ray cluster, or ``"auto"``: its workers do the runs, ``workers`` of them at most.

    Raises:
        UsageError: if something needed is not there.
    """
    with ExitStack() as stack:
        ours = None if cluster is None else stack.enter_context(joined(cluster, device))
        site = Site(device, workers, shared() if prefixes is None else prefixes, checkpointing, ours)
        keys = [site.key(store, job) for job in jobs]
        every = list(zip(jobs, keys, strict=True))
        there = {key for key in keys if store.path(key).exists()}
        groups = groups_of([item for item in every if item[1] not in there])
        bar = stack.enter_context(progress_bar(progress, total=len(jobs), unit="run"))
        hands = stack.enter_context(site.hands(groups))

        def report(record: dict[str, Any]) -> None:
            bar.update()
            bar.set_postfix(test=f"{record['final'].get('test', float('nan')):.3f}")
            if done is not None:
                done(record)

        def do(groups: Sequence[Group], hands: Sequence[Hand], patience: float) -> None:
            taken: dict[Group, list[Keyed]] = {}

            def begin(group: Group, executor: Executor) -> Future | None:
                if group not in taken:  # else its worker was lost, and we hold it
                    taken[group] = claims.take(group.jobs, patience)
                bar.set_description(f"{group}" if len(hands) == 1 else f"{len(hands)} workers")
                return site.submit(executor, taken[group]) if taken[group] else None

            for group, records in spread(groups, hands, begin):
                claims.save(taken[group], [named(*one) for one in zip(taken[group], records, strict=True)])

        claims = stack.enter_context(closing(Claims(store, report)))
        damaged = claims.take([item for item in every if item[1] in there])
        claims.let_go(damaged)
        do(groups + groups_of(damaged), hands, 0.0)
        while claims.busy:  # another process does them; should it die, all hands go on in its place
            (first, *others), claims.busy = claims.busy, []
            do([Group((first,))], hands[:1], -1.0)  # nothing is held while one is waited for
            do(groups_of(others), hands, 0.0)
    stored = [(job, store.load(key)) for job, key in every]
    return [record | {"row": job.row} for job, record in stored if record is not None]


@dataclass
class Site:
    """Where the runs of a study are done.

    Attributes:
        device, workers, prefixes, checkpointing: as for :func:`run_study`.
        cluster: a cluster that was joined; ``None`` for this machine.
        parcels: what was packed already.
    """

    device: str
    workers: Workers
    prefixes: PrefixStore
    checkpointing: bool
    cluster: Cluster | None = None
    parcels: dict[tuple, Parcel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cluster is not None:
            self.device = self.cluster.device

    def parcel(self, e: Experiment) -> Parcel | None:
        """What a resolved experiment needs on another machine, its files hashed once; ``None`` for this one."""
        if self.cluster is None:
            return None
        if (what := (e.model_size, e.weights, e.dataset)) not in self.parcels:
            self.parcels[what] = Parcel.of(e)
        return self.parcels[what]

    def precision(self, e: Experiment) -> str | None:
        return None if self.cluster is None else self.cluster.precision(e)

    def key(self, store: Store, job: Job) -> str:
        """The name of a job's record."""
        method = job.row if is_baseline(job.row) else ""
        return store.key(job.experiment, self.device, method, self.precision(job.experiment))

    def submit(self, executor: Executor, jobs: Sequence[Keyed]) -> Future:
        """Have jobs that are one group done."""
        e, seeds = jobs[0][0].experiment.resolved(), tuple(job.experiment.seed for job, _ in jobs)
        order = Order(jobs[0][0].row, e, seeds, self.device, self.checkpointing)
        if isinstance(executor, Here):
            return executor.submit(compute, order, self.prefixes)
        expects = ingredients(e, self.device, self.precision(e))
        return executor.submit(compute_there, replace(order, expects=expects, parcel=self.parcel(e)))

    @contextmanager
    def hands(self, groups: Sequence[Group]) -> Iterator[Sequence[Hand]]:
        """Those who do groups of runs."""
        if isinstance(self.workers, Executor):
            if isinstance(self.workers, ThreadPoolExecutor) and self.workers._max_workers > 1:
                raise UsageError("threads share one source of random numbers: give an executor of processes")
            yield [Hand(self.workers) for _ in range(max(1, min(len(groups), MOST_AT_ONCE)))]
            return
        if self.cluster is not None:
            most = min(self.workers, len(groups)) if isinstance(self.workers, int) else len(groups)
            with self._on_cluster(self.cluster, groups, max(1, most)) as hands:
                yield hands
            return
        auto = self.workers == "auto"
        pays = workers_for(groups, self.device, torch.get_num_threads()) if auto else self.workers or 1
        if (many := min(int(pays), len(groups))) > 1:
            with processes(many, self.prefixes) as hands:
                yield hands
        else:
            yield [Hand(Here())]

    @contextmanager
    def _on_cluster(self, cluster: Cluster, groups: Sequence[Group], most: int) -> Iterator[Sequence[Hand]]:
        """Workers of a cluster, each with what the largest group needs, and with everybody's files."""
        first = {group.row: group for group in groups if not is_baseline(group.row)}.values()
        limit = self.prefixes.limit
        sizes = [cluster.memory(g.experiment, len(g.jobs), self.checkpointing, limit) for g in first]
        small = all(group.experiment.resolved().scale == "pocket" for group in first)
        parcels = [self.parcel(group.experiment.resolved()) for group in groups]
        items = {item for parcel in parcels if parcel is not None for item in parcel.items}
        need = cluster.need(max(sizes, default=RUNTIME["cpu"]), small)
        with cluster.hands(most, need, sorted(items, key=lambda item: item.place), self.prefixes) as hands:
            yield hands


def named(item: Keyed, record: dict[str, Any]) -> dict[str, Any]:
    """A worker's record with the experiment as it was asked for: model and messages may lie elsewhere there."""
    e = item[0].experiment.resolved()
    return record | {"experiment": e.to_dict(), "command": e.command}


def stands_on_a_prefix(e: Experiment) -> bool:
    """Whether what an experiment trains stands on blocks that its seeds could share."""
    return e.prefix_cache == "on" and e.trainable_layers != "all" and not e.uses_lora


def groups_of(jobs: Sequence[Keyed]) -> list[Group]:
    """Jobs that can be trained as one model: seeds of one row, with a prefix that does not depend on the seed."""

    def kind(item: Keyed) -> tuple:
        e = item[0].experiment.resolved()
        alone = not share(e) or not stands_on_a_prefix(e) or is_baseline(item[0].row)
        return item[0].row, e if alone else e.but(seed=0)

    groups = []
    for _, items in groupby(jobs, kind):
        together = tuple(items)
        groups += [Group(together[i : i + SEEDS_TOGETHER]) for i in range(0, len(together), SEEDS_TOGETHER)]
    return groups


def workers_for(groups: Sequence[Group], device: str, threads: int) -> int:
    """How many processes pay for groups of runs.

    One model of the pocket family leaves most threads waiting for each other, so every thread gets a process of
    its own, as long as that has two groups or more to earn its start. A larger model, or a GPU, is kept busy by one.
    """
    small = all(job.experiment.resolved().scale == "pocket" for group in groups for job, _ in group.jobs)
    return max(1, min(threads, len(groups) // 2)) if small and choose_device(device).type == "cpu" else 1


def compute_there(order: Order) -> list[dict[str, Any]] | Exception:
    """An order in a worker's process. What a user can mend, and a full disk, come back as values: an executor may
    put words of its own around an error."""
    try:
        e = order.experiment if order.parcel is None else order.parcel.unpacked(order.experiment)
        found = ingredients(e, order.device)
        for name, wanted in order.expects.items():
            if found[name] != wanted:
                what = f"{name} {found[name]} instead of {wanted}"
                raise UsageError(f"a worker on {platform.node()} has {what}: its numbers would be others")
        return compute(replace(order, experiment=e), kept() or shared())
    except (UsageError, OSError) as error:
        return error


def compute(order: Order, prefixes: PrefixStore) -> list[dict[str, Any]]:
    """The results of an order, as plain values."""
    if is_baseline(order.row):
        made = [baseline_result(order.row, order.experiment)]
    else:
        made = run_seeds(
            order.experiment, list(order.seeds),
            device=order.device, progress=False, store=prefixes, checkpointing=order.checkpointing,
        )  # fmt: skip
    return [result.to_dict() for result in made]


def baseline_result(row: str, e: Experiment) -> Result:
    """A row without a network as a :class:`Result`: no curves, probabilities 0 and 1, the same messages."""
    from ..data.baselines import run_baseline

    e = e.resolved()
    messages = messages_of(e)
    done = run_baseline(row, messages, e.checkpoint.tokenizer)
    made = environment(torch.device("cpu"), "fp32", done.setting, messages.digest) | {"n_messages": messages.n}
    return Result(
        e, done.n_parameters, done.n_parameters, 0, messages.classes, made,
        final={"train": done.train_accuracy, "val": done.val_accuracy, "test": done.test_accuracy},
        seconds=done.seconds, test_labels=done.test_labels.tolist(),
        test_seen=seen_in_training(messages.train, messages.test).tolist(),
        test_probabilities=np.eye(len(messages.classes))[done.test_predicted].tolist(),
    )  # fmt: skip
