"""A model, found once: what it is called, its shape, its files, its tokenizer, the rate that suits it.

A name of the table's or the pocket ladder's, SmolLM2's, or a folder of a reader's own becomes a :class:`Checkpoint`
where a run begins; whatever needs to know something of the model asks that value.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path

import torch

from ..support.errors import UsageError, nearest
from ..support.progress import say_once
from . import smollm2
from .foreign import shape_of
from .layouts import network
from .model import GPT, GPTConfig
from .stored import INDEX, PICKLES, files_of, opened, weights_in
from .tokenizer import GPT2_VOCABULARIES, Tokenizer, gpt2_files_are_here, own_tokenizer, tokenizer_for
from .unread import file_is, folder_is
from .weights import MODELS, from_hub, load_weights, of_pocket, read_config, weights_hash

FOLDER_RATE = 5e-5  # the rate of GPT-2, which is what a folder most often holds


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found. What has to be downloaded or read comes when it is asked for, and then once.

    Attributes:
        name: what an experiment calls it.
        scale: its ladder, or ``folder``.
        shape: channels, heads, blocks, ...
        learning_rate: the rate that suits it: its own, or GPT-2's for a folder.
        folder: where its files are; ``None`` for those of the Hub.
        weights: the file with its weights, where it was named itself.
    """

    name: str
    scale: str
    shape: GPTConfig
    learning_rate: float
    folder: Path | None = None
    weights: Path | None = None

    def __getstate__(self) -> dict[str, object]:
        """The attributes alone: another process finds files and tokenizer for itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def file(self) -> Path:
        """The file with its weights, or the index of its shards; downloaded and checked if need be.

        Raises:
            UsageError: if it is missing, cannot be downloaded, or has the wrong hash.
        """
        if self.scale == "gpt2":
            return from_hub(MODELS[self.name])
        if self.scale == "pocket":
            return of_pocket(self.name)
        folder = smollm2.folder() if self.scale == "smollm2" else self.folder
        assert folder is not None
        return self.weights or weights_in(folder)

    @property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        path, known = self.file, MODELS.get(self.name)
        if known is not None and known.sha256:
            return known.sha256  # checked when it came
        states = [(file, file.stat()) for file in files_of(path)]
        hashes = [weights_hash(file, stat.st_size, stat.st_mtime_ns) for file, stat in states]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def own_files(self) -> str | None:
        """SHA-256 of what else decides a folder's numbers: its configuration and its tokenizer."""
        if self.folder is None or self.scale != "folder":
            return None
        files = [self.folder / "config.json", *own_tokenizer(self.folder)]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer: the pocket family's, GPT-2's, or the one beside its weights."""
        folder = smollm2.folder() if self.scale == "smollm2" else self.folder
        return tokenizer_for(self.scale, folder, self.shape.vocab_size)

    @property
    def tokenizer_is_here(self) -> bool:
        """Whether messages can be counted in its tokens without a download."""
        if self.scale == "smollm2":
            return smollm2.is_here()
        if self.folder is not None and own_tokenizer(self.folder):
            return True
        return self.scale == "pocket" or self.shape.vocab_size not in GPT2_VOCABULARIES or gpt2_files_are_here()

    def load(self, causal: bool = True, alone: bool = True) -> GPT:
        """The pretrained trunk, without a head, on the CPU; unless the head is taken too, what is left is said.

        Raises:
            UsageError: if its file cannot be had, or does not hold a model of this shape.
        """
        with torch.device("meta"):
            model = network(replace(self.shape, causal=causal))
        unused = load_weights(model, self.file)
        if alone:
            for line in unused or ():
                say_once(line)
        return model


def find(name: str) -> Checkpoint:
    """The model of a name or a folder; nothing is downloaded.

    Raises:
        UsageError: if ``name`` is neither a known one nor a usable folder.
    """
    if name in MODELS:
        known = MODELS[name]
        return Checkpoint(name, known.scale, known.shape, known.learning_rate)
    path = Path(name)
    if not path.exists():
        known_names = [*MODELS, *(known.split(" ")[0] for known in MODELS)]
        raise UsageError(
            f"there is no model {name!r}{nearest(name, known_names)}: use one of "
            f"{', '.join(known.split(' ')[0] for known in MODELS)}, or a folder with config.json and model.safetensors"
        )
    named = None if path.is_dir() else path
    if named is not None and named.suffix not in (".safetensors", *PICKLES) and not named.name.endswith(INDEX):
        what = file_is(path) or f"{path} is not a checkpoint"
        raise UsageError(f"{what}: name a folder, or its model.safetensors")
    folder = path if named is None else path.parent
    if (folder / "config.json").exists():
        shape = read_config(folder.resolve())
    elif named is None and (what := folder_is(folder)):
        raise UsageError(what)
    else:
        shape = _shape_in(named or weights_in(folder))
    return Checkpoint(name, "folder", shape, FOLDER_RATE, folder, named)


def _shape_in(path: Path) -> GPTConfig:
    stat = path.stat()
    return _shape_then(path, stat.st_size, stat.st_mtime_ns)


@cache
def _shape_then(path: Path, size: int, changed: int) -> GPTConfig:
    """The shape that a file's tensors have, once per state of the file: reading one of PyTorch's may take seconds."""
    return shape_of(opened(path))
