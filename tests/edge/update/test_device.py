"""Laws of a device's folder: what runs is verified; what fails makes way for what ran before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.errors import DeviceError, UpdateError
from edge.update import install
from edge.update.device import MAX_STARTS, STATE, Device, State
from edge.update.source import Source


@pytest.fixture
def device(publisher: Any, tmp_path: Path) -> Device:
    return Device(tmp_path / "device", publisher.trusted)


def put(device: Device, publisher: Any, version: int) -> None:
    """Installs a version, without the process that proves it: `test_install` does."""
    publisher.offer(version)
    install.update(device, Source(str(publisher.folder)), publisher.trusted, lambda _: None)


def running(device: Device) -> int:
    return device.start().manifest.version


def test_nothing_installed_says_what_to_do(device: Device) -> None:
    with pytest.raises(DeviceError, match="nothing is installed; run: edge update"):
        device.start()


def test_the_newest_runs_and_the_one_before_stays(device: Device, publisher: Any) -> None:
    put(device, publisher, 2)
    assert running(device) == 2
    device.confirm()
    put(device, publisher, 3)
    assert running(device) == 3
    state = device.state()
    assert state.previous is not None
    assert state.previous.version == 2


def test_a_bundle_that_ends_twice_without_an_answer_makes_way(
    device: Device, publisher: Any
) -> None:
    put(device, publisher, 2)
    device.start()
    device.confirm()
    put(device, publisher, 3)
    for _ in range(MAX_STARTS):
        assert running(device) == 3  # and ends before it is confirmed
    assert running(device) == 2
    assert running(device) == 2
    source = Source(str(publisher.folder))
    with pytest.raises(UpdateError, match="version 3: did not run on this device before"):
        install.update(device, source, publisher.trusted, lambda _: None)
    put(device, publisher, 4)
    assert running(device) == 4


def test_a_confirmed_bundle_may_be_started_any_number_of_times(
    device: Device, publisher: Any
) -> None:
    put(device, publisher, 2)
    device.start()
    device.confirm()
    put(device, publisher, 3)
    device.start()
    device.confirm()
    for _ in range(MAX_STARTS + 2):
        assert running(device) == 3


def test_a_bundle_that_was_damaged_on_the_device_makes_way(device: Device, publisher: Any) -> None:
    put(device, publisher, 2)
    device.confirm()
    put(device, publisher, 3)
    device.confirm()
    active = device.state().active
    assert active is not None
    model = device.folder(active.slot) / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    assert running(device) == 2


def test_when_both_are_damaged_the_error_says_so(device: Device, publisher: Any) -> None:
    put(device, publisher, 2)
    model = device.folder("a") / "model.tflite"
    model.write_bytes(b"?")
    with pytest.raises(DeviceError, match=r"model\.tflite: corrupted.*no bundle before it"):
        device.start()


@pytest.mark.parametrize("broken", [None, b"", b"{", b'{"serial": "x"}', b"\xff"])
def test_a_lost_state_is_found_again_in_the_slots(
    device: Device, publisher: Any, broken: bytes | None
) -> None:
    put(device, publisher, 2)
    device.confirm()
    put(device, publisher, 3)
    path = device.root / STATE
    path.unlink() if broken is None else path.write_bytes(broken)
    assert running(device) == 3
    found = device.state()
    assert found.previous is not None
    assert (found.model, found.previous.version) == ("tiny", 2)


def test_a_state_that_is_found_again_leaves_out_what_nobody_signed(
    device: Device, publisher: Any
) -> None:
    put(device, publisher, 2)
    device.confirm()
    put(device, publisher, 3)
    (device.root / STATE).unlink()
    (device.folder("b") / "manifest.sig").unlink()
    assert running(device) == 2


def test_an_older_serial_is_refused_even_when_it_was_signed_once(
    device: Device, publisher: Any
) -> None:
    publisher.offer(2)
    recorded = (publisher.folder / "index.json").read_bytes()
    put(device, publisher, 3)
    (publisher.folder / "index.json").write_bytes(recorded)
    with pytest.raises(UpdateError, match=r"serial 1, an older one than 2"):
        install.update(device, Source(str(publisher.folder)), publisher.trusted, lambda _: None)


def test_another_model_needs_another_folder(device: Device, publisher: Any) -> None:
    put(device, publisher, 2)
    state = msgspec.structs.replace(device.state(), model="other")
    (device.root / STATE).write_bytes(msgspec.json.encode(state))
    with pytest.raises(UpdateError, match="this device runs other"):
        put(device, publisher, 3)


def test_the_state_is_strict() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"unknown": 1}', type=State)
