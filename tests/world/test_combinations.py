"""Options that together compute what nobody could have meant. Members of the kind that were thought of:

a training set cut so short that a class is not in it, of a reader's file and of the package's messages; wrong labels
that round to none; options of a run beside finished runs that they cannot change. Refused elsewhere, and tested there:
the first token where it is padding, an ignored label that is a class, a batch larger than the training set, an option
that another makes idle. Looked at and left, since somebody may mean it: half the labels wrong (a control), frozen
random weights under a trained head (random features), a mean that counts padding (the published row 19), the last
token that is padding with padding hidden, a context of one token, a row whose model is given on the command line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.data.messages import messages_of

E = Experiment(model_size="pocket-small", batch_size=1)


def test_no_class_is_missing_from_training(tmp_path: Path) -> None:
    """A head would learn never to say it."""
    first = messages_of(E.but(train_size=2))  # one of each, as it happens
    assert sorted(first.train.label) == [0, 1]
    with pytest.raises(UsageError, match="none of the 1 training messages is ham: train_size must be larger"):
        messages_of(E.but(train_size=1))
    rows = [f"{label},message {i}" for label, n in (("ham", 200), ("rare", 10)) for i in range(n)]
    (tmp_path / "mine.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    own = E.but(dataset=str(tmp_path / "mine.csv"))
    assert set(messages_of(own).train.label) == {0, 1}
    with pytest.raises(UsageError, match="is rare: train_size must be larger"):
        messages_of(own.but(train_size=3))


def test_wrong_labels_are_some() -> None:
    with pytest.raises(UsageError, match=r"label_noise 0.01 of 16 training messages is none"):
        messages_of(E.but(train_size=16, label_noise=0.01))
    clean, noisy = messages_of(E.but(train_size=16)), messages_of(E.but(train_size=16, label_noise=0.1))
    assert int((clean.train.label != noisy.train.label).sum()) == 2
    assert clean.test.equals(noisy.test)
    assert clean.val.equals(noisy.val)


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["--seeds", "3"], "seeds"),
        (["--train_size", "16", "--out", "x"], "train_size and out"),
        (["--scale", "pocket"], "scale"),
        (["--device", "cpu", "--workers", "2"], "device and workers"),
    ],
)
def test_finished_runs_are_not_changed(words: list[str], idle: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``compare --stored`` says which options would have no effect."""
    assert main(["compare", "--stored", "table-pocket", "1", "4", *words]) == 2
    err = capsys.readouterr().err
    assert err == f"onechange: --stored compares runs that are finished: {idle} cannot change them\n"
    assert main(["compare", "--stored", "table-pocket", "1", "4", "--clean"]) == 0
