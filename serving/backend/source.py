"""Which versions lie in the model repository, and which of them to serve.

Unlike `ModelRepository` it also sees what TensorFlow Serving would: `<name>/<number>/` with a
SavedModel and no manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bundle import manifest
from bundle.errors import RepositoryError
from bundle.repository import EXTRA, ModelRepository

Fingerprint = tuple[tuple[str, int, int], ...]  # path, size in bytes, time of change in ns

_SAVED_MODEL = "saved_model.pb"


class Source:
    """Reads the repository at `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repository = ModelRepository(root)

    def names(self) -> list[str]:
        """Models with at least one version, sorted.

        Raises:
            OSError: the repository can't be read.
        """
        folders = (path.name for path in self._root.iterdir() if path.is_dir())
        return sorted(
            name for name in folders if not name.startswith(".") and any(self._versions(name))
        )

    def candidates(self, name: str) -> list[int]:
        """The versions that may be served, best first: the pinned one alone, or the newest first.

        Raises:
            ManifestError: `pin.json` is not valid.
            OSError: the repository can't be read.
        """
        pinned = self._repository.pinned(name)
        if pinned is not None:
            return [pinned]
        return sorted(self._versions(name), reverse=True)

    def check(self, name: str, version: int) -> Path:
        """The folder of a version, found whole: a bundle's files match its manifest.

        Raises:
            BundleError: it is not there, or a file is missing or corrupted.
        """
        path = self._path(name, version)
        if not (path / _SAVED_MODEL).is_file():
            raise RepositoryError(f"{path}: has no {_SAVED_MODEL}. Publish the version again.")
        if (path / EXTRA / manifest.FILE_NAME).is_file():
            self._repository.load(name, version)
        return path

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """What lies in a version's folder; another value when it was changed."""
        return tuple(sorted(_entries(self._path(name, version))))

    def _versions(self, name: str) -> Iterator[int]:
        folder = self._root / name
        for path in folder.iterdir() if folder.is_dir() else ():
            if _is_number(path.name) and (path / _SAVED_MODEL).is_file():
                yield int(path.name)

    def _path(self, name: str, version: int) -> Path:
        return self._root / name / str(version)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) < 1 << 63


def _entries(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # its writer is still at work
            found = path.stat()
            yield str(path), found.st_size, found.st_mtime_ns
