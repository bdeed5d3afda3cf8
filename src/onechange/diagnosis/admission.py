"""Whatever a person names as their model, as a :class:`~onechange.diagnosis.patient.Patient`.

That is a folder of ``onechange run --save`` or a run in hand; a classifier of Hugging Face's on a GPT-2 or a Llama; or
the source book's checkpoint, of which nothing but its tensors is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..classifier.reading import classifier
from ..classifier.saved import Classifier, load
from ..gpt.checkpoint import Checkpoint, find
from ..gpt.foreign import BOOK, head_in, naming_of
from ..gpt.layouts import layout_of
from ..gpt.model import GPT
from ..gpt.stored import Stored, opened
from ..gpt.tokenizer import Tokenizer
from ..support.errors import UsageError
from ..support.files import home
from ..training.reader import Reader
from ..training.result import Result
from .patient import Patient

POSSIBLE = (
    "the doctor looks at a folder that onechange run --save wrote, at a GPT2ForSequenceClassification or "
    "LlamaForSequenceClassification (score), or at the source book's review_classifier.pth (out_head)"
)
BOOKS_LENGTH = 120
"""Tokens to which the source book pads the UCI messages."""


def admit(model: str | Path | Result | Classifier, length: int | None = None) -> Patient:
    """A model, ready to be asked; ``length``: what a checkpoint of the source book was padded to.

    Raises:
        UsageError: if it is none that the doctor knows, or cannot be read.
    """
    if isinstance(model, Result):
        trained = model.experiment.to_dict() | {"digest": model.environment["messages_sha256"]}
        patient = ours("this run", classifier(model), trained)
    elif isinstance(model, Classifier):
        patient = ours("this model", model, {})
    else:
        path = Path(home(model))
        if (path / "onechange.json").exists():
            patient = ours(str(model), load(path), _trained(path))
        else:
            return foreign(path, length)
    if length is not None:
        raise UsageError(f"length has no effect: {patient.name} says itself what its messages are padded to")
    return patient


def _trained(folder: Path) -> dict[str, Any]:
    """How a saved folder was trained; the folder itself was read and checked before."""
    about = json.loads((folder / "onechange.json").read_text(encoding="utf-8"))
    return about["experiment"] | {"digest": about.get("environment", {}).get("messages_sha256")}


def ours(name: str, c: Classifier, trained: dict[str, Any]) -> Patient:
    """A model of this package's."""
    e, reader = c.experiment, Reader.of(c.experiment)
    length = None if e.no_padding else c.max_length
    read = "the average over positions" if reader.average else "the first token" if reader.first else ""
    read = read or ("its own last token" if reader.own_end else "the last position, padding or not")
    shape = "not padded" if length is None else f"padded {'before' if reader.left else 'behind'} to {length} tokens"
    said = f"a model of this package, classes {', '.join(c.classes)}: a message is {shape}, and read at {read}"
    return Patient(name, (said,), c.model, c.tokenizer, c.classes, reader, length, c.tokenizer.end, trained=trained)


def foreign(path: Path, length: int | None) -> Patient:
    """A classifier that another program saved."""
    checkpoint = find(str(path.absolute()))  # a folder called gpt2 is not the model of that name
    stored = opened(checkpoint.file)
    name = head_in(stored, checkpoint.shape.vocab_size)
    if name is None:
        raise UsageError(f"{path} has no head that classifies: {POSSIBLE}")
    model = with_head(checkpoint.load(alone=False), stored, name)
    config = checkpoint.folder / "config.json" if checkpoint.folder else path
    if naming_of(stored, layout_of(model.config))[0] is BOOK or not config.exists():
        return of_book(path, model, checkpoint.tokenizer, length)
    if length is not None:
        raise UsageError("length has no effect on a classifier of Hugging Face's, which pads to no fixed length")
    return of_transformers(path, model, checkpoint, json.loads(config.read_text(encoding="utf-8")))


def with_head(model: GPT, stored: Stored, name: str) -> GPT:
    """A trunk with the head that a file holds; one without a bias has a bias of zero."""
    weight = stored.tensor(name)
    bias = name.removesuffix("weight") + "bias"
    if weight.size(1) != model.config.emb_dim:
        raise UsageError(
            f"{stored.path}: {name} has shape {tuple(weight.shape)}, the model's width is {model.config.emb_dim}"
        )
    with torch.device("meta"):
        head = nn.Linear(weight.size(1), weight.size(0))
    bias_of = stored.tensor(bias) if bias in stored.shapes else torch.zeros(weight.size(0))
    head.load_state_dict({"weight": weight, "bias": bias_of}, assign=True)
    model.head = head
    return model.requires_grad_(False).eval()


def numbers(model: GPT) -> tuple[str, ...]:
    """Names for classes that have none."""
    assert isinstance(model.head, nn.Linear)
    return tuple(str(k) for k in range(model.head.out_features))


def of_book(path: Path, model: GPT, tokenizer: Tokenizer, length: int | None) -> Patient:
    """The source book's: messages padded to one length with ``<|endoftext|>``, the last position read."""
    reader = Reader(average=False, first=False, own_end=False, causal=True, unpadded=False)
    said = "a checkpoint of the source book's: the last position is read, padding or not"
    T = length or min(BOOKS_LENGTH, model.config.context_length)
    if model.config.context_length < T:
        raise UsageError(f"length {T} is more than the model's context, {model.config.context_length}")
    return Patient(str(path), (said,), model, tokenizer, numbers(model), reader, T, tokenizer.end, named=False)


def of_transformers(path: Path, model: GPT, checkpoint: Checkpoint, config: dict[str, Any]) -> Patient:
    """One of Hugging Face's: read at the last token that is not ``config.pad_token_id``."""
    tokenizer, stop = checkpoint.tokenizer, config.get("pad_token_id")
    encode, ids = theirs(tokenizer)
    pads = _pad_token(path if path.is_dir() else path.parent, ids)
    fill = pads if pads is not None else tokenizer.end if stop is None else stop
    classes = numbers(model)
    named = {int(k): str(name) for k, name in (config.get("id2label") or {}).items()}
    own = len(named) == len(classes) and not all(name == f"LABEL_{k}" for k, name in named.items())
    classes = tuple(named[k] for k in range(len(classes))) if own else classes
    kind = layout_of(model.config).classifier
    if stop is None:
        how = "config.pad_token_id is not set, so transformers takes one message at a time and reads the last token"
    else:
        how = f"transformers reads the last token that is not {stop} (config.pad_token_id)"
    said = [f"{kind}, classes {', '.join(classes)}: {how}"]
    if stop is not None and fill != stop:
        said.append(f"its tokenizer pads with {fill}, which is not that token: padding is read")
    reader = Reader(average=False, first=False, own_end=True, causal=True, unpadded=True)

    return Patient(
        str(path), tuple(said), model, replace(tokenizer, encode=encode), classes, reader, None, fill, stop,
        theirs=True, named=own,
    )  # fmt: skip


def theirs(tokenizer: Tokenizer) -> tuple[Callable[[str], list[int]], Callable[[str], int | None]]:
    """How transformers encodes a text, a beginning mark included where the tokenizer puts one; a token's id."""
    if not tokenizer.json:
        return tokenizer.encode, lambda token: None
    from tokenizers import Tokenizer as Engine

    engine = Engine.from_str(tokenizer.json)
    engine.no_truncation()
    engine.no_padding()
    return lambda text: list(engine.encode(text).ids), engine.token_to_id


def _pad_token(folder: Path, ids: Callable[[str], int | None]) -> int | None:
    """The token with which the tokenizer beside a model pads, if it says so."""
    try:
        token = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("pad_token")
    except (OSError, ValueError, AttributeError):
        return None
    token = token.get("content") if isinstance(token, dict) else token
    return ids(token) if isinstance(token, str) else None
