"""The model that lives in a page of the book: its tokenizer, its weights, its network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pages import ROOT, in_node, load

import onechange as oc
from onechange.classifier.reading import classifier
from onechange.data.messages import load_messages
from onechange.gpt.tokenizer import POCKET_RANKS, tokenizer_for
from onechange.training.build import build as build_model

ASSETS = ROOT / "book" / "_assets"
Script = Callable[..., Any]


@pytest.fixture(scope="module")
def live() -> ModuleType:
    return load("live")


@pytest.fixture(scope="module", params=["node", "chromium"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """Runs JavaScript behind the page's tokenizer and model: ``script(body, data)`` is what ``body`` returns."""
    library = "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("bpe.js", "model.js"))

    def whole(body: str, data: object, before: str) -> str:
        return f"{library}\n{before}\n(async (data) => {{ {body} }})({json.dumps(data)})"

    if request.param == "node":
        folder = tmp_path_factory.mktemp("node")

        def run(body: str, data: object = None, before: str = "") -> Any:
            return in_node(folder / "script.js", whole(body, data, before))

        yield run
        return
    page = request.getfixturevalue("browser").new_page()
    yield lambda body, data=None, before="": page.evaluate(f"{{ {whole(body, data, before)} }}")
    page.close()


# The tokenizer.


def strings(n: int) -> list[str]:
    """Texts of mixed scripts, emoji, white space of every kind, and halves of surrogate pairs."""
    rng = random.Random(123)
    ranges = [
        (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x400, 0x460), (0x5D0, 0x5EB), (0x620, 0x64B),
        (0x904, 0x93A), (0xE01, 0xE3A), (0x1100, 0x1113), (0x3041, 0x3097), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4),
        (0x2000, 0x2070), (0x2190, 0x2200), (0x1D400, 0x1D455), (0x1F300, 0x1F650), (0x1F680, 0x1F6D3),
    ]  # fmt: skip
    odd = [
        *" \t\n\r\0\x1c\x85\u00a0\u2028\u3000\ufeff\u200d\ufe0f\u0301\u1e9e\ufffd²Ⅷ٣",
        "\ud83d",
        "\ude00",
        "'ll",
        "'S",
        "  ",
    ]
    odd += ["👩‍👩‍👧", "🇫🇷", "<|endoftext|>", "http://a.example/?b=1", "   "]
    words = " ".join(load_messages("pocket").train.text[:300]).split(" ")

    def piece() -> str:
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(words) + rng.choice(["", " "])
        if kind < 0.55:
            return rng.choice(odd)
        low, high = rng.choice(ranges)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 5)))

    return ["".join(piece() for _ in range(rng.randint(0, 12))) for _ in range(n)]


def test_tokens_are_tiktokens(script: Script) -> None:
    texts = [*strings(10_000), "", "a" * 3000, "🎉" * 700, " " * 2000 + "x", "\ud83d" * 5]
    encode = tokenizer_for("pocket").encode
    got = script(
        "const t = new Tokenizer(data.ranks); return data.texts.map((text) => t.encode(text));",
        {"ranks": POCKET_RANKS.read_text(), "texts": texts},
    )
    wrong = [(text, encode(text), ids) for text, ids in zip(texts, got, strict=True) if encode(text) != ids]
    assert wrong == []


def test_every_token_can_be_shown(script: Script) -> None:
    from onechange.classifier.reading import show

    tokenizer = tokenizer_for("pocket")
    got = script(
        "const t = new Tokenizer(data); return t.pieces.map((_, token) => t.show(token));", POCKET_RANKS.read_text()
    )
    assert got == [show(tokenizer.decode_token(token)) for token in range(tokenizer.end)]


# The weights.


def test_weights_survive_the_way_to_the_page(live: ModuleType, script: Script) -> None:
    torch.manual_seed(0)
    special = torch.tensor([0.0, -0.0, 65504.0, -65504.0, 2.0**-24, -(2.0**-24), 2.0**-14, 1 / 3])
    tensors = {"a": torch.randn(7, 3), "b": special, "c": 1e-3 * torch.randn(50, 40), "d": 1e-7 * torch.randn(9)}
    got = script(
        "const got = await unpack(data.text, data.shapes);"
        "return Object.entries(got).map(([name, numbers]) => [name, [...numbers]]);",
        {"text": live.packed(tensors), "shapes": {name: list(t.shape) for name, t in tensors.items()}},
    )
    want = {name: t.half().float().flatten().tolist() for name, t in tensors.items()}
    assert dict(got) == want


def test_no_character_of_the_weights_is_one_that_a_script_may_not_hold(live: ModuleType) -> None:
    text = live.packed({"all": torch.arange(-30000, 30000).float()})
    assert set(text) & set('\0\n\r"\\') == set()
    assert len(text.encode()) < len(text) * 1.06


def test_what_is_rounded_to_few_bits_takes_less_room(live: ModuleType) -> None:
    torch.manual_seed(0)
    base = {"w": torch.randn(200, 100), "b": torch.randn(100), "same": torch.ones(3)}
    state = base | {"w": base["w"] + 0.1 * torch.randn(200, 100), "b": base["b"] + 0.1, "head": torch.randn(2, 9)}
    sizes = {}
    for bits in (6, 10):
        change = live.added(state, base, bits)
        assert set(change) == {"w", "b", "head"}
        off = (live.summed(base, change)["w"] - state["w"]).abs().max()
        assert off <= 2.0**-bits
        sizes[bits] = len(live.packed(change))
    assert sizes[6] < 0.8 * sizes[10]


# The network.


def as_if_trained(e: oc.Experiment, seed: int, device: str, store: object) -> oc.Result:
    """What ``onechange.run`` gives back, but the training is noise on the weights that would be trained."""
    model = build_model(e, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.02 * torch.randn(p.shape, generator=generator)
    result = oc.Result(e.resolved(), 0, 0, 40, ("ham", "spam"), {}, model=model, final={"test": 0.5})
    result.test_probabilities = classifier(result).probabilities(TEXTS).tolist()
    return result


TEXTS = list(load_messages("pocket").test.text[:30])
ANSWERS = """
const models = {}, trunks = {}, tensors = {};
const tokenizer = new Tokenizer(LIVE.ranks);
for (const name in LIVE.parts) tensors[name] = await unpack(PARTS[name], LIVE.parts[name].tensors);
for (const v of LIVE.variants) {
  const all = sum(v.parts.map((name) => tensors[name]));
  trunks[[v.trunk, v.causal]] ??= new Trunk(all, LIVE.config, v.causal);
  models[v.row] = new Classifier(all, LIVE.config, v, trunks[[v.trunk, v.causal]]);
}
const { max_length, end } = LIVE.config;
const ask = (row, text, length) => {
  const own = tokenizer.encode(text).slice(0, max_length);
  return models[row].spam([...own, ...Array(length - own.length).fill(end)], own.length);
};
"""


@pytest.fixture(scope="module")
def made(live: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, of models that were not really trained."""
    folder = tmp_path_factory.mktemp("live")
    live.make(folder, TEXTS, as_if_trained)
    return folder


@pytest.fixture(scope="module")
def data(made: Path) -> str:
    """The page's files, as one script."""
    return "".join(path.read_text() for path in sorted(made.glob("*.js")))


def test_every_row_answers_as_pytorch_does(made: Path, data: str, script: Script) -> None:
    want = json.loads((made / "pytorch.json").read_text())
    body = (
        ANSWERS + "return Object.fromEntries(LIVE.variants.map(({ row }) => [row, data.map((t) => ask(row, t, 40))]));"
    )
    got = script(body, TEXTS, data)
    assert list(got) == [str(row) for row in (1, 2, 3, 5, 10, 16, 17)]
    for row, answers in want.items():
        np.testing.assert_allclose(got[row], answers, atol=0.005, err_msg=f"row {row}")
        assert np.ptp(answers) > 0.3, f"row {row} says the same of every message: nothing was tested"


def test_what_a_model_remembers_does_not_change_its_answer(data: str, script: Script) -> None:
    """Messages that share beginnings, padding that comes and goes: as if each were the first."""
    sequence = [("Free cash now", 30), ("Free cash now", 12), ("Free cash", 12), ("Free cash now", 30), ("Now", 8)]
    body = (
        ANSWERS
        + """
      const rows = LIVE.variants.map(({ row }) => row);
      const asked = data.map(([text, length]) => rows.map((row) => ask(row, text, length)));
      const fresh = data.map(([text, length]) => rows.map((row) => {
        const forget = ({ trunk, last }) => { for (const block of [...trunk.blocks, last]) block.tokens = []; };
        forget(models[row]);
        return ask(row, text, length);
      }));
      return [asked, fresh];
    """
    )
    asked, fresh = script(body, sequence, data)
    assert asked == fresh


def test_padding_moves_row_1_and_leaves_row_16(data: str, script: Script) -> None:
    body = ANSWERS + "return [1, 16, 2].map((row) => [10, 25, 60, 80].map((length) => ask(row, data, length)));"
    last, own, first = script(body, "Win a free prize", data)
    assert len(set(last)) == 4
    assert len(set(own)) == 1
    assert len(set(first)) == 1


def test_attention_is_the_packages(made: Path, data: str, script: Script, live: ModuleType) -> None:
    from onechange.classifier.reading import read

    text = "Are you free? Call 0800 now!"
    body = (
        ANSWERS
        + """
      return data.rows.map((row) => {
        const own = tokenizer.encode(data.text);
        ask(row, data.text, 40);
        return [0, 1, 2, 3].map((block) => [...models[row].looks(block, null, own.length, 40)]);
      });
    """
    )
    rows = [1, 2, 16, 17]
    for row, got in zip(rows, script(body, {"rows": rows, "text": text}, data), strict=True):
        e = oc.ROWS[row].at("pocket").but(precision="fp32")
        want = read(classifier(as_if_trained(e, 123, "cpu", None)), text).attention
        np.testing.assert_allclose(got, want, atol=0.01, err_msg=f"row {row}")


def test_what_is_there_is_not_made_again(live: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(live, "make", lambda folder, texts: made.append(folder))
    folder = tmp_path / "live"
    live.main(folder)
    live.main(folder)
    assert len(made) == 1
    monkeypatch.setattr(live, "digest", lambda: "another package")
    live.main(folder)
    assert len(made) == 2
