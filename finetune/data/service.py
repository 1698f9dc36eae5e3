"""tf.data service on this machine: processes that prepare batches while others train.

    trainer 0 ──┐                  ┌── worker 0
    trainer 1 ──┼── dispatcher ────┤                 each example goes to one worker,
                │                  └── worker 1      whoever is free
                └──── batches from every worker

For training only: if a worker dies, what it had taken is lost for the epoch, so an evaluation
could miss examples in silence. Each process is `python -m finetune.data.service <role>`.

TensorFlow binds these servers to every interface and can't encrypt them: use them on a machine or
network that is yours alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, cast

import tensorflow as tf

from finetune.errors import DataError, TrainingError

_PROTOCOL = "grpc"
_STOP_S = 10.0


@contextmanager
def local(workers: int, timeout_s: float = 120.0) -> Iterator[str]:
    """Starts a dispatcher and its workers on free ports, and stops them at the end.

    They also end when this process does, however it ends.

    Args:
        timeout_s: for all of them to be ready; each has to load TensorFlow.

    Yields:
        The address for `distribute`, `localhost:<port>`.

    Raises:
        DataError: `workers` is below 1.
        TrainingError: a process ended or wasn't ready in time.
    """
    if workers < 1:
        raise DataError(f"workers: {workers} is too few; give at least 1")
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        dispatcher = stack.enter_context(_started("dispatcher"))
        # All load TensorFlow at once; the workers wait for the dispatcher's address.
        others = [stack.enter_context(_started("worker")) for _ in range(workers)]
        address = dispatcher.serve("", deadline)
        for worker in others:
            worker.serve(address, deadline)
        yield address


def distribute(dataset: Any, address: str, job_name: str) -> Any:
    """A dataset whose examples come from the service, each once an epoch, in any order.

    Args:
        dataset: a tf.data.Dataset that holds no Python function: it runs in other processes.
        address: from `local`, or of a dispatcher elsewhere.
        job_name: trainers that give the same name share the examples among them.
    """
    service = tf.data.experimental.service
    return dataset.apply(
        service.distribute(
            processing_mode=service.ShardingPolicy.DYNAMIC,
            service=f"{_PROTOCOL}://{address}",
            job_name=job_name,
        )
    )


class _Child:
    """A process that serves from when it is told the dispatcher until its input ends."""

    def __init__(self, role: str, log: IO[bytes]) -> None:
        self._role, self._log = role, log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "finetune.data.service", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C ends the trainer, and the trainer ends these
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)

    def serve(self, dispatcher: str, deadline: float) -> str:
        """Sends the dispatcher's address and waits for the child's own."""
        timer = threading.Timer(max(deadline - time.monotonic(), 0), self._process.kill)
        timer.start()
        try:
            self._input.write(f"{dispatcher}\n".encode())
            self._input.flush()
            address = self._output.readline().decode().strip()
        except BrokenPipeError:
            address = ""
        finally:
            timer.cancel()
        if not address:
            raise TrainingError(
                f"tf.data service: the {self._role} ended with {self._process.wait()} before it "
                f"was ready: {self._last_words()}"
            )
        return address

    def stop(self) -> None:
        """Asks the process to end, and ends it when it does not."""
        with suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")


@contextmanager
def _started(role: str) -> Iterator[_Child]:
    with tempfile.TemporaryFile() as log:
        child = _Child(role, log)
        try:
            yield child
        finally:
            child.stop()


def _serve(role: str) -> None:
    """A child's life."""
    dispatcher = sys.stdin.readline().strip()
    service = tf.data.experimental.service
    if role == "dispatcher":
        server = service.DispatchServer(service.DispatcherConfig(port=0, protocol=_PROTOCOL))
        address = f"localhost:{server.target.rsplit(':', 1)[1]}"
    else:
        config = service.WorkerConfig(
            dispatcher_address=dispatcher,
            worker_address="localhost:%port%",
            port=0,
            protocol=_PROTOCOL,
            dispatcher_timeout_ms=60_000,
        )
        server, address = service.WorkerServer(config), dispatcher
    print(address, flush=True)
    sys.stdin.read()  # `server` serves for as long as it is held


if __name__ == "__main__":
    _serve(sys.argv[1])
