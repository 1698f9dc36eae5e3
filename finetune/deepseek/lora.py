"""Low-rank adaptation: the layers are frozen, and beside some of them a narrow path is trained.

    x ─► kernel [in, out], frozen ───────────────────────────┐
      ─► dropout ─► A [in, r] ─► B [r, out] ─► · alpha / r ──┴─► +

B begins at zero, so the model begins as it was. A trained path can be merged into its kernel, after
which the model is as fast as before. A mixture's layers have a path for each expert.

Source: Hu et al.: LoRA, section 4.1 (arXiv 2106.09685).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from finetune import recipe
from finetune.deepseek.attention import Attention
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.experts import ExpertProjection
from finetune.deepseek.latent_attention import LatentAttention
from finetune.errors import ModelError

_LINEAR = (tf_keras.layers.Dense, ExpertProjection)


class Adapted(tf_keras.layers.Layer):  # type: ignore[misc]
    """A frozen linear layer with its low-rank path; see the module.

    Args:
        base: built; its kernel is [in, out], or [E, in, out] of a mixture.
    """

    def __init__(self, base: Any, settings: recipe.Lora) -> None:
        half = base.compute_dtype != "float32"
        # What is trained is float32, whatever the frozen kernel is.
        dtype = tf_keras.mixed_precision.Policy(
            f"mixed_{base.compute_dtype}" if half else "float32"
        )
        super().__init__(name=f"{base.name}_lora", dtype=dtype)
        self.base = base
        self._scale = settings.alpha / settings.rank
        self.dropout = tf_keras.layers.Dropout(settings.dropout)
        *experts, inward, outward = base.kernel.shape
        prefix = base.kernel.name.partition(":")[0].removesuffix("kernel")
        limit = 1 / math.sqrt(inward)  # as PEFT begins
        self.lora_a = self.add_weight(
            f"{prefix}lora_a",
            [*experts, inward, settings.rank],
            initializer=tf_keras.initializers.RandomUniform(-limit, limit),
        )
        self.lora_b = self.add_weight(
            f"{prefix}lora_b", [*experts, settings.rank, outward], initializer="zeros"
        )

    @property
    def kernel(self) -> Any:
        """Of the frozen layer."""
        return self.base.kernel

    @property
    def use_bias(self) -> bool:
        """Whether the frozen layer has one."""
        return bool(self.base.use_bias)

    @property
    def bias(self) -> Any:
        """Of the frozen layer."""
        return self.base.bias

    def call(self, x: Any, expert: Any = None, training: bool = False) -> Any:
        """As the frozen layer; see `ExpertProjection.call` for `expert`."""
        inward, outward = self.lora_a, self.lora_b
        if expert is not None:
            inward, outward = tf.gather(inward, expert), tf.gather(outward, expert)
        narrow = _product(_product(self.dropout(x, training=training), inward), outward)
        whole = self.base(x) if expert is None else self.base(x, expert)
        return whole + narrow * tf.cast(self._scale, narrow.dtype)

    def change(self) -> Any:
        """What the path adds to the kernel, of its shape and dtype."""
        change = tf.matmul(self.lora_a, self.lora_b) * self._scale
        return tf.cast(change, self.base.kernel.dtype)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a linear layer hangs."""

    parent: Any
    name: str
    layer: Any


class Adapters:
    """Adapts a built model: from then on only the paths, and a classifier's head, are trained.

    Args:
        model: a `CausalLM` or `SequenceClassifier`.

    Raises:
        ModelError: a target names none of its layers, or it is no model of the family.
    """

    def __init__(self, model: Any, settings: recipe.Lora) -> None:
        if not isinstance(getattr(model, "config", None), DecoderConfig):
            raise ModelError(
                f"lora: {type(model).__name__} is no model of the DeepSeek family; remove it"
            )
        places = _chosen(list(_linear_layers(model.model)), settings.targets)
        for part in (model.model, getattr(model, "lm_head", None)):
            _freeze(part)
        self.settings = settings
        self._places = places
        self._paths = [Adapted(place.layer, settings) for place in places]
        self._hang(self._paths)

    def __iter__(self) -> Iterator[Adapted]:
        return iter(self._paths)

    @property
    def targets(self) -> list[str]:
        """The names of the layers that have a path."""
        return sorted({place.name for place in self._places})

    def merge(self) -> None:
        """Adds each path to its kernel, and takes it out of the model."""
        for path in self._paths:
            path.base.kernel.assign_add(path.change())
        self._hang([place.layer for place in self._places])

    def unmerge(self) -> None:
        """Undoes `merge`."""
        for path in self._paths:
            path.base.kernel.assign_sub(path.change())
        self._hang(self._paths)

    def _hang(self, layers: Sequence[Any]) -> None:
        for place, layer in zip(self._places, layers, strict=True):
            setattr(place.parent, place.name, layer)


def _linear_layers(decoder: Any) -> Iterator[_Place]:
    """Every linear layer of the blocks."""
    for parent in decoder.submodules:
        for name, value in vars(parent).items():
            if isinstance(value, _LINEAR) and not name.startswith("_"):
                yield _Place(parent=parent, name=name, layer=value)


def _chosen(places: list[_Place], targets: Sequence[str]) -> list[_Place]:
    if not targets:
        return [place for place in places if isinstance(place.parent, Attention | LatentAttention)]
    known = sorted({place.name for place in places})
    for target in targets:
        if target not in known:
            raise ModelError(
                f"lora.targets: {target!r} is no linear layer of this model's blocks; choose from "
                f"{', '.join(known)}"
            )
    return [place for place in places if place.name in targets]


def _freeze(part: Any) -> None:
    """Layer by layer, since a layer that is not trainable hides the paths inside it."""
    if part is None:
        return
    for layer in (part, *part.submodules):
        if not any(isinstance(inner, tf_keras.layers.Layer) for inner in layer.submodules):
            layer.trainable = False


def _product(x: Any, kernel: Any) -> Any:
    """[.., in] · [in, out]; or for each expert [E, N, in] · [E, in, out]."""
    return tf.matmul(x, kernel) if kernel.shape.rank == 3 else tf.tensordot(x, kernel, 1)
