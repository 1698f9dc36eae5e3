"""What TensorFlow can do on this machine, found by doing it: prints one line of JSON.

A program of its own, `python -m finetune.doctor.probe`, that `framework` outlives: a TensorFlow
built for another processor dies with a signal, and a driver may hold it for ever.
"""

from __future__ import annotations

import os
import sys
import time

import msgspec
import tensorflow as tf

from finetune import precision, tf_config
from finetune.doctor.framework import Measured, Product
from finetune.errors import TrainingError

_SIDE = 512  # of the matrices; a power of 2, so that even bfloat16 holds their product
_REPEATS = 3


def measure() -> Measured:
    """Asks TensorFlow, compiles a function, and multiplies matrices."""
    build = tf.sysconfig.get_build_info()
    gpus = tuple(device.name for device in tf.config.list_physical_devices("GPU"))
    policy = precision.choose("auto")
    seconds, xla_error = _compile()
    return Measured(
        version=tf.__version__,
        cuda=build.get("cuda_version"),
        cudnn=build.get("cudnn_version"),
        gpus=gpus,
        one_dnn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        products=tuple(_multiply(dtype) for dtype in (tf.float32, tf.bfloat16, tf.float16)),
        policy=policy,
        policy_reason=_reason(policy, gpus),
        xla_compile_s=seconds,
        xla_error=xla_error,
        tf_config_error=_tf_config_error(),
    )


def _compile() -> tuple[float, str]:
    """Seconds that XLA takes for a tiny function, and why it does not."""

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def total(matrix: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.nn.relu(matrix @ matrix))

    began = time.monotonic()
    try:
        value = float(total(tf.ones([8, 8])))
    except tf.errors.OpError as error:
        return 0.0, _line(error)
    return time.monotonic() - began, "" if value == 512 else f"it computes {value:g}, not 512"


def _multiply(dtype: tf.DType) -> Product:
    ones = tf.ones([_SIDE, _SIDE], dtype)
    try:
        corner = float((ones @ ones)[0, 0])  # the first time, kernels are loaded
        began = time.monotonic()
        for _ in range(_REPEATS):
            product = ones @ ones
        product.numpy()
    except tf.errors.OpError as error:
        return Product(dtype=dtype.name, error=_line(error))
    if corner != _SIDE:
        return Product(dtype=dtype.name, error=f"it computes {corner:g}, not {_SIDE}")
    operations = _REPEATS * 2 * _SIDE**3
    return Product(dtype=dtype.name, gflops=operations / (time.monotonic() - began) / 1e9)


def _reason(policy: precision.Policy, gpus: tuple[str, ...]) -> str:
    if gpus:
        return "a GPU is there"
    if policy == "mixed_bfloat16":
        return "no GPU; this processor multiplies bfloat16 in hardware"
    return "no GPU; this processor has no unit for bfloat16"


def _tf_config_error() -> str:
    if tf_config.VARIABLE not in os.environ:
        return ""
    try:
        tf_config.check()
    except TrainingError as error:
        return str(error)
    return ""


def _line(error: tf.errors.OpError) -> str:
    return " ".join(error.message.split())[:200]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure()) + b"\n")
