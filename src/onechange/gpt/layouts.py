"""How Hugging Face lays out a GPT-2 and a Llama: the words of ``config.json``, the names of the tensors.

A layout says for each of our parameters which stored tensor it is, or which third of one: GPT-2's query, key
and value are one matrix there, and its linear weights lie as ``(in, out)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from .llama import Llama, LlamaConfig
from .model import GPT, GPTConfig

Names = Iterator[tuple[str, str, int | None]]


class Naming(ABC):
    """How somebody names and turns the tensors of an architecture.

    Attributes:
        name: what the architecture is called.
        embedding: the stored name of the token embedding, by which a file of this kind is known.
    """

    name: ClassVar[str]
    embedding: ClassVar[str]

    @abstractmethod
    def names(self, shape: Any) -> Names:
        """Our parameter names beside the stored ones: (ours, theirs, which third of a fused tensor)."""

    def ours(self, tensor: Tensor, theirs: str, part: int | None) -> Tensor:
        """A stored tensor as ours."""
        return tensor

    def is_zero(self, theirs: str, stored: Iterable[str]) -> bool:
        """Whether a tensor that is not stored is one that such a model may do without: a bias of zero."""
        return False


class Layout(Naming):
    """One architecture as Hugging Face stores it.

    Attributes:
        architecture: what Hugging Face calls its language model.
        classifier: what Hugging Face calls its classifier.
        prefix: what stands before every tensor's name in a file of the whole model.
        sizes: our names of the sizes, and those of ``config.json``.
        settings: what ``config.json`` must say, and what it means where it says nothing.
    """

    architecture: ClassVar[str]
    classifier: ClassVar[str]
    prefix: ClassVar[str]
    sizes: ClassVar[dict[str, str]]
    settings: ClassVar[dict[str, tuple[Any, Any]]]

    @abstractmethod
    def shape(self, raw: dict[str, Any]) -> GPTConfig:
        """The shape that ``config.json`` says; ``KeyError``, ``TypeError`` or ``ValueError`` where it says none."""

    @abstractmethod
    def words(self, shape: Any) -> dict[str, Any]:
        """What else ``config.json`` says of a shape, beside its sizes and settings."""

    def refused(self, raw: dict[str, Any]) -> str:
        """What a ``config.json`` asks for that is not computed here, or nothing."""
        for key, (value, unsaid) in self.settings.items():
            if (found := raw.get(key, unsaid)) != value:
                return f"{key} is {found!r}, this package computes {self.name} with {value!r}"
        return ""

    def config(self, shape: GPTConfig, end: int) -> dict[str, Any]:
        """``config.json`` for a shape whose text ends with token ``end``."""
        sizes = {theirs: getattr(shape, ours) for ours, theirs in self.sizes.items()}
        settings = {key: value for key, (value, _) in self.settings.items()}
        ends = {"bos_token_id": end, "eos_token_id": end}
        return {"architectures": [self.architecture]} | sizes | self.words(shape) | settings | ends

    def theirs(self, model: GPT) -> dict[str, Tensor]:
        """A model's trunk under Hugging Face's names and shapes."""
        state = model.state_dict()
        return {theirs: state[ours].detach().cpu().contiguous() for ours, theirs, _ in self.names(model.config)}

    def read_sizes(self, raw: dict[str, Any]) -> dict[str, Any]:
        return {ours: int(raw[theirs]) for ours, theirs in self.sizes.items()}


class GPT2Layout(Layout):
    """Query, key and value are one matrix; linear weights lie as ``(in, out)``."""

    name, embedding, prefix = "GPT-2", "wte.weight", "transformer."
    architecture, classifier = "GPT2LMHeadModel", "GPT2ForSequenceClassification"
    sizes: ClassVar = {
        "vocab_size": "vocab_size",
        "context_length": "n_positions",
        "emb_dim": "n_embd",
        "n_heads": "n_head",
        "n_layers": "n_layer",
    }
    settings: ClassVar = {
        "model_type": ("gpt2", "gpt2"),
        "activation_function": ("gelu_new", "gelu_new"),
        "layer_norm_epsilon": (1e-5, 1e-5),
        "scale_attn_by_inverse_layer_idx": (False, False),
        "scale_attn_weights": (True, True),
        "add_cross_attention": (False, False),
    }

    def shape(self, raw: dict[str, Any]) -> GPTConfig:
        return GPTConfig(**self.read_sizes(raw))

    def words(self, shape: GPTConfig) -> dict[str, Any]:
        return {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

    def refused(self, raw: dict[str, Any]) -> str:
        if raw.get("n_inner") not in (None, wide := 4 * raw["n_embd"]):
            return f"n_inner is {raw['n_inner']}, this package computes GPT-2 with {wide}"
        return super().refused(raw)

    def names(self, shape: GPTConfig) -> Names:
        yield "tok_emb.weight", "wte.weight", None
        yield "pos_emb.weight", "wpe.weight", None
        pairs = {
            "attn.out": "attn.c_proj",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
            "norm1": "ln_1",
            "norm2": "ln_2",
        }
        for i in range(shape.n_layers):
            for kind in ("weight", "bias"):
                for part, name in enumerate(("query", "key", "value")):
                    yield f"blocks.{i}.attn.{name}.{kind}", f"h.{i}.attn.c_attn.{kind}", part
                for ours, theirs in pairs.items():
                    yield f"blocks.{i}.{ours}.{kind}", f"h.{i}.{theirs}.{kind}", None
        yield "final_norm.weight", "ln_f.weight", None
        yield "final_norm.bias", "ln_f.bias", None

    def ours(self, tensor: Tensor, theirs: str, part: int | None) -> Tensor:
        if part is not None and tensor.ndim and tensor.size(-1) % 3 == 0:
            tensor = tensor.chunk(3, dim=-1)[part]
        return self.turned(tensor, theirs).contiguous()

    def theirs(self, model: GPT) -> dict[str, Tensor]:
        thirds: dict[str, list[Tensor]] = {}
        state = model.state_dict()
        for ours, theirs, _ in self.names(model.config):
            thirds.setdefault(theirs, []).append(self.turned(state[ours].detach().cpu(), theirs))
        return {name: torch.cat(parts, dim=-1).contiguous() for name, parts in thirds.items()}

    @staticmethod
    def turned(tensor: Tensor, theirs: str) -> Tensor:
        """The weight of a linear layer, from theirs to ours or back; anything else as it is."""
        linear = theirs.startswith("h.") and ".ln_" not in theirs and tensor.ndim == 2
        return tensor.T if linear else tensor


class LlamaLayout(Layout):
    """One tensor for each of our parameters, of the same shape."""

    name, embedding, prefix = "Llama", "embed_tokens.weight", "model."
    architecture, classifier = "LlamaForCausalLM", "LlamaForSequenceClassification"
    sizes: ClassVar = {
        "vocab_size": "vocab_size",
        "context_length": "max_position_embeddings",
        "emb_dim": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "hidden_dim": "intermediate_size",
    }
    settings: ClassVar = {
        "model_type": ("llama", None),
        "hidden_act": ("silu", "silu"),
        "attention_bias": (False, False),
        "mlp_bias": (False, False),
        "tie_word_embeddings": (True, False),
        "rope_scaling": (None, None),
    }

    def shape(self, raw: dict[str, Any]) -> LlamaConfig:
        sizes, rope = self.read_sizes(raw), self.rope(raw)
        return LlamaConfig(
            **sizes,
            n_groups=int(raw.get("num_key_value_heads") or sizes["n_heads"]),
            rope_base=float(rope.get("rope_theta", 10000.0)),
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
        )

    def words(self, shape: LlamaConfig) -> dict[str, Any]:
        return {
            "num_key_value_heads": shape.n_groups,
            "rope_theta": shape.rope_base,
            "rms_norm_eps": shape.norm_eps,
        }

    def refused(self, raw: dict[str, Any]) -> str:
        if (kind := self.rope(raw).get("rope_type", "default")) != "default":
            return f"rope_type is {kind!r}, this package computes Llama with 'default'"
        D = raw["hidden_size"] // raw["num_attention_heads"]
        if raw.get("head_dim") not in (None, D):
            return f"head_dim is {raw['head_dim']}, this package computes Llama with {D}"
        if raw.get("architectures") == [self.classifier]:
            raw = raw | {"tie_word_embeddings": True}  # a classifier has no output over the vocabulary to tie
        return super().refused(raw)

    @staticmethod
    def rope(raw: dict[str, Any]) -> dict[str, Any]:
        """Where the rotary positions are described: newer files have a table for it."""
        return raw.get("rope_parameters") or raw

    def names(self, shape: LlamaConfig) -> Names:
        yield "tok_emb.weight", "embed_tokens.weight", None
        pairs = {
            "norm1": "input_layernorm",
            "attn.query": "self_attn.q_proj",
            "attn.key": "self_attn.k_proj",
            "attn.value": "self_attn.v_proj",
            "attn.out": "self_attn.o_proj",
            "norm2": "post_attention_layernorm",
            "mlp.gate": "mlp.gate_proj",
            "mlp.up": "mlp.up_proj",
            "mlp.down": "mlp.down_proj",
        }
        for i in range(shape.n_layers):
            for ours, theirs in pairs.items():
                yield f"blocks.{i}.{ours}.weight", f"layers.{i}.{theirs}.weight", None
        yield "final_norm.weight", "norm.weight", None


LAYOUTS: dict[str, Layout] = {"gpt2": GPT2Layout(), "llama": LlamaLayout()}
"""By the ``model_type`` of ``config.json``."""


def layout_of(shape: GPTConfig) -> Layout:
    """How a model of this shape is stored."""
    return LAYOUTS["llama" if isinstance(shape, LlamaConfig) else "gpt2"]


def network(shape: GPTConfig) -> GPT:
    """A model of this shape, with the random weights that PyTorch gives it."""
    return Llama(shape) if isinstance(shape, LlamaConfig) else GPT(shape)
