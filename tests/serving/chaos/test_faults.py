"""Law: while one backend can answer, no client sees an error; and no answer is ever a wrong one.

Two embedded backends behind one gateway, each a process of its own; four clients ask all the time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.client import Client
from tensorseek import stack
from tensorseek.process import Child

CLIENTS = 4
TEXTS = ("a very good film", "awful , dull plot !", "a fine actor and a great plot", "bad")
_RECOVERY_S = 5.0  # of the backends' reconnection, once they answer


@dataclass
class Load:
    """Clients that ask without a pause."""

    address: str
    expected: dict[int, dict[str, str]]  # version → text → label
    answers: list[tuple[int, float]] = field(default_factory=list)  # version, seconds
    errors: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def _ask(self) -> None:
        with Client(self.address, timeout_s=10) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    found = client.predict("tiny", TEXTS)
                except Exception as error:  # noqa: BLE001 (each one counts)
                    self.errors.append(repr(error))
                    continue
                labels = [best.label for best, *_ in found.labels]
                if labels != [self.expected[found.version][text] for text in TEXTS]:
                    self.errors.append(f"version {found.version} said {labels}")
                self.answers.append((found.version, time.monotonic() - began))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def more(self, count: int = 40, timeout_s: float = 20) -> None:
        """Waits for so many more answers."""
        wanted, deadline = len(self.answers) + count, time.monotonic() + timeout_s
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline, f"no answers any more: {self.errors[:2]}"
            time.sleep(0.01)

    def wait_for(self, version: int, timeout_s: float = 30) -> None:
        """Until a version answers."""
        deadline = time.monotonic() + timeout_s
        while not self.answers or self.answers[-1][0] != version:
            assert time.monotonic() < deadline, f"version {version} never came"
            time.sleep(0.01)


@dataclass(frozen=True)
class House:
    """Two backends and a gateway."""

    models: Path
    backends: list[Child]
    gateway: Child
    config: Path
    load: Load


@pytest.fixture
def house(tmp_path: Path, publish_tiny: Any, tiny_answer: Callable[..., Any]) -> Iterator[House]:
    models, logs = tmp_path / "models", tmp_path / "logs"
    publish_tiny(models)
    first, second = stack.free_ports(), stack.free_ports()
    backends = [
        stack.backend(models, ports, logs / str(ports.backend)) for ports in (first, second)
    ]
    config = tmp_path / "gateway.yaml"
    settings = {
        "models": str(models),
        "backend": [f"{stack.HOST}:{ports.backend}" for ports in (first, second)],
        "port": first.gateway,
        "http_port": first.http,
        "poll_s": 0.2,
    }
    config.write_text(yaml.safe_dump(settings))
    gateway = Child(
        "gateway",
        ["serve", "gateway", "--config", str(config)],
        lambda: stack.answers(f"http://{stack.HOST}:{first.http}/readyz"),
        logs,
    )
    expected = {
        seed + 1: {
            text: ("negative", "positive")[tiny_answer(text, seed=seed).argmax()] for text in TEXTS
        }
        for seed in (0, 1)
    }
    with stack.running(backends):
        stack.wait_ready(backends)
        with stack.running([gateway]):
            stack.wait_ready([gateway])
            load = Load(f"{stack.HOST}:{first.gateway}", expected)
            yield House(models, backends, gateway, config, load)


def kill(child: Child, number: signal.Signals) -> None:
    assert child.pid is not None
    os.kill(child.pid, number)


def test_backends_fail_one_after_the_other_and_nobody_notices(
    house: House, publish_tiny: Any
) -> None:
    load, (first, second) = house.load, house.backends
    with load.running():
        load.more()
        kill(first, signal.SIGKILL)  # it dies
        load.more()
        first.start()
        first.wait_ready(60)
        load.more()

        kill(second, signal.SIGSTOP)  # it stands still: only pings notice
        load.more()
        kill(second, signal.SIGCONT)
        load.more()

        publish_tiny(house.models, seed=1)  # a new version
        load.wait_for(2)
        load.more()

        settings = yaml.safe_load(house.config.read_text())
        house.config.write_text(yaml.safe_dump(settings | {"versions": {"tiny": {"version": 2}}}))
        load.more()
        house.config.write_text("backend: [")  # not valid: what was read before stays
        load.more()

        second.stop(20)  # it ends as it should
        load.more()
    assert load.errors == []
    slowest = max(seconds for _, seconds in load.answers)
    assert slowest < _RECOVERY_S


def test_a_gateway_that_ends_answers_what_it_has_begun(house: House) -> None:
    with house.load.running():
        house.load.more()
        kill(house.gateway, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while house.gateway.exit_code() is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.02)
    assert house.gateway.exit_code() == 0
    # What came too late was refused in so many words: a second gateway would have answered it.
    assert all("BackendUnavailable" in error for error in house.load.errors), house.load.errors[:2]
