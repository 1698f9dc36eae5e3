"""One SavedModel version in memory, ready to answer.

    saved_model.pb ──► SignatureDefs ──► Signature: checks a request, decodes it to NumPy
          │                                  │
          └──► graph in a session ──► Function ──┬─► batch op of this shape ─► model   merged
                                             ▲   └───────────────────────────► model   alone
    assets.extra/tf_serving_warmup_requests ─┘ replayed once, before the first caller

Each version has a session of its own, as in TensorFlow Serving: what a session holds, weights and
batching queues, is freed with it. In eager mode the queues would outlive the model.

The only module of `serving` that imports TensorFlow.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bundle.errors import BundleError
from serving.backend.config import BackendConfig
from serving.backend.signature import Signature, from_def
from serving.errors import BackendUnavailable, InvalidArgument, LimitExceeded
from serving.tensors import Array

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000  # TensorFlow Serving's limit
MAX_QUEUES = 64  # a signature's; each has a thread, so further shapes run unmerged

DEFAULT_SIGNATURE = "serving_default"
_TAG = "serve"
_V1_INITIALIZERS = "saved_model_initializers"  # a TensorFlow 1 model restores its weights there
_NODE = re.compile(r"\{\{.*?\}\}\s*")  # the name of a node, not the caller's matter

_log = logging.getLogger(__name__)

Arrays = Mapping[str, Array]
_Run = Callable[..., Sequence[Array]]
_Shapes = tuple[tuple[int, ...], ...]


class Servable:
    """A loaded model version.

    Args:
        session: holds the model's graph and weights.
        functions: from signature name to what it computes, in the session's graph.
        definitions: the SignatureDef of each signature, as stored.
        config: limits, and how calls are merged.
    """

    def __init__(
        self,
        session: Any,
        functions: Mapping[str, Any],
        definitions: Mapping[str, Any],
        config: BackendConfig,
    ) -> None:
        self.definitions = definitions
        self._max_bytes = config.max_message_bytes
        self._functions: dict[str, Function] = {}
        for name, function in functions.items():
            signature = from_def(name, definitions[name])
            if signature is None:
                _log.warning("signature has tensors that can't be sent", extra={"signature": name})
                continue
            self._functions[name] = Function(session, function, signature, config)

    def predict(
        self, signature_name: str, inputs: Mapping[str, Any], output_filter: Iterable[str] = ()
    ) -> Arrays:
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
        function = self._function(signature_name or DEFAULT_SIGNATURE)
        chosen = function.signature.choose(output_filter)
        outputs = function(function.signature.read(inputs, self._max_bytes))
        return {name: outputs[name] for name in chosen}

    def _function(self, name: str) -> Function:
        if name not in self._functions:
            known = ", ".join(sorted(self._functions)) or "none"
            raise InvalidArgument(
                "model_spec.signature_name", f"{name!r} is not there; the model has: {known}"
            )
        return self._functions[name]


class Function:
    """A signature's computation, from NumPy to NumPy; any number of threads may call it.

    Concurrent calls are merged by TensorFlow's own batch op, that of TensorFlow Serving. Rows of
    two lengths can't be stacked, so every trailing shape has an op, and so a queue, of its own.
    """

    def __init__(
        self, session: Any, function: Any, signature: Signature, config: BackendConfig
    ) -> None:
        self.signature = signature
        self._session = session
        self._function = function
        self._config = config
        self._merges = signature.batchable and config.max_batch > 1
        with session.graph.as_default():
            self._inputs = [
                tf.compat.v1.placeholder(spec.dtype, spec.shape)
                for spec in signature.inputs.values()
            ]
            self._alone = self._callable(self._compute(*self._inputs))
        self._merged: dict[_Shapes, _Run] = {}
        self._lock = threading.Lock()

    def __call__(self, inputs: Arrays) -> Arrays:
        """Runs the model.

        Raises:
            InvalidArgument: it can't compute with these values.
            BackendUnavailable: too many calls wait already.
        """
        arrays = [inputs[name] for name in self.signature.inputs]
        merged = self._queue(arrays)
        outputs = self._run_merged(merged, arrays) if merged else self._run_alone(arrays)
        return dict(zip(self.signature.outputs, outputs, strict=True))

    def _run_merged(self, run: _Run, arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            return run(*arrays)
        except tf.errors.UnavailableError as error:
            raise BackendUnavailable("too many calls wait for this model; try again") from error
        except tf.errors.OpError:
            # One caller's bad rows fail the whole run; alone, each meets its own fault only.
            return self._run_alone(arrays)

    def _run_alone(self, arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            return self._alone(*arrays)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidArgument(
                "inputs", f"the model can't compute with them: {_reason(error)}"
            ) from error

    def _queue(self, arrays: Sequence[Array]) -> _Run | None:
        """The merged computation for arrays like these; None when they have to run alone."""
        if not self._merges or not 0 < len(arrays[0]) <= self._config.max_batch:
            return None
        shapes = tuple(array.shape[1:] for array in arrays)
        run = self._merged.get(shapes)
        if run is None:
            with self._lock:
                run = self._merged.get(shapes)
                if run is None and len(self._merged) < MAX_QUEUES:
                    run = self._merged[shapes] = self._add_queue()
        return run

    def _add_queue(self) -> _Run:
        config = self._config
        batched = tf.nondifferentiable_batch_function(
            num_batch_threads=config.batch_threads,
            max_batch_size=config.max_batch,
            batch_timeout_micros=round(1000 * config.batch_timeout_ms),
            max_enqueued_batches=max(1, config.max_queue),
        )
        with self._session.graph.as_default():
            return self._callable(batched(self._compute)(*self._inputs))

    def _compute(self, *tensors: Any) -> list[Any]:
        outputs = self._function(**dict(zip(self.signature.inputs, tensors, strict=True)))
        return [outputs[name] for name in self.signature.outputs]

    def _callable(self, outputs: Any) -> _Run:
        fetches = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        run: _Run = self._session.make_callable(fetches, feed_list=self._inputs)
        return run


def load(path: Path, config: BackendConfig) -> Servable:
    """Loads a SavedModel folder and warms it up.

    Raises:
        Exception: whatever TensorFlow raises for a folder that is damaged or incomplete.
        BundleError: the SavedModel is not made for serving.
        InvalidArgument: a warm-up request does not fit the model.
        LimitExceeded: there are too many of them.
    """
    stored = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graphs = [graph for graph in stored.meta_graphs if _TAG in graph.meta_info_def.tags]
    if not graphs:
        raise BundleError(f"{path}: no graph is tagged {_TAG!r}. Export the model for serving.")
    session, model = _open(path, list(graphs[0].meta_info_def.tags))
    servable = Servable(session, model.signatures, dict(graphs[0].signature_def), config)
    _warm_up(servable, path / WARMUP_FILE)
    return servable


def _open(path: Path, tags: list[str]) -> tuple[Any, Any]:
    """A session that holds the model's weights and tables, and the model in its graph."""
    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default():
        model = tf.saved_model.load(str(path), tags=tags)
        weights = [v1.global_variables_initializer(), *graph.get_collection(_V1_INITIALIZERS)]
        tables = v1.tables_initializer()
    session = v1.Session(graph=graph)
    session.run(weights)
    session.run(tables)
    return session, model


def _warm_up(servable: Servable, path: Path) -> None:
    """Replays the Predict requests that came with the model, so that no caller meets it cold."""
    if not path.is_file():
        return
    records = tf.data.TFRecordDataset(str(path)).take(MAX_WARMUP_RECORDS + 1)
    for index, record in enumerate(records.as_numpy_iterator()):
        if index == MAX_WARMUP_RECORDS:
            raise LimitExceeded(f"{path}: more than {index} warm-up requests; publish fewer")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if not log.HasField("predict_log"):
            continue  # of a method that is not served here
        request = log.predict_log.request
        try:
            servable.predict(
                request.model_spec.signature_name, request.inputs, request.output_filter
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}[{index}].{error.field}", error.problem) from error


def _reason(error: Any) -> str:
    """What a kernel said, out of TensorFlow's text around it: stack above, graph below."""
    line = error.message.partition("\n\t [[")[0].rpartition("\n")[2]
    return _NODE.sub("", line)
