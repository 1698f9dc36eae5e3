"""Text in, labels with scores out, on the device.

open ─► hashes ─► runtime new enough? ─► load ─► golden inputs answered as published? ─► ready

predict("a fine film") ─► ids ─► bucket 16 ─► signature tokens_16 ─► logits ─► labels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle import golden
from bundle.errors import ManifestError
from bundle.manifest import Manifest
from bundle.postprocess import LabelScore, rank_labels
from bundle.preprocess import TextPreprocessor
from edge import package, runtime
from edge.package import EdgePackage
from edge.runtime import Run, Runtime


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
        self._preprocessor = TextPreprocessor(opened.tokenizer, opened.manifest.preprocess)
        found.check(opened.edge)
        self._runs = _by_length(opened, found.load(opened.model, threads))
        # A runtime may lack a kernel and answer wrongly without an error: only this shows it.
        difference = golden.check(opened.golden, self.logits, str(opened.path))
        self.verification = Verification(
            files=len(opened.manifest.files),
            golden_examples=len(opened.golden.texts),
            golden_difference=difference,
            golden_tolerance=opened.golden.tolerance,
        )

    @classmethod
    def open(cls, path: str | Path, threads: int = 1) -> EdgeRunner:
        """Opens, verifies and loads the bundle at `path` with the installed runtime.

        Raises:
            BundleError: the bundle is missing, damaged or answers wrongly.
            EdgeError: no runtime, or one that can't run it.
        """
        return cls(package.read(Path(path)), runtime.find(), threads)

    def logits(self, text: str) -> NDArray[np.float32]:
        """The model's answer to one text: float32 [C].

        Raises:
            InputError: the text is empty or too long.
        """
        tensors = self._preprocessor([text])
        outputs = self._runs[tensors["input_ids"].shape[1]](tensors)
        if "logits" not in outputs:
            raise ManifestError(f"{self._path}: the model gives {sorted(outputs)}, not logits")
        return np.asarray(outputs["logits"][0], np.float32)

    def predict(self, text: str) -> list[LabelScore]:
        """Every label with its probability, the most probable first.

        Raises:
            InputError: the text is empty or too long.
        """
        return rank_labels(self.logits(text)[None], self.manifest.labels)[0]


def _by_length(opened: EdgePackage, signature: Callable[[str], Run]) -> dict[int, Run]:
    """Number of tokens → the signature that takes them."""
    runs = {}
    for name, spec in opened.manifest.signatures.items():
        match {tensor.name: tensor.shape for tensor in spec.inputs}.get("input_ids"):
            case (1, int(tokens)):
                runs[tokens] = signature(name)
    missing = set(opened.manifest.preprocess.buckets) - runs.keys()
    if missing:
        raise ManifestError(f"{opened.path}: no signature for the buckets {sorted(missing)}")
    return runs
