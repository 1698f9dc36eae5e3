"""Laws of the look at TensorFlow: whatever it does to its process, the doctor says what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from finetune.doctor import framework, probe
from finetune.doctor.finding import Fact, Problem
from finetune.doctor.framework import Measured, Product
from finetune.gpu import Gpu

GPU = Gpu(name="L4", memory_bytes=0, driver="550.1", compute_capability="8.9")

Install = Callable[[str], None]


@pytest.fixture(scope="module")
def measured() -> Measured:
    return probe.measure()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package named tensorflow with this code before the real one, for child processes."""

    def write(code: str) -> None:
        (tmp_path / "tensorflow.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[3]}")

    return write


def problems(found: list[Fact | Problem]) -> list[Problem]:
    return [each for each in found if isinstance(each, Problem)]


def test_what_works_is_measured_by_doing_it(measured: Measured) -> None:
    assert measured.xla_error == ""
    assert measured.xla_compile_s > 0
    assert [product.dtype for product in measured.products] == ["float32", "bfloat16", "float16"]
    assert all(product.gflops > 0.1 for product in measured.products)
    assert measured.policy in ("float32", "mixed_float16", "mixed_bfloat16")
    assert msgspec.json.decode(msgspec.json.encode(measured), type=Measured) == measured


def test_a_sound_tensorflow_has_facts_and_no_problems(measured: Measured) -> None:
    sound = msgspec.structs.replace(measured, gpus=("GPU:0",), cuda="12.5.1", cudnn="9")
    found = list(framework.judge(sound, [GPU]))
    facts = {each.name: each.value for each in found if isinstance(each, Fact)}
    assert problems(found) == []
    assert (facts["built for CUDA"], facts["built for cuDNN"]) == ("12.5.1", "9")
    assert facts["precision: auto"].startswith(measured.policy)
    assert facts["XLA"].startswith("compiles")


def test_a_gpu_that_tensorflow_does_not_see_is_told(measured: Measured) -> None:
    blind = msgspec.structs.replace(measured, gpus=(), cuda="12.5.1", cudnn="9")
    (problem,) = problems(list(framework.judge(blind, [GPU])))
    assert problem.what == "the driver has 1 GPUs, TensorFlow sees 0"
    assert "CUDA 12.5.1 and cuDNN 9" in problem.fix


def test_what_failed_is_told_and_only_float32_stops_training(measured: Measured) -> None:
    products = tuple(Product(dtype=name, error="no kernel") for name in ("float32", "float16"))
    broken = msgspec.structs.replace(measured, products=products, xla_error="no compiler")
    first, second, third = problems(list(framework.judge(broken, [])))
    assert (first.what, first.stops_training) == ("float32: no kernel", True)
    assert (second.what, second.stops_training) == ("float16: no kernel", False)
    assert (third.what, third.stops_training) == ("XLA: no compiler", False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("nonsense", "can't be read"),
        (json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}), "3"),
    ],
)
def test_a_wrong_tf_config_stops_training(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", value)
    (problem,) = problems(list(framework.judge(probe.measure(), [])))
    assert problem.what.startswith("TF_CONFIG")
    assert expected in problem.what
    assert problem.stops_training


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "raise ImportError('libcudart.so: no such file')",
            "TensorFlow does not start: ImportError: libcudart.so: no such file",
        ),
        ("import os; os.kill(os.getpid(), 4)", "TensorFlow dies with SIGILL"),
    ],
)
def test_a_tensorflow_that_can_not_be_imported_is_explained(
    install: Install, code: str, expected: str
) -> None:
    install(code)
    (problem,) = problems(list(framework.examine([])))
    assert problem.what == expected
    assert problem.fix
    assert problem.stops_training
