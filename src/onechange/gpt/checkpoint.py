"""A model, found once: what it is called, its shape, its files, its tokenizer, the rate that suits it.

A name of the table's or the pocket ladder's, SmolLM2's, or a folder of a reader's own becomes a :class:`Checkpoint`
where a run begins; whatever needs to know something of the model asks that value.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch

from ..support.errors import UsageError, nearest
from . import smollm2
from .layouts import network
from .model import GPT, GPTConfig
from .tokenizer import Tokenizer, gpt2_files_are_here, tokenizer_for
from .weights import MODELS, from_hub, load_weights, of_pocket, read_config, weights_hash

GPT2_VOCABULARY = 50257
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
    """

    name: str
    scale: str
    shape: GPTConfig
    learning_rate: float
    folder: Path | None = None

    def __getstate__(self) -> dict[str, object]:
        """The attributes alone: another process finds files and tokenizer for itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def file(self) -> Path:
        """Its safetensors file, downloaded and checked if need be.

        Raises:
            UsageError: if it is missing, cannot be downloaded, or has the wrong hash.
        """
        if self.scale == "gpt2":
            return from_hub(MODELS[self.name])
        if self.scale == "pocket":
            return of_pocket(self.name)
        folder = smollm2.folder() if self.scale == "smollm2" else self.folder
        assert folder is not None
        path = folder / "model.safetensors"
        if not path.is_file():
            raise UsageError(f"{path} is not there: a model folder holds config.json and model.safetensors")
        return path

    @property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        path, known = self.file, MODELS.get(self.name)
        if known is not None and known.sha256:
            return known.sha256  # checked when it came
        stat = path.stat()
        return weights_hash(path, stat.st_size, stat.st_mtime_ns)

    @property
    def own_files(self) -> str | None:
        """SHA-256 of what else decides a folder's numbers: its configuration and its tokenizer."""
        if self.folder is None or self.scale != "folder":
            return None
        files = [self.folder / name for name in ("config.json", "tokenizer.json")]
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
        return self.scale == "pocket" or self.shape.vocab_size != GPT2_VOCABULARY or gpt2_files_are_here()

    def load(self, causal: bool = True) -> GPT:
        """The pretrained trunk, without a head, on the CPU.

        Raises:
            UsageError: if its file cannot be had, or does not hold a model of this shape.
        """
        with torch.device("meta"):
            model = network(replace(self.shape, causal=causal))
        load_weights(model, self.file)
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
    if path.is_file() and path.suffix != ".safetensors":
        raise UsageError(f"{path} is not a checkpoint: name a folder, or its model.safetensors")
    if not path.exists():
        known_names = [*MODELS, *(known.split(" ")[0] for known in MODELS)]
        raise UsageError(
            f"there is no model {name!r}{nearest(name, known_names)}: use one of "
            f"{', '.join(known.split(' ')[0] for known in MODELS)}, or a folder with config.json and model.safetensors"
        )
    folder = path.parent if path.is_file() else path
    return Checkpoint(name, "folder", read_config(folder.resolve()), FOLDER_RATE, folder)
