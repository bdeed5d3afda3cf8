"""What is met where a checkpoint was meant and is not read here: each is named for what it is."""

from __future__ import annotations

from pathlib import Path

WHAT: dict[str, str] = {
    "adapter_config.json": "a LoRA adapter of peft, without its model: merge it (merge_and_unload) and save the model",
    "modules.json": "a model of sentence-transformers, which makes vectors of sentences",
    "model_index.json": "a pipeline of diffusers, which makes pictures",
    "hparams.json": "OpenAI's GPT-2 as TensorFlow saved it: use the same model of the Hub, such as gpt2-small",
    "*.gguf": "llama.cpp's GGUF: only SmolLM2's is read (onechange fetch smollm2-135m --file FILE)",
    "*.onnx": "ONNX: export it as safetensors (model.save_pretrained)",
    "tf_model.h5": "TensorFlow's weights: save the model once more with transformers for PyTorch",
    "saved_model.pb": "TensorFlow's weights: save the model once more with transformers for PyTorch",
    "*.ckpt.index": "TensorFlow's weights: save the model once more with transformers for PyTorch",
    "flax_model*.msgpack": "Flax's weights: save the model once more with transformers for PyTorch",
    "rust_model.ot": "rust-bert's weights: use the model.safetensors or pytorch_model.bin of the same model",
    "*.mlmodel": "Core ML's weights: use the model.safetensors of the same model",
    "*.npz": "NumPy's arrays: save them as safetensors",
    "*.zip": "an archive: unpack it and name the folder",
    "*.tar.gz": "an archive: unpack it and name the folder",
}
"""By the file that gives it away: what it is, and what to do."""

STARTS: dict[bytes, str] = {
    b"version https://git-lfs": "is a pointer of Git LFS in the place of the file: git lfs pull brings it",
    b"<!doctype html": "is a web page saved under that name: download the file itself",
    b"<html": "is a web page saved under that name: download the file itself",
    b"gguf": f"is {WHAT['*.gguf']}",
    b"\x89hdf": f"is {WHAT['tf_model.h5']}",
}
"""By a file's first bytes in lower case."""


def file_is(path: Path) -> str:
    """A line that names a file for what it is, by its first bytes or its name; an empty one where nobody can tell."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError:
        return ""
    by_bytes = (words for bytes_, words in STARTS.items() if start.startswith(bytes_))
    by_name = (f"is {words}" for pattern, words in WHAT.items() if path.match(pattern))
    words = next(by_bytes, "") or next(by_name, "")
    return f"{path} {words}" if words else ""


def folder_is(folder: Path) -> str:
    """A line that names a folder without a checkpoint for what it is; an empty one where nobody can tell."""
    for place in (folder, *sorted(p for p in folder.glob("*") if p.is_dir())):
        for pattern, words in WHAT.items():
            if any(place.glob(pattern)):
                return f"{place} holds {words}"
    if (folder / "config.json").exists():
        return ""
    inside = sorted(p.parent for depth in ("*", "*/*") for p in folder.glob(f"{depth}/config.json"))
    return f"{folder} has no config.json, {inside[0]} has: name that" if inside else ""
