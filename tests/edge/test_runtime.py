"""Laws of the runtime: the newest kind first, and one that can't run a bundle says so."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from bundle.manifest import EdgeModel
from edge import package, runtime
from edge.errors import EdgeError, RuntimeMissing, RuntimeUnfit
from edge.runner import EdgeRunner
from edge.runtime import Runtime

LITERT, TFLITE = "ai_edge_litert.interpreter", "tflite_runtime.interpreter"
LITERT_VERSION = importlib.metadata.version("ai-edge-litert")
Install = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes modules as if they were not installed."""

    def remove(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return remove


@pytest.fixture
def tflite_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Installs a distribution that calls itself tflite-runtime."""

    def install(version: str, source: str = "class Interpreter: pass") -> None:
        (tmp_path / "tflite_runtime").mkdir()
        (tmp_path / "tflite_runtime/__init__.py").touch()
        (tmp_path / "tflite_runtime/interpreter.py").write_text(source)
        record = tmp_path / f"tflite_runtime-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Name: tflite-runtime\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        for module in ("tflite_runtime", TFLITE):
            monkeypatch.delitem(sys.modules, module, raising=False)

    return install


@pytest.fixture(scope="module")
def edge_model(bundle: Path) -> EdgeModel:
    return package.read(bundle).edge


def aged(edge_model: EdgeModel, min_runtime: str) -> EdgeModel:
    return msgspec.structs.replace(edge_model, min_runtime=min_runtime)


def test_litert_comes_first(tflite_runtime: Install) -> None:
    tflite_runtime("2.14.0")
    found = runtime.find()
    assert (found.name, found.version) == ("ai-edge-litert", LITERT_VERSION)
    assert found.interpreter is Interpreter


def test_without_litert_the_old_one_is_taken(
    tflite_runtime: Install, without: Callable[..., None]
) -> None:
    tflite_runtime("2.14.0")
    without(LITERT)
    found = runtime.find()
    assert (found.name, found.version) == ("tflite-runtime", "2.14.0")
    assert found.interpreter.__module__ == TFLITE


def test_with_neither_it_says_what_to_install(without: Callable[..., None]) -> None:
    without(LITERT, TFLITE)
    with pytest.raises(RuntimeMissing, match=r"pip install 'tensorseek\[edge\]'$"):
        runtime.find()


def test_one_that_does_not_load_is_named(
    tflite_runtime: Install, without: Callable[..., None]
) -> None:
    tflite_runtime("2.14.0", "raise ImportError('needs a newer C library')")
    without(LITERT)
    with pytest.raises(
        RuntimeMissing, match="tflite-runtime is, but does not load: needs a newer C library"
    ):
        runtime.find()


def test_one_that_does_not_load_is_passed_over(
    tflite_runtime: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tflite_runtime("2.14.0")
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert/__init__.py").touch()
    (tmp_path / "ai_edge_litert/interpreter.py").write_text("raise ImportError('old libc')")
    for module in [name for name in sys.modules if name.split(".")[0] == "ai_edge_litert"]:
        monkeypatch.delitem(sys.modules, module)
    assert runtime.find().name == "tflite-runtime"


@pytest.mark.parametrize("needed", ["2.17.0", "2.15.0", "3.0.0"])
def test_an_old_runtime_refuses_newer_ops_with_the_way_out(
    edge_model: EdgeModel, needed: str
) -> None:
    old = Runtime("tflite-runtime", "2.14.0", None)
    with pytest.raises(
        RuntimeUnfit,
        match=rf"^tflite-runtime 2\.14\.0 is too old: this dynamic_int8 model needs ops of "
        rf"TFLite {needed}\. Install ai-edge-litert, or use a float32 or full_int8 bundle\.$",
    ):
        old.check(aged(edge_model, needed))


@pytest.mark.parametrize("needed", ["1.13.1", "2.9.0", "2.14.0", "2.14.9"])
def test_an_old_runtime_takes_what_it_has(edge_model: EdgeModel, needed: str) -> None:
    Runtime("tflite-runtime", "2.14.0", None).check(aged(edge_model, needed))


def test_litert_counts_anew_and_is_not_too_old(edge_model: EdgeModel) -> None:
    Runtime("ai-edge-litert", "1.0.1", None).check(aged(edge_model, "2.17.0"))


def test_a_bundle_is_refused_before_an_old_runtime_sees_its_model(
    bundle: Path, tflite_runtime: Install, without: Callable[..., None]
) -> None:
    tflite_runtime("2.14.0", "def Interpreter(**_): raise AssertionError('it was loaded')")
    without(LITERT)
    with pytest.raises(RuntimeUnfit, match="is too old"):
        EdgeRunner.open(bundle)


@pytest.mark.parametrize("model", [b"", b"x", b"\0" * 1000, b"\x20\0\0\0TFL3" + b"\xff" * 1000])
def test_a_model_that_is_none_is_refused(model: bytes) -> None:
    with pytest.raises(RuntimeUnfit, match=r"^ai-edge-litert .* refuses the model: ") as caught:
        runtime.find().load(model, threads=1)
    assert isinstance(caught.value, EdgeError)
    assert "\n" not in str(caught.value)


def test_a_cut_model_is_refused(bundle: Path) -> None:
    model = package.read(bundle).model
    for size in (len(model) // 4, len(model) // 2, len(model) - 100):
        with pytest.raises(RuntimeUnfit, match="refuses the model"):
            runtime.find().load(model[:size], threads=1)


def test_an_unknown_signature_is_refused(bundle: Path) -> None:
    signature = runtime.find().load(package.read(bundle).model, threads=1).signature
    with pytest.raises(RuntimeUnfit, match="finds no signature 'tokens_99' in the model"):
        signature("tokens_99")


def test_inputs_that_do_not_fit_are_refused(bundle: Path) -> None:
    run = runtime.find().load(package.read(bundle).model, threads=1).signature("tokens_8")
    ids = np.ones((1, 8), np.int32)
    for wrong in ({"input_ids": ids}, {"input_ids": ids.astype(np.float32), "attention_mask": ids}):
        with pytest.raises(RuntimeUnfit, match="can't run signature 'tokens_8'"):
            run(wrong)


def test_answers_are_the_callers_own(bundle: Path) -> None:
    """The interpreter reuses its memory in the next call."""
    run = runtime.find().load(package.read(bundle).model, threads=1).signature("tokens_8")
    mask = np.ones((1, 8), np.int32)
    first = run({"input_ids": np.full((1, 8), 9, np.int32), "attention_mask": mask})["logits"]
    kept = first.copy()
    run({"input_ids": np.full((1, 8), 12, np.int32), "attention_mask": mask})
    np.testing.assert_array_equal(first, kept)
