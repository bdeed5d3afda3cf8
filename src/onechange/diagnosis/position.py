"""What is asked of a model about where it reads: padding behind and before, neighbours in a batch, what is cut.

None of it needs a label. An answer is set beside the same message's answer in other company; nothing but the company
differs, so whatever moves by more than ``MOVED`` is the model's doing and not chance's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..evidence.intervals import proportion
from .findings import Check, Finding, Level, counted, fact, percent, say
from .messages import interval
from .patient import Patient

MOVED = 1e-3
"""A probability that moves by less has not moved: float32 summed in another order moves one by a hundredth of that."""
BUDGET = 1e11
"""Operations that the questions of this module may take: what decides how many messages they are asked of."""
LEAST, MOST = 12, 100
"""Messages that a large model is asked about, and a small one: of 100, a share is known to ten points."""
BATCH = 8  # messages in a batch, as the table trains


@dataclass(frozen=True)
class Sample:
    """Some messages as tokens, and a model's own answers to them, ``(N, K)``."""

    rows: list[list[int]]
    answers: np.ndarray

    def moved(self, others: np.ndarray) -> float:
        """The most that other answers differ from the model's own, in probability."""
        return float(np.abs(others - self.answers).max())

    def flips(self, others: np.ndarray) -> np.ndarray:
        """For which messages another class is answered, ``(N,)``."""
        return others.argmax(1) != self.answers.argmax(1)


def sample(patient: Patient, rows: list[list[int]], answers: np.ndarray | None = None) -> Sample:
    """The first messages, as many as the budget allows, cut as the model cuts them."""
    limit = patient.length or patient.context
    rows = [row[:limit] for row in rows]
    longest = max(map(len, rows))
    tokens = sum(grid(patient, longest)) + 3 * (patient.length or longest) + longest  # a message's, all questions
    n = int(np.clip(BUDGET / patient.cost / tokens, LEAST, MOST))
    rows = rows[:n]
    return Sample(rows, patient.answers(rows) if answers is None else answers[:n])


def grid(patient: Patient, longest: int) -> list[int]:
    """Lengths to pad to: the longest message's and twice that, the model's own and twice that."""
    own = [patient.length, 2 * patient.length] if patient.length else [4 * longest]
    return sorted({min(T, patient.context) for T in (longest, 2 * longest, *own)})


def padding(patient: Patient, s: Sample) -> tuple[Check, pd.DataFrame]:
    """Whether a message's answer depends on how much padding stands with it; by the length that is padded to."""
    lengths: list[int | None] = [None, *grid(patient, max(map(len, s.rows)))]
    asked = {T: patient.asked(s.rows, T) for T in lengths}
    frame = pd.DataFrame(
        [(T or 0, *(100 * x for x in interval(s.flips(p))), s.moved(p)) for T, p in asked.items()],
        columns=["length", "flips", "low", "high", "moved"],
    )
    flips, moved = np.any([s.flips(p) for p in asked.values()], axis=0), max(map(s.moved, asked.values()))
    level, title = judged(flips, moved, "how much padding stands with a message")
    worst = frame.iloc[int(frame.flips.to_numpy().argmax())]
    at = f", most at {worst.length:.0f} tokens" if worst.length else ", most without padding"
    found = Finding(
        "padding", level, title,
        f"{counted(len(s.rows), 'message')} asked without padding and padded to "
        f"{', '.join(str(T) for T in lengths if T)} tokens" + at * bool(flips.any()),
        sure_of(flips, moved), remedy(patient) if level != "well" else "", "padding",
        values={"flips": int(flips.sum()), "messages": len(s.rows), "moved": moved},
    )  # fmt: skip
    return fact(found), frame


def judged(flips: np.ndarray, moved: float, what: str) -> tuple[Level, str]:
    """The level and the title of a change that should change nothing."""
    if flips.any():
        return "act", f"The answer depends on {what}: {flips.sum()} of {len(flips)} messages change class"
    if moved > MOVED:
        return "know", f"Probabilities depend on {what}, by up to {moved:.3f}; no class changes"
    return "well", f"The answer does not depend on {what}"


def sure_of(flips: np.ndarray, moved: float) -> str:
    """How sure a count of flips is."""
    share = f"; of such messages {say(proportion(flips))} change class" if flips.any() else ""
    return f"the same message twice, so no chance is in it; the largest move of a probability is {moved:.2g}{share}"


def remedy(patient: Patient) -> str:
    """What makes a model's answer its message's own."""
    if patient.theirs and patient.stop is None:
        return f"Set model.config.pad_token_id to {patient.fill}, which pads, before you train and before you ask."
    if patient.theirs:
        return f"Make config.pad_token_id ({patient.stop}) and the tokenizer's pad_token ({patient.fill}) one token."
    if patient.reader.own_end or patient.reader.first:
        return "Hide the padding (--mask_padding)." if not patient.reader.causal else ""
    return (
        "Train it to read the last real token (--trainable_token_pos flexible); until then pad every message to "
        f"exactly {patient.length} tokens."
    )


def neighbours(patient: Patient, s: Sample) -> Check:
    """Whether an answer depends on which other messages share a batch that is padded to its longest."""
    batches = [s.rows[i : i + BATCH] for i in range(0, len(s.rows), BATCH)]
    together = np.concatenate([patient.asked(batch, max(map(len, batch))) for batch in batches])
    alone = patient.asked(s.rows, None)
    flips, moved = together.argmax(1) != alone.argmax(1), float(np.abs(together - alone).max())
    level, title = judged(flips, moved, "its neighbours in a batch")
    do = remedy(patient) if level != "well" else ""
    if level == "act" and patient.length is not None:  # its own program never makes such a batch
        level = "know"
    if patient.theirs and patient.stop is None:
        level, title = "act", "It takes one message at a time: transformers refuses a batch of it"
        do = remedy(patient)
    found = Finding(
        "neighbours", level, title,
        f"{counted(len(s.rows), 'message')} alone and in batches of {BATCH}, each padded to its longest message",
        sure_of(flips, moved), do, "padding", values={"flips": int(flips.sum()), "moved": moved},
    )  # fmt: skip
    return fact(found)


def side(patient: Patient, s: Sample) -> Check:
    """Whether an answer depends on the side on which padding stands."""
    other = not patient.reader.left
    T = patient.length or max(map(len, s.rows))
    asked = patient.asked(s.rows, T, left=other, masked=patient.theirs)
    flips, moved = s.flips(asked), s.moved(asked)
    level, title = judged(flips, moved, "the side on which padding stands")
    words = {True: "before", False: "behind"}
    masked = ", hidden by the attention mask" if patient.theirs else ""
    do = f"Pad {words[not other]} the message, as in training: padding on the left moves every position."
    found = Finding(
        "side", "know" if level == "act" else level, title,
        f"{counted(len(s.rows), 'message')} padded to {T} tokens {words[other]} the message{masked}",
        sure_of(flips, moved), do if level != "well" else "", "padding",
        values={"flips": int(flips.sum()), "moved": moved},
    )  # fmt: skip
    return fact(found)


def first_token(patient: Patient, s: Sample) -> tuple[Check, pd.DataFrame]:
    """Whether the first token alone decides; and how many answers stand after how many tokens."""
    longest = max(map(len, s.rows))
    cuts = [2**i for i in range(longest.bit_length()) if 2**i < longest]
    asked = {n: patient.answers([row[:n] for row in s.rows]) for n in cuts}
    frame = pd.DataFrame(
        [(n, *(100 * x for x in interval(~s.flips(p)))) for n, p in asked.items()],
        columns=["tokens", "same", "low", "high"],
    )
    moved = s.moved(asked[1]) if cuts else 0.0
    agree = float(frame.same[0]) / 100 if cuts else 1.0
    only = moved < MOVED and longest > 1
    title = f"The first token alone gives {percent(agree)} of the answers"
    do = "Read a token that has seen the message (--trainable_token_pos flexible). Where one class is answered always,"
    found = Finding(
        "first", "act" if only else "well",
        "Nothing behind the first token changes an answer" if only else title,
        f"{counted(len(s.rows), 'message')} cut to {', '.join(map(str, cuts))} tokens",
        f"the same messages, so no chance is in it; the largest move of a probability at one token is {moved:.2g}",
        f"{do} mend that first." if only else "",
        "token", values={"same": agree, "moved": moved},
    )  # fmt: skip
    return fact(found), frame
