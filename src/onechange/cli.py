"""The command line: ``onechange run | table | show | predict | cache | pretrain``.

The flags of an experiment are made from :class:`~onechange.experiment.Experiment` by tyro; nothing
is written twice. What a user can mend ends as one line on standard error and status 2.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import operator
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .errors import UsageError, nearest
from .experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from .engine import PrefixStore

Flags = tyro.conf.OmitArgPrefixes[Experiment]


@dataclass
class Computes:
    """Options of the commands that compute."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, ..."""
    prefix_memory: float = 2.0
    """Gigabytes of prefix outputs to keep in memory; a larger one lies in a file of the cache."""

    @property
    def store(self) -> PrefixStore:
        from .engine import PrefixStore

        if not 0 < self.prefix_memory < float("inf"):
            raise UsageError(f"prefix_memory must be a positive number of gigabytes, not {self.prefix_memory}")
        return PrefixStore(1e9 * self.prefix_memory)


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
        return "csv" if self.csv else "json" if self.json else self.format


@dataclass
class Run(Computes):
    """Finetune once, evaluate, and print the accuracies."""

    experiment: Flags = field(default_factory=Experiment)
    json: bool = False
    """Print one JSON object with everything, and nothing else, on standard output."""
    save: Path | None = None
    """Write the finetuned model to this new folder."""
    merge: bool = False
    """With --save: fold LoRA's adapters into the weights."""

    def __call__(self) -> int:
        from .saved import check_target, save
        from .train import run

        if self.save is not None:
            check_target(self.save, self.merge, self.experiment)
        elif self.merge:
            raise UsageError("merge has no effect without --save")
        if not self.json:
            print(self.experiment.command)
        result = run(self.experiment, device=self.device, store=self.store)
        if self.save is not None and not result.error:
            save(result, self.save, self.merge)
        print(result.to_json() if self.json else result)
        return 1 if result.error else 0


@dataclass
class Table(Computes, Prints):
    """Run rows of the table, each with several seeds, and print what came out.

    Finished runs are kept: stop it at any moment, start it again, and it goes on. Any flag of an
    experiment applies to every row; a row's own change comes on top.
    """

    experiment: Flags = field(default_factory=Experiment)
    rows: str = "1-19"
    """Which rows, such as 1-5,16."""
    seeds: int = 1
    """How many seeds, from --seed upwards."""
    scale: Literal["gpt2", "pocket"] | None = None
    """gpt2 or pocket: the ladder that stands for the table's four sizes. Unless given: GPT-2's, or the
    one model that --model_size names in every row."""
    out: Path = Path("onechange-results")
    """The folder in which finished runs are kept."""

    def __call__(self) -> int:
        from .rows import parse_rows
        from .study import Store, jobs_of, run_study, summary, table_rows

        if not 1 <= self.seeds <= 10_000:
            raise UsageError(f"seeds must be 1 or more, not {self.seeds}")
        if self.scale and self.experiment.model_size != Experiment().model_size:
            raise UsageError("scale and model_size both name the models: give one of them")
        rows = table_rows(self.experiment, parse_rows(self.rows), self.scale)
        seeds = range(self.experiment.seed, self.experiment.seed + self.seeds)
        records = run_study(jobs_of(rows, seeds), Store(self.out), device=self.device, prefixes=self.store)
        print(render(summary(records), self.style))
        return 0


@dataclass
class Show(Prints):
    """Print the table of the runs kept in a folder."""

    out: Path = Path("onechange-results")
    """The folder that `onechange table --out` wrote."""

    def __call__(self) -> int:
        from .study import Store, by_setting, summary

        for title, records in by_setting(Store(self.out).records()):
            if self.style in ("text", "markdown"):
                print(f"{title}\n")
            print(render(summary(records), self.style))
        return 0


@dataclass
class Predict:
    """Ask a finetuned model about messages: label, probability, message, tab-separated."""

    model: Annotated[Path, tyro.conf.Positional]
    """The folder that `onechange run --save` wrote."""
    text: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Messages; without any, one a line from --file or standard input."""
    file: Path | None = None
    """A text file with one message a line."""

    def __call__(self) -> int:
        from .saved import load

        classifier = load(self.model)
        print(classifier.predict(self._texts()).to_csv(sep="\t", index=False, float_format="%.4f"), end="")
        return 0

    def _texts(self) -> list[str]:
        if self.text and self.file:
            raise UsageError("give messages or --file, not both")
        if self.text:
            return list(self.text)
        if self.file and not self.file.is_file():
            raise UsageError(f"{self.file} is not there")
        try:
            raw = self.file.read_bytes() if self.file else sys.stdin.buffer.read()
            lines = raw.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.file or 'standard input'} is not valid UTF-8 (byte {error.start})") from None
        if not lines:
            raise UsageError(f"{self.file or 'standard input'} holds no message")
        return lines


@dataclass
class Cache:
    """Say where downloads are kept and what is there, or clear it."""

    clear: bool = False
    """Delete everything in the cache."""

    def __call__(self) -> int:
        from . import cache

        print(cache.root())
        if self.clear:
            print(f"freed {cache.clear() / 1e6:.1f} MB")
            return 0
        for name, size in cache.contents():
            print(f"{size / 1e6:10.1f} MB  {name}")
        return 0


@dataclass
class Pretrain:
    """Pretrain one size of the pocket family, or a fifth one, on text of your own.

    A run that stopped goes on where it was when the same command is given again.
    """

    size: Annotated[str, tyro.conf.Positional]
    """pocket-small, -medium, -large or -xl: whose recipe to follow."""
    text: tuple[Path, ...]
    """Text files (UTF-8, plain or .xz), documents separated by blank lines."""
    valid: Path
    """A text file to measure bits per byte on."""
    out: Path
    """A folder for the model, its checkpoints and its curve."""
    passes: float | None = None
    """Passes over the text, instead of the recipe's (n_layers and the next three likewise)."""
    n_layers: int | None = None
    """Blocks."""
    emb_dim: int | None = None
    """Channels."""
    n_heads: int | None = None
    """Heads."""
    seed: int | None = None
    """Seed of the weights and of the order of the text."""
    start: Path | None = None
    """Start from this model.safetensors instead of from random weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers to compute with; auto measures which is faster here."""
    compile: Literal["on", "off"] = "on"
    """Use torch.compile."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, ..."""

    def __call__(self) -> int:
        from .pretrain import RECIPES, main

        if self.size not in RECIPES:
            raise UsageError(
                f"there is no recipe {self.size!r}{nearest(self.size, RECIPES)}: use one of {', '.join(RECIPES)}"
            )
        own = {name: getattr(self, name) for name in ("passes", "n_layers", "emb_dim", "n_heads", "seed")}
        recipe = replace(RECIPES[self.size], **{name: value for name, value in own.items() if value is not None})
        card = main(
            recipe, list(self.text), self.valid, self.out,
            start=self.start, precision=self.precision, compile=self.compile == "on", device=self.device,
        )  # fmt: skip
        print(f"{card['bits_per_byte']:.4f} bits a byte (5-gram: {card['five_gram_bits_per_byte']:.4f}), in {self.out}")
        return 0


COMMANDS = {"run": Run, "table": Table, "show": Show, "predict": Predict, "cache": Cache, "pretrain": Pretrain}


def render(frame: pd.DataFrame, style: str) -> str:
    """A summary as text, Markdown, CSV or JSON."""
    if style == "csv":
        return frame.to_csv(index=False).rstrip()
    if style == "json":
        return json.dumps(json.loads(frame.to_json(orient="records")), indent=1)
    shown = frame.copy()
    for column in ("train", "val", "test", "±"):
        shown[column] = shown[column].map("{:.2f}".format)
    shown["seconds"] = shown["seconds"].map("{:.1f}".format)
    shown["trainable"] = shown["trainable"].map("{:,}".format)
    if not frame.failed.any():
        shown = shown.drop(columns="failed")
    if style == "text":
        return shown.to_string(index=False)
    rule = ["---" if c in ("title", "model") else "---:" for c in shown.columns]
    lines = [list(shown.columns), rule, *shown.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parse(argv: list[str]) -> Run | Table | Show | Predict | Cache | Pretrain:
    """Arguments to a command; a mistake in them becomes a :class:`UsageError` of one line."""
    choices = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items())
    union: Any = functools.reduce(operator.or_, choices)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                union,
                prog="onechange",
                description="What matters when you finetune a GPT: a baseline, and one change at a time.",
                args=argv,
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.ConsolidateSubcommandArgs),
            )
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UsageError(one_line(said.getvalue())) from None


def one_line(box: str) -> str:
    """The message inside tyro's box on one line, with the nearest right word where there is one."""
    lines = [re.sub(r"[│╭╮╰╯─]+", " ", line).strip() for line in box.splitlines()]
    lines = [line for line in lines if line]
    ends = ("Argument helptext", "For full helptext", "Usage")
    stop = next((i for i, line in enumerate(lines) if line.startswith(ends)), len(lines))
    text = re.sub(r"\s+", " ", " ".join(lines[1:stop]))  # the first line is the box's title
    text = re.sub(r"^Error parsing \S*experiment: ", "", text)
    text = re.sub(r"(Perhaps you meant: \S+).*", r"\1", text)
    wrong = re.search(r"invalid choice '?(.+?)'? for .*one of \((.+)\)", text)
    if wrong:
        text += nearest(wrong[1], re.findall(r"'([^']+)'", wrong[2]))
    return text or "the arguments could not be read"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        from . import __version__

        print(f"onechange {__version__}")
        return 0
    try:
        return parse(argv)()
    except UsageError as error:
        return complain(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            return complain(f"{error.strerror}: {error.filename or 'while writing'}")
        raise
    except KeyboardInterrupt:
        print("onechange: stopped", file=sys.stderr)
        return 130


def complain(text: str) -> int:
    print(f"onechange: {' '.join(text.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
