"""What the book's chapters ask before they answer: questions with a number for an answer, which code works out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from ..cost.plan import make_plan
from ..data.messages import load_messages
from ..data.tokens import encode
from ..evidence.alarms import stored_alarms
from ..evidence.claims import CLAIMS, findings
from ..evidence.compare import difference
from ..evidence.intervals import Estimate, accuracy
from ..evidence.runs import stored
from ..evidence.witnesses import counts
from ..experiment.experiment import BASELINE
from ..experiment.rows import ROWS
from ..gpt.model import GPT
from ..gpt.smollm2 import LEARNING_RATE
from ..gpt.tokenizer import tokenizer_for
from ..support.errors import UsageError
from ..support.signs import printed
from ..training.memory import Split


class Answer(NamedTuple):
    """A number in its question's unit, with the ends of its interval; they are the number where it was counted."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Question:
    """A question, and how its answer is found.

    Attributes:
        name: a few words for it, which a guess is kept by; without a name it is not kept.
        chapter: the page of the book that asks.
        words: the question.
        find: works the answer out.
        unit: what stands behind a number.
        span, step: the least and the most that can be guessed, and how finely. Numbers have signs where it begins
            below zero.
        whole: how much of the unit is 100 per cent: what a hundred points of error are.
    """

    name: str
    chapter: str
    words: str
    find: Callable[[], Answer]
    unit: str = " %"
    span: tuple[float, float] = (0, 100)
    step: float = 0.5
    whole: float = 100

    @property
    def digits(self) -> int:
        """How many digits behind the point a number has: as fine as a guess can be."""
        return max(0, -math.floor(math.log10(self.step)))

    def answer(self) -> Answer:
        """The answer, as it is printed.

        Raises:
            UsageError: if it is no number within its interval, or the interval not one within the span.
        """
        value, low, high = self.find()
        least, most = self.span
        if not least <= low <= value <= high <= most:
            raise UsageError(f"{low} ≤ {value} ≤ {high} is not in order, or not within {least} to {most}")
        return Answer(*(round(x, self.digits) for x in (value, low, high)))

    def said(self, answer: Answer) -> str:
        """The answer in words."""
        value, low, high = (printed(x) if self.span[0] < 0 else f"{x:,.{self.digits}f}" for x in answer)
        if answer.low == answer.high:
            return f"Counted: {value}{self.unit}."
        return f"Measured: {value}{self.unit}, 95 % interval {low} to {high}{self.unit}."


# -- how the answers are found ------------------------------------------------------------------


def percent(e: Estimate) -> Answer:
    """An estimate, in per cent."""
    return Answer(100 * e.mean, 100 * e.low, 100 * e.high)


def right(study: str, row: str) -> Answer:
    """The test accuracy of a stored row."""
    return percent(accuracy(stored(study)[row]))


def gain(row: str, base: str = "1") -> Answer:
    """By how many points a row is better than another on the UCI messages."""
    rows = stored("table-uci")
    return percent(difference(rows[base], rows[row]).difference)


def counted(number: float) -> Answer:
    """A number without an interval."""
    return Answer(number, number, number)


def spread() -> Answer:
    """How many points lie between the baseline's best seed and its worst, on the pocket messages."""
    test = stored("table-pocket")["1"].test
    return counted(100 * float(test.max() - test.min()))


def turned() -> Answer:
    """How many points lie between the baseline's means at the best rate and at the worst, on the UCI messages."""
    means = [runs.test.mean() for row, runs in stored("beyond-uci").items() if row.startswith("rate-")]
    return counted(100 * float(max(means) - min(means)))


def mlps() -> Answer:
    """How much of GPT-2 small stands in its MLPs."""
    with torch.device("meta"):  # shapes without numbers
        numbers = {name: p.numel() for name, p in GPT(BASELINE.checkpoint.shape).named_parameters()}
    return counted(100 * sum(n for name, n in numbers.items() if ".mlp." in name) / sum(numbers.values()))


def own() -> Answer:
    """On how many pocket training messages the last position holds a token of the message."""
    train = encode(load_messages("pocket").train, tokenizer_for("pocket"), None)
    return counted(int((train.lengths == train.ids.shape[1]).sum()))


def adapters() -> Answer:
    """How many numbers row 11 trains, of 100 that GPT-2 small has with its new output layer."""
    return counted(100 * Split.of(ROWS[11]).trainable / Split.of(BASELINE).parameters)


def left() -> Answer:
    """How much of the plain loop's operations row 1 takes, with GPT-2 small."""
    plan = make_plan(BASELINE, timed=False)
    here, plain = (sum(part.values()) for part in (plan.operations, plan.plain_operations))
    return counted(100 * here / plain)


def holding() -> Answer:
    """How many of the published conclusions hold on the UCI messages."""
    return counted(counts(findings(stored("table-uci")))["holds"])


def alarmed() -> Answer:
    """How often the baseline takes an honest message for spam, on those that no part of the split uses."""
    return percent(stored_alarms()["1"].rate())


MESSAGES = len(load_messages("pocket").train)
CONCLUSIONS = sum(not claim.control for claim in CLAIMS)
UCI = "on the UCI messages and over all stored seeds"


def points(name: str, chapter: str, change: str, row: str, base: str = "1") -> Question:
    """A question for what a change gains or loses: row ``row`` instead of row ``base``."""
    words = f"{change}: how many points of test accuracy does it gain or lose, {UCI}?"
    return Question(name, chapter, words, partial(gain, row, base), " points", (-30, 30))


BOOK = (
    Question(
        "length alone",
        "data",
        "Length alone: of a hundred pocket test messages, how many does the rule have right?",
        partial(right, "table-pocket", "0a"),
    ),
    Question("counted words", "data", "And words, counted?", partial(right, "table-pocket", "0b")),
    Question("MLPs", "gpt", "Of a hundred numbers of GPT-2 small, how many stand in its MLPs?", mlps),
    Question(
        "other seeds",
        "baseline",
        "Many runs of the baseline, with nothing changed but the seed, on the same pocket "
        "messages: how many points of test accuracy lie between the best and the worst that are stored?",
        spread,
        " points",
        (0, 30),
    ),
    Question(
        "the sender's own",
        "token",
        f"Of the {MESSAGES:,} training messages, in how many is the last position the sender's?",
        own,
        f" of {MESSAGES:,}",
        (0, MESSAGES),
        1,
        MESSAGES,
    ),
    points("first token", "token", "Read the first token, not the last position (row 2)", "2"),
    points("output layer alone", "layers", "Train the output layer alone (row 3)", "3"),
    Question("LoRA's numbers", "lora", "For a hundred numbers of GPT-2 small, how many does row 11 train?", adapters),
    points("LoRA", "lora", "Train LoRA's matrices instead of everything (row 11 against row 5)", "11", "5"),
    points("XL", "size", "Take the largest of four sizes, not the smallest (row 8)", "8"),
    points(
        "pretraining", "pretraining", "Start from pretrained weights, not random ones (row 5 against row 10)", "5", "10"
    ),
    points("full context", "padding", "Fill every message up to all that the model can read (row 13)", "13"),
    points("no causal mask", "masks", "Take the causal mask away (row 17)", "17"),
    Question(
        "what holds",
        "table",
        f"One of the {len(CLAIMS)} is a control and holds by construction. How many of the "
        f"other {CONCLUSIONS} hold, {UCI}?",
        holding,
        f" of {CONCLUSIONS}",
        (0, CONCLUSIONS),
        1,
        CONCLUSIONS,
    ),
    Question(
        "false alarms",
        "alarms",
        "Of a hundred honest UCI messages that no run has seen, how many does the baseline take for spam?",
        alarmed,
        step=0.1,
    ),
    Question(
        "rates",
        "knobs",
        "Over seven learning rates, from 0.00001 to 0.01, how many points lie between the baseline's highest mean and "
        "its lowest?",
        turned,
        " points",
        (0, 50),
    ),
    Question(
        "a larger model",
        "second",
        "The baseline with the larger model, at the rate chosen for it: of a hundred UCI "
        "test messages, how many does it have right?",
        partial(right, "rates-smollm2", f"rate-{LEARNING_RATE:g}"),
    ),
    Question("operations", "fast", "Of a hundred operations of the usual loop, how many does the same run need?", left),
)
"""The book's questions, in its order."""
