"""Warm-up requests in TensorFlow Serving's own format: a TFRecord of PredictionLog."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from bundle.preprocess import TextPreprocessor

FILE_NAME = "tf_serving_warmup_requests"


def write(path: Path, model: str, preprocessor: TextPreprocessor, text: str) -> None:
    """Writes one request per length bucket, so that no caller meets a cold shape."""
    (ids,) = preprocessor.encode([text])
    with tf.io.TFRecordWriter(str(path)) as writer:
        for length in preprocessor.spec.buckets:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = "serving_default"
            for name, values in preprocessor.pad([ids[:length]], length).items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
