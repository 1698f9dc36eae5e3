"""Laws of the lease: one holder at a time, a dead one blocks nobody, a late one never publishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.errors import LeaseHeld, LeaseLost
from finetune.refresh.lease import FILE, Lease


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_two_never_hold_it(tmp_path: Path) -> None:
    with Lease(tmp_path) as first, pytest.raises(LeaseHeld, match=first.holder), Lease(tmp_path):
        pass
    assert not (tmp_path / FILE).exists()


def test_it_is_free_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with Lease(tmp_path) as lease:
            lease.check()


def test_a_dead_holder_blocks_nobody_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    dead = Lease(tmp_path, seconds=60, clock=clock)
    dead.__enter__()
    clock.now += 59
    with pytest.raises(LeaseHeld, match="for 1 s more"), Lease(tmp_path, clock=clock):
        pass
    clock.now += 2
    with Lease(tmp_path, clock=clock) as lease:
        lease.check()
        with pytest.raises(LeaseLost, match="run again"):
            dead.check()
        dead.__exit__()
        lease.check()  # the dead one's end takes nothing away


def test_a_holder_that_slept_too_long_must_not_publish(tmp_path: Path) -> None:
    clock = Clock()
    with Lease(tmp_path, seconds=60, clock=clock) as lease:
        clock.now += 61
        with pytest.raises(LeaseLost):
            lease.check()


def test_it_is_renewed_while_the_work_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    with Lease(tmp_path, seconds=60, clock=clock) as lease:
        for _ in range(5):
            clock.now += 40
            lease.renew()
        lease.check()


def test_a_damaged_file_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(LeaseHeld, match="Remove it"), Lease(tmp_path):
        pass
