"""The whole local stack, as `tensorseek up` starts it, over tiny models of every task."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from bundle import golden
from bundle.manifest import ImagePreprocess, Manifest, Provenance, Signature, TensorSpec
from bundle.repository import EXTRA, ModelRepository
from tensorseek import cli, stack
from tensorseek.stack import Ports

GOLDEN = Path(__file__).parents[1] / "finetune" / "deepseek" / "golden"
WORDS = "the film was very good but the plot was awful and dull".split()


@pytest.fixture(scope="session")
def check_parses() -> Callable[[list[str]], None]:
    """Raises click's usage error unless the command line takes the arguments."""

    def check(arguments: list[str]) -> None:
        command: Any = typer.main.get_command(cli.app).commands[arguments.pop(0)]
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
        assert getattr(command, "invoke_without_command", True), "names no command"
        assert command.make_context("tensorseek", arguments).params

    return check


@dataclass(frozen=True)
class Up:
    """A running `tensorseek up`."""

    process: subprocess.Popen[str]
    ports: Ports
    models: Path
    printed: list[str]


@contextmanager
def start(models: Path, logs: Path, runs: Path | None = None) -> Iterator[Up]:
    """Starts `tensorseek up` on free ports and waits until it has printed its addresses."""
    ports = stack.free_ports()
    command = [sys.executable, "-m", "tensorseek.cli", "up", "--models", str(models)]
    command += ["--logs", str(logs), "--runs", str(runs or logs)]
    for name, port in vars(ports).items():
        command += [f"--{name}-port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = [process.stdout.readline() for _ in range(3)]
            yield Up(process, ports, models, printed)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="session")
def up(
    tmp_path_factory: pytest.TempPathFactory,
    publish_tiny: Any,
    publish_tiny_edge: Any,
    writer: Writer,
) -> Iterator[Up]:
    """Models: `tiny` of texts; `flips`, that in two versions; `shades` of pictures; `writer`."""
    folder = tmp_path_factory.mktemp("up")
    models = folder / "models"
    publish_tiny_edge(publish_tiny(models))
    for seed in (0, 1):
        publish_tiny_edge(publish_tiny(models, "flips", seed), seed)
    publish_shades(models)
    shutil.copytree(writer.models / "writer", models / "writer")
    with start(models, folder / "logs", writer.runs) as running:
        yield running


@dataclass(frozen=True)
class Writer:
    """A V3 language model that learnt a little, as `writer`."""

    models: Path
    runs: Path


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Writer:
    from finetune import pipeline
    from finetune.progress import Silent
    from finetune.recipe import Recipe

    root = tmp_path_factory.mktemp("writer")
    base = Path(shutil.copytree(GOLDEN / "v3", root / "base"))
    (base / "tokenizer.json").write_bytes(tokenizer_json)
    data: dict[str, Any] = {"buckets": [16], "batch_size": 4}
    for name in ("train", "dev", "test"):
        path = root / f"{name}.txt"
        path.write_text(" ".join(WORDS * 10))
        data[name] = str(path)
    recipe = Recipe.model_validate(
        {
            "name": "writer",
            "task": "text-generation",
            "base_model": str(base),
            "data": data,
            "schedule": {"epochs": 1},
            "logging": {"every": 1},
            "edge": {"profiles": []},
        }
    )
    pipeline.run(recipe, models=root / "models", runs=root / "runs", progress=Silent())
    return Writer(root / "models", root / "runs")


def publish_shades(root: Path) -> None:
    """A model that tells dark pictures from bright ones."""
    import tensorflow as tf

    spec = ImagePreprocess(height=8, width=8)
    pixels = TensorSpec(name="pixels", dtype="uint8", shape=(None, 8, 8, 3))
    logits = TensorSpec(name="logits", dtype="float32", shape=(None, 2))

    class Shades(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.uint8, name="pixels")])
        def serve(self, pixels: Any) -> Any:
            light = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[1, 2, 3]) / 255 - 0.5
            return {"logits": tf.stack([-8 * light, 8 * light], axis=1)}

    repository = ModelRepository(root)
    with repository.staging() as staged:
        model = Shades()
        tf.saved_model.save(model, str(staged), signatures={"serving_default": model.serve})
        (staged / EXTRA).mkdir()
        pictures = [picture(shade) for shade in (20, 230)]
        light = np.asarray([[shade / 255 - 0.5] for shade in (20, 230)], np.float32)
        golden_file = golden.encode(golden.make(pictures, light * np.float32([[-8, 8]]), 1e-3))
        (staged / EXTRA / golden.FILE_NAME).write_bytes(golden_file)
        provenance = Provenance(
            recipe={},
            recipe_sha256="0" * 64,
            base_model="none",
            base_model_sha256="0" * 64,
            data_sha256="0" * 64,
            packages={},
            created="2026-11-25T00:00:00Z",
        )
        draft = Manifest(
            schema_version=1,
            name="shades",
            version=1,
            task="image-classification",
            labels=("dark", "bright"),
            preprocess=spec,
            signatures={"serving_default": Signature(inputs=(pixels,), outputs=(logits,))},
            metrics={},
            provenance=provenance,
            files={},
        )
        repository.publish(staged, draft)


def picture(shade: int) -> bytes:
    """A PNG of one grey."""
    content = io.BytesIO()
    Image.new("RGB", (16, 12), (shade,) * 3).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="session")
def start_up() -> Callable[..., Any]:
    return start
