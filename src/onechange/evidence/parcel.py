"""Weights and messages on their way to another machine: named by hash, kept in its cache, never by a path of ours.

What the package's own cache names (GPT-2, SmolLM2, the UCI messages) goes to the same place in the other's; a
reader's own folder or file goes to ``cluster/<hash>`` there. What ships with the package goes nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..data.messages import Source
from ..data.uci import uci_file
from ..experiment.experiment import Experiment
from ..gpt.stored import files_of
from ..gpt.tokenizer import GPT2_FILES, GPT2_VOCABULARIES, gpt2_encoding, gpt2_files, own_tokenizer
from ..support.cache import check, is_marked, mark, root, sha256
from ..support.files import write_atomically

PLACE = "cluster"


@dataclass(frozen=True)
class Item:
    """A file: its place below any cache folder, its SHA-256, and where it lies here, which does not travel."""

    place: str
    sha256: str
    source: Path | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {"place": self.place, "sha256": self.sha256, "source": None}

    @property
    def is_here(self) -> bool:
        """Whether this machine's cache has it, as it should be; its gigabytes are hashed once."""
        path = root() / self.place
        if not path.is_file():
            return False
        if not is_marked(path.resolve()):
            if sha256(path) != self.sha256:
                return False
            mark(path.resolve())
        return True

    def receive(self, data: bytes | memoryview) -> None:
        """Put it into this machine's cache.

        Raises:
            OSError: if the disk is full.
            UsageError: if its hash is another.
        """

        def write(temporary: str) -> None:
            Path(temporary).write_bytes(data)
            check(Path(temporary), self.sha256, self.place)

        write_atomically(root() / self.place, write)
        mark(root() / self.place)


@dataclass(frozen=True)
class Parcel:
    """What an experiment needs on another machine.

    Attributes:
        items: its files.
        model, dataset: where its own folder and its own file of messages lie below a cache; ``None`` for named ones.
    """

    items: tuple[Item, ...]
    model: str | None
    dataset: str | None

    @classmethod
    def of(cls, e: Experiment) -> Parcel:
        """What a resolved experiment needs, all of it here.

        Raises:
            UsageError: if something cannot be had.
        """
        model, dataset, items = None, None, [*_cached(e)]
        if e.scale == "folder":
            own = [Item(path.name, sha256(path), path) for path in _folder(e)]
            place = _under(own)
            items += [Item(f"{place}/{item.place}", item.sha256, item.source) for item in own]
            named = e.checkpoint.weights
            model = place if named is None else f"{place}/{named.name}"
        if e.own_file:
            path = Path(str(e.dataset))
            dataset = f"{PLACE}/{Source.of(e).digest[:20]}/{path.name}"
            items.append(Item(dataset, Source.of(e).digest, path))
        return cls(tuple(items), model, dataset)

    def unpacked(self, e: Experiment) -> Experiment:
        """The experiment with the places of this machine for its model and its messages."""
        places = {"model_size": self.model, "dataset": self.dataset}
        return e.but(**{name: str(root() / place) for name, place in places.items() if place is not None})


def _under(items: Iterable[Item]) -> str:
    """A place for a folder: the hash of its files."""
    names = "".join(f"{item.place} {item.sha256}\n" for item in items)
    return str(PurePosixPath(PLACE, hashlib.sha256(names.encode()).hexdigest()[:20]))


def _folder(e: Experiment) -> list[Path]:
    """The files of a reader's own model that are read: configuration, tokenizer and weights, these in shards too."""
    folder = e.checkpoint.folder
    assert folder is not None
    weights = files_of(e.checkpoint.file)
    return [path for path in (folder / "config.json", *own_tokenizer(folder), *weights) if path.is_file()]


def _cached(e: Experiment) -> Iterator[Item]:
    """What lies in the cache under a name that every machine knows."""
    if e.scale == "gpt2" and e.weights == "pretrained":
        path = e.checkpoint.file
        yield Item(path.relative_to(root()).as_posix(), e.checkpoint.digest, path)
    if e.scale == "smollm2":
        here = e.checkpoint.file.parent
        yield from (Item(f"{here.name}/{path.name}", sha256(path), path) for path in _plain(here))
    folder = e.checkpoint.folder
    if e.scale == "gpt2" or (
        folder is not None and not own_tokenizer(folder) and e.checkpoint.shape.vocab_size in GPT2_VOCABULARIES
    ):
        gpt2_encoding()  # there, and the right one
        for path, digest in zip(gpt2_files(), GPT2_FILES.values(), strict=True):
            yield Item(f"tiktoken/{path.name}", digest, path)
    if e.dataset == "uci":
        yield Item(uci_file().name, Source.of(e).digest, uci_file())


def _plain(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in (".verified", ".gguf"))


def deliver(items: Iterable[Item], fetch: Callable[[Item], bytes | memoryview]) -> None:
    """See to it that files are in this machine's cache, fetching what it lacks."""
    for item in items:
        if not item.is_here:
            item.receive(fetch(item))
