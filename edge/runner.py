"""Text or picture in, labels with scores out, on the device; or a prompt in, and text out.

open ─► hashes ─► runtime new enough? ─► load ─► golden inputs answered as published? ─► ready

predict("a fine film") ─► ids ─► bucket 16 ─► signature tokens_16 ─► logits ─► labels
generate("Once upon")  ─► ids ─► see `writer` ─► "Once", " upon", …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import golden
from bundle.errors import InputError, ManifestError
from bundle.manifest import Manifest, Signature
from bundle.postprocess import LabelScore, rank_labels, real
from bundle.preprocess import ImagePreprocessor, Raw, Tensors
from bundle.signing import Trusted
from edge import package, runtime
from edge.package import EdgePackage
from edge.runtime import Run, Runtime
from edge.sampling import Sampling
from edge.writer import Writer

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Verification:
    """What was proven of a bundle on this device."""

    files: int  # whose SHA-256 is the published one
    golden_examples: int
    golden_difference: float  # the largest of any logit
    golden_tolerance: float


class EdgeRunner:
    """A loaded edge bundle. Not for two threads at once: the interpreter keeps state.

    Args:
        opened: the bundle, from `package.read`.
        found: the runtime to use.
        threads: CPU threads of one call.

    Raises:
        ManifestError: the manifest and the model don't fit each other.
        RuntimeUnfit: the runtime can't run the model.
        GoldenError: it runs it wrongly.
    """

    def __init__(self, opened: EdgePackage, found: Runtime, threads: int = 1) -> None:
        self._path = opened.path
        self.manifest: Manifest = opened.manifest
        self.runtime = found
        self.edge = opened.edge
        self._preprocessor = opened.preprocessor
        self._golden = opened.golden
        found.check(opened.edge)
        loaded = found.load(opened.model, threads)
        self.delegated_parts = loaded.delegated_parts
        signatures = self.manifest.signatures
        runs = {name: loaded.signature(name) for name in signatures}
        self._writer = _writer(opened, runs)
        self._runs = {name: _real(runs[name], spec) for name, spec in signatures.items()}
        self._names = {} if self._writer else _by_shape(opened)
        # A runtime may lack a kernel and answer wrongly without an error: only this shows it.
        difference = golden.check(opened.golden, self.logits, str(opened.path))
        self.verification = Verification(
            files=len(opened.manifest.files),
            golden_examples=len(opened.golden.inputs),
            golden_difference=difference,
            golden_tolerance=opened.golden.tolerance,
        )

    @classmethod
    def open(cls, path: str | Path, threads: int = 1, trusted: Trusted | None = None) -> EdgeRunner:
        """Opens, verifies and loads the bundle at `path` with the installed runtime.

        Args:
            trusted: whose signature it must have; None for a bundle that may have none.

        Raises:
            BundleError: the bundle is missing, damaged or answers wrongly.
            EdgeError: no runtime, or one that can't run it.
        """
        return cls(package.read(Path(path), trusted), runtime.find(), threads)

    def logits(self, raw: Raw) -> NDArray[np.float32]:
        """The model's answer to one text, or one encoded picture: float32 [C].

        Of a language model, it is of the token that follows the text.

        Raises:
            InputError: it is empty, too large, or not what the model takes.
        """
        if self._writer is None or isinstance(self._preprocessor, ImagePreprocessor):
            return self.answer(self._preprocessor([raw]))
        self._preprocessor.check(raw)
        return self._writer.logits(self._preprocessor.encode([str(raw)])[0].tolist())

    def answer(self, tensors: Tensors) -> NDArray[np.float32]:
        """The model's answer to one example's tensors, of one of its shapes: float32 [C]."""
        outputs = self.run(self._names[next(iter(tensors.values())).shape], tensors)
        if "logits" not in outputs:
            raise ManifestError(f"{self._path}: the model gives {sorted(outputs)}, not logits")
        return np.asarray(outputs["logits"][0], np.float32)

    def run(self, signature: str, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """What one of the model's signatures gives for its tensors."""
        return self._runs[signature](tensors)

    def examples(self) -> dict[str, Tensors]:
        """Inputs for every signature, made of the golden ones and as long as it takes."""
        if self._writer is not None:
            return dict(self._writer.examples())
        if isinstance(self._preprocessor, ImagePreprocessor):
            return dict.fromkeys(
                self.manifest.signatures, self._preprocessor(self._golden.images[:1])
            )
        long = " ".join(self._golden.texts)
        ids = self._preprocessor.encode([" ".join([long] * self._preprocessor.spec.buckets[-1])])[0]
        return {
            name: self._preprocessor.pad([ids[:tokens]], tokens)
            for name, (tokens,) in self.manifest.preprocess.variants.items()
        }

    def predict(self, raw: Raw) -> list[LabelScore]:
        """Every label with its probability, the most probable first.

        Raises:
            InputError: see `logits`; or the model is none that classifies.
        """
        if self._writer is not None:
            raise InputError("text", "can't be classified: this model writes; use generate")
        return rank_labels(self.logits(raw)[None], self.manifest.labels)[0]

    def predict_all(self, inputs: Iterable[Raw]) -> Iterator[list[LabelScore] | InputError]:
        """What `predict` says of each input, in order, as it comes: any number of them.

        A wrong one has its error as its answer, and the others have theirs.
        """
        for raw in inputs:
            try:
                yield self.predict(raw)
            except InputError as error:
                yield error

    def generate(self, prompt: str, **settings: Any) -> Iterator[str]:
        """Writes on from a prompt: pieces of text, as they come.

        Args:
            settings: see `Sampling`; such as `max_new_tokens=64, temperature=0.8, seed=7`.

        Raises:
            InputError: the prompt or a setting breaks a limit; or the model is none that writes.
        """
        if self._writer is None or isinstance(self._preprocessor, ImagePreprocessor):
            raise InputError("prompt", "can't be continued: this model classifies; use predict")
        self._preprocessor.check(prompt)
        return self._writer.write(prompt, Sampling(**settings))


def _writer(opened: EdgePackage, runs: dict[str, Run]) -> Writer | None:
    """What writes with the model, if it can."""
    if opened.manifest.generation is None:
        return None
    try:
        return Writer(opened.manifest, opened.assets, runs)
    except ManifestError as error:
        raise ManifestError(f"{opened.path}: {error}") from error


def _by_shape(opened: EdgePackage) -> dict[Shape, str]:
    """Shape of the inputs → the signature that takes them."""
    names = {}
    for name, spec in opened.manifest.signatures.items():
        shapes = {tensor.shape for tensor in spec.inputs}
        if len(shapes) == 1:
            names[shapes.pop()] = name
    for name, shape in opened.manifest.preprocess.variants.items():
        if (1, *shape) not in names:
            raise ManifestError(f"{opened.path}: has no signature {name} for inputs {[1, *shape]}")
    return names


def _real(run: Run, signature: Signature) -> Run:
    """A signature that gives numbers, whatever integers stand for them in the model."""
    specs = {spec.name: spec for spec in signature.outputs}

    def run_real(tensors: Tensors) -> dict[str, NDArray[Any]]:
        outputs = run(tensors)
        return outputs | {name: real(outputs[name], specs[name]) for name in specs.keys() & outputs}

    return run_real
