"""Files that may be replaced while the gateway runs."""

from __future__ import annotations

from pathlib import Path

_Stamp = tuple[int, int, int] | None


class Watched:
    """Says whether some files have changed since it was last asked."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stamps = self._look()

    def changed(self) -> bool:
        """Whether one of them is another file, or has other content, than at the last look."""
        stamps = self._look()
        changed = stamps != self._stamps
        self._stamps = stamps
        return changed

    def _look(self) -> list[_Stamp]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:  # just being replaced, or gone
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
