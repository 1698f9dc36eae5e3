"""Both versions answer the same inputs: the last that the gateway's request log kept."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from serving.client import Client
from serving.errors import ServingError
from serving.gateway.config import RequestLog

_MOST = 200  # inputs: as many more would tell little more
_FEW = 20
_TAIL_BYTES = 1 << 20  # of a file
_BATCH = 16

Input = str | bytes


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How often both answered with the same label."""

    asked: int
    alike: int

    @property
    def share(self) -> float:
        """Of all that was asked; 1 when nothing was."""
        return self.alike / self.asked if self.asked else 1.0

    def faults(self, least: float) -> list[str]:
        """Why it speaks against the version on trial; empty where it does not, or says little."""
        if self.asked < _FEW or self.share >= least:
            return []
        said = f"{self.alike} of {self.asked} answers to the same inputs are the champion's"
        return [f"{said}, under canary.min_agreement {least}"]


def compare(
    client: Client, model: str, versions: tuple[int, int], inputs: Sequence[Input]
) -> Agreement:
    """Asks two versions the same inputs; one that gives no answer does not agree.

    Raises:
        ServingError: the first one, which serves, could not be asked.
    """
    alike = 0
    for first in range(0, len(inputs), _BATCH):
        part = inputs[first : first + _BATCH]
        expected = _best(client, model, versions[0], part)
        try:
            found = _best(client, model, versions[1], part)
        except ServingError:
            continue
        alike += sum(one == other for one, other in zip(expected, found, strict=True))
    return Agreement(asked=len(inputs), alike=alike)


def sample(log: RequestLog | None, model: str) -> list[Input]:
    """The last different inputs of a model in the log; none where it keeps none.

    Several workers write a file each, beside one another.
    """
    if log is None or not log.payloads:
        return []
    found: dict[Input, None] = {}
    for path in log.path.parent.glob(f"{log.path.stem}*"):
        with contextlib.suppress(FileNotFoundError):  # it became an older part just now
            for line in _tail(path):
                given = _input(line, model)
                if given is not None:
                    found.pop(given, None)
                    found[given] = None
    return list(found)[-_MOST:]


def _best(client: Client, model: str, version: int, inputs: Sequence[Input]) -> list[str | None]:
    results = client.predict(model, inputs, version).results
    return [
        result[0].label if isinstance(result, Sequence) and result else None for result in results
    ]


def _tail(path: Path) -> Iterator[bytes]:
    """The last whole lines of a file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    yield from lines[size > _TAIL_BYTES : -1]


def _input(line: bytes, model: str) -> Input | None:
    try:
        row = json.loads(line)
    except ValueError:  # a gateway that was killed left half of it
        return None
    if row.get("model") != model:
        return None
    if "input_base64" in row:
        return base64.b64decode(row["input_base64"])
    given = row.get("input")
    return given if isinstance(given, str) else None
