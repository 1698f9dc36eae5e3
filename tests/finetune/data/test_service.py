"""Laws of dynamic sharding: every example once an epoch while nothing fails; no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from finetune.data import service
from finetune.errors import DataError, TrainingError

_TRAINER = """
import sys
from finetune.data import service
with service.local(1):
    children = open(f"/proc/self/task/{__import__('os').getpid()}/children").read()
    print(children, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with service.local(2) as address:
        yield address


def examples(dataset: Any) -> list[int]:
    return [int(example) for batch in dataset for example in batch]


def test_every_example_is_seen_once_an_epoch(address: str) -> None:
    dataset = tf.data.Dataset.range(101).shuffle(101, seed=0).batch(4)
    dataset = service.distribute(dataset, address, "epochs")
    for _ in range(2):
        assert sorted(examples(dataset)) == list(range(101))


def test_trainers_of_one_job_share_the_examples(address: str) -> None:
    """Two trainers: what one takes, the other does not."""
    found: list[list[int]] = [[], []]

    def train(number: int) -> None:
        dataset = tf.data.Dataset.range(200).batch(4)
        found[number] = examples(service.distribute(dataset, address, "shared"))

    threads = [threading.Thread(target=train, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found[0] + found[1]) == list(range(200))


def test_sharded_files_are_read_once(address: str, tmp_path: Path) -> None:
    for number in range(3):
        with tf.io.TFRecordWriter(str(tmp_path / f"{number}.tfrecord")) as writer:
            for example in range(10):
                writer.write(str(number * 10 + example).encode())
    files = tf.data.Dataset.list_files(str(tmp_path / "*.tfrecord"), shuffle=False)
    dataset = files.interleave(tf.data.TFRecordDataset).map(tf.strings.to_number).batch(4)
    assert sorted(examples(service.distribute(dataset, address, "files"))) == list(range(30))


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux' /proc")
def test_no_process_outlives_a_killed_trainer() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", _TRAINER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as trainer:
        assert trainer.stdout is not None
        children = [int(number) for number in trainer.stdout.readline().split()]
        trainer.send_signal(signal.SIGKILL)
    assert len(children) == 2
    wait_ended(children)


def wait_ended(processes: list[int], timeout_s: float = 30) -> None:
    tick, ended = threading.Event(), False
    for _ in range(int(timeout_s / 0.05)):
        ended = not any(is_running(process) for process in processes)
        if ended:
            break
        tick.wait(0.05)
    assert ended, f"{processes} still run"


def test_a_service_that_is_not_ready_in_time_is_told() -> None:
    with (
        pytest.raises(TrainingError, match="the dispatcher ended with -9 before it was ready"),
        service.local(1, timeout_s=0.01),
    ):
        pytest.fail("it was ready")


def test_a_service_without_workers_is_refused() -> None:
    with pytest.raises(DataError, match="workers: 0 is too few"), service.local(0):
        pytest.fail("it started")
