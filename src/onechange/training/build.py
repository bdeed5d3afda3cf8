"""The model of an experiment: a trunk, a new head, what is frozen, and adapters."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from ..experiment.experiment import Experiment
from ..gpt.layouts import network
from ..gpt.lora import add_lora
from ..gpt.model import GPT, init_gpt2_
from ..gpt.stacked import stack


def build(experiment: Experiment, n_classes: int) -> GPT:
    """The model to finetune: trunk, a new head, what is frozen, and adapters, on the CPU.

    The random numbers are drawn in the published order: the trunk's where it is random, then, from
    the same seed again, the head's and the adapters'. PyTorch's global generator is left as it was.
    """
    return add_new_layers(trunk(experiment), experiment, n_classes)


def trunk(experiment: Experiment) -> GPT:
    """The model without its head: pretrained, or random from the experiment's seed."""
    causal = not experiment.disable_causal_mask
    if experiment.weights == "pretrained":
        return experiment.checkpoint.load(causal)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = network(replace(experiment.checkpoint.shape, causal=causal))  # PyTorch's default initialisation
        return init_gpt2_(model) if experiment.weights == "random_gpt2" else model


def add_new_layers(model: GPT, experiment: Experiment, n_classes: int) -> GPT:
    """Freeze what is not trained; put the head, and LoRA's adapters, onto a trunk, in place."""
    for parameter in trainable_part(model, experiment):
        parameter.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed if experiment.head_seed is None else experiment.head_seed)
        model.head = nn.Linear(model.config.emb_dim, n_classes)
        if experiment.uses_lora:
            merged = experiment.trainable_layers == "lora_alternative"
            e = experiment
            add_lora(model, e.lora_rank, e.lora_alpha, e.lora_scaling, merged, e.lora_layers)
    return model


def build_seeds(experiments: list[Experiment], n_classes: int) -> GPT:
    """The models of experiments that differ in their seed alone, as one (see :mod:`onechange.gpt.stacked`)."""
    first = trunk(experiments[0])
    models = [first]
    for e in experiments[1:]:
        shared = {id(p): p for p in first.parameters()}  # a copy of the structure, around the same weights
        models.append(trunk(e) if e.weights != "pretrained" else copy.deepcopy(first, shared))
    models = [add_new_layers(model, e, n_classes) for model, e in zip(models, experiments, strict=True)]
    return stack(models) if len(models) > 1 else first


def trainable_part(model: GPT, e: Experiment) -> list[nn.Parameter]:
    """The trunk's parameters that are trained, after freezing them all."""
    model.requires_grad_(False)
    if e.trainable_layers == "all":
        return list(model.parameters())
    if e.trainable_layers == "biases":
        return [p for name, p in model.named_parameters() if name.endswith("bias")]
    blocks = {"last_block": e.trainable_blocks, "last_two_blocks": 2}.get(e.trainable_layers, 0)
    if blocks == 0:
        return []  # the new head, and LoRA's adapters, come with their gradients on
    return [*model.blocks[-blocks:].parameters(), *model.final_norm.parameters()]


def frozen_blocks(model: GPT) -> int:
    """How many of the leading blocks are constants of the message.

    One more than there are blocks where the final norm is frozen too; 0 where the embeddings train.
    """
    embeddings = nn.ModuleList(module for name, module in model.named_children() if name.endswith("_emb"))
    stages = [embeddings, *model.blocks, model.final_norm]
    frozen = [not any(p.requires_grad for p in stage.parameters()) for stage in stages]
    return max(0, (frozen.index(False) if False in frozen else len(frozen)) - 1)
