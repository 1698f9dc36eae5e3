"""A sample of the predictions on disk, to be labelled and learnt from; see docs/gateway.md.

    calls ──sample──► lines ──► a thread ──► requests.jsonl ──full──► requests.jsonl.1 ──► .2 …

Writing never holds up a call: what the disk can't take in time is dropped, and counted.
"""

from __future__ import annotations

import base64
import logging
import queue
import random
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from serving.gateway import config
from serving.gateway.inputs import Input
from serving.gateway.predictor import Answer, Outcome

_log = logging.getLogger(__name__)
_MAX_WAITING = 10_000  # lines
_MAX_WAITING_BYTES = 32 << 20  # pictures are megabytes


class RequestLog:
    """Writes one line for each input of the calls that are drawn; None writes none.

    Args:
        dropped: hears of each line that is not written.
        worker: is part of the file's name when several processes write.
    """

    def __init__(
        self,
        settings: config.RequestLog | None,
        dropped: Callable[[], None],
        worker: int = 0,
    ) -> None:
        self._dropped = dropped
        self._worker = worker
        self._settings = settings
        self._writer: _Writer | None = None
        self.apply(settings)

    def apply(self, settings: config.RequestLog | None) -> None:
        """Goes on with other settings."""
        if self._writer and settings == self._settings:
            return
        self.close()
        self._settings = settings
        if settings is not None:
            name = settings.path.name
            if self._worker:
                name = f"{settings.path.stem}-{self._worker}{settings.path.suffix}"
            path = settings.path.with_name(name)
            self._writer = _Writer(settings, path, self._dropped)

    def write(self, model: str, answer: Answer, inputs: Sequence[Input]) -> None:
        """Draws, and hands the lines of a call to the thread."""
        settings, writer = self._settings, self._writer
        if settings is None or writer is None or random.random() >= settings.sample:  # noqa: S311
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        for given, outcome in zip(inputs, answer.outcomes, strict=True):
            labels = _labels(outcome)
            if labels is None:
                continue
            line: dict[str, Any] = {"id": secrets.token_hex(8), "time": time, "model": model}
            line |= {"version": answer.version, **labels}
            if settings.payloads and isinstance(given, str | bytes):
                line |= _payload(given)
            writer.put(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        if self._writer:
            self._writer.close()
        self._writer = None


class _Writer:
    """One file, its older parts, and the thread that writes them."""

    def __init__(
        self, settings: config.RequestLog, path: Path, dropped: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._path = path
        self._dropped = dropped
        self._lock = threading.Lock()
        self._waiting, self._waiting_bytes = 0, 0  # lines that are not yet on the disk
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        with self._lock:
            room = self._waiting_bytes + len(line) <= _MAX_WAITING_BYTES
            if not room or self._waiting >= _MAX_WAITING:
                self._dropped()
                return
            self._waiting += 1
            self._waiting_bytes += len(line)
        self._lines.put(line)

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            lines = [self._lines.get()]
            while not self._lines.empty():
                lines.append(self._lines.get())
            going = None not in lines
            written = deque(filter(None, lines))
            count, size_bytes = len(written), sum(map(len, written))
            try:
                while written:
                    self._append(written)
            except OSError as error:
                _log.error("can't write the request log", extra={"reason": str(error)})
                for _ in written:
                    self._dropped()
            with self._lock:
                self._waiting -= count
                self._waiting_bytes -= size_bytes

    def _append(self, lines: deque[bytes]) -> None:
        """Takes away as many lines as the file still holds, and writes them."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            while lines and file.tell() < self._settings.max_bytes:
                file.write(lines[0])
                lines.popleft()
            full = file.tell() >= self._settings.max_bytes
        if full:
            self._rotate()

    def _rotate(self) -> None:
        numbers = range(1, self._settings.max_files + 1)
        older = [self._path.with_name(f"{self._path.name}.{number}") for number in numbers]
        for source, target in reversed(list(zip([self._path, *older], older, strict=False))):
            if source.exists():
                source.replace(target)


def _labels(outcome: Outcome) -> Mapping[str, Any] | None:
    if not isinstance(outcome, Sequence):
        return None  # tensors, or an error
    return {
        "labels": [item.label for item in outcome],
        "scores": [round(item.score, 6) for item in outcome],
    }


def _payload(given: str | bytes) -> Mapping[str, str]:
    if isinstance(given, str):
        return {"input": given}
    return {"input_base64": base64.b64encode(given).decode()}
