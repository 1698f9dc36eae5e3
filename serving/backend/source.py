"""Which versions there are of each model, and which of them to serve.

    RepositorySource   models/<name>/<number>/: the pinned version, or the newest that loads; and
                       beside it the one that is on trial
    ListedSource       a models.config: versions by its policies, folders anywhere

Unlike `ModelRepository` both also see what TensorFlow Serving would: `<number>/` with a
SavedModel and no manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from bundle import integrity, manifest
from bundle.errors import RepositoryError
from bundle.repository import EXTRA, ModelRepository
from serving.backend.model_config import Listed

Fingerprint = tuple[tuple[str, int, int], ...]  # path, size in bytes, time of change in ns

SAVED_MODEL = "saved_model.pb"
TFLITE_MODEL = "model.tflite"
_MANIFEST = f"{EXTRA}/{manifest.FILE_NAME}"


class Wanted(NamedTuple):
    """What is to be served of one model.

    Args:
        versions: best first.
        keep: how many of them; further ones replace those that don't load.
    """

    versions: tuple[int, ...] = ()
    keep: int = 1


class Source(Protocol):
    """Where the manager gets its models from."""

    def names(self) -> list[str]:
        """Models to serve, sorted.

        Raises:
            OSError: they can't be read.
        """

    def wanted(self, name: str) -> Wanted:
        """The versions of a model that are there and to be served.

        Raises:
            BundleError: what says so is not valid.
            OSError: they can't be read.
        """

    def check(self, name: str, version: int) -> Path:
        """The folder of a version, found whole: a bundle's files match its manifest.

        Raises:
            BundleError: it is not there, or a file is missing or corrupted.
        """

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """What lies in a version's folder; another value when it was changed."""


class RepositorySource:
    """Reads the model repository at `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repository = ModelRepository(root)

    def names(self) -> list[str]:
        """Models with at least one version, sorted."""
        folders = (path for path in self._root.iterdir() if path.is_dir())
        return sorted(
            path.name for path in folders if not path.name.startswith(".") and _published(path)
        )

    def wanted(self, name: str) -> Wanted:
        """The pinned version alone; or the newest that loads; or that and the one on trial."""
        pinned = self._repository.pinned(name)
        if pinned is not None:
            return Wanted((pinned,))
        folder = self._root / name
        found = sorted(_published(folder) if folder.is_dir() else (), reverse=True)
        held = self._repository.held(name)
        usual = [version for version in found if version not in held]
        if usual and held.trial in found:
            return Wanted((usual[0], held.trial), 2)
        return Wanted(tuple(usual or found))

    def check(self, name: str, version: int) -> Path:
        """The folder of a version, found whole."""
        path = self._root / name / str(version)
        if not (path / SAVED_MODEL).is_file():
            raise RepositoryError(f"{path}: has no {SAVED_MODEL}. Publish the version again.")
        if (path / _MANIFEST).is_file():
            self._repository.load(name, version)
        return path

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """What lies in a version's folder."""
        return tuple(sorted(_entries(self._root / name / str(version))))


class ListedSource:
    """The models of a list, each with its folder and its policy; see `replace`."""

    def __init__(self, models: Iterable[Listed]) -> None:
        self._models: dict[str, Listed] = {}
        self.replace(models)

    def replace(self, models: Iterable[Listed]) -> None:
        """Serves another list from now on."""
        self._models = {model.name: model for model in models}

    def names(self) -> list[str]:
        """The models of the list, sorted."""
        return sorted(self._models)

    def wanted(self, name: str) -> Wanted:
        """The versions that the model's policy asks for."""
        model = self._models.get(name)
        if model is None:
            return Wanted()
        found = sorted(_folders(model.base), reverse=True)
        if model.versions:
            found = [version for version in found if version in model.versions]
        elif model.latest is not None:
            found = found[: model.latest]
        return Wanted(tuple(found), len(found))

    def check(self, name: str, version: int) -> Path:
        """The folder of a version, found whole."""
        path = self._folder(name, version)
        if path is None:
            raise RepositoryError(f"{name}: version {version} is not there any more")
        if (path / _MANIFEST).is_file():
            # Of whatever name: TensorFlow Serving serves a folder under any.
            integrity.verify_folder(path, manifest.read(path / _MANIFEST).files)
        return path

    def fingerprint(self, name: str, version: int) -> Fingerprint:
        """What lies in a version's folder."""
        path = self._folder(name, version)
        return tuple(sorted(_entries(path))) if path else ()

    def _folder(self, name: str, version: int) -> Path | None:
        # Another list may have come while the manager goes through this one.
        model = self._models.get(name)
        return _folders(model.base).get(version) if model else None


def _published(folder: Path) -> list[int]:
    """The versions that a repository publishes: SavedModels, in folders without leading zeros."""
    return [
        version
        for version, path in _folders(folder).items()
        if path.name == str(version) and (path / SAVED_MODEL).is_file()
    ]


def _folders(folder: Path) -> dict[int, Path]:
    """The versions in a model's folder; those of TensorFlow Serving's guide are 00000123."""
    return {
        int(path.name): path
        for path in folder.iterdir()
        if _is_number(path.name)
        and ((path / SAVED_MODEL).is_file() or (path / TFLITE_MODEL).is_file())
    }


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 20 and int(name) < 1 << 63


def _entries(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # its writer is still at work
            found = path.stat()
            yield str(path), found.st_size, found.st_mtime_ns
