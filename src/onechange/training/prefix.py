"""Build the model of an experiment, and compute only what it trains and reads.

A model is ``suffix(prefix(message))``. Whatever lies before the first trainable parameter, the
prefix, is a constant of the message: it is computed once, without gradients, and kept. In the last
block only the positions that are read need a query; a token that no position read can see is not
computed at all. None of this changes a number: the plain loop gives the same losses.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.messages import Tokens
from ..experiment.experiment import Experiment
from ..gpt.layouts import network
from ..gpt.lora import add_lora
from ..gpt.model import GPT, View, init_gpt2_, take
from ..gpt.stacked import stack
from ..support.progress import progress_bar
from .store import PrefixStore

EVALUATED = 64  # messages in a batch of an evaluation
CHUNK_TOKENS = 4096  # tokens in a batch of the prefix: enough to fill a machine, little enough for its caches


def build(experiment: Experiment, n_classes: int) -> GPT:
    """The model to finetune: trunk, a new head, what is frozen, and adapters, on the CPU.

    The random numbers are drawn in the published order: the trunk's where it is random, then, from
    the same seed again, the head's and the adapters'. PyTorch's global generator is left as it was.
    """
    return add_new_layers(trunk(experiment), experiment, n_classes)


def trunk(experiment: Experiment) -> GPT:
    """The model without its head: pretrained, or random from the experiment's seed."""
    causal = not experiment.disable_causal_mask
    if experiment.weights == "pretrained":
        return experiment.checkpoint.load(causal)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = network(replace(experiment.checkpoint.shape, causal=causal))  # PyTorch's default initialisation
        return init_gpt2_(model) if experiment.weights == "random_gpt2" else model


def add_new_layers(model: GPT, experiment: Experiment, n_classes: int) -> GPT:
    """Freeze what is not trained; put the head, and LoRA's adapters, onto a trunk, in place."""
    for parameter in trainable_part(model, experiment):
        parameter.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model.head = nn.Linear(model.config.emb_dim, n_classes)
        if experiment.uses_lora:
            merged = experiment.trainable_layers == "lora_alternative"
            e = experiment
            add_lora(model, e.lora_rank, e.lora_alpha, e.lora_scaling, merged, e.lora_layers)
    return model


def build_seeds(experiments: list[Experiment], n_classes: int) -> GPT:
    """The models of experiments that differ in their seed alone, as one (see :mod:`onechange.gpt.stacked`)."""
    first = trunk(experiments[0])
    models = [first]
    for e in experiments[1:]:
        shared = {id(p): p for p in first.parameters()}  # a copy of the structure, around the same weights
        models.append(trunk(e) if e.weights != "pretrained" else copy.deepcopy(first, shared))
    return stack([add_new_layers(model, e, n_classes) for model, e in zip(models, experiments, strict=True)])


def trainable_part(model: GPT, e: Experiment) -> list[nn.Parameter]:
    """The trunk's parameters that are trained, after freezing them all."""
    model.requires_grad_(False)
    if e.trainable_layers == "all":
        return list(model.parameters())
    if e.trainable_layers == "biases":
        return [p for name, p in model.named_parameters() if name.endswith("bias")]
    blocks = {"last_block": e.trainable_blocks, "last_two_blocks": 2}.get(e.trainable_layers, 0)
    if blocks == 0:
        return []  # the new head, and LoRA's adapters, come with their gradients on
    return [*model.blocks[-blocks:].parameters(), *model.final_norm.parameters()]


def frozen_blocks(model: GPT) -> int:
    """How many of the leading blocks are constants of the message.

    One more than there are blocks where the final norm is frozen too; 0 where the embeddings train.
    """
    embeddings = nn.ModuleList(module for name, module in model.named_children() if name.endswith("_emb"))
    stages = [embeddings, *model.blocks, model.final_norm]
    frozen = [not any(p.requires_grad for p in stage.parameters()) for stage in stages]
    return max(0, (frozen.index(False) if False in frozen else len(frozen)) - 1)


@dataclass(frozen=True)
class Reader:
    """Which outputs an experiment reads, and therefore which tokens have to be computed.

    Attributes:
        average: average over positions instead of reading one.
        first: read the first token.
        own_end: a message ends with its own last token; what lies behind it is not read.
        causal: a token sees only what stands before it.
        unpadded: what lies behind a message only fills the tensor, and must not be seen at all.
        masked: padding is there, but no other token sees it.
        left: padding stands before the message instead of behind it.
    """

    average: bool
    first: bool
    own_end: bool
    causal: bool
    unpadded: bool
    masked: bool = False
    left: bool = False

    @classmethod
    def of(cls, e: Experiment) -> Reader:
        own_end = e.no_padding or e.trainable_token_pos == "flexible"
        first = e.trainable_token_pos == "first"
        left, causal = e.padding_side == "left", not e.disable_causal_mask
        return cls(e.average_embeddings, first, own_end, causal, e.no_padding, e.mask_padding, left)

    def width(self, lengths: np.ndarray, T: int, plain: bool = False) -> int:
        """Tokens of a batch that can reach an output that is read, of the ``T`` there are.

        The ``plain`` loop computes the padding too.
        """
        if self.first and self.causal and not plain:
            return 1
        only_messages = self.unpadded or (self.own_end and self.causal and not self.left and not plain)
        return int(lengths.max()) if only_messages else T

    def view(self, lengths: Tensor, T: int) -> View:
        """What the blocks are asked for: lengths ``(B,)`` to positions ``(B, 1)`` and visible keys ``(B, T)``."""
        ends = lengths - 1 if self.own_end and not self.left else torch.full_like(lengths, T - 1)
        at = None if self.average else (torch.zeros_like(lengths) if self.first else ends)[..., None]
        hidden = self.masked or (self.unpadded and not self.causal)
        return View(at, self.real(lengths, T) if hidden else None)

    def real(self, lengths: Tensor, T: int) -> Tensor:
        """Which tokens are a message's own: lengths ``(B,)`` to ``(B, T)`` booleans."""
        positions = torch.arange(T, device=lengths.device)
        return positions >= T - lengths[..., None] if self.left else positions < lengths[..., None]

    def pool(self, y: Tensor, lengths: Tensor) -> Tensor:
        """One vector a message: ``(B, Q, C)`` to ``(B, C)``.

        The table averages logits; the head is linear, so averaging what goes into it is the same.
        """
        if not self.average:
            return y[..., 0, :]
        if not self.own_end:
            return y.mean(-2)
        return (y * self.real(lengths, y.size(-2))[..., None]).sum(-2) / lengths[..., None]


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
    return model.head(_features(model, reader, x, lengths, inputs.stage, plain))


def _features(model: GPT, reader: Reader, x: Tensor, lengths: Tensor, stage: int, plain: bool = False) -> Tensor:
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
    features = stage > len(model.blocks)
    out = store.allocate((N, C) if features else (N, T, C), source.labels.device)
    order = np.argsort(-source.host_lengths, kind="stable")  # longest first
    while len(order):
        w = reader.width(source.host_lengths[order[:1]], T)
        index, order = np.split(order, [max(1, CHUNK_TOKENS // w)])
        x = source.batch(index, w)
        lengths = source.lengths[source.rows(index)]
        if features:
            out[index] = _features(model, reader, x, lengths, source.stage).to(out.device)
        else:
            visible = View(None, reader.view(lengths, w).keys)
            done = model.run(x if source.stage else model.embed(x), visible, source.stage, stage)
            out[index, :w] = done.to(out.device)  # a mapped file lies on the host
        bar.update(len(index))
    return out
