"""What TensorFlow can do here, as the child that tried it tells, or how the child ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import msgspec

from finetune.doctor.finding import Fact, Finding, Problem
from finetune.gpu import Gpu

_PROBE = "finetune.doctor.probe"
_TIMEOUT_S = 180.0
_FIXES = {
    "SIGILL": "its build needs AVX instructions, which this processor lacks; use another machine",
    "SIGKILL": "the system ended it, most often for want of memory; close other programs",
}


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix product in one dtype, and how fast it was or why it failed."""

    dtype: str
    gflops: float = 0.0  # 10^9 multiplications and additions a second
    error: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the child found."""

    version: str
    cuda: str | None  # that TensorFlow was built for; None of a build without
    cudnn: str | None
    gpus: tuple[str, ...]
    one_dnn: bool
    products: tuple[Product, ...]
    policy: str  # what a recipe's `precision: auto` means here
    policy_reason: str
    xla_compile_s: float
    xla_error: str
    tf_config_error: str


def examine(gpus: Sequence[Gpu]) -> Iterator[Finding]:
    """Measures TensorFlow in a child process.

    Args:
        gpus: what the driver knows, to compare with what TensorFlow sees.
    """
    yield _fact("TF_CONFIG", os.environ.get("TF_CONFIG", "not set"))
    command = [sys.executable, "-m", _PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        yield _broken(
            f"does not answer within {_TIMEOUT_S:.0f} s", "look at the driver: nvidia-smi"
        )
        return
    if done.returncode == 0:
        yield from judge(msgspec.json.decode(done.stdout, type=Measured), gpus)
    elif done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        yield _broken(f"dies with {name}", _FIXES.get(name, "install it again"))
    else:
        lines = done.stderr.strip().splitlines() or ["no message"]
        yield _broken(f"does not start: {lines[-1]}", "install it again: pip install tensorflow")


def judge(measured: Measured, gpus: Sequence[Gpu]) -> Iterator[Finding]:
    """What the figures mean."""
    yield _fact("version", measured.version)
    yield _fact("built for CUDA", measured.cuda or "no CUDA")
    yield _fact("built for cuDNN", measured.cudnn or "no cuDNN")
    yield _fact("GPUs", ", ".join(measured.gpus) or "none")
    yield _fact("oneDNN", "on" if measured.one_dnn else "off (TF_ENABLE_ONEDNN_OPTS=0)")
    yield _fact("precision: auto", f"{measured.policy}: {measured.policy_reason}")
    for product in measured.products:
        yield from _judge_product(product)
    yield _fact("XLA", measured.xla_error or f"compiles, {measured.xla_compile_s:.2f} s the first")
    if measured.xla_error:
        yield Problem(
            what=f"XLA: {measured.xla_error}", fix="leave memory.xla false", stops_training=False
        )
    if measured.tf_config_error:
        fix = "or unset TF_CONFIG, to train on this machine alone"
        yield Problem(what=measured.tf_config_error, fix=fix, stops_training=True)
    if len(measured.gpus) < len(gpus):
        yield _unseen(measured, gpus)


def _judge_product(product: Product) -> Iterator[Finding]:
    value = product.error or f"{product.gflops:.1f} GFLOP/s"
    yield _fact(f"{product.dtype} products", value)
    if product.error:
        yield Problem(
            what=f"{product.dtype}: {product.error}",
            fix="set precision to float32",
            stops_training=product.dtype == "float32",
        )


def _unseen(measured: Measured, gpus: Sequence[Gpu]) -> Problem:
    what = f"the driver has {len(gpus)} GPUs, TensorFlow sees {len(measured.gpus)}"
    if measured.cuda is None:
        fix = "this build has no CUDA: pip install 'tensorflow[and-cuda]'"
    else:
        fix = (
            f"it needs the libraries of CUDA {measured.cuda} and cuDNN {measured.cudnn}: "
            "pip install 'tensorflow[and-cuda]'"
        )
    return Problem(what=what, fix=fix, stops_training=False)


def _broken(what: str, fix: str) -> Problem:
    return Problem(what=f"TensorFlow {what}", fix=fix, stops_training=True)


def _fact(name: str, value: str) -> Fact:
    return Fact(section="TensorFlow", name=name, value=value)
