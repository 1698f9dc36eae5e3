"""Does an ONNX file answer as the SavedModel it was made from?

golden inputs ──► onnxruntime ──► the published answers?
random inputs ──► onnxruntime ──► TensorFlow's answers, far closer than machines differ?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
from numpy.typing import NDArray

from bundle import golden, preprocess
from bundle.errors import GoldenError
from bundle.manifest import Manifest, TextPreprocess
from bundle.preprocess import Tensors
from bundle.repository import SavedBundle
from finetune.errors import GateRefused

Run = Callable[[Tensors], Mapping[str, NDArray[Any]]]

SIGNATURE = "serving_default"

_BATCHES = (1, 2, 5)
_TOLERANCE = 1e-4  # float32 sums in another order; a share of the largest value, if that is over 1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How true an ONNX file is to the SavedModel it was made from."""

    golden_examples: int
    golden_difference: float  # the largest of any logit, to the published one
    random_batches: int
    random_difference: float  # the largest of any output, to TensorFlow's
    tolerance: float


def judge(content: bytes, saved: SavedBundle) -> Verdict:
    """Compares an ONNX file with the answers that were published, and with TensorFlow's.

    Raises:
        GateRefused: names the difference and the limit.
    """
    title = f"{saved.manifest.name} version {saved.manifest.version}: ONNX refused"
    converted, reference = _onnxruntime(content, title), _tensorflow(saved)
    preprocessor = preprocess.create(saved.manifest.preprocess, saved.read)
    examples = golden.decode(saved.read(golden.FILE_NAME), str(saved.path / golden.FILE_NAME))
    try:
        golden_difference = golden.check(
            examples, lambda raw: np.asarray(converted(preprocessor([raw]))["logits"][0]), title
        )
    except GoldenError as error:
        raise GateRefused(str(error)) from error
    batches = list(_random(saved.manifest, [preprocessor([raw]) for raw in examples.inputs]))
    return Verdict(
        golden_examples=len(examples.inputs),
        golden_difference=golden_difference,
        random_batches=len(batches),
        random_difference=max(_compare(converted, reference, each, title) for each in batches),
        tolerance=_TOLERANCE,
    )


def _compare(converted: Run, reference: Run, tensors: Tensors, title: str) -> float:
    found, expected = converted(tensors), reference(tensors)
    worst = 0.0
    for name, values in expected.items():
        difference = float(np.abs(found[name] - values).max())
        limit = _TOLERANCE * max(1.0, float(np.abs(values).max()))
        if not difference <= limit:  # also true for NaN
            shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
            raise GateRefused(
                f"{title}: {name} differs from TensorFlow's by {difference:.4g}, over {limit:.4g}, "
                f"for random inputs {shapes}"
            )
        worst = max(worst, difference)
    return worst


def _random(manifest: Manifest, real: list[Tensors]) -> Iterator[Tensors]:
    """Inputs of every shape, in several batch sizes, with values such as the `real` ones."""
    generator = np.random.default_rng(0)
    spec = manifest.preprocess
    for shape in spec.variants.values():
        for batch in _BATCHES:
            size = (batch, *shape)
            if isinstance(spec, TextPreprocess):
                ids = np.concatenate([tensors["input_ids"].ravel() for tensors in real])
                lengths = generator.integers(1, shape[0] + 1, size=(batch, 1))
                mask = np.arange(shape[0]) < lengths
                yield {
                    "input_ids": np.where(mask, generator.choice(ids, size), spec.pad_id),
                    "attention_mask": mask.astype(np.int32),
                }
            else:
                yield {"pixels": generator.integers(256, size=size, dtype=np.uint8)}


def _tensorflow(saved: SavedBundle) -> Run:
    loaded = tf.saved_model.load(str(saved.path))

    def run(tensors: Tensors) -> Mapping[str, NDArray[Any]]:
        answers = loaded.signatures[SIGNATURE](
            **{name: tf.constant(tensor) for name, tensor in tensors.items()}
        )
        return {name: answer.numpy() for name, answer in answers.items()}

    return run


def _onnxruntime(content: bytes, title: str) -> Run:
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class of its own for each fault, without a common base
        raise GateRefused(f"{title}: onnxruntime: {' '.join(str(error).split())[:300]}") from error
    names = [output.name for output in session.get_outputs()]

    def run(tensors: Tensors) -> Mapping[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(tensors)), strict=True))

    return run
