"""Laws of `tensorseek edge`: from a publisher's key to an answer on a device, by commands alone."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.runner import EdgeRunner


def edge(*arguments: str | Path, given: str = "", code: int = 0) -> str:
    """What the command prints; of one that fails, its error."""
    command = [sys.executable, "-m", "tensorseek.cli", "edge", *map(str, arguments)]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def bundle(published: Any, tmp_path: Path) -> Path:
    """A copy of the tiny model's dynamic_int8 bundle."""
    folder = tmp_path / "edge"
    folder.mkdir()
    return Path(shutil.copy(published.outcome.edge[0], folder))


def test_a_bundle_goes_from_its_publisher_to_a_device_and_answers(
    bundle: Path, tmp_path: Path
) -> None:
    key, public = tmp_path / "keys" / "p.key", tmp_path / "keys" / "p.pub"
    edge("keygen", tmp_path / "keys" / "p")
    assert "is not signed; sign it: edge sign" in edge(
        "verify", bundle, "--trusted", public, code=1
    )
    edge("sign", bundle, "--key", key)
    proven = json.loads(edge("verify", bundle, "--trusted", public, "--json"))
    assert (proven["model"], proven["signed"]) == ("tiny", True)
    edge("index", bundle, "--key", key)
    device = tmp_path / "device"
    updated = edge("update", device, bundle.parent, "--trusted", public, "--json")
    assert json.loads(updated) == {"model": "tiny", "version": 1, "installed": True}
    again = edge("update", device, bundle.parent, "--trusted", public)
    assert "is what runs already: tiny version 1" in again
    assert "give its --trusted keys" in edge("run", device, "a good film", code=2)
    for _ in range(3):  # more often than a bundle may crash: each answer confirms it
        answer = json.loads(edge("run", device, "a good film", "--trusted", public, "--json"))
    assert answer["label"] == EdgeRunner.open(bundle).predict("a good film")[0].label


def test_lines_are_answered_one_by_one_also_those_that_are_wrong(bundle: Path) -> None:
    given = ['{"text": "a good film"}', "no json", '{"text": " "}', '{"x": 1}', '{"text": "awful"}']
    answers = [
        json.loads(each)
        for each in edge("run", bundle, "--lines", given="\n".join(given)).splitlines()
    ]
    runner = EdgeRunner.open(bundle)
    assert answers[0]["label"] == runner.predict("a good film")[0].label
    assert answers[4]["label"] == runner.predict("awful")[0].label
    assert [each.get("error", "")[:14] for each in answers[1:4]] == [
        "line: must be ",
        "text: is empty",
        "line: must be ",
    ]


def test_bench_compares_bundles_in_a_table_and_a_picture(bundle: Path, tmp_path: Path) -> None:
    plot = tmp_path / "bench.svg"
    shown = edge("bench", bundle, "--threads", "1", "--plot", plot)
    assert "tiny version 1 dynamic_int8" in shown
    assert "p50" in shown
    assert plot.read_text().startswith("<svg")
    assert "must be numbers of 1 to 64" in edge("bench", bundle, "--threads", "a", code=2)


def test_serve_answers_on_loopback_until_it_is_told_to_stop(bundle: Path) -> None:
    command = [sys.executable, "-m", "tensorseek.cli", "edge", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split("//")[1].partition("/")[0]
        connection = http.client.HTTPConnection(address, timeout=20)
        body = json.dumps({"inputs": [{"text": "a good film"}]})
        connection.request("POST", "/v1/models/tiny:predict", body)
        found = json.loads(connection.getresponse().read())
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    best = EdgeRunner.open(bundle).predict("a good film")[0]
    assert found["results"][0]["labels"]["labels"][0]["label"] == best.label
