"""Checkpoints as they are met: GPT-2 whole and in shards, in half precision, under other people's names, and what is no
GPT-2 at all. All are made here, of one small model with random weights, which Hugging Face computes too.

Thought of: with and without ``transformer.``, fp16, bf16, shards (one missing, outside, cut; an index that lies), a
head that classifies, adapters, the source book's names as safetensors and as ``.pth`` (its own training checkpoint
too), nanoGPT's (padded, compiled, without biases), ``pytorch_model.bin``; a pickle that runs code, Git LFS' pointer, a
web page, peft, GGUF, ONNX, TensorFlow, Flax, sentence-transformers, BERT, quantised; no heads said; another language's
tokenizer, in one file and in two.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from toys import hf_tensors

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.gpt.checkpoint import find
from onechange.gpt.tokenizer import GPT2_VOCABULARIES, tokenizer_for

transformers = pytest.importorskip("transformers")

C, HEADS, BLOCKS, CONTEXT, V = 768, 12, 1, 16, 97
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def plain() -> Tensors:
    """A GPT-2 of one block and GPT-2 small's width, from which its heads can be told, under Hugging Face's names."""
    return {name: torch.from_numpy(x) for name, x in hf_tensors((C, HEADS, BLOCKS), V, CONTEXT, 0.02).items()}


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(V, (2, CONTEXT), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def hidden(tensors: Tensors, ids: Tensor) -> Tensor:
    """What Hugging Face's GPT-2 computes with these tensors."""
    sizes = {"n_positions": CONTEXT, "n_embd": C, "n_head": HEADS, "n_layer": BLOCKS}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    theirs = transformers.GPT2Model(transformers.GPT2Config(vocab_size=len(tensors["wte.weight"]), **sizes, **ends))
    missing, _ = theirs.eval().load_state_dict(tensors, strict=False)
    assert not [name for name in missing if not name.endswith(("attn.bias", "masked_bias"))]
    return theirs(ids).last_hidden_state


@torch.no_grad()
def ours(path: Path, ids: Tensor) -> Tensor:
    """What this package computes with a file or a folder."""
    model = find(str(path)).load().eval()
    return model.final_norm(model.run(model.embed(ids)))


@pytest.fixture(scope="module")
def expected(plain: Tensors, ids: Tensor) -> Tensor:
    return hidden(plain, ids)


def book(tensors: Tensors) -> Tensors:
    """The source book's names: linear weights turned, query, key and value apart."""
    new = {"tok_emb.weight": tensors["wte.weight"], "pos_emb.weight": tensors["wpe.weight"]}
    norms = {"ln_f": "final_norm"}
    for i in range(BLOCKS):
        to, at = f"trf_blocks.{i}.", f"h.{i}."
        norms |= {f"{at}ln_1": f"{to}norm1", f"{at}ln_2": f"{to}norm2"}
        layers = {"attn.c_proj": "att.out_proj", "mlp.c_fc": "ff.layers.0", "mlp.c_proj": "ff.layers.2"}
        for kind in ("weight", "bias"):
            thirds = tensors[f"{at}attn.c_attn.{kind}"].chunk(3, -1)
            for name, part in zip(("query", "key", "value"), thirds, strict=True):
                new[f"{to}att.W_{name}.{kind}"] = part.T if kind == "weight" else part
            for theirs, own in layers.items():
                x = tensors[f"{at}{theirs}.{kind}"]
                new[f"{to}{own}.{kind}"] = x.T if kind == "weight" else x
        new[f"{to}att.mask"] = torch.ones(CONTEXT, CONTEXT).triu(1)
    for theirs, own in norms.items():
        new |= {f"{own}.scale": tensors[f"{theirs}.weight"], f"{own}.shift": tensors[f"{theirs}.bias"]}
    new["out_head.weight"] = tensors["wte.weight"].clone()
    return {name: x.contiguous() for name, x in new.items()}


def nano(tensors: Tensors, before: str = "transformer.") -> Tensors:
    """nanoGPT's: Hugging Face's names, linear weights turned."""
    turned = {n: x.T.contiguous() if n.startswith("h.") and x.ndim == 2 else x for n, x in tensors.items()}
    return {before + name: x for name, x in turned.items()} | {"lm_head.weight": tensors["wte.weight"].clone()}


def in_folder(folder: Path, tensors: Tensors, name: str = "model.safetensors", **words: Any) -> Path:
    """A folder with a config.json, where other words may stand."""
    sizes = {"vocab_size": V, "n_positions": CONTEXT, "n_embd": C, "n_head": HEADS, "n_layer": BLOCKS}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"} | sizes | words))
    save_file(tensors, folder / name) if name.endswith(".safetensors") else torch.save(tensors, folder / name)
    return folder


def in_shards(folder: Path, tensors: Tensors) -> Path:
    names, files = sorted(tensors), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {name: files[i % 2] for i, name in enumerate(names)}
    in_folder(folder, {name: tensors[name] for name in names if where[name] == files[0]}, files[0])
    save_file({name: tensors[name] for name in names if where[name] == files[1]}, folder / files[1])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def put(file: Path, content: Any) -> Path:
    save_file(content, file) if file.suffix == ".safetensors" else torch.save(content, file)
    return file


def prefixed(tensors: Tensors, before: str) -> Tensors:
    return {before + name: x for name, x in tensors.items()}


LAYOUTS: dict[str, Callable[[Path, Tensors], Path]] = {
    "plain": in_folder,
    "prefixed": lambda p, t: in_folder(p, prefixed(t, "transformer.")),
    "shards": in_shards,
    "a pickle of Hugging Face's": lambda p, t: in_folder(p, t, "pytorch_model.bin"),
    "no configuration": lambda p, t: put(p / "model.safetensors", t),
    "a named file beside another": lambda p, t: put(
        in_folder(p, {"wte.weight": torch.ones(1)}) / "mine.safetensors", t
    ),
    "book": lambda p, t: put(p / "gpt2-small.safetensors", book(t)),
    "book, pickled": lambda p, t: put(p / "gpt2-small.pth", book(t)),
    "book, a folder": lambda p, t: put(p / "gpt2-small.pth", book(t)).parent,
    "book, its optimizer beside it": lambda p, t: put(
        p / "model_and_optimizer.pth", {"model_state_dict": book(t), "optimizer_state_dict": {"state": {}}}
    ),
    "book with a configuration": lambda p, t: in_folder(p, book(t), "gpt2-small.pth"),
    "nanoGPT": lambda p, t: put(p / "ckpt.pt", {"model": nano(t), "model_args": {"n_head": HEADS}}),
    "nanoGPT, compiled, a folder": lambda p, t: (
        put(
            p / "ckpt.pt", {"model": nano(t, "_orig_mod.transformer."), "model_args": {"n_head": HEADS}, "iter_num": 5}
        ).parent
    ),
    "nanoGPT as safetensors": lambda p, t: put(p / "nano.safetensors", nano(t)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_model_in_every_layout(
    layout: str, plain: Tensors, ids: Tensor, expected: Tensor, tmp_path: Path
) -> None:
    """The hidden states are Hugging Face's."""
    torch.testing.assert_close(ours(LAYOUTS[layout](tmp_path, plain), ids), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(kind: torch.dtype, plain: Tensors, ids: Tensor, tmp_path: Path) -> None:
    """The numbers that are stored, as float32."""
    half = {name: x.to(kind) for name, x in plain.items()}
    wanted = hidden({name: x.float() for name, x in half.items()}, ids)
    torch.testing.assert_close(ours(in_folder(tmp_path, half), ids), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["book", "nanoGPT"])
def test_biases_that_are_not_stored(layout: str, plain: Tensors, ids: Tensor, tmp_path: Path) -> None:
    """They are zero, where all of a kind are missing: nanoGPT's default, the book's ``qkv_bias=False``."""
    bare = {n: x * 0 if n.endswith("c_attn.bias" if layout == "book" else ".bias") else x for n, x in plain.items()}
    stored = book(bare) if layout == "book" else nano(bare)
    ends = ("W_query.bias", "W_key.bias", "W_value.bias") if layout == "book" else (".bias",)
    path = put(tmp_path / "model.pth", {name: x for name, x in stored.items() if not name.endswith(ends)})
    torch.testing.assert_close(ours(path, ids), hidden(bare, ids), rtol=1e-5, atol=1e-5)


def test_a_padded_vocabulary_is_read_with_gpt2s_tokenizer(uci_cache: Path, tmp_path: Path) -> None:
    """nanoGPT fills GPT-2's vocabulary up to 50,304."""
    assert 50304 in GPT2_VOCABULARIES
    assert tokenizer_for("folder", tmp_path, 50304).encode("hello") == tokenizer_for("gpt2").encode("hello")


# -- shards --------------------------------------------------------------------------------------------------------


def spoil_index(name: str, shard: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        where = json.loads(index.read_text())["weight_map"]
        index.write_text(json.dumps({"weight_map": where | {name: shard}}))

    return spoil


SHARDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda p: (p / "model-00002-of-00002.safetensors").unlink(), "model-00002-of-00002.safetensors is not"),
    "cut": (lambda p: (p / "model-00002-of-00002.safetensors").write_bytes(b"\x00" * 99), "00002-of.*truncated"),
    "above": (spoil_index("wte.weight", "../secret.safetensors"), "outside the folder"),
    "absolute": (spoil_index("wte.weight", "/etc/passwd"), "outside the folder"),
    "an index that lies": (spoil_index("more.weight", "model-00001-of-00002.safetensors"), "has no tensor more.weight"),
    "no index": (lambda p: (p / "model.safetensors.index.json").write_text("{}"), "not an index"),
}


@pytest.mark.parametrize("fault", SHARDS)
def test_shards_that_cannot_be_read(fault: str, plain: Tensors, tmp_path: Path) -> None:
    spoil, words = SHARDS[fault]
    spoil(in_shards(tmp_path, plain))
    with pytest.raises(UsageError, match=words):
        find(str(tmp_path)).load()


def test_the_digest_covers_every_shard(plain: Tensors, tmp_path: Path) -> None:
    """Another number in any of them is another model, and so is another index."""
    found = {find(str(in_shards(tmp_path, plain))).digest}
    for file in sorted(tmp_path.glob("model-*.safetensors")):
        tensors = load_file(file)
        next(iter(tensors.values())).view(-1)[0] += 1
        save_file(tensors, file)
        found.add(find(str(tmp_path)).digest)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text() + "\n")
    assert len(found | {find(str(tmp_path)).digest}) == 4


# -- what is said aloud ----------------------------------------------------------------------------------------------

ALOUD: dict[str, tuple[Callable[[Path, Tensors], Path], str]] = {
    "a score": (
        lambda p, t: in_folder(p, prefixed(t, "transformer.") | {"score.weight": torch.ones(3, C)}),
        "score.weight of 3 classes is not used",
    ),
    "the book's classifier": (
        lambda p, t: put(p / "review_classifier.pth", book(t) | {"out_head.weight": torch.ones(2, C)}),
        "out_head.weight of 2 classes is not used",
    ),
    "adapters": (lambda p, t: in_folder(p, t | {"lora.blocks.0.attn.out.A": torch.ones(1)}), "adapters are not used"),
    "nanoGPT": (lambda p, t: put(p / "ckpt.pt", nano(t)), "GELU"),
}


@pytest.mark.parametrize("case", ALOUD)
def test_what_is_not_used_is_said_once(
    case: str, plain: Tensors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line on standard error, however often the model is loaded."""
    make, words = ALOUD[case]
    for _ in range(2):
        find(str(make(tmp_path, plain))).load()
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


# -- what is refused -------------------------------------------------------------------------------------------------

RAN = []


class Code:
    """Runs when a pickle of it is read."""

    def __reduce__(self) -> tuple:
        return RAN.append, ("code",)


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return make


def quantised(folder: Path) -> Path:
    tensors = {name: torch.from_numpy(x) for name, x in hf_tensors((C, HEADS, BLOCKS), V, CONTEXT).items()}
    tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"].to(torch.int8)
    return in_folder(folder, tensors)


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n"
BERT = '{"model_type": "bert"}'
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "code": (lambda p: put(p / "model.pth", {"model": Code()}), "needs code"),
    "no tensors": (lambda p: put(p / "model.pth", [1, 2]), "no tensors by name"),
    "an empty pickle": (lambda p: text("model.pth", "")(p) / "model.pth", "cannot be read as PyTorch's"),
    "a pointer": (lambda p: text("model.safetensors", LFS)(in_folder(p, {})), "pointer of Git LFS"),
    "a pointer for a pickle": (lambda p: text("gpt2.pth", LFS)(p) / "gpt2.pth", "pointer of Git LFS"),
    "a pointer for the configuration": (text("config.json", LFS), "pointer of Git LFS"),
    "a web page": (lambda p: text("model.safetensors", "<!DOCTYPE html><p>404")(in_folder(p, {})), "web page"),
    "peft": (text("adapter_config.json", "{}"), "LoRA adapter of peft"),
    "GGUF": (lambda p: text("m.gguf", b"GGUF\x03")(p) / "m.gguf", "GGUF"),
    "a folder of GGUF": (text("m.gguf", b"GGUF\x03"), "GGUF"),
    "ONNX": (text("model.onnx", "x"), "ONNX"),
    "TensorFlow": (text("tf_model.h5", "x"), "TensorFlow"),
    "OpenAI's": (text("124M/hparams.json", "{}"), "OpenAI's GPT-2"),
    "Flax": (text("flax_model.msgpack", "x"), "Flax"),
    "BERT": (text("config.json", BERT), "model_type is 'bert'"),
    "sentence-transformers": (lambda p: text("modules.json", "[]")(text("config.json", BERT)(p)), "of sentences"),
    "quantised, said": (lambda p: in_folder(p, {}, quantization_config={"bits": 4}), "quantization_config"),
    "quantised": (quantised, "int8"),
    "BERT's tensors": (lambda p: put(p / "b.safetensors", {"bert.x": torch.ones(1)}), "it holds bert.x"),
    "one folder too high": (text("snapshot/config.json", BERT), "snapshot has: name that"),
    "several": (lambda p: put(put(p / "a.pth", {}).parent / "b.pth", {}).parent, "a.pth, b.pth: name one"),
    "nothing": (lambda p: p, "config.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_gpt2_is_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2, and no code of a pickle runs."""
    make, words = REFUSED[case]
    path = make(tmp_path)
    flags = ["--dataset", "pocket", "--num_epochs", "1", "--trainable_layers", "last_layer"]
    with pytest.raises(UsageError, match=words):
        find(str(path)).load()
    assert main(["run", "--model_size", str(path), *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), RAN) == ("", 1, [])
    assert len(err) < 400


def test_heads_that_nobody_can_tell(tmp_path: Path) -> None:
    """The refusal gives the words of the config.json that is wanted, and with it the file is read."""
    tensors = {name: torch.from_numpy(x) for name, x in hf_tensors((32, 4, 2), V, CONTEXT).items()}
    path = put(tmp_path / "ckpt.pt", {"model": nano(tensors), "model_args": {}})
    with pytest.raises(UsageError, match="how many heads") as caught:
        find(str(path))
    words = str(caught.value).partition("put ")[2].rpartition(" there")[0]
    (tmp_path / "config.json").write_text(words.replace("...", "4"))
    assert find(str(path)).load().config.n_layers == 2


# -- tokenizers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def another_language(tokenizer_json: str, tmp_path: Path) -> Path:
    """Another language's GPT-2: the size of GPT-2's vocabulary, and a tokenizer of its own."""
    in_folder(tmp_path, {}, vocab_size=50257)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json)
    return tmp_path


def test_a_folders_own_tokenizer_is_used(another_language: Path) -> None:
    """Offline too: nothing is asked for."""
    found = find(str(another_language))
    assert found.tokenizer_is_here
    assert found.tokenizer.encode("hello there") == tokenizer_for("pocket").encode("hello there")


def test_the_older_pair_of_files(another_language: Path, tmp_path: Path) -> None:
    """``vocab.json`` and ``merges.txt`` give the ids that their ``tokenizer.json`` gave; one alone is none."""
    words = json.loads((another_language / "tokenizer.json").read_text())
    one, e = find(str(another_language)).tokenizer, Experiment(str(another_language), dataset="pocket")
    (another_language / "tokenizer.json").unlink()
    vocab = words["model"]["vocab"] | {"<|endoftext|>": 4095}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    assert not find(str(another_language)).tokenizer_is_here
    pairs = [m if isinstance(m, str) else " ".join(m) for m in words["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")
    two = e.checkpoint.tokenizer
    assert e.checkpoint.tokenizer_is_here
    for line in ("Don't say  it's 42 o'clock!\n", "日本語 🎉 café"):
        assert two.encode(line) == one.encode(line)
    assert two.end == one.end == 4095
    folder = shutil.copytree(another_language, tmp_path / "copy")
    (folder / "tokenizer.json").write_text(two.json)
    assert tokenizer_for("folder", folder, 50257).encode("a text") == one.encode("a text")


def test_another_word_for_the_end(another_language: Path) -> None:
    """A tokenizer without GPT-2's end mark has the one that ``config.json`` names; without one it is refused."""
    file = another_language / "tokenizer.json"
    file.write_text(file.read_text().replace("<|endoftext|>", "</s>"))
    with pytest.raises(UsageError, match="eos_token_id"):
        _ = find(str(another_language)).tokenizer
    in_folder(another_language, {}, vocab_size=50257, eos_token_id=4095)
    assert find(str(another_language)).tokenizer.end == 4095
