"""Words for the command line, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from onechange import Experiment
from onechange.cli.main import Run, parse

# The publisher's commands behind the name of their program, word for word.
PUBLISHED = {
    1: "",
    2: "--trainable_token_pos first",
    3: "--trainable_layers last_layer",
    4: "--trainable_layers last_two_blocks",
    5: "--trainable_layers all",
    6: '--model_size "gpt2-medium (355M)"',
    7: '--model_size "gpt2-large (774M)"',
    8: '--model_size "gpt2-xl (1558M)"',
    9: '--model_size "gpt2-xl (1558M)" --trainable_layers all',
    10: "--weights random --trainable_layers all",
    11: "--trainable_layers lora --lora_rank 16 --lora_alpha 16",
    12: '--trainable_layers lora --lora_rank 16 --lora_alpha 8 --model_size "gpt2-xl (1558M)"',
    13: '--context_length "model_context_length"',
    14: "--no_padding --batch_size 1",
    15: "--no_padding --batch_size 1 --accumulation_steps 8",
    16: '--trainable_token_pos "flexible"',
    17: "--disable_causal_mask",
    18: "--ignore_index 50256",
    19: "--average_embeddings",
}
PUBLISHED_DEFAULTS = (
    '--model_size "gpt2-small (124M)"', "--weights pretrained", "--trainable_layers last_block",
    "--trainable_token_pos last", "--context_length longest_training_example", "--lora_rank 8", "--lora_alpha 8",
    "--num_epochs 5", "--batch_size 8", "--accumulation_steps 1", "--ignore_index -100",
)  # fmt: skip
SMALL = ["--dataset", "pocket", "--train_size", "16", "--num_epochs", "1"]
RESULT = {
    "train_losses", "val_losses", "train_accs", "val_accs", "final", "n_trainable", "max_length", "seconds",
    "experiment", "command", "environment",
}  # fmt: skip


def experiment_of(words: list[str]) -> Experiment:
    """The experiment that ``onechange run`` makes of these words."""
    command = parse(["run", *words])
    assert isinstance(command, Run)
    return command.experiment


def snapshot(folder: Path) -> dict[Path, int | None]:
    """Everything below a folder, and when each file was written."""
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in folder.rglob("*")}


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")
