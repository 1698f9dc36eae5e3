"""Laws of the core: what hands calls to one another stays together, and gives way to others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.core import better

SHARES = st.dictionaries(st.integers(0, 7), st.floats(0, 1), min_size=1)
PROGRAM = """
import asyncio, json, os, sys, threading
import serving.gateway
from serving.gateway.core import Core

def where(thread=0):
    return sorted(os.sched_getaffinity(thread))

async def main():
    everywhere = where()
    core = Core(int(sys.argv[1]))
    first = core.number
    started = threading.Event()
    threading.Thread(target=started.wait, daemon=True).start()
    newest = max(int(thread) for thread in os.listdir("/proc/self/task"))
    began = where(newest)
    following = asyncio.create_task(core.follow())
    while where(newest) != everywhere:
        await asyncio.sleep(0.01)
    poller = next(each for each in threading.enumerate() if "_poll" in each.name)
    following.cancel()
    found = {"everywhere": everywhere, "began": began, "loop": where()}
    found |= {"grpc": where(poller.native_id), "first": first, "last": core.number}
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_event_loop_and_grpc_share_a_core_and_other_threads_roam() -> None:
    workers = [run(number) for number in (1, 2)]
    for found in workers:
        assert found["began"] == [found["first"]]  # a thread begins where its maker is
        assert found["loop"] == found["grpc"] == [found["last"]]
        assert found["everywhere"] == sorted(os.sched_getaffinity(0))
    assert workers[0]["first"] != workers[1]["first"]


def run(worker: int) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, str(worker)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@given(SHARES, st.floats(0, 2))
def test_it_stays_unless_others_take_much_less_elsewhere(
    taken: Mapping[int, float], own: float
) -> None:
    here = min(taken)
    found = {better(here, taken, own) for _ in range(64)}
    others = max(0.0, taken[here] - own)
    least = min(taken.values())
    if others - least > 0.25:
        assert found == {here, *found}  # now and then it stays, lest two go together
        assert {taken[core] for core in found - {here}} == {least}
    else:
        assert found == {here}


def test_a_core_that_is_gone_is_no_reason_to_fail() -> None:
    assert better(5, {0: 1.0}, 0.0) == 5
