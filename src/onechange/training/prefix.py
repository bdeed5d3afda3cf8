"""Compute only what an experiment trains and reads.

A model is ``suffix(prefix(message))``. Whatever lies before the first trainable parameter, the
prefix, is a constant of the message: it is computed once, without gradients, and kept. In the last
block only the positions that are read need a query; a token that no position read can see is not
computed at all. None of this changes a number: the plain loop gives the same losses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.tokens import Tokens
from ..experiment.experiment import Experiment
from ..gpt.model import GPT, View, take
from ..support.progress import progress_bar
from .build import frozen_blocks
from .reader import Reader
from .store import PrefixStore

EVALUATED = 64  # messages in a batch of an evaluation
CHUNK_TOKENS = 4096  # tokens in a batch of the prefix: enough to fill a machine, little enough for its caches


@dataclass
class Inputs:
    """A split of the messages, ready for the suffix.

    Attributes:
        x: ids ``(N, T)`` at stage 0, hidden states ``(N, T, C)`` that ``stage`` blocks have made, or
            pooled features ``(N, C)`` behind the final norm.
        stage: how many blocks are done already; one more than there are for features.
        host_lengths, lengths, labels: ``(N,)``, on the host and on the device.
        seconds: what the prefix took when it was computed.
    """

    x: Tensor
    stage: int
    host_lengths: np.ndarray
    lengths: Tensor
    labels: Tensor
    seconds: float = 0.0

    def rows(self, index: np.ndarray) -> Tensor:
        """An index on the labels' device; from pinned memory, so that no step waits for the copy."""
        rows, device = torch.from_numpy(index), self.labels.device
        return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows.to(device)

    def batch(self, index: np.ndarray, width: int) -> Tensor:
        """Rows of ``x``, their first ``width`` tokens, on the labels' device."""
        rows = self.rows(index) if self.x.device == self.labels.device else torch.from_numpy(index)
        x = self.x if self.x.ndim == 2 and self.stage else self.x[:, :width]
        picked = x.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # copies row by row: twice x[rows]'s speed
        return picked.to(self.labels.device, non_blocking=True)


def logits_of(model: GPT, reader: Reader, inputs: Inputs, index: np.ndarray, plain: bool = False) -> Tensor:
    """Logits ``(B, K)`` of the messages at ``index`` ``(B,)``; with seeds together, ``(S, B, K)`` and ``(S, B)``.

    ``plain`` computes every block at every position and picks afterwards, as the published loop does.
    """
    assert model.head is not None
    width = reader.width(inputs.host_lengths[index], inputs.x.size(1), plain)
    x = inputs.batch(index, width)
    if inputs.stage > len(model.blocks):
        return model.head(x)
    lengths = inputs.lengths[inputs.rows(index)]
    return model.head(features(model, reader, x, lengths, inputs.stage, plain))


def features(model: GPT, reader: Reader, x: Tensor, lengths: Tensor, stage: int, plain: bool = False) -> Tensor:
    """What the head sees, ``(B, C)``, from ids ``(B, T)`` or the output of ``stage`` blocks ``(B, T, C)``."""
    view = reader.view(lengths, x.size(lengths.ndim))
    x = x if stage else model.embed(x)
    y = take(model.run(x, View(None, view.keys)), view.at) if plain else model.run(x, view, stage)
    return reader.pool(model.final_norm(y), lengths)


def prepare(
    model: GPT, e: Experiment, tokens: Tokens, store: PrefixStore, precision: str, progress: bool = False
) -> Inputs:
    """A split as :class:`Inputs`, its frozen prefix computed, or taken from the store.

    Rows that share a prefix share its output; a deeper prefix goes on from a shallower one.
    """
    device = next(model.parameters()).device
    where = f"{device} {precision}"
    lengths = torch.from_numpy(tokens.lengths).to(device)
    labels = tokens.labels.to(device)
    stage = frozen_blocks(model) if e.prefix_cache == "on" else 0
    inputs = Inputs(tokens.ids.to(device), 0, tokens.lengths, lengths, labels)
    if stage == 0:
        return inputs
    reader, source = Reader.of(e), inputs
    keys = {s: _keys(e, tokens, reader, s, where) for s in range(stage, 0, -1)}
    for s, key in [(s, key) for s, names in keys.items() for key in names]:  # the deepest first
        if kept := store.get(key, device):
            source = replace(inputs, x=kept[0], stage=s, seconds=kept[1])
            break
    if source.stage == stage:
        return source
    began = time.perf_counter()
    with progress_bar(progress, total=len(tokens), unit="message", desc="prefix", leave=False) as bar:
        x = _prefix(model, reader, source, stage, store, bar)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = source.seconds + time.perf_counter() - began
    store.put(keys[stage][0], x, seconds)
    return replace(inputs, x=x, stage=stage, seconds=seconds)


def _keys(e: Experiment, tokens: Tokens, reader: Reader, stage: int, where: str) -> list[tuple]:
    """Names under which a prefix may be kept, its own first.

    With a causal mask the outputs over padded messages hold those over the messages alone.
    """
    trunk = e.checkpoint.digest if e.weights == "pretrained" else f"{e.model_size}, {e.weights}, {e.seed}"
    trunk = f"{trunk} {e.checkpoint.shape}"  # the same file with other heads is another model
    digest = tokens.digest
    if stage > e.checkpoint.shape.n_layers:  # features depend on what is read, hidden states do not
        return [(stage, trunk, digest, reader, where)]
    T = tokens.ids.size(1)
    own = (reader.own_end or reader.unpadded) and reader.causal and not reader.left
    widths = [(reader.width(tokens.lengths, T), own)] + [(T, False)] * (reader.causal and not reader.masked)
    seen = (reader.causal, reader.unpadded, reader.masked)
    return [(stage, trunk, digest, seen, width, where) for width in widths]


@torch.no_grad()
def _prefix(model: GPT, reader: Reader, source: Inputs, stage: int, store: PrefixStore, bar: tqdm) -> Tensor:
    """Run all messages through the frozen part, those of like length together."""
    N, C = len(source.host_lengths), model.config.emb_dim
    T = reader.width(source.host_lengths, source.x.size(1))
    pooled = stage > len(model.blocks)
    out = store.allocate((N, C) if pooled else (N, T, C), source.labels.device)
    order = np.argsort(-source.host_lengths, kind="stable")  # longest first
    while len(order):
        w = reader.width(source.host_lengths[order[:1]], T)
        index, order = np.split(order, [max(1, CHUNK_TOKENS // w)])
        x = source.batch(index, w)
        lengths = source.lengths[source.rows(index)]
        if pooled:
            out[index] = features(model, reader, x, lengths, source.stage).to(out.device)
        else:
            visible = View(None, reader.view(lengths, w).keys)
            done = model.run(x if source.stage else model.embed(x), visible, source.stage, stage)
            out[index, :w] = done.to(out.device)  # a mapped file lies on the host
        bar.update(len(index))
    return out
