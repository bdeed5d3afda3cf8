"""What is asked of a model's answers to messages whose labels are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..classifier.reading import show
from ..data.copies import seen_in_training
from ..data.messages import Messages
from ..evidence.compare import of_one, points
from ..evidence.intervals import proportion
from .findings import ALARM, Check, Finding, Level, counted, fact, percent, say
from .messages import Counting, half, interval
from .patient import Patient
from .position import BUDGET

DRAWS = 9999
DOUBT = 0.05  # a model that by itself would pass for better than one answer is not told that it has learned nothing
BINS = 10
ERRORS = 8  # messages that are taken apart, at most
LEARNED = 200  # training messages that a model which answers badly is asked
PIECES = 64  # tokens of one that are left out in turn, at most


def numbers(p: np.ndarray) -> Check | None:
    """A model that gives no numbers is not asked further."""
    if np.isfinite(p).all():
        return None
    n = int((~np.isfinite(p).all(1)).sum())
    return fact(Finding(
        "numbers", "act", f"It answers {counted(n, 'message')} with no number (NaN)",
        "asked as its own program asks it", "a count",
        "Its training came apart: train again with a smaller learning rate.", "baseline", values={"messages": n},
    ))  # fmt: skip


def learned(patient: Patient, p: np.ndarray, messages: Messages, counting: Counting) -> list[Check]:
    """Whether it is better than one answer for all; whether it knows every class; whether labels are swapped."""
    labels, answers = messages.test.label.to_numpy(), p.argmax(1)
    right = answers == labels
    over, p_over = of_one(right.astype(float) - counting.largest)

    def beats(shown: bool) -> Finding:
        fine, likely = shown and over.mean > 0, over.mean > 0 and p_over < DOUBT
        do = "More test messages would show it." if likely else "It has not learned to tell them apart. "
        title = f"It is right on {say(proportion(right))}"
        return Finding(
            "accuracy", "well" if fine else "know" if likely else "act",
            title if fine else f"{title}, which is not shown to be better than one answer for all",
            f"{counted(len(labels), 'test message')}, asked as its own program asks it",
            f"interval over messages; {points(over)} against always the largest class, paired (McNemar)",
            "" if fine else do if likely else do + _training(patient, messages),
            "baseline", values={"accuracy": float(right.mean()), "largest": float(counting.largest.mean())},
        )  # fmt: skip

    return [Check(beats, p_over), one_class(patient, answers, labels), swapped(right, labels, patient)]


def _training(patient: Patient, messages: Messages) -> str:
    """What its own training messages say about why."""
    from scipy.stats import binomtest

    own = messages.train[:LEARNED]
    right = patient.answers(patient.rows(list(own.text))).argmax(1) == own.label.to_numpy()
    said = f"Of {len(own)} training messages it is right on {say(proportion(right))}"
    largest = float(np.bincount(own.label).max() / len(own))
    if binomtest(int(right.sum()), len(own), largest, alternative="greater").pvalue >= ALARM:
        return f"{said}: it has not learned those either. Try another learning rate, a third of it first."
    return f"{said}: it knows those. Give it more messages, or train fewer layers."


def one_class(patient: Patient, answers: np.ndarray, labels: np.ndarray) -> Check:
    """Whether a class that is there is never answered."""
    K = len(patient.classes)
    given, there = np.bincount(answers, minlength=K), np.bincount(labels, minlength=K)
    missed = [k for k in np.argsort(-there) if there[k] and not given[k]]
    p = 0.5 ** there[missed[0]] if missed else 1.0
    names = ", ".join(patient.classes[k] for k in missed)
    single = int((given > 0).sum()) == 1

    def finding(shown: bool) -> Finding:
        level: Level = "act" if missed and shown else "know" if missed else "well"
        always = f"It answers {patient.classes[int(given.argmax())]} always"
        title = "Every class is answered" if not missed else always if single else f"It never answers {names}"
        shares = ", ".join(f"{name} {given[k]} (there are {there[k]})" for k, name in enumerate(patient.classes))
        do = "Look at the learning rate (try a third of it), then at the classes' shares, then at which token is read."
        return Finding(
            "one_class", level, title, f"counted: {shares}",
            "how often chance would hide a class that is found every other time",
            do if missed else "", "baseline", values={"never": [patient.classes[k] for k in missed]},
        )  # fmt: skip

    return Check(finding, float(p))


def swapped(right: np.ndarray, labels: np.ndarray, patient: Patient) -> Check:
    """Whether of two classes each is called by the other's name."""
    from scipy.stats import binomtest

    n, worse = len(right), 1.0
    if len(patient.classes) == 2:
        smaller = float(np.bincount(labels, minlength=2).min()) / n
        worse = binomtest(int(right.sum()), n, smaller, alternative="less").pvalue

    def finding(shown: bool) -> Finding:
        other = f"The classes bear each other's names: the other way round it is right on {percent(1 - right.mean())}"
        return Finding(
            "names", "act" if shown else "well",
            other if shown else "The classes have the names that the labels have",
            "right answers, against always the smaller class", "exact binomial test",
            "Turn the classes' names round (id2label), or the labels." if shown else "", "data",
        )  # fmt: skip

    return Check(finding, float(worse))


def by_class(patient: Patient, p: np.ndarray, labels: np.ndarray) -> tuple[Check, pd.DataFrame]:
    """Each class's precision and recall with their intervals, and false alarms."""
    answers, rows = p.argmax(1), []
    for k, name in enumerate(patient.classes):
        own, given = labels == k, answers == k
        recall = interval(given[own]) if own.sum() > 1 else (np.nan,) * 3
        precision = interval(own[given]) if given.sum() > 1 else (np.nan,) * 3
        rows.append((name, int(own.sum()), int(given.sum()), *precision, *recall, int((given & ~own).sum())))
    columns = ["class", "messages", "answered", "precision", "precision_low", "precision_high"]
    columns += ["recall", "recall_low", "recall_high", "false_alarms"]
    frame = pd.DataFrame(rows, columns=columns)
    worst = frame.iloc[int(np.nanargmin(frame.recall.to_numpy()))]
    each = [
        f"{row['class']}: found {percent(row.recall)}, {row.false_alarms} false alarms" for _, row in frame.iterrows()
    ]
    found = Finding(
        "classes", "well",
        "; ".join(each),
        f"{counted(len(labels), 'test message')}; found is recall",
        f"the least sure recall is that of {worst['class']}, {percent(worst.recall)} "
        f"[{100 * worst.recall_low:.1f}, {100 * worst.recall_high:.1f}]",
        "", "baseline",
    )  # fmt: skip
    return fact(found), frame


def calibration(p: np.ndarray, labels: np.ndarray) -> tuple[Check, pd.DataFrame]:
    """Whether of answers given with 80 % four in five are right (expected calibration error; Guo et al., 2017).

    The p is the share of label sets, drawn from the model's own probabilities, that are as far off or farther.
    """
    sure, right = p.max(1), p.argmax(1) == labels
    order = np.argsort(sure, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // 10)))

    ece = float(sum(abs(right[b].sum() - sure[b].sum()) for b in bins) / len(order))
    rng = np.random.default_rng(0)
    as_said = (rng.random((DRAWS, len(sure))) < sure)[:, order] - sure[order]  # (D, N)
    edges = np.cumsum([0, *map(len, bins[:-1])])
    drawn = np.abs(np.add.reduceat(as_said, edges, axis=1)).sum(1) / len(order)
    p_value = float((1 + (drawn >= ece - 1e-12).sum()) / (1 + DRAWS))
    frame = pd.DataFrame(
        [(sure[b].mean(), *interval(right[b]), len(b)) for b in bins],
        columns=["said", "right", "low", "high", "messages"],
    )
    over = float(sure.mean() - right.mean())

    def finding(shown: bool) -> Finding:
        way = (
            f"It is {'surer' if over > 0 else 'less sure'} than it is right"
            if shown
            else "Its probabilities are not shown to be off"
        )
        return Finding(
            "calibration", "know" if shown else "well",
            f"{way}: it says {percent(sure.mean())} on average, and is right on {percent(right.mean())}",
            f"expected calibration error {percent(ece)} in {len(bins)} bins of equally many messages",
            f"beside {DRAWS} sets of labels drawn from its own probabilities, which give "
            f"{percent(float(np.mean(drawn)))} on average",
            "Scale its logits on the validation part (temperature) before you set a threshold." if shown else "",
            "baseline", values={"ece": ece, "over": over},
        )  # fmt: skip

    return Check(finding, p_value), frame


def against_counting(p: np.ndarray, messages: Messages, counting: Counting) -> Check:
    """Whether the network is better than counted characters, paired."""
    right = p.argmax(1) == messages.test.label.to_numpy()
    d, p_value = of_one(right.astype(float) - counting.characters)

    def finding(shown: bool) -> Finding:
        level: Level = "well" if shown and d.mean > 0 else "know"
        title = "It is better than counting characters" if d.mean > 0 else "Counting characters is better than it"
        title = title if shown else "It is not shown to be better than counting characters"
        return Finding(
            "counted", level, f"{title}: {points(d)}",
            "the same test messages, paired (McNemar); logistic regression on runs of characters",
            "over messages, for this one model; interval of Bonett and Price",
            "" if level == "well" else "Count, or take a larger model or more layers: see which is worth its price.",
            "data", values={"points": d.mean},
        )  # fmt: skip

    return Check(finding, p_value)


def on_new(p: np.ndarray, messages: Messages) -> Check | None:
    """The score without the test messages that stand in the training part, if there are any."""
    new = seen_in_training(messages.train, messages.test) == 0
    if new.all() or new.sum() < 2:
        return None
    from scipy.stats import fisher_exact

    right = p.argmax(1) == messages.test.label.to_numpy()
    table = [[int((right & part).sum()), int((~right & part).sum())] for part in (~new, new)]

    def finding(shown: bool) -> Finding:
        more = right[~new].mean() > right[new].mean()
        level: Level = "act" if (shown and more) or (~new).mean() > half(right) else "know"
        return Finding(
            "new", level,
            f"On new messages it is right on {say(proportion(right[new]))}, on all {percent(right.mean())}",
            f"{(~new).sum()} of {len(new)} test messages stand in the training part, of these it is right on "
            f"{percent(right[~new].mean())}",
            "Fisher's exact test of new against seen messages",
            "Report the score on new messages, and split again without copies.", "data",
            values={"new": float(right[new].mean()), "all": float(right.mean())},
        )  # fmt: skip

    return Check(finding, float(fisher_exact(table).pvalue))


def in_errors(patient: Patient, p: np.ndarray, messages: Messages) -> tuple[Check, pd.DataFrame] | None:
    """Which tokens matter in the errors: what is answered when each is left out (occlusion)."""
    labels, answers = messages.test.label.to_numpy(), p.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    limit, T = patient.length or patient.context, patient.length or 40
    most = int(np.clip(BUDGET / patient.cost / T / 30, 1, ERRORS))
    surest = wrong[np.argsort(-p[wrong].max(1), kind="stable")][:most]
    if len(surest) == 0:
        return None
    rows = []
    for i in surest:
        text = str(messages.test.text[i])
        ids = patient.rows([text])[0][:limit]
        pieces = np.array_split(np.arange(len(ids)), min(len(ids), PIECES))
        fall = np.zeros(len(pieces))
        if len(ids) > 1:
            fall = p[i, answers[i]] - patient.answers([ids[: c[0]] + ids[c[-1] + 1 :] for c in pieces])[:, answers[i]]
        top = [pieces[j] for j in np.argsort(-fall)[:3] if fall[j] > 0]
        words = ["".join(show(patient.tokenizer.decode_token(ids[k])) for k in c).strip("␣") for c in top]
        names = patient.classes[labels[i]], patient.classes[answers[i]]
        rows.append((*names, float(p[i].max()), ", ".join(words), text))
    frame = pd.DataFrame(rows, columns=["label", "answer", "probability", "tokens", "text"])
    found = Finding(
        "errors", "well",
        f"It is wrong on {counted(len(wrong), 'test message')}; the surest of them: {_sentence(rows[0])}",
        f"in the {len(rows)} surest errors each token was left out in turn (occlusion): those that matter most",
        "as far as one token alone decides; several together may hide each other", "", "baseline",
    )  # fmt: skip
    return fact(found), frame


def _sentence(row: tuple) -> str:
    label, answer, sure, words, _ = row
    return f"{label} called {answer} with {percent(sure)}" + f", because of {words}" * bool(words)
