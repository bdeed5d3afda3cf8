"""Steps, evaluations and whole runs: by hand, by rows that must agree, and what ends a run early."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy_runs import Make, gradients_of, trainer_of

from onechange import Result, UsageError
from onechange.data.messages import messages_of
from onechange.data.tokens import tokens_of
from onechange.training.build import build
from onechange.training.train import run

pytestmark = pytest.mark.usefixtures("short_runs")


def test_row_18_is_row_1(make: Make, outcome: Callable) -> None:
    """No label is 50256: not one number differs."""
    one, other = outcome(make(1)), outcome(make(18))
    for name in ("train_losses", "val_losses", "train_accs", "val_accs", "final", "test_probabilities", "n_trainable"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.experiment != other.experiment


@pytest.mark.parametrize("prefix_cache", ["on", "off"])
@pytest.mark.parametrize("n", [8, 5], ids=["a whole window", "the last, shorter one"])
def test_a_window_of_single_messages_is_a_batch(prefix_cache: str, n: int, make: Make) -> None:
    """Row 15's step over n messages one by one is row 16's over a batch of n: the same gradients, the same new weights.

    So the shorter window at an epoch's end counts by its own size, not by eight.
    """
    chosen = np.array([3, 41, 5, 17, 60, 22, 9, 30])[:n]
    singles, batch = trainer_of(make(15, prefix_cache=prefix_cache)), trainer_of(make(16, prefix_cache=prefix_cache))
    gradients = [gradients_of(singles, [chosen[i : i + 1] for i in range(n)]), gradients_of(batch, [chosen])]
    trained = {name for name, p in batch.model.named_parameters() if p.requires_grad}
    assert gradients[0].keys() == gradients[1].keys() == trained
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
        # Adam's first step is lr * sign(g), which turns over where g is zero (a key's bias): compare where it is not.
        clear = gradient.abs() > 1e-5
        moved = [t.model.get_parameter(name).detach() for t in (singles, batch)]
        torch.testing.assert_close(moved[0][clear], moved[1][clear], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("row", [1, 5, 15, 16])
def test_a_step_by_hand(row: int, make: Make) -> None:
    """One step is AdamW on the mean of the messages' own cross-entropies, computed here in the open."""
    e = make(row).resolved()
    trainer, by_hand = trainer_of(e), build(e, 2)
    tokens, _ = tokens_of(e, messages_of(e))
    split, chosen = tokens["train"], np.array([7, 2, 50])
    losses = []
    for i in chosen:
        n = int(split.lengths[i])
        out = by_hand(split.ids[i : i + 1, :n] if e.no_padding else split.ids[i : i + 1])[0]  # (T, K)
        losses.append(F.cross_entropy(out[n - 1 if row in (15, 16) else -1], split.labels[i]))
    trained = [p for p in by_hand.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)
    torch.stack(losses).mean().backward()
    found = gradients_of(trainer, [chosen[i : i + e.batch_size] for i in range(0, 3, e.batch_size)])
    wanted = {name: p.grad for name, p in by_hand.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    # Adam's first step hardly depends on a gradient's size, and on its sign where that is rounding alone.
    clear = {name: gradient.abs() > 1e-5 for name, gradient in wanted.items()}
    optimizer.step()
    assert sum(int(mask.sum()) for mask in clear.values()) > 1000
    for name, parameter in by_hand.named_parameters():
        mask = clear.get(name, torch.ones_like(parameter, dtype=torch.bool))
        moved = trainer.model.get_parameter(name)
        torch.testing.assert_close(moved[mask], parameter[mask], rtol=0, atol=1e-5, msg=name)


def test_a_run_leaves_the_global_generator_alone(make: Make) -> None:
    """Whatever a run draws, the reader's own random numbers go on as if it had not been there."""
    torch.manual_seed(99)
    wanted = torch.rand(3)
    torch.manual_seed(99)
    run(make(10, num_epochs=1, train_size=16), progress=False)
    assert torch.equal(torch.rand(3), wanted)


def test_the_global_generator_does_not_matter(make: Make, outcome: Callable) -> None:
    """A run's numbers depend on its own seed only; the same seed gives the same to the last bit."""
    torch.manual_seed(4321)
    again = run(make(10), progress=False)
    assert again.train_losses == outcome(make(10)).train_losses
    assert again.test_probabilities == outcome(make(10)).test_probabilities


@pytest.mark.parametrize("row", [1, 10, 11])
def test_seeds_matter(row: int, make: Make, outcome: Callable) -> None:
    """Another seed is another head and another order."""
    other = run(make(row), seed=124, progress=False)
    assert outcome(make(row)).train_losses[0] != pytest.approx(other.train_losses[0], abs=1e-4)


@pytest.mark.parametrize("row", [1, 14, 16, 17, 19])
@torch.no_grad()
def test_an_evaluation_is_the_mean_of_batch_means(row: int, make: Make) -> None:
    """However messages are regrouped: a last batch of five counts as much as one of eight, accuracy counts messages."""
    trainer = trainer_of(make(row))
    order = np.random.default_rng(0).permutation(45)
    batches = [order[i : i + 8] for i in range(0, 43, 8)]
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 5]
    loss, accuracy, logits = trainer.evaluate("val", batches)
    labels = trainer.splits["val"].labels
    means, right = [], []
    for batch in batches:
        each = torch.cat([trainer.losses("val", batch[i : i + 1])[1] for i in range(len(batch))])
        means.append(F.cross_entropy(each, labels[batch]).item())
        right += (each.argmax(1) == labels[batch]).tolist()
    assert loss.item() == pytest.approx(np.mean(means), abs=1e-5)
    assert accuracy.item() == pytest.approx(np.mean(right), abs=1e-6)
    assert logits.shape == (45, 2)


# -- what ends a run, and what it may be of ------------------------------------------------------


def test_a_loss_that_is_not_a_number(make: Make) -> None:
    """A run that blows up ends there, with a reason, without accuracies, and with a record that JSON can hold."""
    result = run(make(1, learning_rate=1e30), progress=False)
    assert result.error == f"the loss is not a number any more at step {result.steps[-1]}"
    assert len(result.steps) < 4
    assert (result.final, result.test_probabilities) == ({}, [])
    record = json.loads(result.to_json())
    assert record["train_losses"][-1] is None
    assert Result.from_dict(record).to_dict() == record
    assert str(result).startswith(result.error)


def test_outputs_that_are_not_numbers_at_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong after the last note of the loss is found too."""
    monkeypatch.setattr("onechange.training.schedule.EVAL_EVERY", 1000)

    def spoil(result: Result) -> None:
        result.model.head.weight.data.fill_(math.nan)

    result = run(make(1), progress=False, watch=spoil)
    assert "not numbers at the end" in result.error
    assert (result.final, result.test_probabilities, len(result.train_losses)) == ({}, [], 1)
    json.loads(result.to_json())


def test_watching_and_stopping(make: Make) -> None:
    """The watcher sees each note of the loss; False stops the run there, anything else does not."""
    seen: list[int] = []

    def watch(result: Result) -> bool | None:
        seen.append(len(result.train_losses))
        assert result.steps[-1] == 5 * (seen[-1] - 1)
        return False if seen[-1] == 3 else None

    result = run(make(1), progress=False, watch=watch)
    assert seen == [1, 2, 3]
    assert result.error == "stopped at step 10"
    assert (result.final, result.steps, len(result.train_accs)) == ({}, [0, 5, 10], 1)
    json.loads(result.to_json())


def test_a_file_with_three_classes(make: Make, tmp_path: Path) -> None:
    """A reader's own messages train a head with as many outputs, and its classes keep their names."""
    words = {"news": "the council met today", "joke": "knock knock who is there", "bill": "your payment of £20 is due"}
    rows = [f"{label}\t{text}, {i}" for label, text in words.items() for i in range(20)]
    (tmp_path / "mine.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n")
    e = make(1, dataset=str(tmp_path / "mine.tsv"), train_size=None, num_epochs=8)
    result = run(e, progress=False)
    assert result.classes == ("bill", "joke", "news")
    assert result.model.head.out_features == 3
    assert result.confusion.to_numpy().sum() == 12
    assert result.final["test"] == 1.0
    assert result.scores["roc_auc"] == 1.0


# -- what cannot be run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_size": 5000}, "train_size 5000 is more than"),
        ({"batch_size": 65}, "batch_size 65 is more than the 64"),
        ({"precision": "fp16"}, "precision fp16 needs a CUDA GPU"),
        ({"precision": "tf32"}, "precision tf32 needs a CUDA GPU"),
    ],
)
def test_what_cannot_be_run(changes: dict, words: str, make: Make) -> None:
    """It is refused before anything is computed."""
    with pytest.raises(UsageError, match=words):
        run(make(1, **changes), progress=False)


def test_a_label_may_not_be_ignored(make: Make, tmp_path: Path) -> None:
    """With three classes 2 is a label as well."""
    (tmp_path / "f.tsv").write_text("label\ttext\n" + "".join(f"{'abc'[i % 3]}\tx {i}\n" for i in range(60)))
    e = make(1, dataset=str(tmp_path / "f.tsv"), train_size=None, ignore_index=2)
    with pytest.raises(UsageError, match="ignore_index 2 is one of the labels"):
        run(e, progress=False)


@pytest.mark.parametrize(("row", "words"), [(14, "no_padding cannot cut it"), (1, "cut them with --context_length")])
def test_messages_that_do_not_fit(row: int, words: str, make: Make, toy_of: Callable[..., Path]) -> None:
    """A context shorter than a message: row 14 cannot help it, row 1 is told how."""
    short = str(toy_of(context=20))
    with pytest.raises(UsageError, match=words):
        run(make(row, model_size=short), progress=False)
    assert run(make(13, model_size=short, num_epochs=1), progress=False).max_length == 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "nonsense"])
def test_a_device_that_is_not_there(device: str, make: Make) -> None:
    """One line instead of a traceback."""
    with pytest.raises(UsageError, match=f"device '{device}' is not here"):
        run(make(1), device=device, progress=False)


def test_bf16_on_a_cpu_is_close(make: Make, outcome: Callable) -> None:
    """Half the bits give nearly the same curve, and not quite the same numbers."""
    rough, fine = run(make(1, precision="bf16"), progress=False), outcome(make(1))
    assert rough.train_losses == pytest.approx(fine.train_losses, abs=0.05)
    assert rough.train_losses != fine.train_losses
    assert rough.environment["precision"] == "bf16"
