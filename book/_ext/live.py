"""Make what the page "A model in the page" reads: the weights of a few finetuned rows, as scripts.

A page that is opened from the disk may load scripts and nothing else, so each part of the weights is
text in a script of its own under ``book/_assets/live``. A row is stored as what finetuning added to the
pretrained weights; those are stored once. ``index.js`` says what there is, and ``pytorch.json`` holds
PyTorch's answers for the pocket test set, which a test compares the page with. What was made from the
same package is left alone.

    python book/_ext/live.py
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

import onechange as oc
from onechange.classifier.reading import classifier
from onechange.classifier.saved import Classifier
from onechange.data.baselines import run_baseline
from onechange.data.messages import Messages, load_messages
from onechange.experiment.rows import TABLE
from onechange.gpt.tokenizer import POCKET_RANKS, tokenizer_for
from onechange.training.build import frozen_blocks, trunk
from onechange.training.store import PrefixStore

sys.path.insert(0, str(Path(__file__).parent))
from fresh import digest, remake

LIVE = Path(__file__).parents[1] / "_assets" / "live"
ROWS = (1, 2, 3, 5, 10, 16, 17)
AT_ONCE = (1, 3, 16)  # loaded with the page, the others when they are asked for
SHARED = "pretrained"
COUNTED = "0c"
WITHIN = 0.004  # how far rounding the weights may move a probability, on any test message

State = dict[str, Tensor]


def packed(tensors: State) -> str:
    """Tensors as text: fp16, low bytes before high ones, compressed, seven bits a character."""
    halves = np.concatenate([tensor.numpy().astype(np.float16).ravel() for tensor in tensors.values()])
    planes = halves.astype("<f2").view(np.uint8).reshape(-1, 2).T.tobytes()
    squeeze = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    bits = np.unpackbits(np.frombuffer(squeeze.compress(planes) + squeeze.flush(), np.uint8))
    septets = np.packbits(np.pad(bits, (0, -len(bits) % 7)).reshape(-1, 7), axis=1)[:, 0] >> 1
    forbidden = np.isin(septets, np.frombuffer(b'\0\n\r"\\', np.uint8))  # in a script's string
    return (septets + 128 * forbidden.astype(np.uint8)).tobytes().decode("latin-1")


def rounded(tensor: Tensor, scale: float, bits: int) -> Tensor:
    """The nearest fp16 numbers; a matrix to multiples of ``scale`` / 2^bits, which leaves less to store."""
    if tensor.ndim > 1 and scale:
        step = 2.0 ** (np.floor(np.log2(scale)) - bits)
        tensor = (tensor / step).round() * step
    return tensor.half().float()


def added(state: State, base: State, bits: int) -> State:
    """What finetuning added to ``base``, rounded; tensors it left alone are not in it."""
    change = {name: tensor - base[name] if name in base else tensor for name, tensor in state.items()}
    size = {name: base.get(name, tensor).square().mean().sqrt().item() for name, tensor in state.items()}
    return {name: rounded(tensor, size[name], bits) for name, tensor in change.items() if tensor.any()}


def summed(base: State, change: State) -> State:
    """What the page makes of the two."""
    return base | {name: base[name] + tensor if name in base else tensor for name, tensor in change.items()}


def smallest(model: Classifier, base: State, texts: list[str], wanted: np.ndarray) -> tuple[State, float]:
    """The most coarsely rounded change that still answers like ``wanted`` ``(N,)``, and how far off it is."""
    state = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    for bits in range(6, 11):
        change = added(state, base, bits)
        model.model.load_state_dict(summed(base, change))
        off = float(np.abs(model.probabilities(texts)[:, 1] - wanted).max())
        if off <= WITHIN:
            break
    return change, off


def write(folder: Path, name: str, tensors: State) -> dict[str, object]:
    """A part of the weights as a script, and its entry in the index."""
    text = f'PARTS["{name}"] = "{packed(tensors)}";\n'.encode()
    (folder / f"{name}.js").write_bytes(text)
    shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
    return {"file": f"{name}.js?{hash_of(text.decode())}", "bytes": len(text), "tensors": shapes}


def counting_row(messages: Messages) -> tuple[str, float, str]:
    """The row of counted characters: its title, its test accuracy, and all that it knows, as JSON."""
    chosen = run_baseline(COUNTED, messages, tokenizer_for("pocket"))
    model = {
        "runs": chosen.features.get_feature_names_out().tolist(),
        "rarity": chosen.features.idf_.round(4).tolist(),
        "weight": chosen.model.coef_[0].round(4).tolist(),
        "bias": float(chosen.model.intercept_[0]),
    }
    return chosen.title, chosen.test_accuracy, json.dumps(model, ensure_ascii=False, separators=(",", ":"))


def hash_of(text: str) -> str:
    """What a browser's cache knows a script's version by."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make(folder: Path, texts: list[str], run: Callable[..., oc.Result] = oc.run) -> None:
    """Finetune the rows on the pocket scale and write everything; ``texts`` are the test messages."""
    store = PrefixStore()
    parts: dict[str, dict] = {}
    variants, answers = [], {}
    for row in ROWS:
        e = oc.ROWS[row].at("pocket").but(precision="fp32")
        result = run(e, seed=123, device="cpu", store=store)
        model, wanted = classifier(result), np.array(result.test_probabilities)[:, 1]
        base = trunk(e).state_dict() if e.weights == "pretrained" else {}
        change, off = smallest(model, base, texts, wanted)
        reach = 2 * result.max_length  # a message is cut to that length, and padding may double it
        own = f"row{row}"
        if base and SHARED not in parts:
            parts[SHARED] = write(folder, SHARED, cut(base, reach))
        parts[own] = write(folder, own, cut(change, reach))
        variants.append(
            {
                "row": row,
                "title": TABLE[row].title,
                "parts": [SHARED, own] if base else [own],
                "trunk": SHARED if frozen_blocks(result.model) >= result.model.config.n_layers - 1 else own,
                "causal": not e.disable_causal_mask,
                "reads": e.trainable_token_pos,
                "at_once": row in AT_ONCE,
                "test": result.final["test"],
            }
        )
        answers[row] = wanted.round(6).tolist()
        print(f"row {row}: {result}; {parts[own]['bytes'] / 1e6:.2f} MB, within {off:.4f}", file=sys.stderr)

    messages = load_messages("pocket")
    title, right, counting = counting_row(messages)
    (folder / f"row{COUNTED}.js").write_text(f"PARTS[{json.dumps(COUNTED)}] = {counting};\n", encoding="utf-8")
    counted_row = {"row": COUNTED, "title": title, "test": right, "file": f"row{COUNTED}.js?{hash_of(counting)}"}
    shape = {name: getattr(result.model.config, name) for name in ("emb_dim", "n_heads", "n_layers")}
    config = shape | {"context_length": reach, "max_length": result.max_length, "end": model.tokenizer.end}
    index = {
        "config": config,
        "variants": variants,
        "counted": counted_row | {"bytes": len(counting.encode())},
        "parts": parts,
        "classes": messages.classes,
        "messages": messages.test[["label", "text"]].to_numpy().tolist(),
        "ranks": POCKET_RANKS.read_text(encoding="ascii"),
    }
    text = json.dumps(index, ensure_ascii=False).replace("</", "<\\/")
    (folder / "index.js").write_text(f"const LIVE = {text};\nconst PARTS = {{}};\n", encoding="utf-8")
    (folder / "pytorch.json").write_text(json.dumps(answers) + "\n", encoding="utf-8")


def cut(tensors: State, reach: int) -> State:
    """The same without the positions that the page cannot come to."""
    name = "pos_emb.weight"
    return tensors | {name: tensors[name][:reach]} if name in tensors else tensors


def main(folder: Path = LIVE) -> None:
    remake(folder, digest(), __file__, lambda folder: make(folder, list(load_messages("pocket").test.text)))


if __name__ == "__main__":
    main()
