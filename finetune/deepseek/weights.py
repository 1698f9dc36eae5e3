"""Which variable of a decoder holds which tensor of a checkpoint.

model.layers.3.mlp.experts.7.up_proj.weight [f, h]  ◄─►  block 3, up_proj [E, h, f], at 7, turned
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from finetune.deepseek.experts import MixtureOfExperts
from finetune.deepseek.feed_forward import FeedForward

_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor goes."""

    name: str  # in the checkpoint
    variable: Any
    turned: bool = False  # PyTorch's linear layers are [out, in], Keras' [in, out]
    expert: int | None = None  # which of the variable's first axis

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor in the checkpoint."""
        sides = tuple(self.variable.shape)[0 if self.expert is None else 1 :]
        return sides[::-1] if self.turned else sides

    def assign(self, rows: NDArray[Any], first: int = 0) -> None:
        """Takes rows of the tensor, from row `first` on, into the variable, on every replica."""
        value = rows.T if self.turned else rows
        begin = [0] * (value.ndim - 1) + [first] if self.turned else [first] + [0] * (rows.ndim - 1)
        if self.expert is not None:
            value, begin = value[None], [self.expert, *begin]
        for variable in tf.distribute.get_strategy().experimental_local_results(self.variable):
            # In place; a variable of mixed precision has no slices to assign to.
            tf.raw_ops.ResourceStridedSliceAssign(
                ref=variable.handle,
                begin=begin,
                end=np.add(begin, value.shape),
                strides=np.ones_like(begin),
                value=value.astype(variable.dtype.as_numpy_dtype),
            )
            # Having been written to in place, it would be copied by every read from now on.
            tf.raw_ops.DisableCopyOnRead(resource=variable.handle)

    def draw(self, deviation: float) -> None:
        """Gives the variable random values, as before any training."""
        self.variable.assign(tf.random.normal(self.variable.shape, stddev=deviation))

    def value(self) -> NDArray[Any]:
        """The tensor, of the variable's dtype, as the checkpoint has it."""
        found = self.variable.numpy() if self.expert is None else self.variable[self.expert].numpy()
        return np.ascontiguousarray(found.T if self.turned else found)


def places(model: Any) -> Iterator[Place]:
    """Every tensor of a built `CausalLM` or `SequenceClassifier`, but those of a custom head."""
    decoder = model.model
    yield Place(name="model.embed_tokens.weight", variable=decoder.embed_tokens.embeddings)
    for number, block in enumerate(decoder.layers):
        prefix = f"model.layers.{number}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield Place(name=f"{prefix}.{norm}.weight", variable=getattr(block, norm).gain)
        yield from _attention(f"{prefix}.self_attn", block.self_attn)
        if isinstance(block.mlp, MixtureOfExperts):
            yield from _experts(f"{prefix}.mlp", block.mlp)
        else:
            yield from _feed_forward(f"{prefix}.mlp", block.mlp)
    yield Place(name="model.norm.weight", variable=decoder.norm.gain)
    head = getattr(model, "lm_head", None)
    if head is not None:
        yield from _linear("lm_head", head)
    score = getattr(model, "score", None)
    if hasattr(score, "kernel"):  # not a custom head
        yield from _linear("score", score)


def _attention(prefix: str, layer: Any) -> Iterator[Place]:
    for name, part in vars(layer).items():
        if name.endswith("_layernorm"):
            yield Place(name=f"{prefix}.{name}.weight", variable=part.gain)
        elif "_proj" in name:
            yield from _linear(f"{prefix}.{name}", part)


def _feed_forward(prefix: str, layer: FeedForward) -> Iterator[Place]:
    for name in _FEED_FORWARD:
        yield from _linear(f"{prefix}.{name}", getattr(layer, name))


def _experts(prefix: str, layer: MixtureOfExperts) -> Iterator[Place]:
    yield Place(name=f"{prefix}.gate.weight", variable=layer.gate.kernel, turned=True)
    if layer.gate.bias is not None:
        yield Place(name=f"{prefix}.gate.e_score_correction_bias", variable=layer.gate.bias)
    if layer.shared_experts is not None:
        yield from _feed_forward(f"{prefix}.shared_experts", layer.shared_experts)
    for name in _FEED_FORWARD:
        kernels = getattr(layer, name).kernel
        for expert in range(kernels.shape[0]):
            full = f"{prefix}.experts.{expert}.{name}.weight"
            yield Place(name=full, variable=kernels, turned=True, expert=expert)


def _linear(name: str, layer: Any) -> Iterator[Place]:
    yield Place(name=f"{name}.weight", variable=layer.kernel, turned=True)
    if layer.use_bias:
        yield Place(name=f"{name}.bias", variable=layer.bias)
