"""Pretraining: the data, the schedule, resuming, what is written; and the 5-gram yardstick."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from onechange.gpt.model import GPT
from onechange.gpt.tokenizer import pocket_encoding
from onechange.gpt.weights import POCKET, load_weights, read_config
from onechange.pretraining.ngram import BITS, token_probabilities
from onechange.pretraining.pretrain import RECIPES, Corpus, Recipe, bits_per_byte, main, pretrain, rate

TEXT = "\n\n".join(
    f"Are you coming at {hour}? I will wait by the {place} {day}.\nYes, see you there. Bring the {thing}!"
    for hour in range(1, 9)
    for place in ("station", "river", "old market")
    for day in ("today", "on Monday")
    for thing in ("map", "tickets", "bread")
)
TINY = Recipe(n_layers=1, emb_dim=16, n_heads=2, batch_tokens=256, lengths=(16, 64), context_length=64, warmup=5)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def corpus(text):
    return Corpus([text], pocket_encoding())


def test_a_pass_is_reproducible_shuffled_and_of_the_asked_shapes(corpus):
    """The same pass twice is the same; another pass is not; both lengths occur, near the batch's size."""
    first, again, other = (list(corpus.batches(TINY, epoch)) for epoch in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert {batch.shape for batch in first} == {(16, 17), (4, 65)}


def test_sequences_begin_where_a_line_does(corpus):
    """A message's first token stands at position 0, so most sequences must start at a line's start."""
    encoding = pocket_encoding()
    starts = [encoding.decode([int(row[0])]) for batch in corpus.batches(TINY, 0) for row in batch]
    assert np.mean([start.strip()[:1] in ("A", "Y", "Are", "Yes") for start in starts]) > 0.5


def test_the_rate_rises_stays_and_falls_to_zero():
    """Warm-up, constant, linear decay."""
    shares = [rate(step, 100, TINY) for step in range(101)]
    assert shares[0] == pytest.approx(0.2)
    assert shares[10:50] == [1.0] * 40
    assert shares[75] == pytest.approx(0.5)
    assert shares[100] == 0.0


def test_pretraining_learns_and_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    """Fewer bits a byte than at the start; a run stopped half-way and resumed gives the same weights."""
    monkeypatch.setattr("onechange.pretraining.pretrain.VALIDATE_EVERY", 5)
    recipe = dataclasses.replace(TINY, passes=1.0)
    untrained = bits_per_byte(GPT(recipe.config(4096)), TEXT, pocket_encoding())
    whole, curve = pretrain(recipe, corpus, pocket_encoding(), TEXT, tmp_path / "whole", compile=False)
    assert curve[-1]["bpb"] < 0.7 * untrained

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        seen = []
        original = Corpus.batches
        patch.setattr(Corpus, "batches", lambda self, r, epoch: _stop_after(original(self, r, epoch), 12, seen))
        patch.setattr(Corpus, "steps_per_pass", lambda self, r: sum(1 for _ in original(self, r, 0)))
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, corpus, pocket_encoding(), TEXT, tmp_path / "half", compile=False)
    resumed, again = pretrain(recipe, corpus, pocket_encoding(), TEXT, tmp_path / "half", compile=False)
    assert [record["step"] for record in again] == [record["step"] for record in curve]
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def _stop_after(batches, n, seen):
    for batch in batches:
        if len(seen) == n:
            raise KeyboardInterrupt
        seen.append(1)
        yield batch


def test_a_model_folder_with_its_card_is_written(text, tmp_path):
    """What pretraining writes can be loaded and says how it was made."""
    recipe = dataclasses.replace(TINY, passes=0.3)
    out = tmp_path / "model"
    card = main(recipe, [text], text, out, start=None, precision="fp32", compile=False, device="cpu")
    model = GPT(read_config(out))
    load_weights(model, out / "model.safetensors")
    assert json.loads((out / "card.json").read_text()) == json.loads(json.dumps(card))
    assert card["bits_per_byte"] == pytest.approx(bits_per_byte(model, TEXT, pocket_encoding()), rel=1e-2)


def test_the_shipped_sizes_fit_their_limits():
    """pocket-small at most 3 MB, the family 26 MB as float16, the largest six times the smallest inside."""
    sizes = {}
    for name, recipe in RECIPES.items():
        with torch.device("meta"):
            model = GPT(recipe.config(4096))
        blocks = sum(p.numel() for p in model.blocks.parameters())
        sizes[name] = (2 * sum(p.numel() for p in model.parameters()), blocks)
    assert sizes["pocket-small"][0] <= 3e6
    assert sum(size for size, _ in sizes.values()) <= 26e6
    assert sizes["pocket-xl"][1] >= 6 * sizes["pocket-small"][1]


def test_the_shipped_family_was_made_by_its_recipes_and_gets_better_with_size() -> None:
    """Each card tells the recipe that is in the package; bits per byte fall, and stay below the 5-gram model's."""
    cards = {name: json.loads((POCKET / name / "card.json").read_text()) for name in RECIPES}
    for name, card in cards.items():
        recipe = json.loads(json.dumps(dataclasses.asdict(RECIPES[name])))
        assert {field: card[field] for field in recipe} == recipe
        assert card["bits_per_byte"] < card["five_gram_bits_per_byte"]
    bits = [card["bits_per_byte"] for card in cards.values()]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] <= 1.55
    assert bits[-1] <= 1.42


def test_the_5_gram_model_is_a_probability_distribution():
    """Over every possible next token the probabilities behind a context sum to one."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 30, 5000)
    context = train[100:104]
    every = [token_probabilities(train, np.array([*context, token]))[0] for token in range(30)]
    unseen = token_probabilities(train, np.array([*context, 31]))[0]
    assert sum(every) + unseen * ((1 << BITS) - 30) == pytest.approx(1.0)


def test_the_5_gram_model_learns_a_repeated_phrase():
    """A text that repeats is predicted with near certainty; a random one is not."""
    rng = np.random.default_rng(0)
    phrase = np.tile(rng.integers(0, 4096, 50), 40)
    assert token_probabilities(phrase, phrase[:60]).mean() > 0.9
    assert token_probabilities(phrase, rng.integers(0, 4096, 60)).mean() < 0.1
