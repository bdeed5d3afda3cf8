"""The training loop: the published schedule, the steps, the evaluations, the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .device import Autocast, choose_device, choose_precision, matrix_products
from .engine import Inputs, PrefixStore, Reader, build, logits_of, prepare
from .errors import UsageError
from .experiment import Experiment
from .model import GPT
from .progress import progress_bar
from .result import Result, environment
from .text import Messages, Tokens, encode, load_messages, padded_length
from .tokenizer import Tokenizer, tokenizer_for
from .weights import folder_of, hash_of, shape_of

EVAL_EVERY = 50  # training batches between two notes of the loss
EVAL_BATCHES = 5  # batches that such a note, and an epoch's accuracy, look at


@dataclass(frozen=True)
class Step:
    """Move the weights by the mean gradient of these batches of message indices."""

    batches: list[np.ndarray]


@dataclass(frozen=True)
class Look:
    """Evaluate on batches of training and validation messages; ``kind`` says what for.

    ``losses`` after a training batch (``step``, ``examples`` so far), ``accuracies`` after an epoch,
    ``final`` over everything.
    """

    kind: str
    train: list[np.ndarray]
    val: list[np.ndarray]
    step: int = 0
    examples: int = 0


def schedule(e: Experiment, n_train: int, n_val: int) -> Iterator[Step | Look]:
    """Everything a run does, in order, as lists of message indices.

    Real data loaders over indices draw the order from PyTorch's global generator, as the published
    script did: every pass over one, an evaluation's too, moves that generator, so the order of the
    training messages depends on each evaluation before it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(e.seed)
        train = DataLoader(_Indices(n_train), e.batch_size, shuffle=True, drop_last=True)
        val = DataLoader(_Indices(n_val), e.batch_size)
        events = list(_events(e, train, val))
    yield from events


class _Indices(Dataset[int]):
    """The numbers from 0 to ``n - 1``, as a data set."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return i


def _events(e: Experiment, train: DataLoader, val: DataLoader) -> Iterator[Step | Look]:
    step, examples = 0, 0
    for _ in range(e.num_epochs):
        window: list[np.ndarray] = []
        for i, batch in enumerate(train):
            window.append(batch.numpy())
            if len(window) == e.accumulation_steps or i == len(train) - 1:
                yield Step(window)
                window = []
            examples += len(batch)
            if step % EVAL_EVERY == 0:
                yield Look("losses", _first(train), _first(val), step, examples)
            step += 1
        yield Look("accuracies", _first(train), _first(val))
    yield Look("final", [b.numpy() for b in train], [b.numpy() for b in val])


def _first(loader: DataLoader) -> list[np.ndarray]:
    return [batch.numpy() for _, batch in zip(range(EVAL_BATCHES), loader, strict=False)]


class Trainer:
    """One model, its splits and its optimizer; knows how to take a :class:`Step` and have a :class:`Look`."""

    def __init__(self, model: GPT, e: Experiment, splits: dict[str, Inputs], autocast: Autocast) -> None:
        self.model, self.e, self.splits, self.autocast = model, e, splits, autocast
        self.reader = Reader.of(e)
        self.plain = e.prefix_cache == "off"
        trained = [p for p in model.parameters() if p.requires_grad]
        fused = trained[0].is_cuda or torch.__version__ >= "2.4"
        assert e.learning_rate is not None
        self.optimizer = torch.optim.AdamW(trained, lr=e.learning_rate, weight_decay=e.weight_decay, fused=fused)

    def losses(self, split: str, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Each message's loss ``(B,)`` and logits ``(B, K)``."""
        inputs = self.splits[split]
        with self.autocast():
            logits = logits_of(self.model, self.reader, inputs, index, self.plain)
        labels = inputs.labels[torch.from_numpy(index).to(inputs.labels.device)]
        return F.cross_entropy(logits.float(), labels, ignore_index=self.e.ignore_index, reduction="none"), logits

    def step(self, step: Step) -> None:
        """One move of the weights. A window of batches counts every message alike, the last window's too."""
        together = not self.plain and self.splits["train"].stage > 0
        batches = [np.concatenate(step.batches)] if together else step.batches
        total = sum(map(len, batches))
        for batch in batches:
            loss, _ = self.losses("train", batch)
            (loss.sum() / total).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate(self, split: str, batches: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of the batches' mean losses, the share of right answers, and all logits ``(N, K)``.

        Messages are regrouped for speed, those of like length together; the means are over the
        batches as they were asked for.
        """
        index = np.concatenate(batches)
        inputs = self.splits[split]
        lengths = inputs.host_lengths[index] if self.reader.own_end else np.zeros(len(index))
        order = np.arange(len(index)) if self.plain else np.argsort(lengths, kind="stable")
        size = self.e.batch_size if self.plain else 64
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        done = [self.losses(split, index[chunk]) for chunk in chunks]
        back = torch.from_numpy(np.argsort(np.concatenate(chunks))).to(done[0][0].device)
        loss, logits = (torch.cat(parts)[back] for parts in zip(*done, strict=True))
        means = torch.stack([part.mean() for part in loss.split([len(batch) for batch in batches])])
        labels = inputs.labels[torch.from_numpy(index).to(inputs.labels.device)]
        return means.mean(), (logits.argmax(1) == labels).sum().cpu().double() / len(index), logits.float()


def tokenizer_of(e: Experiment) -> Tokenizer:
    """The tokenizer that belongs to an experiment's model."""
    folder = folder_of(e.model_size) if e.scale == "folder" else None
    return tokenizer_for(e.scale, folder, shape_of(e.model_size).vocab_size)


def run(
    experiment: Experiment,
    seed: int | None = None,
    *,
    device: str = "auto",
    progress: bool = True,
    store: PrefixStore | None = None,
    watch: Callable[[Result], bool | None] | None = None,
) -> Result:
    """Finetune, evaluate, and return a :class:`Result` (with the model as ``result.model``).

    Args:
        experiment: what to run.
        seed: instead of the experiment's own.
        device: ``auto``, ``cpu``, ``cuda``, ...
        progress: show a bar on standard error.
        store: where to look for, and keep, the outputs of the frozen prefix.
        watch: called with the result so far after every note of the loss; ``False`` stops the run.

    Raises:
        UsageError: if something needed is not there, before anything is computed.
    """
    e = (experiment if seed is None else experiment.but(seed=seed)).resolved()
    place = choose_device(device)
    precision = choose_precision(e.precision, place)
    tokenizer = tokenizer_of(e)
    assert e.dataset is not None
    messages = load_messages(e.dataset, e.seed, e.balance)
    weights = hash_of(e.model_size) if e.weights == "pretrained" else "random"
    tokens, max_length = _tokens(e, messages, tokenizer)

    model = build(e, len(messages.classes)).to(place)
    counts = (sum(p.numel() for p in model.parameters() if p.requires_grad), sum(p.numel() for p in model.parameters()))
    result = Result(e, *counts, max_length, messages.classes, environment(place, precision, weights, messages.digest))
    result.test_labels = tokens["test"].labels.tolist()
    result.model = model

    autocast = Autocast(precision, place)
    store = PrefixStore() if store is None else store
    with matrix_products(precision):
        with autocast(prefix=True):
            splits = {name: prepare(model, e, split, store, precision, progress) for name, split in tokens.items()}
        began = time.perf_counter()
        _fit(Trainer(model, e, splits, autocast), result, progress, watch)
    result.prefix_seconds = sum(split.seconds for split in splits.values())
    result.seconds = result.prefix_seconds + time.perf_counter() - began
    return result


def _tokens(e: Experiment, messages: Messages, tokenizer: Tokenizer) -> tuple[dict[str, Tokens], int]:
    """The three splits as numbers, and the length they were padded to."""
    limit = shape_of(e.model_size).context_length
    train = messages.train[: e.train_size]
    if e.train_size is not None and e.train_size > len(messages.train):
        raise UsageError(
            f"train_size {e.train_size} is more than the {len(messages.train)} training messages there are"
        )
    if e.batch_size > len(train):
        raise UsageError(f"batch_size {e.batch_size} is more than the {len(train)} training messages: no batch is full")
    if 0 <= e.ignore_index < len(messages.classes):
        raise UsageError(f"ignore_index {e.ignore_index} is one of the labels: no message of it would be learned")
    length = padded_length(train, tokenizer, e.context_length, 2**31 if e.no_padding else limit)
    frames = {"train": train, "val": messages.val, "test": messages.test}
    tokens = {name: encode(frame, tokenizer, None if e.no_padding else length) for name, frame in frames.items()}
    longest = max(int(split.lengths.max()) for split in tokens.values())
    if longest > limit:
        raise UsageError(f"a message has {longest} tokens, the model's context {limit}: no_padding cannot cut it")
    return tokens, length


def _fit(trainer: Trainer, result: Result, progress: bool, watch: Callable[[Result], bool | None] | None) -> None:
    """Walk through the schedule and fill in the result."""
    events = list(schedule(trainer.e, *(len(trainer.splits[name].host_lengths) for name in ("train", "val"))))
    n_steps = sum(isinstance(event, Step) for event in events)
    with progress_bar(progress, total=n_steps, unit="step", leave=False) as bar:
        for event in events:
            if isinstance(event, Step):
                trainer.step(event)
                bar.update()
                continue
            _look(trainer, event, result)
            if event.kind == "losses":
                bar.set_postfix(train=f"{result.train_losses[-1]:.3f}", val=f"{result.val_losses[-1]:.3f}")
                if not math.isfinite(result.train_losses[-1] + result.val_losses[-1]):
                    result.error = f"the loss is not a number any more at step {event.step}"
                elif watch is not None and watch(result) is False:
                    result.error = f"stopped at step {event.step}"
            if result.error:
                result.final = {}
                return


def _look(trainer: Trainer, look: Look, result: Result) -> None:
    """Evaluate as a :class:`Look` says and note what it asked for."""
    train_loss, train_acc, _ = trainer.evaluate("train", look.train)
    val_loss, val_acc, _ = trainer.evaluate("val", look.val)
    if look.kind == "losses":
        result.steps.append(look.step)
        result.examples.append(look.examples)
        result.train_losses.append(train_loss.item())
        result.val_losses.append(val_loss.item())
    elif look.kind == "accuracies":
        result.train_accs.append(train_acc.item())
        result.val_accs.append(val_acc.item())
    else:
        everything = [np.arange(len(result.test_labels))]
        _, test_acc, logits = trainer.evaluate("test", everything)
        probabilities = logits.softmax(1)
        result.final = {"train": train_acc.item(), "val": val_acc.item(), "test": test_acc.item()}
        result.test_probabilities = [[round(p, 7) for p in row] for row in probabilities.tolist()]
        if not bool(probabilities.isfinite().all()):
            result.error, result.test_probabilities = "the model's outputs are not numbers at the end", []
