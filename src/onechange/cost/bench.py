"""How fast this package is, beside the plain loop and beside Hugging Face's Trainer, on one machine.

    python -m onechange.cost.bench                        # `make bench`: GPT-2 small, rows 1, 2, 3, 5, 11, 16
    python -m onechange.cost.bench --size pocket-small --steps 6 --out trial.json
    python -m onechange.cost.bench --bars                 # whole runs: the GPT-2 ladder on a GPU, else pocket

Weights are random at true size and tokens are random at the messages' lengths: time depends on neither.
Every measurement has a process of its own. A step, an evaluated message and a message's prefix are timed over
a few dozen and scaled up to the published schedule; ``--bars`` runs the engine from start to end. The Trainer
reads the last real token in every row: its model computes all positions of all blocks anyway.

One file holds all benchmarks, by model and kind of device. A row is written as soon as it is measured: stopped
and started again under the same conditions, a benchmark goes on with the next one.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import tyro

from ..data.tokens import Tokens
from ..experiment.experiment import BASELINE, Experiment
from ..experiment.rows import TABLE, parse_rows
from ..support.errors import UsageError
from ..support.files import write_atomically
from ..training.device import choose_device, choose_precision, product_rate
from ..training.memory import Split
from ..training.schedule import Look, Step, schedule
from .bars import measure_bars
from .plan import PARTS, Part, calls_of, lengths_of
from .timing import WARM, clock, messages_of, now, time_engine

How = Literal["engine", "plain", "trainer"]
"""This engine; its plain loop (``--prefix_cache off``); Hugging Face's Trainer, with peft for LoRA."""


def peak_memory(device: torch.device) -> float:
    """Bytes at the peak: on a GPU PyTorch's tensors, else the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


@dataclass(frozen=True)
class Amount:
    """How much of everything a whole run does: steps, evaluated messages, and messages in all splits."""

    steps: int
    evaluated: int
    messages: int

    @classmethod
    def of(cls, e: Experiment) -> Amount:
        lengths, _, _ = lengths_of(e)
        events = list(schedule(e, len(lengths["train"]), len(lengths["val"])))
        seen = [len(batch) for event in events if isinstance(event, Look) for batch in (*event.train, *event.val)]
        steps = sum(isinstance(event, Step) for event in events)
        return cls(steps, sum(seen) + len(lengths["test"]), sum(map(len, lengths.values())))


def measure(e: Experiment, how: How, steps: int, device: str) -> dict[str, Any]:
    """One way to do one row: seconds a step, an evaluated message and a message's prefix, scaled to a whole run."""
    e = e.but(weights="random", prefix_cache="on" if how == "engine" else "off").resolved()
    place = choose_device(device)
    precision, amount = choose_precision(e.precision, place), Amount.of(e)
    window = e.batch_size * e.accumulation_steps
    few = {"train": window * (WARM + steps), "val": 8 * steps, "test": 8}
    one = (_trainer if how == "trainer" else time_engine)(e, messages_of(e, few), steps, place, precision)
    seconds = {
        "prefix": one["prefix"] * amount.messages,
        "training": one["step"] * amount.steps,
        "evaluation": one["message"] * amount.evaluated,
    }
    lengths, T, assumed = lengths_of(e)
    calls, split = calls_of(e, lengths, T, how != "engine"), Split.of(e)
    operations = sum(Part(p, e, split, how != "engine").operations(calls[p]) for p in PARTS if calls[p])
    rate = product_rate(torch.bfloat16 if precision == "bf16" else torch.float32, place, now=now)
    total = sum(seconds.values())
    kept = 4 * one["row_size"] * (amount.messages - sum(few.values())) * (one["prefix"] > 0)
    return {
        "how": how, "seconds": total, "parts": seconds, "per_step": one["step"], "steps_timed": steps,
        "peak_bytes": peak_memory(place) + max(0, kept), "operations": operations,
        "rate": operations / total, "machine_rate": rate, "precision": precision, "assumed": assumed,
    }  # fmt: skip


def _trainer(
    e: Experiment, tokens: dict[str, Tokens], steps: int, place: torch.device, precision: str
) -> dict[str, float]:
    """Hugging Face's ``GPT2ForSequenceClassification`` with its Trainer; peft's adapters for LoRA."""
    import transformers
    from transformers import Trainer as HFTrainer

    shape = e.checkpoint.shape
    assert e.learning_rate is not None
    config = transformers.GPT2Config(
        vocab_size=shape.vocab_size, n_positions=shape.context_length, n_embd=shape.emb_dim, n_layer=shape.n_layers,
        n_head=shape.n_heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        pad_token_id=shape.vocab_size - 1, bos_token_id=shape.vocab_size - 1, eos_token_id=shape.vocab_size - 1,
    )  # fmt: skip
    model: Any = transformers.GPT2ForSequenceClassification(config)
    if e.uses_lora:
        from peft import LoraConfig, get_peft_model

        layers = ["c_attn", "c_proj", "c_fc"]
        model = get_peft_model(model, LoraConfig("SEQ_CLS", r=e.lora_rank, target_modules=layers, fan_in_fan_out=True))
    elif e.trainable_layers != "all":
        blocks = {"last_block": e.trainable_blocks, "last_two_blocks": 2}.get(e.trainable_layers, 0)
        model.transformer.requires_grad_(False)
        for part in (
            *model.transformer.h[len(model.transformer.h) - blocks :],
            *[model.transformer.ln_f] * (blocks > 0),
        ):
            part.requires_grad_(True)
    ended: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended.append(now())

    def examples(split: Tokens) -> Any:
        ends = split.lengths if e.no_padding else [split.ids.size(1)] * len(split)
        return [
            {"input_ids": ids[:n], "labels": label} for ids, n, label in zip(split.ids, ends, split.labels, strict=True)
        ]

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, max_steps=WARM + steps, per_device_train_batch_size=e.batch_size,
            per_device_eval_batch_size=e.batch_size, gradient_accumulation_steps=e.accumulation_steps,
            learning_rate=e.learning_rate, weight_decay=e.weight_decay, bf16=precision == "bf16",
            use_cpu=place.type == "cpu", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer: Any = HFTrainer(model, arguments, train_dataset=examples(tokens["train"]), callbacks=[Clock()])
        trainer.train()
        message = clock(lambda: trainer.predict(examples(tokens["val"]))) / len(tokens["val"])
    return {"step": (ended[-1] - ended[WARM - 1]) / steps, "message": message, "prefix": 0.0, "row_size": 0.0}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The measurements in Markdown, each row's plain loop as the measure of the others.

    Seconds are those of the steps that were timed, scaled up to a whole run. The machine's rate of products is
    the best that any of the measurements saw: other work on the machine can only lower it.
    """
    names = {"engine": "this engine", "plain": "the plain loop", "trainer": "Trainer"}
    lines = [
        "| row | | ms a step | s, scaled up | times sooner | peak MB | GFLOP/s | of the machine's |",
        "|---" * 8 + "|",
    ]
    best = {way["precision"]: 0.0 for ways in found.values() for way in ways}
    for way in (way for ways in found.values() for way in ways):
        best[way["precision"]] = max(best[way["precision"]], way["machine_rate"])
    for row, ways in found.items():
        plain = next(way["seconds"] for way in ways if way["how"] == "plain")
        for way in ways:
            peft = " and peft" * (way["how"] == "trainer" and row in ("11", "12"))
            lines.append(
                f"| {row} {TABLE[int(row)].title} | {names[way['how']]}{peft} | {1e3 * way['per_step']:.1f} "
                f"| {way['seconds']:.1f} | {plain / way['seconds']:.1f} | {way['peak_bytes'] / 1e6:.0f} "
                f"| {way['rate'] / 1e9:.0f} | {100 * way['rate'] / best[way['precision']]:.0f} % |"
            )
    return "\n".join(lines)


def main(
    size: str = "gpt2-small",
    rows: str = "",
    steps: int = 24,
    device: str = "auto",
    bars: bool = False,
    out: Path = Path("book/results/bench.json"),
    note: str = "",
    one: str = "",
) -> None:
    """Measure, print a table, and write it to a file.

    Args:
        size: the model.
        rows: which rows of the table; unless given 1,2,3,5,11,16, and with --bars all that the device can bear.
        steps: training steps to time.
        device: where.
        bars: whole runs instead, of the GPT-2 ladder on a GPU, of the pocket one elsewhere.
        out: the file of all benchmarks.
        note: a remark to keep with the numbers.
        one: used by this program for a process of its own: row and way.
    """
    if one:
        row, how = one.split(",")
        change = {name: value for name, value in TABLE[int(row)].change.items() if name != "model_size"}
        print(json.dumps(measure(BASELINE.but(model_size=size, **change), how, steps, device)))  # type: ignore[arg-type]
        return
    place = choose_device(device)
    name, made = f"{'bars' if bars else size.split(' ')[0]}-{place.type}", conditions(place, steps, bars)
    every = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    before = every.get(name, {})
    entry = every[name] = {"made": made, "note": note or before.get("note", ""), "found": {}}
    if bars:
        entry["found"] = measure_bars(device, rows or ("1-19" if place.type == "cuda" else "1-8,10,11,13-19"), steps)
        _keep(out, every)
        return
    if before.get("made") == made:
        entry["found"] = before["found"]
    asked = parse_rows(rows or "1,2,3,5,11,16")
    for row in asked:
        if row not in entry["found"]:
            ways = [_in_its_own_process(size, f"{row},{how}", steps, device) for how in get_args(How)]
            entry["found"][row] = ways
            _keep(out, every)
    print(table({row: entry["found"][row] for row in asked}))


def conditions(place: torch.device, steps: int, bars: bool) -> dict[str, Any]:
    """What a measurement depends on: device, threads, how many steps were timed, and versions."""
    cuda = place.type == "cuda"
    name = torch.cuda.get_device_name(place) if cuda else platform.processor() or platform.machine()
    made = {"device": name, "threads": torch.get_num_threads(), "steps": steps, "python": platform.python_version()}
    return made | {package: version(package) for package in ("torch", *("transformers", "peft") * (not bars))}


def _keep(out: Path, every: dict[str, Any]) -> None:
    write_atomically(out, lambda t: Path(t).write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8"))


def _in_its_own_process(size: str, one: str, steps: int, device: str) -> dict[str, Any]:
    words = ["--size", size, "--one", one, "--steps", str(steps), "--device", device]
    done = subprocess.run([sys.executable, "-m", "onechange.cost.bench", *words], capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"row and way {one}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    tyro.cli(main)
