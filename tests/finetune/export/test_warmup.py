"""Laws of the warm-up file: TensorFlow Serving can replay it, and it meets every length once."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from finetune.export import warmup


def test_it_holds_one_request_a_bucket_that_the_model_answers(published: Any) -> None:
    saved = published.outcome.saved
    path = saved.path / "assets.extra" / warmup.FILE_NAME
    signature = tf.saved_model.load(str(saved.path)).signatures["serving_default"]
    lengths = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "tiny"
        assert request.model_spec.signature_name == "serving_default"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert inputs["attention_mask"].sum() > 2
        lengths.append(inputs["input_ids"].shape[1])
        answer = signature(**{name: tf.constant(values) for name, values in inputs.items()})
        assert answer["logits"].shape == (1, 2)
    assert lengths == [8, 16]
