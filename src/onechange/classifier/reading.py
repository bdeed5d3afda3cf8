"""What a finetuned model makes of one message: its tokens, the class at every position, attention, what matters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.table import check_message
from ..data.tokens import Tokens, pad
from ..gpt.model import GPT, Block, View
from ..support.errors import UsageError
from ..training.prefix import Inputs, logits_of
from ..training.reader import Reader
from ..training.result import Result
from .saved import Classifier

PIECES = 64  # messages to try at most when tokens are left out: what keeps a long message from taking minutes


@dataclass(frozen=True)
class Reading:
    """One message as one model reads it. The axis ``T`` is that of the tokens, padding included.

    Attributes:
        tokens: ``(T,)`` texts; a token that is part of a character shows its bytes.
        own: ``(T,)`` booleans: the message's own tokens, the others being padding.
        read: ``(T,)`` booleans: where the class is read.
        classes: the names of the classes.
        answer: ``(K,)`` the model's probabilities for the message.
        by_position: ``(T, K)`` the probabilities if that position alone were read.
        attention: ``(L, T)``: how much of what the read positions gather in each block comes from each token,
            averaged over the heads. Each row sums to 1.
        effect: ``(T,)`` how much the probability of class ``target`` falls when the token is left out
            (occlusion; Zeiler and Fergus, 2014); NaN for padding, and where nothing would be left.
        target: the class to look at: the second of two (spam), the likeliest of more.
        cut: tokens of the message that did not fit and were cut off.
    """

    tokens: list[str]
    own: np.ndarray
    read: np.ndarray
    classes: tuple[str, ...]
    answer: np.ndarray
    by_position: np.ndarray
    attention: np.ndarray
    effect: np.ndarray
    target: int
    cut: int


def classifier(result: Result) -> Classifier:
    """The model of a run that was just made, ready to be asked.

    Raises:
        UsageError: if the run has no model (it was read from a file).
    """
    if result.model is None:
        raise UsageError("this result has no model: run it again, or load a saved one (onechange.classifier.saved)")
    e = result.experiment
    return Classifier(result.model, e, e.checkpoint.tokenizer, result.classes, result.max_length)


@torch.no_grad()
def read(model: Classifier, text: str) -> Reading:
    """Read a message with a finetuned model.

    Raises:
        UsageError: for a message that is empty, holds the end mark, or cannot fit the model.
    """
    check_message(text)
    ids = model.tokenizer.encode(text)
    limit = model.model.config.context_length if model.experiment.no_padding else model.max_length
    if model.experiment.no_padding and len(ids) > limit:
        raise UsageError(f"the message has {len(ids)} tokens, the model's context {limit}")
    kept = ids[:limit]
    tokens = _padded(model, [kept])
    reader, device = Reader.of(model.experiment), next(model.model.parameters()).device
    T = tokens.ids.size(1)
    lengths = torch.from_numpy(tokens.lengths).to(device)
    view = reader.view(lengths, T)
    at = torch.arange(T, device=device)[None] if view.at is None else view.at  # (1, Q)
    own = reader.real(lengths, T)[0].cpu().numpy()
    if view.at is None and reader.own_end:
        at = at[:, own]
    is_read = np.zeros(T, bool)
    is_read[at[0].cpu().numpy()] = True

    x, attention = look(model.model, tokens.ids.to(device), View(at, view.keys))
    answer = _probabilities(model, [kept])[0]
    target = 1 if len(model.classes) == 2 else int(answer.argmax())
    return Reading(
        [show(model.tokenizer.decode_token(i)) for i in tokens.ids[0].tolist()],
        own,
        is_read,
        model.classes,
        answer,
        model.model.read(x)[0].softmax(-1).cpu().numpy(),
        attention.cpu().numpy(),
        _effect(model, kept, answer, target, own),
        target,
        len(ids) - len(kept),
    )


def look(model: GPT, ids: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """The last block's output everywhere, and what the positions of a view attend to in each block.

    Args:
        model: any GPT.
        ids: ``(1, T)``.
        view: the positions ``(1, Q)`` and the tokens that may be seen.

    Returns:
        Hidden states ``(1, T, C)`` and attention ``(L, T)``, its mean over heads and positions.
    """
    x, rows = model.embed(ids), []
    for block in model.blocks:
        assert isinstance(block, Block)
        h, attn = block.norm1(x), block.attn
        q, k, _ = attn.project(h, view)  # (1, H, Q, D), (1, H, T, D)
        scores = q @ k.mT / math.sqrt(q.size(-1))  # (1, H, Q, T)
        mask = attn.mask(ids.size(1), view, ids.device)
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        rows.append(scores.softmax(-1).mean((0, 1, 2)))
        x = block(x, View(None, view.keys))
    return x, torch.stack(rows)


def attention(model: GPT, ids: Tensor) -> Tensor:
    """Who looks at whom: ids ``(1, T)`` to ``(L, T, T)``, the row being the token that asks, averaged over heads."""
    at = (View(torch.tensor([[t]])) for t in range(ids.size(1)))
    return torch.stack([look(model, ids, view)[1] for view in at], 1)


def show(token: bytes) -> str:
    """A token's bytes as text that can be seen: a space as ``␣``, a line's end as ``⏎``, lone bytes as ``\\xf0``."""
    text = token.decode("utf-8", errors="backslashreplace")
    return text.replace(" ", "␣").replace("\n", "⏎")


def _effect(model: Classifier, ids: list[int], answer: np.ndarray, target: int, own: np.ndarray) -> np.ndarray:
    """What leaving out each token does to the probability of ``target``; of a long message, several at a time."""
    effect = np.full(len(own), np.nan)
    if len(ids) > 1:
        pieces = np.array_split(np.arange(len(ids)), min(len(ids), PIECES))
        shorter = [ids[: piece[0]] + ids[piece[-1] + 1 :] for piece in pieces]
        fall = answer[target] - _probabilities(model, shorter)[:, target]
        effect[own] = np.repeat(fall, [len(piece) for piece in pieces])
    return effect


def _padded(model: Classifier, rows: list[list[int]]) -> Tokens:
    e = model.experiment
    length = None if e.no_padding else model.max_length
    return pad(rows, [0] * len(rows), model.tokenizer.end, length, e.padding_side)


def _probabilities(model: Classifier, rows: list[list[int]]) -> np.ndarray:
    """The model's answers for messages given as ids: ``(N, K)``."""
    tokens, device = _padded(model, rows), next(model.model.parameters()).device
    lengths = torch.from_numpy(tokens.lengths).to(device)
    inputs = Inputs(tokens.ids, 0, tokens.lengths, lengths, tokens.labels.to(device))
    logits = logits_of(model.model, Reader.of(model.experiment), inputs, np.arange(len(rows)))
    return logits.softmax(-1).cpu().numpy()
