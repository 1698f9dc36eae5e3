"""One SavedModel version in memory, ready to answer.

    saved_model.pb ──► SignatureDefs ──► Signature: checks a request, decodes it to NumPy
          │                                  │
          └──► graph in a session ──► run: tensors by the SignatureDef's names ─► Function
                                             ▲
    assets.extra/tf_serving_warmup_requests ─┘ replayed before the first caller

Each version has a session of its own, as in TensorFlow Serving: what it holds, weights and tables,
is freed with it. The graph is taken as it is stored, so a model of any age is loaded alike.

The only module of `serving` that imports TensorFlow.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from bundle.errors import BundleError
from serving.backend.config import BackendConfig
from serving.backend.servable import Function, Servable
from serving.backend.signature import Signature, from_def
from serving.errors import InvalidArgument
from serving.tensors import Array

_TAG = "serve"
_START = "__saved_model_init_op"  # TensorFlow 2's way to say what to run once
_CALLERS_THREAD = -1  # for operations, instead of a pool; tensorflow/core/protobuf/config.proto
_NODE = re.compile(r"\{\{.*?\}\}\s*")  # the name of a node, not the caller's matter

_log = logging.getLogger(__name__)

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls its loader deprecated


def load(path: Path, config: BackendConfig) -> Servable:
    """Loads a SavedModel folder.

    Raises:
        Exception: whatever TensorFlow raises for a folder that is damaged or incomplete.
        BundleError: the SavedModel is not made for serving, or its weights can't be read.
    """
    stored = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graphs = [graph for graph in stored.meta_graphs if _TAG in graph.meta_info_def.tags]
    if not graphs:
        raise BundleError(f"{path}: no graph is tagged {_TAG!r}. Export the model for serving.")
    definitions = dict(graphs[0].signature_def)
    signatures = _signatures(definitions)
    options = _options(config, signatures.values())
    session = _open(path, list(graphs[0].meta_info_def.tags), options)
    functions = {}
    for name, signature in signatures.items():
        definition = definitions[name]
        run = _Run(session, definition, list(signature.inputs), list(signature.outputs))
        functions[name] = Function(signature, run, config.batching)
    return Servable(functions, definitions, config.max_message_bytes)


def records(path: Path) -> Iterable[bytes]:
    """The records of a TFRecord file."""
    found: Iterable[bytes] = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return found


class _Run:
    """A signature's computation in a session, from NumPy to NumPy."""

    def __init__(
        self, session: Any, definition: Any, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        feeds = [definition.inputs[name].name for name in inputs]
        fetches = [definition.outputs[name].name for name in outputs]
        with session.graph.as_default():
            # What is fed can't be fetched as it is.
            fetches = [
                tf.identity(session.graph.get_tensor_by_name(name)).name if name in feeds else name
                for name in fetches
            ]
        # As Keras has it: `make_callable` spends 0.2 ms a call on looking at feeds and fetches.
        self._run = session._make_callable_from_options(
            config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        )

    def __call__(self, arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            outputs: Sequence[Array] = self._run(*arrays)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidArgument(
                "inputs", f"the model can't compute with them: {_reason(error)}"
            ) from error
        return outputs


def _signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """Those that can be asked, by name."""
    found = {}
    for name, definition in definitions.items():
        if name == _START:
            continue
        signature = from_def(name, definition)
        if signature is None:
            _log.warning("signature has tensors that can't be sent", extra={"signature": name})
        else:
            found[name] = signature
    return found


def _options(config: BackendConfig, signatures: Iterable[Signature]) -> Any:
    """What TensorFlow is told of threads and memory."""
    loading, batching = config.loading, config.batching
    intra, inter = loading.intra_op_threads, loading.inter_op_threads
    # A language model's steps never meet: each has the whole machine.
    shared = batching is not None and all(signature.batchable for signature in signatures)
    if batching and shared:
        cores = os.cpu_count() or 1
        intra = max(1, cores // batching.slots) if intra is None else intra
        inter = _CALLERS_THREAD if inter is None else inter
    return tf.compat.v1.ConfigProto(
        allow_soft_placement=True,  # a model saved on a GPU is served without one
        intra_op_parallelism_threads=intra or 0,
        inter_op_parallelism_threads=inter or 0,
        gpu_options=tf.compat.v1.GPUOptions(per_process_gpu_memory_fraction=loading.gpu_memory),
    )


def _open(path: Path, tags: list[str], options: Any) -> Any:
    """A session that holds the model's graph, weights and tables."""
    v1 = tf.compat.v1
    session = v1.Session(graph=tf.Graph(), config=options)
    try:
        v1.saved_model.load(session, tags, str(path))
    except tf.errors.OpError as error:
        raise BundleError(f"{path}: {_reason(error)}. Publish the version again.") from error
    return session


def _reason(error: Any) -> str:
    """What a kernel said, out of TensorFlow's text around it: stack above, graph below."""
    line = error.message.partition("\n\t [[")[0].rpartition("\n")[2]
    return _NODE.sub("", line)
