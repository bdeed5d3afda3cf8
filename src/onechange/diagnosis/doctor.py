"""The doctor: a model, a data set, or both, and what this book knows of such things."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..classifier.saved import Classifier
from ..data.messages import Messages, Source, load_messages
from ..data.tokens import padded_length
from ..experiment.experiment import is_dataset
from ..gpt.tokenizer import Tokenizer, tokenizer_for
from ..show.figures import lengths, scores
from ..show.plot import Chart
from ..support.errors import UsageError
from ..support.files import home
from ..support.progress import progress_bar
from ..training.result import Result
from . import answers, figures, position
from . import messages as of_messages
from .admission import admit
from .findings import Check, settle
from .messages import Counting, count, half
from .patient import Patient
from .power import power
from .report import Report

CONTEXT = 1024
"""Tokens that GPT-2 reads at most: what messages are held against where there is no model."""


@dataclass
class File:
    """What gathers while somebody is examined."""

    checks: list[Check] = field(default_factory=list)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    charts: dict[str, Chart] = field(default_factory=dict)


def doctor(
    model: str | Path | Result | Classifier | None = None,
    dataset: str | Path | None = None,
    *,
    length: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Report:
    """What this book knows, asked of a model, of a data set, or of a model on a data set.

    Args:
        model: a folder that ``onechange run --save`` wrote, a run or a classifier in hand, a sequence classifier of
            Hugging Face's on a GPT-2 or a Llama (a folder), or the source book's ``review_classifier.pth``.
        dataset: ``uci``, ``pocket`` or a file. Unless given: the messages that the model was trained on, where they
            are known and here; without any, a model is asked what needs no label, of the pocket messages.
        length: tokens that a checkpoint of the source book was padded to; unless given, the longest training message.
        seed: what splits a file of messages; unless given, the seed that the model was trained with, or 123.
        progress: show bars on standard error.

    Raises:
        UsageError: if there is nothing to look at, or it cannot be read.
    """
    began = time.perf_counter()
    if model is None and dataset is None:
        raise UsageError("the doctor needs a model, a dataset, or both")
    if model is None and length is not None:
        raise UsageError("length has no effect without a model")
    patient = None if model is None else admit(model, length)
    messages = messages_for(patient, dataset, seed)
    if patient is not None and messages is not None:
        patient = patient.known_as(messages.classes)
        if length is None and patient.length and not patient.trained:  # as the source book's own code does it
            own = padded_length(messages.train, patient.tokenizer, "longest_training_example", 2**31)
            patient = replace(patient, length=min(own, patient.context))
    file, understood = File(), list(patient.understood) if patient else []
    counting = None
    if messages is not None:
        understood.append(messages.summary)
        counting = look_at_messages(file, messages, patient, progress)
    if patient is not None:
        look_at_model(file, patient, messages, counting, progress)
    if counting is not None:
        file.charts["scores"] = scores(file.frames["scores"], guess=float(counting.largest.mean()))
    subject = " on ".join(Path(x).name for x in (patient and patient.name, messages and messages.name) if x)
    findings = tuple(settle(file.checks))
    return Report(subject, tuple(understood), findings, file.frames, file.charts, time.perf_counter() - began)


def messages_for(patient: Patient | None, dataset: str | Path | None, seed: int | None) -> Messages | None:
    """The messages asked for, or those that a model was trained on, split as they were for it."""
    trained = patient.trained if patient else {}
    if dataset is None:
        known = trained.get("dataset")
        if known is None or not is_dataset(known) or not Source(known).is_here:
            if seed is not None:
                raise UsageError("seed has no effect without a dataset")
            return None
        dataset = known
    name = home(dataset)
    if not is_dataset(name):
        raise UsageError(f"dataset {name!r} is not uci, pocket or a file that exists")
    own = name == trained.get("dataset")
    how = {name: bool(trained.get(name)) for name in ("balance", "resplit", "folds")} if own else {}
    return Source(name, trained.get("seed", 123) if seed is None else seed, **how).messages()


def look_at_messages(file: File, messages: Messages, patient: Patient | None, progress: bool) -> Counting:
    """All that is asked of a data set."""
    tokenizer: Tokenizer = patient.tokenizer if patient else tokenizer_for("pocket")
    counting = count(messages, tokenizer, progress)
    copied, file.frames["copies"] = of_messages.copies(messages, counting)
    torn, file.frames["contradictions"] = of_messages.contradictions(messages)
    file.checks += [copied, torn, of_messages.balance(messages), of_messages.signal(counting)]
    for key, name in (("length", "length alone"), ("word", "one word alone")):
        if name in counting.all:
            file.checks.append(of_messages.shortcut(key, name, counting.all[name], counting))
    file.checks.append(power(len(messages.test), half(counting.characters)))
    context, length = (patient.context, patient.length) if patient else (CONTEXT, None)
    padded = patient is None or length is not None
    file.checks.append(of_messages.lengths(messages, tokenizer, length, context, padded))
    file.frames["scores"] = counting.frame
    if len(messages.classes) == 2:
        sizes = np.array([len(tokenizer.encode(text)) for text in messages.train.text])
        by_class = {name: sizes[messages.train.label == k] for k, name in enumerate(messages.classes)}
        file.charts["lengths"] = lengths(by_class)
    return counting


def look_at_model(
    file: File, patient: Patient, messages: Messages | None, counting: Counting | None, progress: bool
) -> None:
    """All that is asked of a model: of its answers where there are labels, and of where it reads."""
    texts = (load_messages("pocket") if messages is None else messages).test.text
    rows = patient.rows(list(texts))
    with progress_bar(progress, total=len(rows), desc="asking", unit="message", leave=False) as bar:
        p = patient.answers(rows, bar.update) if messages is not None else None
    if messages is not None and counting is not None and p is not None:
        if (broken := answers.numbers(p)) is not None:
            file.checks.append(broken)
            return
        look_at_answers(file, patient, p, messages, counting)
    s = position.sample(patient, rows, p)
    if (broken := answers.numbers(s.answers)) is not None:
        file.checks.append(broken)
        return
    reads, file.frames["padding"] = position.padding(patient, s)
    first, file.frames["first"] = position.first_token(patient, s)
    file.checks += [reads, position.neighbours(patient, s), position.side(patient, s), first]
    file.charts["padding"] = figures.padding(file.frames["padding"])
    file.charts["first"] = figures.first(file.frames["first"])


def look_at_answers(file: File, patient: Patient, p: np.ndarray, messages: Messages, counting: Counting) -> None:
    """All that is asked of answers to messages with labels."""
    labels = messages.test.label.to_numpy()
    right = p.argmax(1) == labels
    size = patient.trained.get("train_size") if patient.trained.get("digest") == messages.digest else None
    own = replace(messages, train=messages.train[:size])  # what it was trained on, where that is known
    file.checks += answers.learned(patient, p, own, counting)
    classes, file.frames["classes"] = answers.by_class(patient, p, labels)
    well, file.frames["calibration"] = answers.calibration(p, labels)
    file.checks += [classes, well, answers.against_counting(p, messages, counting)]
    if (new := answers.on_new(p, own)) is not None:
        file.checks.append(new)
    if (errors := answers.in_errors(patient, p, messages)) is not None:
        file.checks.append(errors[0])
        file.frames["errors"] = errors[1]
    model = pd.DataFrame([("the model", int(right.sum()), len(right), *of_messages.interval(right))])
    model.columns = file.frames["scores"].columns
    file.frames["scores"] = pd.concat([file.frames["scores"], model], ignore_index=True)
    file.charts["calibration"] = figures.calibration(file.frames["calibration"])
