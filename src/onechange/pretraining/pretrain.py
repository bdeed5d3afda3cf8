"""Pretrain a small GPT on plain text: how the pocket family was made, and how to make a fifth.

Everything that decides the result is in a :class:`Recipe` and the text. The order of the text is a
function of the seed and the pass alone, so a run that was stopped goes on where it was.

The matrices of the blocks are trained by Muon (Jordan et al., 2024, *Muon: An optimizer for hidden
layers in neural networks*), everything else by AdamW (Loshchilov and Hutter, 2019), at a rate that
is constant after a short warm-up and falls to zero over the last part (Hu et al., 2024, *MiniCPM*).
"""

from __future__ import annotations

import json
import lzma
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tiktoken
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..gpt.layouts import layout_of
from ..gpt.model import GPT, GPTConfig, init_gpt2_
from ..gpt.tokenizer import END, POCKET_RANKS, pocket_encoding, read_ranks, to_json
from ..gpt.weights import MODELS, load_weights
from ..support.cache import sha256
from ..support.errors import UsageError
from ..support.files import write_atomically
from ..training.device import Autocast, choose_device, faster_precision
from .ngram import token_probabilities

CPU = torch.device("cpu")

VALIDATE_EVERY = 200  # steps


@dataclass(frozen=True)
class Recipe:
    """One size and how it is pretrained. Rates are those of the constant phase."""

    n_layers: int
    emb_dim: int
    n_heads: int
    passes: float = 2.0  # over the text
    batch_tokens: int = 8192
    lengths: tuple[int, ...] = (160, 160, 160, 512)  # tokens in a sequence; every entry gets an equal share
    context_length: int = 512
    muon_lr: float = 0.02
    adamw_lr: float = 3e-3
    warmup: int = 50  # steps
    decay: float = 0.5  # the last part of the steps, over which the rate falls to zero
    seed: int = 123

    def config(self, vocab_size: int) -> GPTConfig:
        return GPTConfig(vocab_size, self.context_length, self.emb_dim, self.n_heads, self.n_layers)


RECIPES = {
    name: Recipe(model.shape.n_layers, model.shape.emb_dim, model.shape.n_heads)
    for name, model in MODELS.items()
    if model.scale == "pocket"
}
"""The pocket family's, by size; the shapes stand in ``weights.MODELS``."""


class Corpus:
    """Documents (separated by blank lines) as one array of tokens.

    Args:
        files: text files, UTF-8, plain or ``.xz``.
        encoding: the tokenizer.
    """

    def __init__(self, files: list[Path], encoding: tiktoken.Encoding) -> None:
        documents = [doc for file in files for doc in read_text(file).split("\n\n") if doc.strip()]
        encoded = encoding.encode_ordinary_batch(documents, num_threads=4)
        self.end = encoding.encode_single_token(END)
        self.newline = encoding.encode_single_token("\n")
        self.documents = [np.array([*ids, self.end], dtype=np.uint16) for ids in encoded]
        self.n_tokens = sum(map(len, self.documents))

    def stream(self, rng: np.random.Generator) -> np.ndarray:
        """All documents in a new order, across sources, each closed by ``<|endoftext|>``."""
        return np.concatenate([self.documents[i] for i in rng.permutation(len(self.documents))])

    def batches(self, recipe: Recipe, epoch: int) -> Iterator[np.ndarray]:
        """One pass over the text as batches ``(B, T + 1)`` of about ``batch_tokens`` tokens.

        Each length gets its share of the stream; every sequence starts where a line or a document
        does, since a message's first token stands at position 0.
        """
        rng = np.random.default_rng([recipe.seed, epoch])
        stream = self.stream(rng)
        starts = np.flatnonzero((stream[:-1] == self.newline) | (stream[:-1] == self.end)) + 1
        batches = []
        for part, T in zip(np.array_split(np.arange(len(stream)), len(recipe.lengths)), recipe.lengths, strict=True):
            wanted = np.arange(part[0], part[-1] - T, T)
            begin = starts[np.clip(np.searchsorted(starts, wanted, side="right") - 1, 0, None)]
            begin = rng.permutation(np.where(wanted - begin < T // 2, begin, wanted))
            B = max(1, recipe.batch_tokens // T)
            batches += [begin[i : i + B, None] + np.arange(T + 1) for i in range(0, len(begin) - B + 1, B)]
        for i in rng.permutation(len(batches)):
            yield stream[batches[i]].astype(np.int64)

    def steps_per_pass(self, recipe: Recipe) -> int:
        return sum(1 for _ in self.batches(recipe, 0))


def read_text(file: Path) -> str:
    """A UTF-8 text file, plain or ``.xz``."""
    if file.suffix == ".xz":
        return lzma.decompress(file.read_bytes()).decode("utf-8")
    return file.read_text(encoding="utf-8")


def rate(step: int, total: int, recipe: Recipe) -> float:
    """The share of the full learning rate at a step: up, constant, down to zero."""
    up = (step + 1) / recipe.warmup
    down = (total - step) / max(1.0, recipe.decay * total)
    return max(0.0, min(1.0, up, down))


def optimizers(model: GPT, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms and biases."""
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"pretraining needs torch 2.9 or newer for its Muon optimizer, this is {torch.__version__}")
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, momentum=0.95, weight_decay=0.0)
    adamw = torch.optim.AdamW(rest, lr=recipe.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [muon, adamw]


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy in nats of every next token of ``tokens`` ``(B, T + 1)``."""
    logits = model(tokens[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def token_stream(text: str, encoding: tiktoken.Encoding, max_tokens: int | None = None) -> tuple[list[int], int]:
    """A text as ``<|endoftext|>``, its documents each closed by one; and the bytes these tokens stand for."""
    end = encoding.encode_single_token(END)
    ids = [end] + [i for doc in text.split("\n\n") for i in (*encoding.encode_ordinary(doc), end)]
    ids = ids[: max_tokens or len(ids)]
    return ids, len(encoding.decode_bytes([i for i in ids if i != end])) + 2 * ids.count(end)


@torch.no_grad()
def bits_per_byte(model: GPT, text: str, encoding: tiktoken.Encoding, max_tokens: int | None = None) -> float:
    """Bits the model needs for a byte of ``text``, in windows of its context length.

    Every token is predicted once; the first of a window sees only the last of the one before it.
    """
    ids, n_bytes = token_stream(text, encoding, max_tokens)
    T, nats, device = model.config.context_length, 0.0, next(model.parameters()).device
    for i in range(0, len(ids) - 1, 16 * T):
        rows = [ids[j : j + T + 1] for j in range(i, min(i + 16 * T, len(ids) - 1), T)]
        for same in (rows[:-1], rows[-1:]):  # the last window may be shorter
            if same:
                tokens = torch.tensor(same, device=device)
                nats += next_token_loss(model, tokens).item() * tokens[:, 1:].numel()
    return nats / math.log(2) / n_bytes


def save_checkpoint(path: Path, model: GPT, opts: list[torch.optim.Optimizer], curve: list[dict]) -> None:
    """Everything a stopped run needs, as safetensors: weights, optimizer state, the curve so far."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for o, opt in enumerate(opts):
        for i, state in opt.state_dict()["state"].items():
            tensors |= {f"opt{o}.{i}.{key}": torch.as_tensor(value) for key, value in state.items()}
    write_atomically(path, lambda tmp: save_file(tensors, tmp, {"curve": json.dumps(curve)}))


def load_checkpoint(path: Path, model: GPT, opts: list[torch.optim.Optimizer]) -> list[dict]:
    """Restore what :func:`save_checkpoint` wrote, and return the curve."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        curve = json.loads(file.metadata()["curve"])
    model.load_state_dict({name[6:]: t for name, t in tensors.items() if name.startswith("model.")})
    for o, opt in enumerate(opts):
        states: dict[int, dict[str, Tensor]] = {}
        for name, t in tensors.items():
            if name.startswith(f"opt{o}."):
                _, i, key = name.split(".")
                states.setdefault(int(i), {})[key] = t
        opt.load_state_dict(opt.state_dict() | {"state": states})
    return curve


def pretrain(
    recipe: Recipe,
    corpus: Corpus,
    encoding: tiktoken.Encoding,
    valid: str,
    out: Path,
    *,
    start: Path | None = None,
    precision: str = "fp32",
    compile: bool = True,
    device: torch.device = CPU,
) -> tuple[GPT, list[dict]]:
    """Train one size; keep ``checkpoint.safetensors`` in ``out`` as it goes, and go on from it.

    Returns the model in float32 and its curve: records of step, tokens, training loss (nats a
    token), validation bits a byte (of the first 40,000 tokens; of all at the end).
    """
    torch.manual_seed(recipe.seed)
    model = init_gpt2_(GPT(recipe.config(encoding.n_vocab)))
    if start is not None:
        load_weights(model, start)
    model.to(device)
    opts = optimizers(model, recipe)
    checkpoint = out / "checkpoint.safetensors"
    curve = load_checkpoint(checkpoint, model, opts) if checkpoint.exists() else []
    done = curve[-1]["step"] if curve else 0
    per_pass = corpus.steps_per_pass(recipe)
    total = round(recipe.passes * per_pass)
    loss_of = torch.compile(next_token_loss, dynamic=False) if compile else next_token_loss
    order = (b for epoch in range(done // per_pass, math.ceil(recipe.passes)) for b in corpus.batches(recipe, epoch))
    for _ in range(done % per_pass):
        next(order)

    running, n, autocast = torch.zeros((), device=device), 0, Autocast(precision, device)
    bar = tqdm(total=total * recipe.batch_tokens, initial=done * recipe.batch_tokens, unit="tok", unit_scale=True)
    for step in range(done, total):
        share = rate(step, total, recipe)
        for opt, lr in zip(opts, (recipe.muon_lr, recipe.adamw_lr), strict=True):
            for group in opt.param_groups:
                group["lr"] = lr * share
        with autocast():
            loss = loss_of(model, torch.from_numpy(next(order)).to(device))
        loss.backward()
        for opt in opts:
            opt.step()
            opt.zero_grad()
        running, n = running + loss.detach(), n + 1
        bar.update(recipe.batch_tokens)
        last = step + 1 == total
        if (step + 1) % VALIDATE_EVERY == 0 or last:
            bpb = bits_per_byte(model, valid, encoding, None if last else 40_000)
            curve.append(
                {"step": step + 1, "tokens": (step + 1) * recipe.batch_tokens, "loss": running.item() / n, "bpb": bpb}
            )
            running, n = torch.zeros((), device=device), 0
            bar.set_postfix(loss=f"{curve[-1]['loss']:.3f}", bits_per_byte=f"{bpb:.4f}")
            save_checkpoint(checkpoint, model, opts, curve)
            if share == 1.0:  # from here a longer run can go on: change the recipe's passes
                save_checkpoint(out / "constant.safetensors", model, opts, curve)
    bar.close()
    return model, curve


def main(
    recipe: Recipe,
    text: list[Path],
    valid: Path,
    out: Path,
    *,
    start: Path | None,
    precision: str,
    compile: bool,
    device: str,
) -> dict:
    """Pretrain and write a model folder: ``model.safetensors`` (float16), ``config.json``, ``card.json``.

    Returns what went into the card: the recipe, the text's size and hash, the curve, bits per byte
    beside the 5-gram model's.

    Raises:
        UsageError: if a text is missing or too short for a single batch.
    """
    place, encoding = choose_device(device), pocket_encoding()
    for file in [*text, valid]:
        if not file.is_file():
            raise UsageError(f"{file} is not there")
    corpus, held_out = Corpus(text, encoding), read_text(valid)
    if corpus.steps_per_pass(recipe) == 0:
        raise UsageError(f"the text has {corpus.n_tokens} tokens, not enough for batches of {recipe.batch_tokens}")
    chosen = faster_precision(place) if precision == "auto" else precision
    print(
        f"{corpus.n_tokens:,} tokens, {corpus.steps_per_pass(recipe)} steps a pass, {chosen} on {place}",
        file=sys.stderr,
    )
    out.mkdir(parents=True, exist_ok=True)
    model, curve = pretrain(
        recipe, corpus, encoding, held_out, out, start=start, precision=chosen, compile=compile, device=place
    )
    card = asdict(recipe) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus_tokens": corpus.n_tokens,
        "corpus_sha256": [sha256(file) for file in text],
        "precision": chosen,
        "torch": torch.__version__,
        "bits_per_byte": curve[-1]["bpb"],
        "five_gram_bits_per_byte": five_gram_bits_per_byte(corpus, held_out, encoding),
        "curve": curve,
    }
    weights = {name: tensor.half() for name, tensor in layout_of(model.config).theirs(model).items()}
    config = layout_of(model.config).config(model.config, corpus.end)
    write_atomically(out / "model.safetensors", lambda tmp: save_file(weights, tmp, {"format": "pt"}))
    write_atomically(out / "config.json", lambda tmp: Path(tmp).write_text(json.dumps(config, indent=1) + "\n"))
    write_atomically(out / "tokenizer.json", lambda tmp: Path(tmp).write_text(to_json(read_ranks(POCKET_RANKS))))
    write_atomically(out / "card.json", lambda tmp: Path(tmp).write_text(json.dumps(card, indent=1) + "\n"))
    return card


def five_gram_bits_per_byte(corpus: Corpus, valid: str, encoding: tiktoken.Encoding) -> float:
    """What a 5-gram model of the same text needs for a byte of the same held-out text."""
    ids, n_bytes = token_stream(valid, encoding)
    lead = [corpus.end] * 3  # with the one that is there already, four tokens before the first
    p = token_probabilities(np.concatenate(corpus.documents), np.array([*lead, *ids]))
    return float(-np.log2(p).sum() / n_bytes)
