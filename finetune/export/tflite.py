"""A trained model → a TFLite file: one signature per shape of input, all over the same weights.

Static shapes let the delegate plan each length once, and a short text costs no padding. Equal
weights and scales are stored once: six signatures cost 3% more than one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from bundle.manifest import Profile
from finetune.errors import ModelError
from finetune.export import tflite_file
from finetune.export.serving_model import ServingModel


def convert(
    model: ServingModel, variants: Mapping[str, tuple[int, ...]], profile: Profile
) -> bytes:
    """Converts the model, each signature's inputs fixed to one example of a shape.

    Args:
        variants: signature name → shape of an example; see the manifest's preprocess records.

    Raises:
        ModelError: the converter does not take the model.
    """
    functions = {name: model.function(1, shape) for name, shape in variants.items()}
    return convert_functions(model, functions, profile)


def convert_functions(model: tf.Module, functions: Mapping[str, Any], profile: Profile) -> bytes:
    """Converts concrete functions of static shapes, each to a signature; see `convert`.

    Args:
        model: holds their variables.
    """
    with tempfile.TemporaryDirectory(prefix="tensorseek-") as folder:
        tf.saved_model.save(model, folder, signatures=dict(functions))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        _apply(converter, profile)
        try:
            content = bytes(converter.convert())
        except Exception as error:  # the converter raises a class of its own, not exported
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise ModelError(f"edge profile {profile}: the model does not convert: {reason}") from (
                error
            )
    return tflite_file.pack(tflite_file.parse(content))  # smaller: what is equal is written once


def _apply(converter: tf.lite.TFLiteConverter, profile: Profile) -> None:
    if profile == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if profile == "float16":
        converter.target_spec.supported_types = [tf.float16]
