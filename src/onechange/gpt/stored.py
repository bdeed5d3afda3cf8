"""The tensors of a checkpoint by name, in whatever kind of file they lie: safetensors, whole or in shards, or PyTorch's
own, of which nothing is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..support.errors import UsageError
from .unread import file_is, folder_is

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
"""How PyTorch's own files end."""

INDEX = ".index.json"
WHOLE = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}", "ckpt.pt")
"""What the weights in a folder are called, the first that is there being the one that is read."""

BESIDE = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth")  # what a training run leaves beside its weights
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Stored:
    """The tensors of a checkpoint, each read when it is asked for.

    Attributes:
        path: the file, or the index of the shards.
        shapes: every tensor's name and shape.
        get: reads one by its name.
        about: what nanoGPT keeps of the model's shape beside the tensors.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    get: Callable[[str], Tensor]
    about: dict[str, Any] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor:
        """A tensor as float32.

        Raises:
            UsageError: if its numbers are no floats, as in a quantised checkpoint.
        """
        try:
            tensor = self.get(name)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{self.path} cannot be read: {error}") from None
        if tensor.dtype not in FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{self.path}: {name} is {kind}: a quantised checkpoint is not read, only one of floats")
        return tensor.float()


def weights_in(folder: Path) -> Path:
    """The file with a folder's weights, or the index of its shards.

    Raises:
        UsageError: if there is none, or several among which nobody can choose.
    """
    for name in WHOLE:
        if (folder / name).is_file():
            return folder / name
    ends = {".safetensors", *PICKLES[:2]}
    loose = sorted(p for p in folder.iterdir() if p.suffix in ends and p.name not in BESIDE and p.is_file())
    if len(loose) == 1:
        return loose[0]
    if loose:
        raise UsageError(f"{folder} has no {WHOLE[0]}, but {', '.join(p.name for p in loose)}: name one of them")
    raise UsageError(
        folder_is(folder) or f"{folder / WHOLE[0]} is not there: a model folder holds config.json and {WHOLE[0]}"
    )


def opened(path: Path) -> Stored:
    """The tensors of a file, or of all the shards that an index names.

    Raises:
        UsageError: if it is not there, is damaged, or would need code to be read.
    """
    if not path.name.endswith(INDEX):
        return _pickled(path) if path.suffix in PICKLES else _safetensors(path)
    where = shards(path)
    parts = {file: opened(file) for file in dict.fromkeys(where.values())}
    for name, file in where.items():
        if name not in parts[file].shapes:
            raise UsageError(f"{file} has no tensor {name}: {path.name} says that it lies there")
    return Stored(
        path,
        {name: parts[file].shapes[name] for name, file in where.items()},
        lambda name: parts[where[name]].get(name),
    )


def files_of(path: Path) -> list[Path]:
    """The files that decide a checkpoint's numbers: itself, and the shards of an index."""
    return [path, *sorted(set(shards(path).values()))] if path.name.endswith(INDEX) else [path]


def shards(index: Path) -> dict[str, Path]:
    """Every tensor of an index and the shard it lies in.

    Raises:
        UsageError: if it is no index, a shard is missing, or one would lie outside the folder.
    """
    try:
        names = {str(name): str(file) for name, file in json.loads(index.read_text("utf-8"))["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(file_is(index) or f"{index} is not an index of shards: {error!r}") from None
    for name in sorted(set(names.values())):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name:  # as it is written: a shard may
            raise UsageError(f"{index}: the shard {name!r} lies outside the folder")  # well be a link, as in the Hub's
        if not (index.parent / name).is_file():  # cache
            raise UsageError(f"{index.parent / name} is not there: {index.name} names it")
        if name.endswith(INDEX):
            raise UsageError(f"{index}: the shard {name!r} is an index itself")
    return {name: index.parent / file for name, file in names.items()}


def _safetensors(path: Path) -> Stored:
    try:
        file = safe_open(path, framework="pt")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(file_is(path) or f"{path} cannot be read as safetensors (truncated?): {error}") from None
    return Stored(path, shapes, file.get_tensor)


def _pickled(path: Path) -> Stored:
    """PyTorch's file: a state dict, or one under the name that nanoGPT, the source book and trainers give it."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # the reader of pickles has no error of its own for what is damaged
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            why = "only tensors are taken from a pickle, and this one needs code: save the model's state_dict()"
            raise UsageError(f"{path}: {why}") from None
        short = " ".join(str(error).split())[:80] or type(error).__name__
        raise UsageError(file_is(path) or f"{path} cannot be read as PyTorch's (truncated?): {short}") from None
    words = raw if isinstance(raw, dict) else {}
    inner = next((words[k] for k in ("model", "model_state_dict", "state_dict") if isinstance(words.get(k), dict)), raw)
    tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, dict) else {}
    if not tensors:
        raise UsageError(f"{path} holds no tensors by name: save the model's state_dict()")
    about = words.get("model_args")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Stored(path, shapes, tensors.__getitem__, about if isinstance(about, dict) else {})
