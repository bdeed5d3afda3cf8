"""What is asked of a data set: balance, shortcuts, copies, contradictions, and what its test part can show at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from ..data.baselines import BaselineResult, bag, length_rule
from ..data.copies import NEAR, masked, near_copies, seen_in_training
from ..data.messages import Messages
from ..evidence.compare import of_one, points
from ..evidence.intervals import proportion
from ..gpt.tokenizer import Tokenizer
from ..support.progress import progress_bar
from .findings import ALARM, Check, Finding, Level, counted, fact, one_of, percent, say

FEWEST = 6
"""Test messages of a class: with fewer, even all of them right is no better than a coin (2 x 0.5^5 = 0.06)."""
LOOKED_AT = 2000  # test messages that near-copies are sought of: what keeps a large file from taking minutes


@dataclass(frozen=True)
class Counting:
    """What needs no network, on the test part: which messages each rule is right on, ``(N,)`` booleans."""

    largest: np.ndarray
    word: np.ndarray
    words: np.ndarray
    characters: np.ndarray
    length: np.ndarray | None
    rules: dict[str, str]

    @cached_property
    def all(self) -> dict[str, np.ndarray]:
        """By what a reader calls them, the simplest first."""
        names = {
            "always the largest class": self.largest,
            "length alone": self.length,
            "one word alone": self.word,
            "counted words": self.words,
            "counted characters": self.characters,
        }
        return {name: right for name, right in names.items() if right is not None}

    @property
    def frame(self) -> pd.DataFrame:
        """Columns ``label``, ``right``, ``n``, and the accuracy with its interval, as fractions."""
        rows = [(name, int(right.sum()), len(right), *interval(right)) for name, right in self.all.items()]
        return pd.DataFrame(rows, columns=["label", "right", "n", "accuracy", "low", "high"])


def interval(right: np.ndarray) -> tuple[float, float, float]:
    found = proportion(right)
    return found.mean, found.low, found.high


def half(right: np.ndarray) -> float:
    """Half the width of a score's interval: what the draw of the test messages alone does to it."""
    found = proportion(right)
    return (found.high - found.low) / 2


def count(messages: Messages, tokenizer: Tokenizer, progress: bool = False) -> Counting:
    """Fit all that needs no network on the training part.

    Raises:
        UsageError: if the messages hold nothing to count.
    """
    test, K = messages.test.label.to_numpy(), len(messages.classes)
    largest = int(np.bincount(messages.train.label, minlength=K).argmax())
    with progress_bar(progress, total=3, desc="counting", unit="rule", leave=False) as bar:
        word, rule = one_word(messages)
        bar.update()
        found: list[BaselineResult] = []
        for name in ("0b", "0c"):
            found.append(bag(name, messages))
            bar.update()
    length = length_rule(messages, tokenizer) if K == 2 else None
    rules = {"always the largest class": messages.classes[largest], "one word alone": rule}
    rules |= {"length alone": length.setting} if length else {}
    right = length.test_right if length else None
    return Counting(test == largest, word, found[0].test_right, found[1].test_right, right, rules)


def one_word(messages: Messages) -> tuple[np.ndarray, str]:
    """The rule "with this word one class, without it another" that is right most often in training.

    Returns:
        Which test messages it is right on, ``(N,)``, and the rule in words.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    features = CountVectorizer(binary=True, token_pattern=r"(?u)\w+|[^\w\s]")
    has, labels = features.fit_transform(messages.train.text), messages.train.label.to_numpy()
    one_hot = np.eye(len(messages.classes))[labels]  # (N, K)
    inside = has.T @ one_hot  # (V, K): how many messages of each class hold the word
    outside = one_hot.sum(0) - inside
    best = int((inside.max(1) + outside.max(1)).argmax())
    answers = int(outside[best].argmax()), int(inside[best].argmax())
    holds = features.transform(messages.test.text)[:, best].toarray()[:, 0]
    word = features.get_feature_names_out()[best]
    rule = f"with “{word}” {messages.classes[answers[1]]}, without it {messages.classes[answers[0]]}"
    return np.asarray(answers)[holds] == messages.test.label.to_numpy(), rule


def balance(messages: Messages) -> Check:
    """How the classes share the messages, and whether each has enough of the test part."""
    from scipy.stats import chisquare

    parts = [messages.train, messages.val, messages.test]
    counts = np.bincount(pd.concat(parts).label, minlength=len(messages.classes))
    tested = np.bincount(messages.test.label, minlength=len(messages.classes))
    few, share = int(tested.argmin()), counts.max() / counts.sum()
    least, name = int(tested[few]), messages.classes[int(counts.argmax())]

    def finding(shown: bool) -> Finding:
        right = percent(tested[counts.argmax()] / tested.sum())
        level: Level = "know" if shown else "well"
        title = f"Always answering {name}, the largest class, is right on {right}"
        do = "Set every accuracy beside this one, and look at each class's recall." if shown else ""
        if least < FEWEST:
            level, rare = "act", messages.classes[few]
            title = f"{rare} has {counted(least, 'test message')}: nothing can be shown of it"
            do = f"Collect {FEWEST - least} more of {rare} for the test part, or join it to another class."
        return Finding(
            "balance", level, title,
            f"counted; {messages.classes[few]} has fewest test messages, {least}",
            f"a count; with fewer than {FEWEST} messages a class found every time is not told from a coin",
            do, "baseline", values={"share": float(share), "fewest": least},
        )  # fmt: skip

    return Check(finding, float(chisquare(counts).pvalue))


def shortcut(key: str, name: str, right: np.ndarray, counting: Counting) -> Check:
    """Whether a rule that reads nothing is better than always one answer, and whether reading is better than it."""
    over, p = of_one(right.astype(float) - counting.largest)
    more, reading = of_one(counting.characters.astype(float) - right)
    better = over.mean > 0

    def finding(shown: bool) -> Finding:
        shown = shown and better
        level: Level = "well" if not shown else "know" if reading < ALARM and more.mean > 0 else "act"
        does = {
            "well": "is not shown to tell the classes apart",
            "know": f"tells the classes apart on {say(proportion(right))} of the test messages",
            "act": f"does it: {say(proportion(right))}, and counted characters are not shown to be better",
        }[level]
        do = {
            "well": "",
            "know": "Show beside every score what this rule scores.",
            "act": "Look how the messages were collected; take the sign away, or match the classes in it.",
        }[level]
        return Finding(
            key, level, f"{name[0].upper()}{name[1:]} {does}",
            f"the best rule on the training part ({counting.rules[name]}), asked of the test part",
            f"{points(over)} against always the largest class, paired (McNemar)",
            do, "data", values={"accuracy": float(right.mean()), "characters_more": more.mean},
        )  # fmt: skip

    return Check(finding, p)


def signal(counting: Counting) -> Check:
    """Whether counting tells the classes apart, and whether it leaves anything to show."""
    right = counting.characters
    over, p = of_one(right.astype(float) - counting.largest)
    errors, words = int((~right).sum()), say(proportion(counting.words))

    def finding(shown: bool) -> Finding:
        shown = shown and over.mean > 0
        level: Level = "well"
        do = ""
        title = f"Counted characters are right on {say(proportion(right))}, counted words on {words}"
        if not shown:
            level, title = "act", "Nothing that was counted tells the classes apart"
            do = (
                "Read twenty messages with their labels hidden. If you cannot tell either, the labels are wrong "
                "or shuffled; if you can, there are too few messages."
            )
        elif errors < FEWEST:
            level = "know"
            title = f"Counted characters leave {counted(errors, 'error')}: no model can be shown to be better here"
            do = "Compare models on harder messages, or on more of them."
        return Finding(
            "counting", level, title,
            "logistic regression on TF-IDF, fitted on the training part, its strength chosen on the validation part",
            f"{points(over)} against always the largest class, paired (McNemar); intervals over messages",
            do, "data", values={"characters": float(right.mean()), "errors": errors},
        )  # fmt: skip

    return Check(finding, p)


def copies(messages: Messages, counting: Counting) -> tuple[Check, pd.DataFrame]:
    """Test messages that stand in the training part: word for word, masked, nearly."""
    seen = seen_in_training(messages.train, messages.test)
    near = np.flatnonzero(near_copies(messages.train, messages.test[:LOOKED_AT]))
    share, room = float((seen > 0).mean()), half(counting.characters)
    new, right = seen == 0, counting.characters
    level: Level = "act" if share > room else "know" if share or len(near) else "well"
    kinds = f"{(seen == 2).sum()} word for word, {(seen == 1).sum()} but for digits and punctuation"
    n, score = int((seen > 0).sum()), ""
    title = f"{counted(n, 'test message')} of {len(seen)} stand in the training part too ({kinds})"
    title = title if n else "No test message stands in the training part"
    title += f"; {len(near)} more nearly" if len(near) else ""
    if 0 < share < 1:
        old, fresh = percent(right[~new].mean()), percent(right[new].mean())
        score = f"; counted characters are right on {old} of these and on {fresh} of the new ones"
    do = {
        "well": "",
        "know": "Score once more without them (--clean), and see whether the difference matters to you.",
        "act": "Remove copies before the split, or split by time, and report the score on new messages (--clean).",
    }[level]
    frame = messages.test[["text"]].assign(kind=np.array(["", "masked", "word for word"])[seen])
    frame.loc[near, "kind"] = "near"
    found = Finding(
        "copies", level, title,
        f"compared as they are, masked, and by runs of five characters (cosine {NEAR} or more){score}",
        f"a count; remembered, they could be {percent(share)} of a score, whose interval is {100 * room:.1f} "
        f"points to either side",
        do, "data", values={"share": share, "near": len(near), "new": int(new.sum())},
    )  # fmt: skip
    return fact(found), frame[frame.kind != ""].reset_index(drop=True)


def contradictions(messages: Messages) -> tuple[Check, pd.DataFrame]:
    """The same message under two labels."""
    whole = pd.concat([messages.train, messages.val, messages.test], ignore_index=True)
    texts = {"word for word": whole.text, "masked": whole.text.map(masked)}
    torn = {kind: whole.label.groupby(text).transform("nunique") > 1 for kind, text in texts.items()}
    n, alike = int(torn["word for word"].sum()), int(torn["masked"].sum())
    level: Level = "act" if n else "know" if alike else "well"
    frame = whole[torn["masked"]].assign(label=lambda f: [messages.classes[k] for k in f.label]).sort_values("text")
    title = f"{counted(n, 'message')} stand under two labels" if n else "No message stands under two labels"
    beside = f", and {alike - n} more that differ in digits and punctuation alone" if alike > n else ""
    do = f"Read them and decide: {one_of(list(dict.fromkeys(frame.text)))}." if alike else ""
    found = Finding(
        "contradictions", level, title + beside, "all three parts compared, as they are and masked",
        "a count; no model can be right on both of a pair", do, "data",
        values={"verbatim": n, "masked": alike},
    )  # fmt: skip
    return fact(found), frame.reset_index(drop=True)


def lengths(messages: Messages, tokenizer: Tokenizer, length: int | None, context: int, padded: bool = True) -> Check:
    """What is cut, and how much of what is read is padding; a model that is not ``padded`` is cut by its context."""
    train, test = (np.array([len(tokenizer.encode(t)) for t in part.text]) for part in (messages.train, messages.test))
    T = min(length or int(train.max()), context) if padded else context
    cut, share = float((test > T).mean()), (1 - np.minimum(train, T).mean() / T) if padded else 0.0
    room = math.sqrt(0.25 / (len(test) + 4)) * 1.96  # the widest that a score's interval can be, to either side
    level: Level = "act" if cut > room else "know" if cut or share > 0.5 else "well"
    cuts = f"{counted(int((test > T).sum()), 'test message')}"
    how = "padded to the model's own length" if length else "padded to the longest training message"
    how = how if padded else "not padded"
    do = {
        "act": "Give the model longer messages (--context_length) or cut where nothing is lost.",
        "know": "Read the last real token (--trainable_token_pos flexible), which no padding reaches.",
        "well": "",
    }[level]
    found = Finding(
        "lengths", level,
        f"At {T} tokens {percent(float(share))} of what is read is padding, and {cuts} of {len(test)} would be cut",
        f"in tokens of {tokenizer.name if tokenizer.name in ('gpt2', 'pocket') else 'the model'}, {how}",
        "a count", do, "padding", values={"length": T, "padding": float(share), "cut": cut},
    )  # fmt: skip
    return fact(found)
