"""The commands of many runs: ``onechange table | compare | show``, and the options they share with others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..experiment.experiment import Experiment
from ..support.errors import UsageError

if TYPE_CHECKING:
    from ..training.store import PrefixStore

Flags = tyro.conf.OmitArgPrefixes[Experiment]


@dataclass
class Computes:
    """Options of the commands that compute."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, ..."""
    prefix_memory: float = 2.0
    """Gigabytes of prefix outputs to keep in memory; a larger one lies in a file of the cache."""
    prefix_disk: float | None = None
    """Gigabytes of prefix outputs to keep in the cache folder for the next command, 0 for none. Unless given:
    what ONECHANGE_PREFIX_DISK says, or 10."""
    checkpointing: Literal["on", "off"] = "off"
    """Compute every block twice instead of keeping what it computed: the same numbers in less memory."""

    @property
    def store(self) -> PrefixStore:
        from ..training.store import PrefixStore, disk

        if not 0 < self.prefix_memory < float("inf"):
            raise UsageError(f"prefix_memory must be a positive number of gigabytes, not {self.prefix_memory}")
        return PrefixStore(1e9 * self.prefix_memory, disk(self.prefix_disk))


@dataclass
class Prints:
    """Options of the commands that print a table."""

    format: Literal["text", "csv", "json", "markdown"] = "text"
    """How to print the table."""
    csv: bool = False
    """The same as --format csv."""
    json: bool = False
    """The same as --format json."""

    @property
    def style(self) -> str:
        """The format asked for, by its name or by its own switch; two different ones are refused."""
        asked = {name for name in ("csv", "json") if getattr(self, name)} | ({self.format} - {"text"})
        if len(asked) > 1:
            raise UsageError(f"one table has one format, not {' and '.join(sorted(asked))}")
        return asked.pop() if asked else "text"


Scale = Literal["gpt2", "pocket", "smollm2"]


def rows_and_seeds(
    base: Experiment, rows: list[str], seeds: int, scale: Scale | None
) -> tuple[dict[str, Experiment], range]:
    """The experiments of rows on top of ``base``, and so many seeds from its own upwards."""
    from ..evidence.study import table_rows

    if not 1 <= seeds <= 10_000:
        raise UsageError(f"seeds must be between 1 and 10000, not {seeds}")
    if scale and base.model_size != Experiment().model_size:
        raise UsageError("scale and model_size both name the models: give one of them")
    return table_rows(base, rows, scale), range(base.seed, base.seed + seeds)


@dataclass
class Study(Computes):
    """Options of the commands that run rows with several seeds."""

    experiment: Flags = field(default_factory=Experiment)
    seeds: int = 1
    """How many seeds, from --seed upwards."""
    scale: Scale | None = None
    """gpt2, pocket or smollm2: the ladder that stands for the table's four sizes. Unless given: GPT-2's, or the
    one model that --model_size names in every row."""
    out: Path = Path("onechange-results")
    """The folder in which finished runs are kept."""
    workers: int | Literal["auto"] = "auto"
    """How many processes share the runs. auto: small models on a processor run side by side, one on a thread; on a
    cluster as many as find room."""
    cluster: str | None = None
    """Spread the runs over a Ray cluster: the address of its head, or auto for one that runs here, or else this
    machine's own processors and GPUs."""
    clean: bool = False
    """Score only the test messages that do not stand in the training set."""

    def records(self, rows: list[str]) -> list[dict[str, Any]]:
        """Run what is missing; every record that was asked for."""
        from ..data.messages import messages_of
        from ..evidence.study import Store, jobs_of, run_study
        from ..support.progress import tell

        if self.workers != "auto" and not 1 <= self.workers <= 1000:
            raise UsageError(f"workers must be auto or between 1 and 1000, not {self.workers}")
        experiments, seeds = rows_and_seeds(self.experiment, rows, self.seeds, self.scale)
        if self.experiment.own_file:
            tell(messages_of(self.experiment).summary)
        return run_study(
            jobs_of(experiments, seeds), Store(self.out),
            device=self.device, prefixes=self.store, checkpointing=self.checkpointing == "on",
            workers=self.workers, cluster=self.cluster,
        )  # fmt: skip


@dataclass
class Table(Study, Prints):
    """Run rows of the table, each with several seeds, and print what came out.

    Finished runs are kept: stop it at any moment, start it again, and it goes on. Any flag of an
    experiment applies to every row; a row's own change comes on top.
    """

    rows: str = "1-19"
    """Which rows, such as 1-5,16, or by name: 0 for those without a network, pad-mask, rank for all ranks."""

    def __call__(self) -> int:
        from ..evidence.summary import render, summary
        from ..experiment.rows import parse_rows

        style = self.style
        print(render(summary(self.records(parse_rows(self.rows)), self.clean), style))
        return 0


@dataclass
class Compare(Study):
    """Compare rows with the first of them: same seeds, same test messages, paired.

    Prints each difference with its 95 % interval over seeds and messages and its p, corrected for all rows
    that were run or, of a stored study, for all that it has (Holm), and how many seeds smaller differences
    would take.
    """

    rows: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Two rows or more, by number or name: the others are compared with the first."""
    stored: str | None = None
    """Compare a study of the book (table-uci, table-pocket, table-uci-smollm2) instead of running anything."""

    def __call__(self) -> int:
        from ..evidence.compare import against_baseline
        from ..evidence.runs import runs_of, stored
        from ..experiment.rows import parse_rows

        first, *others = parse_rows(",".join(self.rows)) if self.rows else [""]
        if not others:
            raise UsageError("compare takes two different rows or more, such as: onechange compare 1 4")
        if self.stored and (idle := self._of_runs()):
            raise UsageError(f"--stored compares runs that are finished: {' and '.join(idle)} cannot change them")
        runs = stored(self.stored) if self.stored else runs_of(self.records([first, *others]))
        if missing := [name for name in (first, *others) if name not in runs]:
            raise UsageError(f"{self.stored} has no row {missing[0]}: it has {', '.join(runs)}")
        found = against_baseline(runs, self.clean, first)
        for comparison in (found[other] for other in others):
            print(f"{comparison}\n  {comparison.outlook()}")
        return 0

    def _of_runs(self) -> list[str]:
        """The options that were given and say how runs are made."""
        usual, own = vars(Compare()), ("experiment", "rows", "stored", "clean")
        given = [name for name, value in vars(self).items() if name not in own and value != usual[name]]
        return [*self.experiment.diff(Experiment()), *given]


@dataclass
class Verify(Computes):
    """Run rows of a stored study again, here, and say what agrees: answers, losses and accuracies, and to which digit.

    Says on which processors the stored runs were made and these are. Status 1 if an answer differs: another
    processor or another PyTorch may round otherwise.
    """

    study: Annotated[str, tyro.conf.Positional] = "table-uci"
    """A study of the book, such as table-uci."""
    rows: str = "1"
    """Which rows, such as 1,16."""
    seeds: int = 1
    """How many seeds, from the first that is stored."""
    out: Path = Path("onechange-verify")
    """The folder in which the runs made here are kept; what is there is not made again."""

    def __call__(self) -> int:
        from ..evidence.study import Store
        from ..evidence.verify import verify
        from ..experiment.rows import parse_rows

        found = verify(
            self.study, parse_rows(self.rows), self.seeds, Store(self.out),
            device=self.device, prefixes=self.store, checkpointing=self.checkpointing == "on",
        )  # fmt: skip
        print(found)
        return 0 if found.same else 1


@dataclass
class Show(Prints):
    """Print the table of the runs kept in a folder."""

    out: Path = Path("onechange-results")
    """The folder that `onechange table --out` wrote."""
    clean: bool = False
    """Score only the test messages that do not stand in the training set."""

    def __call__(self) -> int:
        import pandas as pd

        from ..evidence.study import Store
        from ..evidence.summary import by_setting, render, summary

        style = self.style
        groups = by_setting(Store(self.out).records())
        if style in ("csv", "json"):  # one document, whatever is in the folder
            frames = [summary(records, self.clean).assign(setting=title) for title, records in groups]
            print(render(pd.concat(frames), style))
            return 0
        for i, (title, records) in enumerate(groups):
            print("\n" * (i > 0) + f"{title}\n")
            print(render(summary(records, self.clean), style))
        return 0
