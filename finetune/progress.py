"""How a long job tells what it does; who shows it is the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a counted step on."""

    def __call__(self, count: int = 1, note: str = "") -> None: ...


class Progress(Protocol):
    """Shows steps; see `Silent` for one that does not."""

    def counted(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A step of `total` equal parts."""
        ...

    def timed(self, title: str, expected_s: float) -> AbstractContextManager[None]:
        """A step that can't be counted and usually takes `expected_s` seconds."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        def advance(count: int = 1, note: str = "") -> None:
            pass

        yield advance

    @contextmanager
    def timed(self, title: str, expected_s: float) -> Iterator[None]:  # noqa: ARG002
        yield
