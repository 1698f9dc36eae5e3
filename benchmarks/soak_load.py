"""Clients that ask without a pause, and check each answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serving.client import Client, Prediction
from serving.errors import BackendUnavailable

_TIMEOUT_S = 10.0

Labels = Mapping[int, Mapping[str, str]]  # version → text → label


@dataclass
class Load:
    """What clients met.

    Args:
        addresses: of one client each.
        model: whom they ask.
        expected: what each version says to each text.
        answers: version and seconds of each answer, in order.
        errors: calls without an answer.
        again: calls that were made a second time, as a gateway that ends asks for.
        wrong: answers that their version does not give.
    """

    addresses: Sequence[str]
    model: str
    expected: Labels
    answers: list[tuple[int, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    again: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Has every client ask until the end of the block."""
        over = threading.Event()
        threads = [
            threading.Thread(target=self._ask, args=(address, over)) for address in self.addresses
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def more(self, count: int = 40, timeout_s: float = 20) -> None:
        """Waits for so many more answers.

        Raises:
            TimeoutError: they do not come.
        """
        wanted = len(self.answers) + count
        self._wait(lambda: len(self.answers) >= wanted, f"{count} more answers", timeout_s)

    def wait_for(self, version: int, timeout_s: float = 30) -> None:
        """Waits until a version answers.

        Raises:
            TimeoutError: it does not.
        """
        self._wait(
            lambda: bool(self.answers) and self.answers[-1][0] == version,
            f"version {version}",
            timeout_s,
        )

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {timeout_s:g} s: {self.errors[:2]}")
            time.sleep(0.01)

    def _ask(self, address: str, over: threading.Event) -> None:
        texts = list(next(iter(self.expected.values())))
        with Client(address, timeout_s=_TIMEOUT_S, retries=0) as client:
            while not over.is_set():
                began = time.monotonic()
                try:
                    found = self._answer(client, texts)
                except Exception as error:  # noqa: BLE001  (each one counts)
                    self.errors.append(repr(error))
                    continue
                labels = [best.label for best, *_ in found.labels]
                if labels != [self.expected[found.version][text] for text in texts]:
                    self.wrong.append(f"version {found.version} said {labels}")
                self.answers.append((found.version, time.monotonic() - began))

    def _answer(self, client: Client, texts: Sequence[str]) -> Prediction:
        try:
            return client.predict(self.model, texts)
        except BackendUnavailable:
            self.again += 1
            return client.predict(self.model, texts)
