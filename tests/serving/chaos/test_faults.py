"""Law: while one backend can answer, no client sees an error; and no answer is ever a wrong one.

Two embedded backends behind two gateways, each a process of its own; four clients ask all the time.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks import soak_house
from benchmarks.soak_house import House, send
from benchmarks.soak_load import Load

TEXTS = ("a very good film", "awful , dull plot !", "a fine actor and a great plot", "bad")
RECOVERY_S = 5.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, publish_tiny: Any) -> Path:
    models: Path = tmp_path_factory.mktemp("chaos") / "models"
    publish_tiny(models)
    return models


@pytest.fixture(scope="module")
def house(models: Path) -> Iterator[House]:
    with soak_house.running(models, models.parent) as house:
        yield house


@pytest.fixture
def load(house: House, tiny_answer: Callable[..., Any]) -> Load:
    expected = {
        seed + 1: {
            text: ("negative", "positive")[tiny_answer(text, seed=seed).argmax()] for text in TEXTS
        }
        for seed in (0, 1)
    }
    return Load([house.address(number % 2) for number in range(4)], "tiny", expected)


def test_backends_fail_one_after_the_other_and_nobody_notices(
    house: House, load: Load, models: Path, publish_tiny: Any
) -> None:
    first, second = house.backends
    with load.running():
        load.more()
        send(first, signal.SIGKILL)  # it dies
        load.more()
        first.start()
        first.wait_ready(60)
        assert house.recovery_s(0) < RECOVERY_S

        send(second, signal.SIGSTOP)  # it stands still: only pings notice
        load.more()
        send(second, signal.SIGCONT)
        assert house.recovery_s(1) < RECOVERY_S

        house.cut(0)  # its connections break, with calls on them
        assert house.recovery_s(0) < RECOVERY_S

        assert house.flood(1, "tiny")[grpc.StatusCode.RESOURCE_EXHAUSTED]  # its queue is full
        load.more()

        publish_tiny(models, seed=1)  # a new version
        load.wait_for(2)
        load.more()

        house.configure(versions={"tiny": {"version": 2}})
        load.more()
        held = house.spoil_configs()  # not valid: what was read before stays
        load.more()
        for path, text in held.items():
            path.write_text(text)

        second.stop(20)  # it ends as it should, and is not needed any more
        load.more()
    assert load.errors == []
    assert load.wrong == []
    assert load.again == 0
    assert max(seconds for _, seconds in load.answers) < RECOVERY_S


def test_a_gateway_ends_before_a_second_one_and_nobody_notices(house: House, load: Load) -> None:
    gateway = house.gateways[0]
    with load.running():
        load.more()
        send(gateway, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while gateway.exit_code() is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.02)
        load.more()
    assert gateway.exit_code() == 0
    assert load.errors == []
    assert load.wrong == []
    gateway.start()
    gateway.wait_ready(60)
