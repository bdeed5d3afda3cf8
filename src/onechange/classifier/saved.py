"""A finetuned model on disk, and what it says of a message."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..data.table import check_message
from ..data.tokens import encode
from ..experiment.experiment import Experiment
from ..gpt.layouts import layout_of
from ..gpt.lora import LoRALinear, add_lora, merge_lora, put
from ..gpt.model import GPT
from ..gpt.tokenizer import POCKET_RANKS, Tokenizer, read_ranks, to_json, tokenizer_for
from ..support.cache import sha256
from ..support.errors import UsageError
from ..support.files import digest_of, home, sync, sync_folder
from ..training.prefix import Inputs, logits_of
from ..training.reader import Reader
from ..training.result import Result


def save(result: Result, folder: str | Path, merge: bool = False) -> Path:
    """Write a run's finetuned model: weights as safetensors, its experiment, what is needed to use it.

    The folder is one of Hugging Face's for its classifier of the same architecture (its ``score`` is the head
    without a bias), beside which lie ``head.weight`` and ``head.bias``; ``README.md`` in it says what that class
    can hold of the model. LoRA's adapters are kept apart unless ``merge`` folds them into the weights, and there
    is then no ``score``, since without them it would answer wrongly.

    Raises:
        UsageError: if the folder exists already, or there is nothing to merge.
    """
    folder = check_target(folder, merge, result.experiment)
    model: GPT = result.model
    adapters = {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    tensors = {}
    if merge:
        model = merge_lora(_copy(model))
    elif adapters:
        tensors = {
            f"lora.{name}.{part}": getattr(module, part).detach().cpu().contiguous()
            for name, module in adapters.items()
            for part in "AB"
        }
        model = _without_adapters(_copy(model))
    assert isinstance(model.head, nn.Linear)
    layout = layout_of(model.config)
    tensors |= {layout.prefix + name: tensor for name, tensor in layout.theirs(model).items()}
    tensors |= {f"head.{name}": p.detach().cpu().contiguous() for name, p in model.head.named_parameters()}
    tokenizer = result.experiment.checkpoint.tokenizer
    config = layout.config(model.config, tokenizer.end)
    if merge or not adapters:
        tensors["score.weight"] = tensors["head.weight"].clone()  # a file has no two names for one tensor
        config |= classifier_words(layout.classifier, result.classes, tokenizer.end)
    about = {
        "experiment": result.experiment.to_dict(),
        "classes": list(result.classes),
        "max_length": result.max_length,
        "tokenizer": "own" if tokenizer.name.endswith(".json") else tokenizer.name,
        "merged": merge,
        "environment": result.environment,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        save_file(tensors, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        said = readme(result, layout.classifier, "score.weight" in tensors, tokenizer.end)
        (temporary / "README.md").write_text(said, encoding="utf-8")
        if about["tokenizer"] == "own":
            (temporary / "tokenizer.json").write_text(tokenizer.json, encoding="utf-8")
        elif about["tokenizer"] == "pocket":  # so that the folder stands by itself
            (temporary / "tokenizer.json").write_text(to_json(read_ranks(POCKET_RANKS)), encoding="utf-8")
        about["files"] = {path.name: sha256(path) for path in sorted(temporary.iterdir()) if path.suffix != ".md"}
        about["digest"] = digest_of(about)
        (temporary / "onechange.json").write_text(json.dumps(about, indent=2) + "\n")
        temporary.chmod(0o755)
        sync(temporary)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
        sync_folder(folder.parent)
    except SafetensorError as error:  # a full disk, among others
        raise UsageError(f"{folder} cannot be written: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if all went well
    return folder


def classifier_words(name: str, classes: Sequence[str], end: int) -> dict[str, Any]:
    """What ``config.json`` says of a classifier of Hugging Face's."""
    return {
        "architectures": [name],
        "num_labels": len(classes),
        "id2label": {str(i): label for i, label in enumerate(classes)},
        "label2id": {label: i for i, label in enumerate(classes)},
        "pad_token_id": end,  # so that its class finds a message's last own token
    }


def readme(result: Result, name: str, has_score: bool, end: int) -> str:
    """What a saved folder says of itself: how to ask it, and what Hugging Face's class can hold of it."""
    e, reader = result.experiment, Reader.of(result.experiment)
    its = f"`transformers.{name}`"
    lines = [
        "# A finetuned model",
        f"Made by `{e.command}`, with the classes {', '.join(result.classes)}.",
        'Ask it with `onechange predict FOLDER "a message"`, or in Python with `onechange.classifier.saved.load`: '
        "the answers are those of the run.",
    ]
    if not has_score:
        lines.append(
            f"{its} cannot hold it: the LoRA adapters lie apart (`lora.*`), and without them the trunk is the "
            "pretrained one. It would draw a random head. Save with `--merge` for other programs."
        )
    elif reader.own_end and reader.causal and not reader.average and (reader.unpadded or not reader.left):
        cut = "" if e.no_padding else f", and cut a message behind its first {result.max_length} tokens"
        lines.append(
            f"{its} holds it but for the head's bias: its logits plus `head.bias` of `model.safetensors` are this "
            f"model's. Pad on the right{cut}; it reads the last token that is not padding, as this model does."
        )
    else:
        lines.append(
            f"{its} opens it, but does not give its answers: that class reads the last token that is not padding, "
            f"through a causal mask, without a bias. {_read_instead(e, result.max_length, end)}"
        )
    return "\n\n".join(lines) + "\n"


def _read_instead(e: Experiment, length: int, end: int) -> str:
    """What a model that reads something else than its message's last own token needs to be asked elsewhere."""
    if e.disable_causal_mask:
        return "This model was trained without a causal mask."
    if e.average_embeddings:
        return "This model reads the average over positions."
    if e.trainable_token_pos == "first":
        return "This model reads the first token."
    if e.mask_padding or e.padding_side == "left":
        return "This model reads a message behind or without its padding, at positions that class does not give it."
    return (
        f"This model reads the last of {length} tokens, padding included: fill a message up with token {end} to that "
        "length, one message at a time, set `model.config.pad_token_id = None`, and its logits plus `head.bias` are "
        "this model's."
    )


def check_target(folder: str | Path, merge: bool, experiment: Experiment) -> Path:
    """Whether a run could be saved here, asked before it is made: the folder must be new or empty."""
    folder = Path(home(folder)).absolute()
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UsageError(f"{folder} exists already")
    there = next(parent for parent in folder.parents if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UsageError(f"{folder} cannot be made: {there} is not a folder one may write to")
    if merge and not experiment.uses_lora:
        raise UsageError("there is nothing to merge without --trainable_layers lora")
    return folder


def _copy(model: GPT) -> GPT:
    return copy.deepcopy(model).cpu()


def _without_adapters(model: GPT) -> GPT:
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            put(model, name, module.base)
    return model


@dataclass
class Classifier:
    """A finetuned model, ready to be asked."""

    model: GPT
    experiment: Experiment
    tokenizer: Tokenizer
    classes: tuple[str, ...]
    max_length: int

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of every class for every message, ``(N, K)``.

        Raises:
            UsageError: for a message that is empty, holds the end mark, or cannot fit the model.
        """
        for i, text in enumerate(texts):
            check_message(text, f"message {i + 1}")
        frame = pd.DataFrame({"text": list(texts), "label": 0})
        e = self.experiment
        tokens = encode(frame, self.tokenizer, None if e.no_padding else self.max_length, e.padding_side)
        if tokens.ids.size(1) > self.model.config.context_length:
            raise UsageError(
                f"a message has {tokens.ids.size(1)} tokens, the model's context {self.model.config.context_length}"
            )
        inputs = Inputs(tokens.ids, 0, tokens.lengths, torch.from_numpy(tokens.lengths), tokens.labels)
        reader = Reader.of(e)
        index = np.arange(len(texts))
        parts = [logits_of(self.model, reader, inputs, index[i : i + 64]) for i in range(0, len(index), 64)]
        return torch.cat(parts).softmax(1).numpy()

    def predict(self, texts: Sequence[str]) -> pd.DataFrame:
        """A frame with ``label`` and its ``probability`` for every message."""
        p = self.probabilities(texts)
        best = p.argmax(1)
        labels = [self.classes[i] for i in best]
        return pd.DataFrame({"label": labels, "probability": p[np.arange(len(best)), best], "text": list(texts)})


def load(folder: str | Path) -> Classifier:
    """Read what :func:`save` wrote.

    Raises:
        UsageError: if the folder is not one of those.
    """
    folder = Path(home(folder)).absolute()  # a folder called pocket-small is not the model of that name
    try:
        about = json.loads((folder / "onechange.json").read_text())
        digest = about.pop("digest", None)  # models saved by earlier versions have none
        if digest is not None and digest != digest_of(about):
            raise ValueError("it is another text than was written")
        fields, classes, max_length = about["experiment"], tuple(about["classes"]), int(about["max_length"])
        merged, kind = about["merged"], about["tokenizer"]
        # The folder stands for the model it holds, wherever the original came from.
        e = Experiment(**(fields | {"model_size": str(folder), "dataset": None, "balance": False}))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is not a finetuned model: it has no onechange.json (onechange run --save makes one)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / 'onechange.json'} cannot be read: {error}") from None
    model, path = e.checkpoint.load(causal=not e.disable_causal_mask, alone=False), e.checkpoint.file
    with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at once
        model.head = nn.Linear(model.config.emb_dim, len(classes))
        if e.uses_lora and not merged:
            add_lora(model, e.lora_rank, e.lora_alpha, e.lora_scaling, layers=e.lora_layers)
    _load_rest(model, path)
    tokenizer = tokenizer_for(
        "pocket" if kind == "pocket" else "folder", folder if kind == "own" else None, model.config.vocab_size
    )
    for name, digest in about.get("files", {}).items():  # last: what is wrong in a plain way was said in a plain way
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise UsageError(f"{folder / name} is not the file that was saved: its SHA-256 is another")
    return Classifier(model.requires_grad_(False).eval(), e, tokenizer, classes, max_length)


@torch.no_grad()
def _load_rest(model: GPT, path: Path) -> None:
    """Head and adapters, which are no part of a GPT-2 file."""
    try:
        with safe_open(path, framework="pt") as file:
            for ours, parameter in model.named_parameters():
                adapter = ours.endswith((".A", ".B"))
                if not (adapter or ours.startswith("head.")):
                    continue
                tensor = file.get_tensor(f"lora.{ours}" if adapter else ours.replace("head.base.", "head."))
                if tensor.shape != parameter.shape:
                    raise UsageError(f"{path}: {ours} has shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
                parameter.copy_(tensor)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} does not hold the head and adapters it should: {error}") from None
