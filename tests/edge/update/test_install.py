"""Laws of an update: it is whole or nothing, and whatever stops it, the device starts."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import BundleError, SignatureError
from bundle.signing import SigningKey, Trusted
from edge import package
from edge.errors import UpdateError
from edge.update import install
from edge.update.device import Device
from edge.update.source import Source

# What a process does to files; it is killed in front of the n-th of them.
_STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")


@pytest.fixture
def device(publisher: Any, tmp_path: Path) -> Device:
    """A device that runs version 2."""
    made = Device(tmp_path / "device", publisher.trusted)
    publisher.offer(2)
    install.update(made, Source(str(publisher.folder)), publisher.trusted, lambda _: None)
    made.start()
    made.confirm()
    return made


def update(device: Device, publisher: Any, **more: Any) -> install.Update:
    return install.update(device, Source(str(publisher.folder)), publisher.trusted, **more)


def test_a_release_is_proven_in_a_process_of_its_own_and_installed(
    device: Device, publisher: Any
) -> None:
    publisher.offer(3)
    assert update(device, publisher).installed
    assert device.start().manifest.version == 3
    assert not update(device, publisher).installed
    assert list(device.incoming.iterdir()) == []


def test_a_bundle_whose_golden_inputs_fail_here_is_refused(
    device: Device, publisher: Any, corrupt_golden: Callable[[Path], bytes]
) -> None:
    publisher.offer(3, {"golden.json": corrupt_golden(publisher.source)})
    with pytest.raises(
        UpdateError, match=r"does not run on this device: .*golden input.*tolerance"
    ):
        update(device, publisher)
    assert device.start().manifest.version == 2


def test_a_bundle_that_crashes_the_runtime_is_refused(
    device: Device, publisher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.offer(3)
    # A real process that dies as one does over a bad kernel.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UpdateError, match=r"does not run on this device: the runtime crashed"):
        update(device, publisher)
    assert device.start().manifest.version == 2


def test_an_older_version_needs_an_index_that_was_signed_for_it(
    device: Device, publisher: Any
) -> None:
    publisher.offer(1)
    with pytest.raises(UpdateError, match=r"older than version 2.*edge index --rollback"):
        update(device, publisher, prove=lambda _: None)
    publisher.offer(1, rollback=True)
    assert update(device, publisher, prove=lambda _: None).installed
    assert device.start().manifest.version == 1


def test_an_index_of_another_key_is_refused(device: Device, publisher: Any, tmp_path: Path) -> None:
    from bundle import signing

    _, public = signing.generate(tmp_path / "other")
    publisher.offer(3)
    with pytest.raises(SignatureError, match="not trusted here"):
        install.update(device, Source(str(publisher.folder)), Trusted.read([public]))
    assert device.start().manifest.version == 2


def test_a_bundle_of_another_key_under_a_right_index_is_refused(
    device: Device, publisher: Any, tmp_path: Path
) -> None:
    from bundle import integrity, signing

    path = publisher.bundle(3)
    package.sign(path, SigningKey.read(signing.generate(tmp_path / "other")[0]))
    offered = publisher.offer(3)  # of the right bundle; then the other takes its place
    package.sign(path, SigningKey.read(tmp_path / "other.key"))
    assert integrity.sha256_file(path) != offered.sha256
    with pytest.raises(UpdateError, match="has SHA-256"):
        update(device, publisher)
    assert device.start().manifest.version == 2


def test_two_updates_at_once_are_one_too_many(device: Device, publisher: Any) -> None:
    publisher.offer(3)

    def meanwhile(_: Path) -> None:
        with pytest.raises(UpdateError, match="another update is under way"):
            update(device, publisher)

    assert update(device, publisher, prove=meanwhile).installed


def test_a_disk_that_is_too_full_is_told_before_the_download(
    device: Device, publisher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.offer(3)
    real = os.statvfs

    def full(path: Any) -> Any:
        found = list(real(path))
        found[3] = found[4] = 1  # free blocks
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(UpdateError, match=r"bytes are free, \d+ are needed"):
        update(device, publisher)


def test_killed_at_any_step_the_device_starts_with_a_verified_bundle(
    device: Device, publisher: Any
) -> None:
    version, step, finished = 3, 0, 0
    publisher.offer(version)
    killed = 0
    while killed < 100 or not finished:
        step += 1
        if _update_in_child(device, publisher, step):
            killed += 1
        else:  # it came to its end: the next version, from the first step again
            finished, step, version = finished + 1, 0, version + 1
            publisher.offer(version)
        running = device.start().manifest.version  # verifies signature, hashes, golden inputs
        device.confirm()
        assert running in (2, version - 1, version)
    update(device, publisher, prove=lambda _: None)
    assert device.start().manifest.version == version


def _update_in_child(device: Device, publisher: Any, step: int) -> bool:
    """Whether the update was killed, in front of its `step`-th change to a file."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False
    try:
        left = step

        def count(event: str, args: Any) -> None:
            nonlocal left
            if event in _STEPS and str(device.root) in json.dumps(args, default=str):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        update(device, publisher, prove=lambda _: None)
        os._exit(0)
    except BaseException:  # noqa: BLE001 (must not return into pytest)
        os._exit(1)


def test_every_refusal_is_one_line(device: Device, publisher: Any) -> None:
    publisher.offer(3)
    (publisher.folder / "3-dynamic_int8.zip").write_bytes(b"no zip")
    with pytest.raises((UpdateError, BundleError)) as caught:
        update(device, publisher)
    assert "\n" not in str(caught.value)
