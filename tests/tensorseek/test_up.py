"""Laws of the local stack: it answers, heals, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving.client import Client
from serving.errors import ServingError
from tensorseek import stack
from tensorseek.cli import app
from tensorseek.errors import StackError


def eventually(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Waits for a condition, which is all the test may count on."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((stack.HOST, port)) == 0


def backend_pid(port: int) -> int:
    """The process whose command line holds the backend's port."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"backend" in words and str(port).encode() in words:
            return int(folder.name)
    raise AssertionError("no backend runs")


def test_prints_its_addresses_and_answers(up: Any, tiny_answer: Any) -> None:
    assert up.printed == [
        f"backend  grpc://127.0.0.1:{up.ports.backend}\n",
        f"gateway  grpc://127.0.0.1:{up.ports.gateway}\n",
        f"demo     http://127.0.0.1:{up.ports.demo}\n",
    ]
    command = [sys.executable, "-m", "tensorseek.cli", "predict", "tiny", "a very good film"]
    command += ["--gateway", f"127.0.0.1:{up.ports.gateway}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = ("negative", "positive")[tiny_answer("a very good film").argmax()]
    assert done.stdout.startswith(expected)
    command += ["--version", "7"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "7 of 'tiny' is not served; there are: 1" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_file_is_answered_line_by_line(up: Any, tiny_answer: Any, tmp_path: Path) -> None:
    texts = ["a very good film", "", "a film", "not good"] * 30
    (tmp_path / "texts").write_text("\n".join(texts) + "\n")
    command = ["predict", "tiny", "--gateway", f"127.0.0.1:{up.ports.gateway}", "--json"]
    done = CliRunner().invoke(app, [*command, "--file", str(tmp_path / "texts")])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    labels = ("negative", "positive")
    answered = [text for text in texts if text]
    assert [each["input"] for each in found] == answered
    assert [each["label"] for each in found] == [labels[tiny_answer(t).argmax()] for t in answered]
    errors = done.stderr.splitlines()
    assert errors[1] == "tensorseek: inputs[5].text: is empty; send at least one visible character"
    assert (len(errors), done.exit_code) == (30, 1)


def test_a_dead_backend_is_started_again(up: Any) -> None:
    eventually(lambda: answers(up))
    killed = backend_pid(up.ports.backend)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: not listens(up.ports.backend))
    eventually(lambda: answers(up))
    assert backend_pid(up.ports.backend) != killed


def test_sigterm_stops_everything(
    tmp_path: Path, start_up: Callable[..., Any], publish_tiny: Any
) -> None:
    publish_tiny(tmp_path / "models")
    with start_up(tmp_path / "models", tmp_path / "logs") as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        assert not any(listens(port) for port in vars(running.ports).values())


def test_children_of_a_killed_parent_end(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    ports = stack.free_ports()
    code = (
        "import pathlib, os; from tensorseek import stack; "
        f"ports = stack.Ports(**{vars(ports)}); folder = pathlib.Path({str(tmp_path)!r}); "
        "child = stack.gateway(folder / 'models', ports, folder / 'logs'); child.start(); "
        "child.wait_ready(60); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run([sys.executable, "-c", code], check=False)
    assert parent.returncode == -signal.SIGKILL
    eventually(lambda: not listens(ports.http))


def test_a_busy_port_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind((stack.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} is in use.*--demo-port"):
            stack.Ports(demo=port).check_free()


def test_a_child_that_does_not_start_tells_why(tmp_path: Path) -> None:
    child = stack.gateway(tmp_path / "missing", stack.free_ports(), tmp_path / "logs")
    child.start()
    with pytest.raises(StackError, match=r"gateway: ended with 1: .*missing"):
        child.wait_ready(60)


def answers(up: Any) -> bool:
    with Client(f"127.0.0.1:{up.ports.gateway}", timeout_s=5) as client:
        try:
            client.predict("tiny", ["a very good film"])
        except ServingError:
            return False
    return True
