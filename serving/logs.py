"""Structured logs: one JSON object a line on standard error.

A line for each call would cost a write for each call, and a record of `logging`'s. So `often` keeps
only what the line will say, and a thread writes what has come together every `_DELAY_S`. A line of
any other kind goes out at once, after all that wait.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_DELAY_S = 0.05
_encoder = msgspec.json.Encoder(enc_hook=str)


class JsonFormatter(logging.Formatter):
    """Time, level, logger, event, and whatever the caller gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            extra["traceback"] = self.formatException(record.exc_info)
        return _line(record.created, record.levelname, record.name, record.getMessage(), extra)


class PatientHandler(logging.Handler):
    """Writes records at once, and what is kept by `keep` a moment later."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._kept: list[tuple[float, str, str, Mapping[str, object]]] = []
        self._waiting = threading.Event()
        threading.Thread(target=self._write_kept, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, after what is kept."""
        self.flush()
        self._stream.write(self.format(record).encode() + b"\n")
        self._stream.flush()

    def keep(self, logger: str, event: str, extra: Mapping[str, object]) -> None:
        """Sees to it that a line is written soon."""
        self._kept.append((time.time(), logger, event, extra))
        if not self._waiting.is_set():
            self._waiting.set()

    def flush(self) -> None:
        """Writes what is kept."""
        self.acquire()
        try:
            kept, self._kept = self._kept, []
            lines = [_line(at_s, "INFO", name, what, extra) for at_s, name, what, extra in kept]
            self._stream.write("".join(f"{line}\n" for line in lines).encode())
            self._stream.flush()
        finally:
            self.release()

    def _write_kept(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(_DELAY_S)
            self._waiting.clear()
            self.flush()


_handlers: list[PatientHandler] = []  # the one of this process, once it is configured


def configure(level: str = "INFO") -> None:
    """Sends every logger of this process to standard error, from `level` on."""
    handler = PatientHandler(sys.stderr.buffer)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    _handlers[:] = [handler]


def often(logger: logging.Logger, event: str, extra: Mapping[str, object]) -> None:
    """Logs something that happens at every call, at little cost."""
    if not logger.isEnabledFor(logging.INFO):
        return
    if _handlers:
        _handlers[0].keep(logger.name, event, extra)
    else:
        logger.info(event, extra=extra)


def _line(created: float, level: str, logger: str, event: str, extra: Mapping[str, object]) -> str:
    line = {
        "time": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
        "level": level.lower(),
        "logger": logger,
        "event": event,
    }
    return _encoder.encode(line | dict(extra)).decode()
