"""Checkpoints in and out: GPT-2 from the Hugging Face Hub, the pocket ladder, SmolLM2, a folder.

All but a reader's own have a layout of Hugging Face's, ``config.json`` and ``model.safetensors`` (see
:mod:`onechange.gpt.layouts`); a reader's may be another's (:mod:`onechange.gpt.foreign`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..support.cache import is_marked, mark, missing, root, sha256
from ..support.errors import UsageError
from ..support.package import POCKET
from . import smollm2
from .foreign import left_out, naming_of, some_names
from .layouts import LAYOUTS, layout_of
from .model import GPT, GPTConfig
from .stored import opened
from .unread import file_is, folder_is


@dataclass(frozen=True)
class Model:
    """A model that has a name: where its weights are and which learning rate suits it.

    ``rung`` is its place on its ladder; ``sha256`` is ``None`` where the Hub's own record of the
    pinned revision is used.
    """

    scale: str
    rung: int
    shape: GPTConfig
    learning_rate: float
    repo: str = ""
    revision: str = ""
    sha256: str | None = None


def _gpt2(rung: int, shape: tuple[int, int, int], repo: str, revision: str, digest: str | None = None) -> Model:
    config = GPTConfig(50257, 1024, *shape)
    return Model("gpt2", rung, config, 5e-5, f"openai-community/{repo}", revision, digest)


def _pocket(rung: int, shape: tuple[int, int, int], learning_rate: float) -> Model:
    return Model("pocket", rung, GPTConfig(4096, 512, *shape), learning_rate)


# Shapes are (channels, heads, blocks).
MODELS: dict[str, Model] = {
    "gpt2-small (124M)": _gpt2(
        0, (768, 12, 12), "gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium (355M)": _gpt2(1, (1024, 16, 24), "gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
    "gpt2-large (774M)": _gpt2(2, (1280, 20, 36), "gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519"),
    "gpt2-xl (1558M)": _gpt2(
        3, (1600, 25, 48), "gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
    ),
    "smollm2-135m": Model("smollm2", 0, smollm2.SHAPE, smollm2.LEARNING_RATE, sha256=smollm2.GGUF),
    "pocket-small": _pocket(0, (128, 4, 4), 1e-3),
    "pocket-medium": _pocket(1, (160, 5, 4), 5e-4),
    "pocket-large": _pocket(2, (192, 6, 5), 5e-4),
    "pocket-xl": _pocket(3, (224, 7, 8), 3e-4),
}  # fmt: skip


SCALES = tuple(dict.fromkeys(model.scale for model in MODELS.values()))
"""The ladders."""


def model_name(size: Any) -> Any:
    """A model's name in full from how people write it, the Hub's own names too; anything else as it is.

    Raises:
        UsageError: for a name of the Hub's where a folder of that name lies here: either could be meant.
    """
    short = {name.split(" ")[0]: name for name in MODELS}
    hubs = {f"openai-community/{word}": name for word, name in short.items()}
    hubs |= dict.fromkeys(("gpt2", "openai-community/gpt2"), next(iter(MODELS)))
    if size in hubs and os.path.exists(size):
        model = hubs[size].split(" ")[0]
        raise UsageError(f"a folder {size} lies here: say {model} for the model, or ./{size} for the folder")
    return (short | hubs).get(size, size)


def read_config(folder: Path) -> GPTConfig:
    """``config.json`` of a checkpoint, or a clear line on why it is neither a GPT-2's nor a Llama's."""
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        model_type = raw.get("model_type", "gpt2")
        if model_type not in LAYOUTS:
            what = folder_is(folder) or str(path)
            raise UsageError(f"{what}: model_type is {model_type!r}, this package computes {' and '.join(LAYOUTS)}")
        if raw.get("quantization_config"):
            raise UsageError(
                f"{path} has a quantization_config: a quantised checkpoint is not read, only one of floats"
            )
        layout = LAYOUTS[model_type]
        shape = layout.shape(raw)
        refused = layout.refused(raw)
    except FileNotFoundError:
        raise UsageError(
            folder_is(folder) or f"{folder} has no config.json: a model folder holds config.json and model.safetensors"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        what = file_is(path) or f"{path} is not the configuration of a GPT-2 or a Llama: {error!r}"
        raise UsageError(what) from None
    if refused:
        raise UsageError(f"{path}: {refused}")
    return shape


def of_pocket(name: str) -> Path:
    """The file of a pocket model, in the package.

    Raises:
        UsageError: if this release does not ship it.
    """
    path = POCKET / name / "model.safetensors"
    if not path.is_file():
        shipped = ", ".join(name for name in MODELS if (POCKET / name / "model.safetensors").is_file())
        raise UsageError(f"{name} is not in this release: of the pocket family it has {shipped}")
    return path


def from_hub(model: Model) -> Path:
    """The file of a model on the Hub, downloaded and checked if need be.

    Raises:
        UsageError: if it cannot be had or has the wrong hash.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # what goes wrong is said below, once
    place = root() / "hub"
    try:
        path = Path(hf_hub_download(model.repo, "model.safetensors", revision=model.revision, cache_dir=place))
    except Exception as error:  # whatever a server, a proxy or a mirror does: the client's errors share no other class
        if isinstance(error, OSError) and error.errno == 28:
            raise UsageError(f"the disk is full: {model.repo} does not fit into {place}") from None
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:  # the client's own words say only that it could not
            cause = cause.__cause__ or cause.__context__ or cause
        raise missing(f"{model.repo}'s weights", "model.safetensors", place, cause) from None
    blob = path.resolve()
    if is_marked(blob):  # hashing gigabytes once is enough, for as long as the file stays what it is
        return path
    size, embedding = blob.stat().st_size, 2 * model.shape.emb_dim * model.shape.vocab_size  # bytes, in 16 bits
    few = model.sha256 is None and size < embedding  # seen without asking the Hub for its record
    wanted = "" if few else model.sha256 or _hub_sha256(model, blob)
    if few or sha256(blob) != wanted:
        for damaged in {path, blob}:  # or the client would find it there for ever
            damaged.unlink(missing_ok=True)
        why = f"only {size:,} bytes" if few else f"the wrong SHA-256 (expected {wanted[:12]}...)"
        raise UsageError(f"{path} had {why}: it was damaged or another file, and is removed; try again")
    mark(blob)
    return path


def _hub_sha256(model: Model, blob: Path) -> str:
    """The Hub's own record of a file's SHA-256: the name in its cache, or, without links, its metadata."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if len(blob.name) == 64:
        return blob.name
    url = hf_hub_url(model.repo, "model.safetensors", revision=model.revision)
    try:
        return str(get_hf_file_metadata(url).etag)
    except Exception as error:  # as above
        raise missing(
            f"the SHA-256 of {model.repo}'s weights", f"{blob} cannot be checked; it", blob.parent, error
        ) from None


@cache
def weights_hash(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a weights file, once per state of the file."""
    return sha256(path)


def load_weights(model: GPT, path: Path) -> list[str]:
    """Put the weights of a file, or of the shards of an index, into a model of the same architecture, as float32.

    Returns:
        What of the file is not used, a line each: a head that classifies, adapters.

    Raises:
        UsageError: if the file is truncated, lacks a tensor or has one of another shape.
    """
    layout, stored, state = layout_of(model.config), opened(path), {}
    naming, before = naming_of(stored, layout)
    for ours, theirs, part in naming.names(model.config):
        wanted = model.get_parameter(ours).shape
        if before + theirs in stored.shapes:
            state[ours] = naming.ours(stored.tensor(before + theirs), theirs, part)
        elif naming.is_zero(theirs, stored.shapes):
            state[ours] = torch.zeros(wanted)
        else:
            raise UsageError(
                f"{path} has no tensor {theirs}: it is not a {layout.name} of {model.config.n_layers} blocks "
                f"(it holds {some_names(stored)})"
            )
        if state[ours].shape != wanted:
            found = tuple(state[ours].shape)
            raise UsageError(f"{path}: {ours} has shape {found}, its config.json says {tuple(wanted)}")
    model.load_state_dict(state, strict=False, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return left_out(stored, model.config.vocab_size)
