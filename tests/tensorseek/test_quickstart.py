"""Law: the main job runs end to end, cloud and edge agree, and a second run takes up the first."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bundle.repository import ModelRepository
from finetune.errors import GateRefused
from finetune.progress import Silent
from serving.client import Client
from serving.errors import ServingError
from tensorseek import quickstart, stack
from tensorseek.quickstart import Report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def run(folder: Path, tiny_recipe: Callable[..., Any]) -> Callable[..., Report]:
    def run(*overrides: str) -> Report:
        return quickstart.run(
            lambda _: tiny_recipe(*overrides),
            models=folder / "models",
            runs=folder / "runs",
            progress=Silent(),
        )

    return run


@pytest.fixture(scope="module")
def report(run: Callable[..., Report]) -> Report:
    return run()


def test_cloud_and_edge_answer_the_whole_test_split_alike(report: Report) -> None:
    assert report.trained
    assert report.test_examples == 96
    assert report.served_accuracy > 0.9
    assert report.edge_accuracy >= report.served_accuracy - 0.005
    assert report.agreement >= 0.98
    assert report.served_accuracy_low < report.served_accuracy <= report.served_accuracy_high
    assert 0 < report.gateway_p50_ms <= report.gateway_p95_ms
    assert 0 < report.edge_p50_ms <= report.edge_p95_ms
    assert report.edge_bytes == Path(report.edge_bundle).stat().st_size
    assert report.saved_model_bytes > report.edge_bytes


def test_the_published_accuracy_is_the_served_one(report: Report, folder: Path) -> None:
    manifest = ModelRepository(folder / "models").load("tiny").manifest
    assert manifest.metrics["accuracy"].value == report.served_accuracy


def test_a_second_run_trains_nothing(
    report: Report, run: Callable[..., Report], folder: Path
) -> None:
    again = run()
    assert not again.trained
    assert again.model_version == report.model_version == 1
    assert again.served_accuracy == report.served_accuracy
    assert ModelRepository(folder / "models").versions("tiny") == [1]


def test_the_report_is_json_and_a_table(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart.write(report, tmp_path / "build" / "report.json")
    assert json.loads((tmp_path / "build" / "report.json").read_text()) == dataclasses.asdict(
        report
    )
    quickstart.show(report)
    printed = capsys.readouterr().out
    assert f"{report.served_accuracy:.4f}" in printed
    assert report.edge_bundle in printed


def test_a_model_that_is_not_good_enough_is_refused(run: Callable[..., Report]) -> None:
    with pytest.raises(GateRefused, match=r"under evaluation\.min_accuracy 1"):
        run("optimizer.learning_rate=1e-9", "evaluation.min_accuracy=1.0")


def test_the_gateway_takes_up_a_new_version_without_a_failed_request(
    report: Report, tiny_recipe: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    """Published while a client asks, through the real backend, swapped and unloaded."""
    from finetune import pipeline

    models = tmp_path / "models"
    shutil.copytree(folder / "models", models)

    def publish() -> None:
        recipe = tiny_recipe("seed=1", "edge.profiles=[]")
        pipeline.run(recipe, models=models, runs=tmp_path / "runs", progress=Silent())

    ports = stack.free_ports()
    children = [
        stack.backend(models, ports, tmp_path),
        stack.gateway(models, ports, tmp_path, needs_model=True),
    ]
    with stack.running(children):
        stack.wait_ready(children)
        with Client(f"127.0.0.1:{ports.gateway}", timeout_s=30) as client:
            assert client.predict("tiny", ["a good film"]).version == 1
            with ThreadPoolExecutor(1) as publisher:
                publishing = publisher.submit(publish)
                served = [client.predict("tiny", ["a good film"]).version]
                deadline = time.monotonic() + 90
                while served[-1] == 1 and time.monotonic() < deadline:
                    (labels,) = (answer := client.predict("tiny", ["a good film"])).results
                    assert not isinstance(labels, ServingError)
                    served.append(answer.version)
                publishing.result()
            assert served == sorted(served)
            assert served[-1] == 2
