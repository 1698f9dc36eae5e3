"""How many calls may be answered at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import LimitExceeded


class Admission:
    """Counts the calls in flight on one event loop.

    Args:
        max_in_flight: calls at once; more are refused, never queued.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place for one call.

        Raises:
            LimitExceeded: all are taken.
        """
        if self.in_flight >= self._max_in_flight:
            raise LimitExceeded(
                f"the gateway already answers max_in_flight={self._max_in_flight} calls; "
                "try again later"
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
