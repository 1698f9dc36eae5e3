"""Progress in a terminal: a bar, what was done, and the time left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

from finetune.progress import Advance

_TICK_S = 0.25


class TerminalProgress:
    """A `finetune.progress.Progress` on standard error, so that standard output stays clean."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:
        """A bar of `total` equal parts, with parts per second."""
        columns = (bars.MofNCompleteColumn(), bars.TextColumn("{task.fields[rate]}"))
        with self._bar(*columns) as bar:
            task = bar.add_task(title, total=total, note="", rate="")

            def advance(count: int = 1, note: str = "") -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=count, note=note, rate=f"{speed:.0f}/s" if speed else "")

            yield advance

    @contextmanager
    def timed(self, title: str, expected_s: float) -> Iterator[None]:
        """A bar that fills in `expected_s` seconds, and waits there if the step takes longer."""
        done = threading.Event()
        with self._bar() as bar:
            task = bar.add_task(title, total=expected_s, note="")

            def tick() -> None:
                while not done.wait(_TICK_S):
                    elapsed = bar.tasks[0].elapsed or 0.0
                    bar.update(task, completed=min(elapsed, 0.99 * expected_s))

            ticker = threading.Thread(target=tick, daemon=True)
            ticker.start()
            try:
                yield
                bar.update(task, completed=expected_s)
            finally:
                done.set()
                ticker.join()

    def _bar(self, *columns: bars.ProgressColumn) -> bars.Progress:
        return bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            *columns,
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=self._console,
        )
