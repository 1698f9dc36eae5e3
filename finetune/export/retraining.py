"""Quantization-aware fine-tuning: a short training with int8's rounding in the graph.

    forward    x ─► rounded to 256 steps of its range ─► · weights, rounded likewise ─► …
    backward   as if nothing had been rounded; nothing beyond a range's ends

The weights learn to give what the float model gives in spite of the rounding. The ranges are
measured first, as for every other step of the search, and stay as they are.

Source:
    Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, section 3 (arXiv 1712.05877); Bengio et al.: Estimating or Propagating Gradients
    Through Stochastic Neurons, section 4, straight-through (arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from bundle.preprocess import Tensors
from finetune.export import encoder
from finetune.export.candidate import Candidate
from finetune.export.encoder import Encoder, Output
from finetune.progress import Progress
from finetune.tasks.base import spread

_EXAMPLES = 1500  # of the training split, each once
_BATCH = 16  # examples a step
_RATE = 4e-6  # falls to 0: Adam's noise in every weight is worse than int8's
_TYPICAL = 99.0  # percentile, as in `ranges`
_LEVELS = 127.0  # of weights, to either side of 0

Mode = Literal["off", "measure", "round"]


def takes(candidate: Candidate) -> bool:
    """Whether a model has a graph that can be trained rounded."""
    return encoder.takes(candidate.model.model)


def retrain(
    candidate: Candidate, samples: Sequence[Tensors], times: float, progress: Progress
) -> RoundedEncoder:
    """An encoder, trained to answer rounded as the float model does.

    Args:
        candidate: one that `takes` accepts; stays as it is.
        samples: for the ranges, of one example each.
        times: how far the bounds of outliers are; see `clipping`.
    """
    graph = RoundedEncoder(candidate.model.model, times)
    graph.measure(samples)
    task, train = candidate.task, candidate.data.train
    order = np.random.default_rng(candidate.recipe.seed).permutation(
        spread(range(len(train)), _EXAMPLES)
    )
    places = set(order.tolist())
    chosen = {place: tensors for (place,), tensors in task.batches(train, 1) if place in places}
    falling = tf_keras.optimizers.schedules.PolynomialDecay(_RATE, -(-len(order) // _BATCH), 0.0)
    optimizer = tf_keras.optimizers.Adam(falling)
    gradients = tf.function(graph.gradients)  # traced once for each length
    weights = graph.learning
    with progress.counted("train with rounding", len(order)) as advance:
        for start in range(0, len(order), _BATCH):
            batch = [chosen[place] for place in order[start : start + _BATCH].tolist()]
            total = [tf.zeros_like(each) for each in weights]
            for tensors in batch:
                inputs = {name: tf.constant(each) for name, each in tensors.items()}
                expected = candidate.model.forward(**inputs)["logits"]
                found = gradients(inputs, expected)
                total = [one + more / len(batch) for one, more in zip(total, found, strict=True)]
            optimizer.apply_gradients(zip(total, weights, strict=True))
            advance(len(batch))
    return graph


class RoundedEncoder(Encoder):
    """An encoder for int8 that can compute with rounded numbers.

    Args:
        model: see `Encoder`.
        times: see `retrain`.
    """

    def __init__(self, model: Any, times: float) -> None:
        super().__init__(model, for_int8=True)
        self._rounding = _Rounding(times)

    @property
    def learning(self) -> list[Any]:
        """The weights that are trained: all but the words, of which each text has a few."""
        return [each for each in self.trainable_variables if each is not self.words]

    def __call__(self, inputs: dict[str, Any], training: bool = False) -> Output:
        self._rounding.place = 0
        return super().__call__(inputs, training)

    def measure(self, samples: Sequence[Tensors]) -> None:
        """Learns the ranges: first how far outliers reach, then all others behind their bounds."""
        for _ in range(2):
            self._rounding.begin("measure")
            for tensors in samples:
                self({name: tf.constant(each) for name, each in tensors.items()})
        self._rounding.mode = "off"

    def gradients(self, inputs: dict[str, Any], expected: Any) -> list[Any]:
        """Of the mean squared difference from what is expected, float32 [1, C], rounded."""
        self._rounding.mode = "round"
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(inputs).logits - expected))
        self._rounding.mode = "off"
        zero = tf.UnconnectedGradients.ZERO
        found: list[Any] = tape.gradient(loss, self.learning, unconnected_gradients=zero)
        return found

    def _seen(self, x: Any, *, may_be_cut: bool = False) -> Any:
        return self._rounding.see(x, may_be_cut)

    def _kernel(self, kernel: Any) -> Any:
        if self._rounding.mode != "round":
            return kernel
        step = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=0, keepdims=True) / _LEVELS, 1e-9)
        return kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)


class _Rounding:
    """The ranges of a graph's tensors, each known by its place in the order of computing."""

    def __init__(self, times: float) -> None:
        self.mode: Mode = "off"
        self.place = 0
        self._times = times
        self._ranges: list[list[float]] = []  # lowest, highest
        self._far: list[list[float]] = []  # what is typical of each example, where it may be cut
        self._bounds: dict[int, float] = {}

    def begin(self, mode: Mode) -> None:
        """Forgets the ranges, and keeps what is typical as bounds."""
        self.mode = mode
        self._bounds = {
            place: self._times * float(np.mean(far)) for place, far in enumerate(self._far) if far
        }
        self._ranges, self._far = [], []

    def see(self, x: Any, may_be_cut: bool) -> Any:
        """A tensor, measured or rounded; the next one in order."""
        if self.mode == "off":
            return x
        place, self.place = self.place, self.place + 1
        if self.mode == "round":
            low, high = self._ranges[place]
            return tf.quantization.fake_quant_with_min_max_args(x, low, high)
        if place in self._bounds:
            x = tf.clip_by_value(x, -self._bounds[place], self._bounds[place])
        self._note(place, x.numpy(), may_be_cut)
        return x

    def _note(self, place: int, values: Any, may_be_cut: bool) -> None:
        if place == len(self._ranges):
            self._ranges.append([-1e-6, 1e-6])
            self._far.append([])
        known = self._ranges[place]
        known[:] = min(known[0], float(values.min())), max(known[1], float(values.max()))
        if may_be_cut:
            self._far[place].append(float(np.percentile(np.abs(values), _TYPICAL)))
