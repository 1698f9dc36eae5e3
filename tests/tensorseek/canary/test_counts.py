"""Laws of the counts: of one model, by version, over all gateways, and only what is its doing."""

from __future__ import annotations

import pytest

from serving.gateway.metrics import Metrics
from tensorseek.canary import counts
from tensorseek.canary.counts import Counts
from tensorseek.errors import CanaryError


def told(**calls: int) -> str:
    """What a gateway says after calls of version 2 that ended with these codes."""
    metrics = Metrics()
    for code, times in calls.items():
        for _ in range(times):
            metrics.ended(method="Predict", code=code, model="tiny", version=2, total_s=0.004)
    metrics.ended(method="GetModel", code="OK", model="tiny", version=2, total_s=9)
    metrics.ended(method="Predict", code="OK", model="other", version=2, total_s=9)
    return metrics.render(0).decode()


def test_only_what_a_version_can_be_blamed_for_is_an_error() -> None:
    found = counts.count([told(OK=3, INTERNAL=2, RESOURCE_EXHAUSTED=7, UNAUTHENTICATED=1)], "tiny")
    assert (found[2].calls, found[2].errors) == (5, 2)


def test_several_gateways_add_up_and_tell_how_long_calls_take() -> None:
    found = counts.count([told(OK=30), told(OK=70, INTERNAL=1)], "tiny")[2]
    assert (found.calls, found.errors) == (101, 1)
    assert 0.002 < found.quantile_s(0.95) <= 0.005  # the bounds of 4 ms
    assert Counts().quantile_s(0.95) == 0


def test_what_came_since_is_a_difference_unless_the_gateway_started_anew() -> None:
    before = Counts(calls=10, errors=1, labels={"good": 9}, within={"0.1": 10})
    after = Counts(calls=15, errors=1, labels={"good": 9, "bad": 5}, within={"0.1": 15})
    expected = Counts(calls=5, labels={"good": 0, "bad": 5}, within={"0.1": 5})
    assert after.since(before) == expected
    assert Counts(calls=3).since(before) == Counts(calls=3)


def test_a_gateway_that_is_away_is_named() -> None:
    with pytest.raises(CanaryError, match=r"http://127\.0\.0\.1:1/metrics.*is it running"):
        counts.read(["http://127.0.0.1:1/metrics"], "tiny")


def test_every_machine_behind_a_name_is_asked_once() -> None:
    assert counts.machines("http://localhost:9001/metrics") == ["http://127.0.0.1:9001/metrics"]
    assert counts.machines("https://gateway:9001/metrics") == ["https://gateway:9001/metrics"]
