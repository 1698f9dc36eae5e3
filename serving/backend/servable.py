"""A model version that can be asked, whatever computes it: TensorFlow or LiteRT.

request ─► Signature: checks, decodes to NumPy ─► Batcher: meets other requests ─► run
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serving.backend.batcher import Batcher, Batching, Run
from serving.backend.signature import Signature
from serving.errors import InvalidArgument
from serving.tensors import Array

DEFAULT_SIGNATURE = "serving_default"

Arrays = Mapping[str, Array]


class Function:
    """A signature's computation, from NumPy to NumPy; any number of threads may call it.

    Args:
        run: arrays in the order of the signature's inputs → those of its outputs.
        batching: how concurrent calls are merged, if the signature is per row; None for never.
    """

    def __init__(self, signature: Signature, run: Run, batching: Batching | None) -> None:
        self.signature = signature
        self._run: Run = Batcher(run, batching) if batching and signature.batchable else run

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """Runs the model.

        Raises:
            InvalidArgument: it can't compute with these values.
            BackendUnavailable: too many calls wait already.
        """
        outputs = self._run([inputs[name] for name in self.signature.inputs])
        return dict(zip(self.signature.outputs, outputs, strict=True))


class Servable:
    """A loaded model version.

    Args:
        functions: by signature name.
        definitions: the SignatureDef of each signature, as stored.
        max_bytes: the most that each input may take in memory.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        definitions: Mapping[str, Any],
        max_bytes: int,
    ) -> None:
        self.definitions = definitions
        self._functions = functions
        self._max_bytes = max_bytes

    def predict(
        self, signature_name: str, inputs: Mapping[str, Any], output_filter: Iterable[str] = ()
    ) -> dict[str, Array]:
        """Answers one request.

        Args:
            signature_name: empty for the default one.
            inputs: TensorProto by input name.
            output_filter: names of the outputs to answer; all when empty.

        Raises:
            InvalidArgument: no such signature or output, an input that does not fit, or values
                that the model can't compute with.
            BackendUnavailable: too many calls wait already.
        """
        function = self.function(signature_name)
        chosen = function.signature.choose(output_filter)
        outputs = function(function.signature.read(inputs, self._max_bytes))
        return {name: outputs[name] for name in chosen}

    def compute(self, signature_name: str, inputs: Arrays) -> dict[str, Array]:
        """Answers arrays; see `predict`."""
        function = self.function(signature_name)
        return function(function.signature.check(inputs, self._max_bytes))

    def function(self, name: str) -> Function:
        """The function of a signature, by default of the default one.

        Raises:
            InvalidArgument: the model has no such signature.
        """
        name = name or DEFAULT_SIGNATURE
        if name not in self._functions:
            known = ", ".join(sorted(self._functions)) or "none"
            raise InvalidArgument(
                "model_spec.signature_name", f"{name!r} is not there; the model has: {known}"
            )
        return self._functions[name]
