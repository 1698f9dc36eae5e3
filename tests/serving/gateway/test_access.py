"""Laws of keys: only their holders come in, for what they are for, as often as they may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.errors import ConfigError, Forbidden, LimitExceeded, Unauthenticated
from serving.gateway import access
from serving.gateway.access import Access, Key, Visitor

ID = "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_a_key_lets_its_holder_in_and_the_file_does_not_tell_it(path: Path) -> None:
    first, second = access.add(path, "app"), access.add(path, "ops", admin=True)
    door = Access(path)
    assert door.admit(first, "peer").name == "app"
    assert door.admit(f"Bearer {second}", "peer").is_admin
    assert not door.admit(first, "peer").is_admin
    assert first not in path.read_text()
    assert first.rpartition("_")[2] not in path.read_text()


@pytest.mark.parametrize("given", ["", "Bearer ", "ts_x_y", "_", "é" * 9, "x" * 10_000])
def test_nobody_else_comes_in(path: Path, given: str) -> None:
    key = access.add(path, "app")
    door = Access(path)
    for credential in (given, key[:-1] + ("0" if key[-1] != "0" else "1"), key + "0"):
        with pytest.raises(Unauthenticated, match="authorization: "):
            door.admit(credential, "peer")


def test_without_a_file_everybody_comes_in_under_its_address() -> None:
    visitor = Access(None).admit("", "ipv4:10.0.0.7")
    visitor.check("any-model")
    with visitor:
        assert (visitor.name, visitor.is_admin) == ("ipv4:10.0.0.7", False)


def test_a_key_for_some_models_is_for_no_other(path: Path) -> None:

    key = access.add(path, "app", models=["tiny"])
    visitor = Access(path).admit(key, "")
    visitor.check("tiny")
    assert visitor.may_ask("tiny")
    assert not visitor.may_ask("other")
    with pytest.raises(Forbidden, match="the key 'app' is for these models: tiny"):
        visitor.check("other")


def test_a_rate_holds_in_the_long_run_and_says_when_to_come_again() -> None:
    now_s = 0.0
    key = Key(name="app", id="1", sha256=ID, rate_per_s=10, burst=2)
    visitor = Visitor("app", key, clock=lambda: now_s)
    passed = 0
    waits_s = []
    for _ in range(1000):
        now_s += 0.01
        try:
            with visitor:
                passed += 1
        except LimitExceeded as error:
            waits_s.append(error.retry_after_s or 0)
    assert 100 <= passed <= 103
    assert 0 < min(waits_s) <= max(waits_s) <= 0.1


def test_concurrency_counts_calls_in_flight() -> None:
    visitor = Visitor("app", Key(name="app", id="1", sha256=ID, concurrency=2))
    with (
        visitor,
        visitor,
        pytest.raises(LimitExceeded, match="already has concurrency=2"),
        visitor,
    ):
        pass
    with visitor, visitor:
        pass


def test_keys_are_replaced_while_it_runs_and_counts_stay(path: Path) -> None:
    old = access.add(path, "old")
    kept = access.add(path, "kept", concurrency=1)
    door = Access(path)
    content = yaml.safe_load(path.read_text())
    content["keys"] = [each for each in content["keys"] if each["name"] == "kept"]
    with door.admit(kept, ""):
        path.write_text(yaml.safe_dump(content))
        door.load(path)
        with pytest.raises(Unauthenticated):
            door.admit(old, "")
        with pytest.raises(LimitExceeded), door.admit(kept, ""):
            pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("keys: [{name: a, id: b, sha256: c}]", r"keys.a.sha256: is no SHA-256"),
        (f"keys: [{{name: a, id: b, sha256: '{ID}', rate_per_s: 0}}]", "rate_per_s: is 0"),
        ("keys: [{name: a}]", "missing required field `id`"),
        ("keyz: []", "unknown field `keyz`"),
        ("[", "keys.yaml: "),
        (f"keys: [&a {{name: a, id: b, sha256: '{ID}'}}, *a]", "'b' is there twice"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_changes_nothing(
    path: Path, content: str, message: str
) -> None:
    key = access.add(path, "app")
    door = Access(path)
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        door.load(path)
    assert door.admit(key, "").name == "app"


def test_a_name_has_one_key(path: Path) -> None:
    access.add(path, "app")
    with pytest.raises(ConfigError, match="name: 'app' has a key"):
        access.add(path, "app")


def test_a_key_is_compared_as_a_whole(path: Path, monkeypatch: Any) -> None:
    """By `hmac.compare_digest`, also for a key that nobody has."""
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(access.hmac, "compare_digest", compare)

    key = access.add(path, "app")
    door = Access(path)
    door.admit(key, "")
    with pytest.raises(Unauthenticated):
        door.admit("ts_none_x", "")
    assert compared == [(64, 64), (64, 64)]
