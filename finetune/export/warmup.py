"""Warm-up requests in TensorFlow Serving's own format: a TFRecord of PredictionLog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from bundle.preprocess import ImagePreprocessor, Preprocessor, Raw, Tensors

FILE_NAME = "tf_serving_warmup_requests"


def write(
    path: Path,
    model: str,
    preprocessor: Preprocessor,
    raw: Raw,
    written: Mapping[str, Tensors] | None = None,
) -> None:
    """Writes one request per shape of the inputs, so that no caller meets a cold one.

    Args:
        written: a request more for each of these signatures.
    """
    shapes = (("serving_default", tensors) for tensors in _every_shape(preprocessor, raw))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, tensors in chain(shapes, (written or {}).items()):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = signature
            for name, values in tensors.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def _every_shape(preprocessor: Preprocessor, raw: Raw) -> Iterator[Tensors]:
    if isinstance(preprocessor, ImagePreprocessor):
        yield preprocessor([raw])
        return
    (ids,) = preprocessor.encode([str(raw)])
    for length in preprocessor.spec.buckets:
        yield preprocessor.pad([ids[:length]], length)
