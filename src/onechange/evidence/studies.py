"""The stored results of the book: which rows, how many seeds, on what; one command makes them.

    python -m onechange.evidence.studies            # what needs no download beyond the messages; `make results`
    python -m onechange.evidence.studies gpt2-uci   # GPT-2 itself, better with a GPU
    python -m onechange.evidence.studies leakage    # counts of copies and the filters' scores, with GPT-2's tokenizer

Every finished run is kept in ``onechange-results``; stop at any moment, start again, and it goes on. A
study's file in ``book/results`` is rewritten after every portion.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from ..data.baselines import write_leakage
from ..experiment.experiment import BASELINE, Experiment
from ..experiment.rows import RATES, parse_rows
from ..support.errors import UsageError
from ..support.package import RESULTS
from ..support.progress import progress_bar, tell
from ..training.device import choose_device
from ..training.store import shared
from .runs import Runs, runs_of, stored, write
from .study import Store, jobs_of, run_study, table_rows

SLOW = {"9": 5, "12": 5}
"""Rows that are run with fewer seeds."""


@dataclass(frozen=True)
class Study:
    """Rows times seeds on one set of messages.

    Attributes:
        dataset, scale: the messages and the ladder.
        rows: as for ``onechange table --rows``.
        seeds: how many, from 123 upwards.
        fewer: rows with fewer seeds than that, by their name or the word that it begins with.
        change: what its baseline has otherwise than row 1.
        rates_from: the study that chose each row's learning rate, see :func:`own_rates`.
        listed: whether its rows stand beside the table's in the live table; those of one chapter, or of other splits,
            do not.
    """

    dataset: str
    scale: str
    rows: str
    seeds: int
    fewer: dict[str, int] = field(default_factory=lambda: SLOW)
    change: dict[str, Any] = field(default_factory=dict)
    rates_from: str | None = None
    listed: bool = True

    def seeds_of(self, row: str) -> int:
        return self.fewer.get(row, self.fewer.get(row.rpartition("-")[0], self.seeds))

    def experiments(self) -> dict[str, Experiment]:
        """The rows with their first seed.

        Raises:
            UsageError: if the study that chooses their rates was not made yet.
        """
        rows = table_rows(BASELINE.but(dataset=self.dataset, **self.change), parse_rows(self.rows), self.scale)
        if self.rates_from is None:
            return rows
        rates = own_rates(stored(self.rates_from), rows)
        return {row: e.but(learning_rate=rates[row]) for row, e in rows.items()}

    def portions(self, rows: Mapping[str, Experiment], seeds: int) -> list[tuple[str, int]]:
        """Rows, and how many of their seeds are to be there after each: the order in which it is run and written.

        A row's first seed is run by itself, so that its seconds are one run's. Where the seed decides the split, rows
        share what a seed's frozen blocks give, so that it goes seed by seed.
        """
        many = {row: min(seeds, self.seeds_of(row)) for row in rows}
        if not all(e.one_test_set for e in rows.values()):
            return [(row, k) for k in range(1, seeds + 1) for row in many if k <= many[row]]
        return [(row, k) for row in many for k in sorted({1, many[row]})]


BEYOND = (
    "1,11,pad-mask,left-pad,mean-real,16,biases,lora-attention,lora-paper,lora-rslora,10,random-gpt2,"
    "random-trunk,end-64,end-64-random,blocks,rank,rate,messages,noise"
)

EVERY_BLOCK = ("biases", "lora-attention", "lora-paper", "lora-rslora", "rank", "random-gpt2", "blocks-3", "blocks-4")
"""Rows beyond the table whose training starts in the first blocks, so that a run takes a minute."""

FOLDS = "0,1-4,13-17,19"
"""Of the rows of the table those whose run takes less than a minute."""

KNOBS = "1,epochs,decay,first-rate,end-rate,layer-rate,open-rate,batch"
"""What the table held fixed, and rates for four more of its rows."""

TUNED = "1-4,13-17,19"
CHOICES = ",".join(
    f"{family}-{rate:g}"
    for family in ("rate", "first-rate", "layer-rate", "two-rate", "full-rate", "alone-rate", "eight-rate", "end-rate",
                   "open-rate", "mean-rate")
    for rate in RATES[3:]
)  # fmt: skip
"""Those rows, and four rates for each: 0.3, 1, 3 and 10 times the pocket family's."""

SMOLLM2 = "0,1-3,14-18,end-64"
"""Of the rows that make sense on one model of another kind, those that freeze most of it."""

STUDIES = {
    "table-uci": Study("uci", "pocket", "0,1-19", 20),
    "table-pocket": Study("pocket", "pocket", "0,1-19", 20),
    "beyond-uci": Study("uci", "pocket", BEYOND, 20, dict.fromkeys(EVERY_BLOCK, 5)),
    "table-uci-smollm2": Study("uci", "smollm2", SMOLLM2, 20, {"14": 5, "15": 5}),
    "folds-uci": Study("uci", "pocket", FOLDS, 20, {}, {"folds": True}, listed=False),
    # three splits on which nothing else is ever run choose the rates
    "choices-uci": Study("uci", "pocket", CHOICES, 3, {}, {"folds": True, "seed": 1123}, listed=False),
    "tuned-uci": Study("uci", "pocket", TUNED, 5, {}, {"folds": True}, "choices-uci", listed=False),
    "knobs-uci": Study("uci", "pocket", KNOBS, 20, listed=False),
    "crossed-uci": Study("uci", "pocket", "head-1,head-16", 8, listed=False),
    "rates-smollm2": Study("uci", "smollm2", "end-rate,rate", 3),
    # each run of a processor's hours
    "hours-uci-smollm2": Study("uci", "smollm2", "4,19,13,5,10,11,end-64-random", 2, {"4": 5, "13": 5, "19": 5}),
    "gpt2-uci": Study("uci", "gpt2", "0,1-19", 5),
}
OFFLINE = tuple(name for name, study in STUDIES.items() if study.scale == "pocket")


def best_rate(study: dict[str, Runs]) -> float:
    """The learning rate that a study of several chooses, by a rule that was fixed before it ran.

    The highest mean validation accuracy over all rows and seeds of a rate; of equals, the lowest mean of the
    last validation losses. Test messages have no say.
    """
    by_rate: dict[float, list[Runs]] = {}
    for runs in study.values():
        rate = runs.experiment.resolved().learning_rate
        assert rate is not None  # resolved
        by_rate.setdefault(rate, []).append(runs)

    def merit(rate: float) -> tuple[float, float]:
        val = np.concatenate([runs.val for runs in by_rate[rate]])
        loss = np.concatenate([runs.losses[:, -1, 1] for runs in by_rate[rate]])
        return round(float(val.mean()), 6), -float(loss.mean())

    return max(by_rate, key=merit)


def own_rates(study: Mapping[str, Runs], rows: Mapping[str, Experiment]) -> dict[str, float]:
    """Of each row the learning rate that a study of several chooses, by a rule that was fixed before it ran.

    The lowest mean over its seeds of the last validation losses. Test messages have no say.
    """
    losses: dict[str, dict[float, float]] = {row: {} for row in rows}
    for runs in study.values():
        tried = runs.experiment.resolved()
        for row, e in rows.items():
            if not tried.diff(e.resolved().but(seed=tried.seed, learning_rate=tried.learning_rate)):
                assert tried.learning_rate is not None  # resolved
                losses[row][tried.learning_rate] = float(runs.losses[:, -1, 1].mean())
    return {row: min(found, key=found.__getitem__) for row, found in losses.items()}


def make(name: str, seeds: int, store: Store, target: Path, device: str, workers: int = 1) -> dict[str, Runs]:
    """Run what a study lacks and write its file after every portion; rows that cannot be had are named and left out."""
    study, prefixes = STUDIES[name], shared()
    processes = workers if study.scale == "pocket" and choose_device(device).type == "cpu" else 1
    rows: dict[str, Runs] = {}
    experiments = study.experiments()
    portions = study.portions(experiments, seeds)
    with progress_bar(True, total=len(portions), unit="portion", desc=name) as bar:
        for row, many in portions:
            e = experiments[row]
            jobs = jobs_of({row: e}, range(e.seed, e.seed + many))
            try:
                done = run_study(jobs, store, device=device, progress=False, prefixes=prefixes, workers=processes)
                found = runs_of(done)
                if not found[row].seeds:
                    raise UsageError("every seed ended early, so there is nothing to keep")
                rows |= found
                write(target / f"{name}.json", rows)
            except UsageError as error:
                bar.write(f"{name}, row {row}: {error}", file=sys.stderr)
            bar.update()
    return rows


def make_on_cluster(name: str, seeds: int, store: Store, target: Path, device: str, cluster: str) -> dict[str, Runs]:
    """The same on a Ray cluster, all rows at once: first every row's first seed, then the others."""
    study, experiments = STUDIES[name], {}
    for row, e in study.experiments().items():
        try:
            store.key(e, "cpu")  # its weights and messages can be had
            experiments[row] = e
        except UsageError as error:
            tell(f"{name}, row {row}: {error}")
    every = {row: range(e.seed, e.seed + min(seeds, study.seeds_of(row))) for row, e in experiments.items()}
    rows: dict[str, Runs] = {}
    for most in (1, seeds):
        jobs = [job for row, e in experiments.items() for job in jobs_of({row: e}, every[row][:most])]
        found = runs_of(run_study(jobs, store, device=device, prefixes=shared(), cluster=cluster))
        rows = {row: runs for row, runs in found.items() if runs.seeds}
        write(target / f"{name}.json", rows)
    return rows


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = OFFLINE,
    /,
    seeds: int = 20,
    out: Path = Path("onechange-results"),
    target: Path = RESULTS[1],
    device: str = "auto",
    workers: int = os.cpu_count() or 1,
    cluster: str | None = None,
) -> None:
    """Make stored results of the book.

    Args:
        names: which studies, or leakage.
        seeds: at most so many seeds a row.
        out: the folder in which finished runs are kept.
        target: the folder that the studies' files are written to.
        device: auto, cpu, cuda, ...
        workers: processes that share the further seeds of a row of the pocket family, one a core unless given.
        cluster: the address of a Ray cluster, or auto, whose workers do the runs, as many as find room.
    """
    for name in names:
        if name not in (*STUDIES, "leakage"):
            raise UsageError(f"there is no study {name!r}: use one of {', '.join(STUDIES)}, leakage")
    for name in names:
        if name == "leakage":
            write_leakage(target / "leakage.json")
            continue
        if cluster is None:
            make(name, seeds, Store(out), target, device, workers)
        else:
            make_on_cluster(name, seeds, Store(out), target, device, cluster)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UsageError as error:
        sys.exit(f"onechange.studies: {error}")
