"""The training loop: the steps, the evaluations, the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.copies import seen_in_training
from ..data.messages import Messages, messages_of
from ..data.tokens import tokens_of
from ..experiment.experiment import Experiment
from ..gpt.model import GPT
from ..support.progress import progress_bar, tell
from .build import build_seeds
from .device import Autocast, choose_device, choose_precision, matrix_products
from .memory import advised
from .prefix import EVALUATED, Inputs, logits_of, prepare
from .reader import Reader
from .result import Result, environment
from .schedule import Look, Step, schedule
from .stop import stoppable
from .store import PrefixStore, shared


class Trainer:
    """One model, its splits and its optimizer; knows how to take a :class:`Step` and have a :class:`Look`.

    With several seeds in one model, indices and all that comes of them have an axis ``S`` in front.
    """

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
        ignore, logits = self.e.ignore_index, logits.float()
        labels = inputs.labels[inputs.rows(index)]
        loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=ignore, reduction="none")
        return loss.view(labels.shape), logits

    def step(self, step: Step) -> None:
        """One move of the weights. A window of batches counts every message alike, the last window's too."""
        together = not self.plain and self.splits["train"].stage > 0
        batches = [np.concatenate(step.batches, axis=-1)] if together else step.batches
        total = sum(batch.shape[-1] for batch in batches)
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
        index = np.concatenate(batches, axis=-1)  # (N,)
        inputs = self.splits[split]
        lengths = inputs.host_lengths[index] if self.reader.own_end and not self.plain else np.zeros(index.shape)
        order = np.argsort(lengths, axis=-1, kind="stable")
        # Many seeds fill a machine with fewer messages each, and a large batch falls out of its cache.
        size = self.e.batch_size if self.plain else EVALUATED if index.ndim == 1 else max(8, EVALUATED // len(index))
        chunks = [order[..., i : i + size] for i in range(0, order.shape[-1], size)]
        done = [self.losses(split, np.take_along_axis(index, chunk, axis=-1)) for chunk in chunks]
        loss, logits = torch.cat([loss for loss, _ in done], -1), torch.cat([logits for _, logits in done], -2)
        back = torch.from_numpy(np.argsort(order, axis=-1)).to(loss.device)
        loss, logits = loss.gather(-1, back), logits.gather(-2, back[..., None].expand(logits.shape))
        means = torch.stack([part.mean(-1) for part in loss.split([batch.shape[-1] for batch in batches], -1)])
        labels = inputs.labels[inputs.rows(index)]
        return means.mean(0), (logits.argmax(-1) == labels).sum(-1).cpu().double() / index.shape[-1], logits


def run(
    experiment: Experiment,
    seed: int | None = None,
    *,
    device: str = "auto",
    progress: bool = True,
    store: PrefixStore | None = None,
    watch: Callable[[Result], bool | None] | None = None,
    stop: Callable[[], bool] | None = None,
    checkpointing: bool = False,
) -> Result:
    """Finetune, evaluate, and return a :class:`Result` (with the model as ``result.model``).

    Args:
        experiment: what to run.
        seed: instead of the experiment's own.
        device: ``auto``, ``cpu``, ``cuda``, ...
        progress: show a bar on standard error, and what was understood of a reader's own file.
        store: where to look for, and keep, the outputs of the frozen prefix, instead of the store that all
            runs of a process share.
        watch: called with the result so far after every note of the loss; ``False`` stops the run.
        stop: asked before every block of the model, many times a step; ``True`` stops the run.
        checkpointing: compute a block once more in the backward pass instead of keeping what it
            computed: the same numbers in less memory, and in more time.

    Raises:
        UsageError: if something needed is not there, before anything is computed; or if memory runs out.
    """
    seeds = [experiment.seed if seed is None else seed]
    return run_seeds(
        experiment, seeds,
        device=device, progress=progress, store=store, watch=watch, stop=stop, checkpointing=checkpointing,
    )[0]  # fmt: skip


def share(e: Experiment) -> bool:
    """Whether the seeds of an experiment read the same messages and stand on the same frozen weights."""
    same_messages = e.one_test_set and not e.label_noise
    one_trunk = e.weights == "pretrained" or e.trainable_layers == "all"
    return same_messages and one_trunk and e.trainable_layers != "biases"  # a half-frozen layer is not stacked


def run_seeds(
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    device: str = "auto",
    progress: bool = True,
    store: PrefixStore | None = None,
    watch: Callable[[Result], bool | None] | None = None,
    stop: Callable[[], bool] | None = None,
    checkpointing: bool = False,
) -> list[Result]:
    """Finetune with several seeds at once: the same as :func:`run` for each, to rounding, and sooner.

    The results' ``seconds`` are each seed's share. With one seed the result has its model. Seeds that
    cannot share (see ``share``) are run one after the other.
    """
    es = [experiment.but(seed=seed).resolved() for seed in seeds]
    if len(seeds) > 1 and not share(experiment):
        alone: dict[str, Any] = {"device": device, "progress": progress, "store": store, "watch": watch, "stop": stop}
        return [run(e, checkpointing=checkpointing, **alone) for e in es]
    e, place = es[0], choose_device(device)
    precision = choose_precision(e.precision, place)
    messages = messages_of(e)
    tokens, length = tokens_of(e, messages)  # small downloads first
    model = build_seeds(es, len(messages.classes))
    model.checkpointing = checkpointing
    if progress and e.own_file:  # nothing that can be refused is left to refuse
        tell(messages.summary)
    results = [_begin(e, model, len(es), messages, length, place, precision) for e in es]
    shape = sum(len(split) for split in tokens.values()), max(split.ids.size(1) for split in tokens.values())
    splits: dict[str, Inputs] = {}
    store, autocast, began = store or shared(), Autocast(precision, place), time.perf_counter()
    with advised(e, shape, place, checkpointing), matrix_products(precision), stoppable(model, stop, results):
        model.to(place)
        with autocast(prefix=True):
            splits = {name: prepare(model, e, split, store, precision, progress) for name, split in tokens.items()}
        began = time.perf_counter()
        _fit(Trainer(model, e, splits, autocast), results, progress, watch)
    _end(results, sum(split.seconds for split in splits.values()), time.perf_counter() - began)
    return results


def _begin(
    e: Experiment, model: GPT, seeds: int, messages: Messages, length: int, place: torch.device, precision: str
) -> Result:
    """A result that knows what is run, and nothing yet of how it went."""
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    n_trainable = sizes[True] // seeds
    weights = e.checkpoint.digest if e.weights == "pretrained" else e.weights
    made = environment(place, precision, weights, messages.digest) | {"seeds_together": seeds, "n_messages": messages.n}
    return Result(
        e, n_trainable, n_trainable + sizes[False], length, messages.classes, made,
        test_labels=messages.test.label.tolist(),
        test_seen=seen_in_training(messages.train, messages.test).tolist(),
        model=model if seeds == 1 else None,
    )  # fmt: skip


def _end(results: list[Result], prefix: float, took: float) -> None:
    """Note the seconds, each seed's share of those they shared; a run that ended early has nothing final to say."""
    for result in results:
        result.prefix_seconds, result.seconds = prefix, prefix + took / len(results)
        if result.error:
            result.final, result.test_probabilities = {}, []


def _fit(
    trainer: Trainer, results: list[Result], progress: bool, watch: Callable[[Result], bool | None] | None
) -> None:
    """Walk through the schedule and fill in the results."""
    sizes = [len(trainer.splits[name].host_lengths) for name in ("train", "val")]
    schedules = [list(schedule(result.experiment, *sizes)) for result in results]
    events = schedules[0] if len(results) == 1 else [_together(group) for group in zip(*schedules, strict=True)]
    n_steps = sum(isinstance(event, Step) for event in events)
    with progress_bar(progress, total=n_steps, unit="step", leave=False) as bar:
        for event in events:
            if isinstance(event, Step):
                trainer.step(event)
                bar.update()
                continue
            _look(trainer, event, results)
            if event.kind == "losses":
                _check(results, event, watch)
                bar.set_postfix(train=f"{results[0].train_losses[-1]:.3f}", val=f"{results[0].val_losses[-1]:.3f}")
            if all(result.error for result in results):
                break


def _together(events: Sequence[Step | Look]) -> Step | Look:
    """The same event of several seeds as one: indices ``(B,)`` become ``(S, B)``."""

    def stacked(lists: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
        return [np.stack(batches) for batches in zip(*lists, strict=True)]

    steps, looks = [x for x in events if isinstance(x, Step)], [x for x in events if isinstance(x, Look)]
    if steps:
        return Step(stacked([step.batches for step in steps]))
    return replace(looks[0], train=stacked([x.train for x in looks]), val=stacked([x.val for x in looks]))


def _check(results: list[Result], look: Look, watch: Callable[[Result], bool | None] | None) -> None:
    """Note it where a loss is not a number any more, or the watcher wants to stop."""
    for result in results:
        if result.error:
            continue
        if not math.isfinite(result.train_losses[-1] + result.val_losses[-1]):
            result.error = f"the loss is not a number any more at step {look.step}"
        elif watch is not None and watch(result) is False:
            result.error = f"stopped at step {look.step}"


def _look(trainer: Trainer, look: Look, results: list[Result]) -> None:
    """Evaluate as a :class:`Look` says and note what it asked for."""
    (train_loss, train_acc, _), (val_loss, val_acc, _) = (
        trainer.evaluate("train", look.train),
        trainer.evaluate("val", look.val),
    )
    alive = [(s, result) for s, result in enumerate(results) if not result.error]
    if look.kind == "final":
        index = np.arange(len(results[0].test_labels))
        everything = index if len(results) == 1 else np.tile(index, (len(results), 1))
        _, test_acc, logits = trainer.evaluate("test", [everything])
        probabilities = logits.softmax(-1).view(len(results), len(index), -1).cpu()
    noted = [x.reshape(-1).tolist() for x in (train_loss, val_loss, train_acc, val_acc)]
    for s, result in alive:
        losses, accs = (noted[0][s], noted[1][s]), (noted[2][s], noted[3][s])
        if look.kind == "losses":
            result.steps.append(look.step)
            result.examples.append(look.examples)
            result.train_losses.append(losses[0])
            result.val_losses.append(losses[1])
        elif look.kind == "accuracies":
            result.train_accs.append(accs[0])
            result.val_accs.append(accs[1])
        else:
            result.final = {"train": accs[0], "val": accs[1], "test": float(test_acc.reshape(-1)[s])}
            result.test_probabilities = [[round(p, 7) for p in row] for row in probabilities[s].tolist()]
            if not bool(probabilities[s].isfinite().all()):
                result.error = "the model's outputs are not numbers at the end"
