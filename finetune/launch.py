"""Several workers on this machine, watched, and all started again when one of them is lost.

    launcher ─┬─► worker 0, the chief   TF_CONFIG   worker-0.log        worker 1 is killed:
              └─► worker 1              TF_CONFIG   worker-1.log        worker 0 ends, both start
                                                                        from the last saved state

A worker that ends with an error of its own, such as a missing file, ends all of them: another
attempt would meet the same.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune import tf_config
from finetune.errors import GateRefused, Interrupted, TrainingError

Say = Callable[[str], None]
Process = subprocess.Popen[bytes]

_HOST = "127.0.0.1"
_POLL_S = 0.1
_NOTICE_S = 15.0  # until the others have missed the lost one's heartbeats and told their logs
_STOP_S = 60.0  # until all have agreed on a step, made it and saved the state
_REFUSED = 3  # exit code of a worker whose quality gate refused


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start, and how often."""

    command: Sequence[str]  # of every worker; it must train with `multi_worker`
    workers: int
    retries: int  # further attempts after a worker was lost
    logs: Path  # folder of the workers' log files
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise TrainingError(f"workers: {self.workers} is none; start at least 1")
        if self.retries < 0:
            raise TrainingError(f"retries: {self.retries} is negative; 0 starts once")

    def log(self, index: int) -> Path:
        """Where a worker writes."""
        return self.logs / f"worker-{index}.log"


def run(launch: Launch, *, say: Say, stop: Callable[[], bool]) -> None:
    """Starts all workers and waits until they are done; the chief has this process's output.

    Args:
        say: takes one line for a person.
        stop: asked all the time; when it says so, all workers save their state and end.

    Raises:
        Interrupted: `stop` said so.
        GateRefused: the chief's model is not good enough.
        TrainingError: a worker failed, or one was lost in each attempt.
    """
    for index in range(launch.workers):
        say(f"worker {index}: {launch.log(index)}")
    for attempt in itertools.count(1):
        lost = _attempt(launch, stop)
        if lost is None:
            return
        if attempt > launch.retries:
            raise TrainingError(
                f"{lost}; gave up after {launch.retries} restarts; see the logs in {launch.logs}"
            )
        say(f"{lost}; restart {attempt} of {launch.retries}, from the last saved state")


def _attempt(launch: Launch, stop: Callable[[], bool]) -> str | None:
    """Who was lost; None when all are done."""
    with _running(launch) as workers:
        while True:
            if stop():
                _stop(launch, workers)
                return None
            codes = [worker.poll() for worker in workers]
            for index, code in enumerate(codes):
                if code is not None and code < 0:
                    _wait(workers, _NOTICE_S)
                    return f"worker {index} was killed by {signal.Signals(-code).name}"
            for index, code in enumerate(codes):
                if code:
                    refused = GateRefused if code == _REFUSED else TrainingError
                    raise refused(f"worker {index}: {_last_line(launch.log(index))}")
            if not any(code is None for code in codes):
                return None
            time.sleep(_POLL_S)


@contextlib.contextmanager
def _running(launch: Launch) -> Iterator[list[Process]]:
    addresses = _free_addresses(launch.workers)
    workers: list[Process] = []
    try:
        workers.extend(_start(launch, index, addresses) for index in range(launch.workers))
        yield workers
    finally:
        for worker in workers:
            worker.kill()  # no more than a signal is lost on one that has ended
            worker.wait()


def _start(launch: Launch, index: int, addresses: Sequence[str]) -> Process:
    told = {tf_config.VARIABLE: tf_config.write(addresses, index)}
    launch.logs.mkdir(parents=True, exist_ok=True)
    with launch.log(index).open("ab") as log:
        return subprocess.Popen(
            list(launch.command),
            stdin=subprocess.DEVNULL,
            stdout=None if index == 0 else log,
            stderr=log,
            env=os.environ | launch.environment | told,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )


def _stop(launch: Launch, workers: Sequence[Process]) -> None:
    for worker in workers:
        worker.terminate()
    _wait(workers, _STOP_S)
    codes = [worker.poll() for worker in workers]
    if None in codes:
        raise Interrupted(
            f"worker {codes.index(None)} did not stop within {_STOP_S:.0f} s and was killed; what "
            f"was saved last is kept; see the logs in {launch.logs}"
        )
    if any(codes):
        raise Interrupted(f"all workers stopped: {_last_line(launch.log(0))}")


def _wait(workers: Sequence[Process], timeout_s: float) -> None:
    """Until all have ended by themselves, or the time is over."""
    deadline = time.monotonic() + timeout_s
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, deadline - time.monotonic()))


def _free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [f"{_HOST}:{one.getsockname()[1]}" for one in sockets]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('tensorseek: ')} (log: {log})" if lines else f"see {log}"
