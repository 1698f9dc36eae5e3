"""One call on its way through the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serving.gateway.access import Visitor
from serving.gateway.types import Deadline

Metadata = Sequence[tuple[str, str | bytes]]


class Origin(NamedTuple):
    """Where a call comes from, whatever carried it.

    Args:
        peer: its address, as gRPC writes it: `ipv4:10.0.0.7:53214`.
        timeout_s: how long the caller waits; None if it doesn't say.
    """

    peer: str
    metadata: Metadata
    timeout_s: float | None

    @property
    def host(self) -> str:
        """The address without the port."""
        return self.peer.rpartition(":")[0]

    def value(self, *names: str) -> str:
        """The first of these metadata that there is, "" for none."""
        for key, value in self.metadata:
            if key in names:
                return value if isinstance(value, str) else ""
        return ""


@dataclass(kw_only=True)
class Call:
    """What is known of a call; whoever answers it says what it was about."""

    method: str
    origin: Origin
    deadline: Deadline
    visitor: Visitor
    model: str = ""  # only one that exists: it becomes a metric's label
    version: int = 0
    inputs: int = 0

    @property
    def request_key(self) -> str:
        """Keeps its bearer on one version of a model that is split."""
        return self.origin.value("x-request-key")
