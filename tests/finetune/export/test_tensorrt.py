"""Laws of the TensorRT export: it says in one line why it can't, and asks for real shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundle.manifest import ImagePreprocess, TextPreprocess
from finetune import gpu
from finetune.errors import ExportError
from finetune.export import tensorrt

HERE = bool(gpu.find())


@pytest.mark.skipif(HERE, reason="this machine has a GPU")
def test_without_a_gpu_and_the_package_both_are_named_with_their_fix() -> None:
    with pytest.raises(ExportError) as caught:
        tensorrt.require()
    assert str(caught.value) == (
        "TensorRT: no NVIDIA GPU answers here: run it on a machine with one, and its driver; "
        "the package tensorrt is not installed: pip install 'tensorrt>=10,<11'"
    )


@pytest.mark.skipif(HERE, reason="this machine has a GPU")
def test_the_command_refuses_before_any_work(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tensorseek.cli", "export", "tiny", "--tensorrt"]
    command += ["--models", str(tmp_path), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("tensorseek: TensorRT: no NVIDIA GPU answers here")


def test_an_engine_takes_every_bucket_and_is_tuned_for_the_middle_one() -> None:
    spec = TextPreprocess(buckets=(16, 32, 64), pad_id=0, max_characters=100)
    spans = tensorrt.spans(spec)
    assert list(spans) == ["input_ids", "attention_mask"]
    for span in spans.values():
        assert (span.smallest, span.usual, span.largest) == ((1, 16), (8, 32), (64, 64))


def test_pictures_keep_their_size() -> None:
    (span,) = tensorrt.spans(ImagePreprocess(height=32, width=24)).values()
    assert (span.smallest, span.largest) == ((1, 32, 24, 3), (64, 32, 24, 3))
