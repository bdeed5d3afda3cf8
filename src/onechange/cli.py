"""The command line: ``onechange run | table | show | predict | cache | pretrain``.

The flags of an experiment are made from :class:`~onechange.experiment.Experiment` by tyro; nothing
is written twice. What a user can mend ends as one line on standard error and status 2.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .arguments import read
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
        """The format asked for, by its name or by its own switch; two different ones are refused."""
        asked = {name for name in ("csv", "json") if getattr(self, name)} | ({self.format} - {"text"})
        if len(asked) > 1:
            raise UsageError(f"one table has one format, not {' and '.join(sorted(asked))}")
        return asked.pop() if asked else "text"


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
        result = run(self.experiment, device=self.device, store=self.store)
        if self.save is not None and not result.error:
            save(result, self.save, self.merge)
        print(result.to_json() if self.json else f"{result.command}\n{result}")
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

        style = self.style
        if not 1 <= self.seeds <= 10_000:
            raise UsageError(f"seeds must be between 1 and 10000, not {self.seeds}")
        if self.scale and self.experiment.model_size != Experiment().model_size:
            raise UsageError("scale and model_size both name the models: give one of them")
        rows = table_rows(self.experiment, parse_rows(self.rows), self.scale)
        seeds = range(self.experiment.seed, self.experiment.seed + self.seeds)
        records = run_study(jobs_of(rows, seeds), Store(self.out), device=self.device, prefixes=self.store)
        print(render(summary(records), style))
        return 0


@dataclass
class Show(Prints):
    """Print the table of the runs kept in a folder."""

    out: Path = Path("onechange-results")
    """The folder that `onechange table --out` wrote."""

    def __call__(self) -> int:
        import pandas as pd

        from .study import Store, by_setting, summary

        style = self.style
        groups = by_setting(Store(self.out).records())
        if style in ("csv", "json"):  # one document, whatever is in the folder
            frames = [summary(records).assign(setting=title) for title, records in groups]
            print(render(pd.concat(frames), style))
            return 0
        for i, (title, records) in enumerate(groups):
            print("\n" * (i > 0) + f"{title}\n")
            print(render(summary(records), style))
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
            lines = raw.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n") if raw else []
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
    caption = "Accuracies in %; ± is half a 95 % interval: over seeds, or over test messages where there is one seed."
    if style == "text":
        left = {c: f"{{:<{shown[c].str.len().max()}}}".format for c in ("title", "model")}
        return f"{shown.to_string(index=False, formatters=left)}\n\n{caption}"
    rule = ["---" if c in ("title", "model") else "---:" for c in shown.columns]
    lines = [list(shown.columns), rule, *shown.astype(str).values.tolist()]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", caption])


def parse(argv: list[str]) -> Run | Table | Show | Predict | Cache | Pretrain:
    """Arguments to a command; a mistake in them becomes a :class:`UsageError` of one line."""
    return read(COMMANDS, argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        from . import __version__

        print(f"onechange {__version__}")
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ± on a terminal that has none
    try:
        status = parse(argv)()
        sys.stdout.flush()
        return status
    except UsageError as error:
        return complain(str(error))
    except BrokenPipeError:  # the reader of a pipe has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f": {error.filename}" if error.filename else " while writing" if error.errno == errno.ENOSPC else ""
        return complain(f"{error.strerror or error}{where}")
    except KeyboardInterrupt:
        print("onechange: stopped", file=sys.stderr)
        return 130


def complain(text: str) -> int:
    print(f"onechange: {' '.join(text.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
