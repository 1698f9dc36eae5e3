"""The model repository: a folder that TensorFlow Serving can serve as it is.

models/
  .lock  .staging/            writers only; readers never look there
  movie-sentiment/
    1/  2/                    SavedModel version folders, each published by one rename
    edge/2-dynamic_int8.zip   edge bundles of version 2
    pin.json                  {"version": 1}: serve this one instead of the newest
    held.json                 {"trial": 2, "withdrawn": []}: the newest that are not to be served
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bundle import archive, atomic, integrity, manifest
from bundle.errors import BundleError, ManifestError, RepositoryError
from bundle.manifest import Manifest, Profile

EXTRA = "assets.extra"
_MANIFEST = f"{EXTRA}/{manifest.FILE_NAME}"
_NUMBER = re.compile("[1-9][0-9]{0,17}")


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of `pin.json`."""

    version: int


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of `held.json`: versions that are served to nobody who does not ask for them.

    Args:
        trial: is loaded beside the served one, for a share of the calls.
        withdrawn: what trials ended badly for.
    """

    trial: int | None = None
    withdrawn: tuple[int, ...] = ()

    def __contains__(self, version: int) -> bool:
        return version == self.trial or version in self.withdrawn


@dataclass(frozen=True)
class SavedBundle:
    """A published version: its folder and its manifest."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """The content of `assets.extra/<name>`, checked against the manifest.

        Raises:
            IntegrityError: the file is missing or not the published one.
        """
        path = f"{EXTRA}/{name}"
        expected = {path: self.manifest.files.get(path, "not listed")}
        integrity.verify_folder(self.path, expected)
        return (self.path / path).read_bytes()


class ModelRepository:
    """Lists, publishes, pins and rolls back the models below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with at least one version, sorted."""
        if not self.root.is_dir():
            return []
        folders = (path.name for path in self.root.iterdir() if path.is_dir())
        return sorted(name for name in folders if _is_name(name) and self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, rising; empty for an unknown model."""
        folder = self.root / name
        if not _is_name(name) or not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if _is_version(path))

    def pinned(self, name: str) -> int | None:
        """The version that is pinned, if any.

        Raises:
            ManifestError: `pin.json` is not valid.
        """
        path = self.root / name / "pin.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Pin).version
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise ManifestError(f"{path}: {error}. Pin the version again.") from error

    def held(self, name: str) -> Held:
        """The versions that are not to be served, however new.

        Raises:
            ManifestError: `held.json` is not valid.
        """
        path = self.root / name / "held.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Held)
        except FileNotFoundError:
            return Held()
        except msgspec.DecodeError as error:
            raise ManifestError(f"{path}: {error}. Mend it, or remove it.") from error

    def serving(self, name: str) -> int:
        """The version to serve: the pinned one, or the newest that is not held back.

        Raises:
            RepositoryError: the model has no version.
        """
        known, held = self._known(name), self.held(name)
        newest = max((version for version in known if version not in held), default=known[-1])
        return self.pinned(name) or newest

    def load(self, name: str, version: int | None = None, *, verify: bool = True) -> SavedBundle:
        """Opens a version, by default the one to serve.

        Args:
            verify: also check the SHA-256 of every file.

        Raises:
            RepositoryError: no such model or version.
            ManifestError: its manifest is missing or not valid.
            IntegrityError: a file is missing or corrupted.
        """
        version = self.serving(name) if version is None else version
        self._check_version(name, version)
        path = self.root / name / str(version)
        found = manifest.read(path / _MANIFEST)
        if (found.name, found.version) != (name, version):
            raise ManifestError(
                f"{path / _MANIFEST}: is of {found.name} version {found.version}. "
                "Publish the bundle again instead of copying its folder."
            )
        if verify:
            integrity.verify_folder(path, found.files)
        return SavedBundle(path, found)

    def made_by(self, name: str, recipe_sha256: str) -> SavedBundle | None:
        """The newest version that came of a training, if there is one; its files are not verified.

        Args:
            recipe_sha256: of the training, as its provenance has it.
        """
        for version in reversed(self.versions(name)):
            saved = self.load(name, version, verify=False)
            if saved.manifest.provenance.recipe_sha256 == recipe_sha256:
                return saved
        return None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the repository's file system, removed at the end.

        Leftovers of writers that died are removed first: a live writer holds a lock on its own.
        """
        parent = self.root / ".staging"
        parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
            lock = (folder / ".writer").open("x")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            content = folder / "content"
            content.mkdir()
            yield content
        finally:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, draft: Manifest, *, on_trial: bool = False) -> SavedBundle:
        """Makes a staged SavedModel folder the next version, all at once.

        Args:
            staged: a folder from `staging`, without a manifest.
            draft: its manifest; `version`, `files` and the parent version are filled in here.
            on_trial: it is not served until `promote`; the first version of a model always is.

        Returns:
            The published version.

        Raises:
            RepositoryError: something that is no bundle lies where the version belongs.
        """
        with self._locked():
            known = self.versions(draft.name)
            version = known[-1] + 1 if known else 1
            parent = self.serving(draft.name) if known else None
            final = msgspec.structs.replace(
                draft,
                version=version,
                files=integrity.digest_folder(staged),
                provenance=msgspec.structs.replace(draft.provenance, parent_version=parent),
            )
            target = self.root / draft.name / str(version)
            if target.exists():
                raise RepositoryError(f"{target}: is no bundle, but is in the way; move it away")
            atomic.write_bytes(staged / _MANIFEST, manifest.encode(final))
            target.parent.mkdir(exist_ok=True)
            self._hold(draft.name, version, on_trial=on_trial and bool(known))
            atomic.rename_directory(staged, target)
        return SavedBundle(target, final)

    def edge_path(self, name: str, version: int, profile: Profile) -> Path:
        """Where the edge bundle of a version and profile lies, or would lie."""
        return self.root / name / "edge" / f"{version}-{profile}.zip"

    def publish_edge(self, draft: Manifest, files: dict[str, bytes]) -> Path:
        """Writes an edge bundle beside its SavedModel version, all at once.

        Args:
            draft: its manifest, with `edge`; `files` is filled in here.
            files: every file of the bundle but the manifest.

        Raises:
            RepositoryError: the version it belongs to is not published.
        """
        if draft.edge is None:
            raise BundleError("an edge bundle needs a manifest with `edge`")
        self._check_version(draft.name, draft.version)
        digests = {name: integrity.sha256_bytes(files[name]) for name in sorted(files)}
        final = msgspec.structs.replace(draft, files=digests)
        content = {**files, manifest.FILE_NAME: manifest.encode(final)}
        path = self.edge_path(draft.name, draft.version, draft.edge.profile)
        atomic.write_bytes(path, archive.pack(content))
        return path

    def edge_bundles(self, name: str, version: int) -> list[Path]:
        """The edge bundles of a version, sorted by profile."""
        return sorted((self.root / name / "edge").glob(f"{version}-*.zip"))

    def pin(self, name: str, version: int) -> None:
        """Makes `version` the one to serve, until it is unpinned.

        Raises:
            RepositoryError: no such model or version.
        """
        self._check_version(name, version)
        atomic.write_bytes(self.root / name / "pin.json", msgspec.json.encode(Pin(version)))

    def unpin(self, name: str) -> None:
        """Serves the newest version again."""
        self._known(name)
        (self.root / name / "pin.json").unlink(missing_ok=True)

    def promote(self, name: str) -> None:
        """Ends a trial well, if there is one: the version is served."""
        self._end_trial(name, withdrawn=False)

    def withdraw(self, name: str) -> None:
        """Ends a trial badly, if there is one: the version is never served unless it is pinned."""
        self._end_trial(name, withdrawn=True)

    def rollback(self, name: str) -> int:
        """Pins the version before the one that is served.

        Returns:
            The version served from now on.

        Raises:
            RepositoryError: there is no earlier version.
        """
        current, held = self.serving(name), self.held(name)
        known = (version for version in self._known(name) if version not in held)
        earlier = [version for version in known if version < current]
        if not earlier:
            raise RepositoryError(f"{name}: no version before {current} to roll back to")
        self.pin(name, earlier[-1])
        return earlier[-1]

    def outdated(self, name: str, keep: int) -> list[int]:
        """The versions that may be removed: all but the newest `keep` and the served one."""
        newest = self._known(name)[-keep:]
        stay = {*newest, self.serving(name), self.held(name).trial}
        return [version for version in self.versions(name) if version not in stay]

    def remove(self, name: str, version: int) -> None:
        """Removes a version and its edge bundles; readers see all of it or nothing.

        Raises:
            RepositoryError: no such version, or it is the one that is served.
        """
        self._check_version(name, version)
        with self.staging() as trash, self._locked():
            if version == self.serving(name):
                raise RepositoryError(f"{name}: version {version} is served; pin another one first")
            for path in self.edge_bundles(name, version):
                path.unlink()
            (self.root / name / str(version)).rename(trash / "version")

    def _hold(self, name: str, version: int, *, on_trial: bool) -> None:
        """Before the version is there: a reader must not take it for one to serve."""
        held = self.held(name)
        others = tuple(each for each in held.withdrawn if each != version)
        trial = None if held.trial == version else held.trial
        wanted = Held(version if on_trial else trial, others)
        if wanted != held:
            self._write_held(name, wanted)

    def _end_trial(self, name: str, *, withdrawn: bool) -> None:
        self._known(name)
        with self._locked():
            held = self.held(name)
            if held.trial is not None:
                gone = (held.trial,) if withdrawn else ()
                self._write_held(name, Held(None, (*held.withdrawn, *gone)))

    def _write_held(self, name: str, held: Held) -> None:
        atomic.write_bytes(self.root / name / "held.json", msgspec.json.encode(held))

    def _known(self, name: str) -> list[int]:
        known = self.versions(name)
        if not known:
            models = ", ".join(self.names()) or "none"
            raise RepositoryError(f"{self.root}: no model {name!r}; it has: {models}")
        return known

    def _check_version(self, name: str, version: int) -> None:
        known = self._known(name)
        if version not in known:
            raise RepositoryError(f"{self.root / name}: no version {version}; it has: {known}")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_name(name: str) -> bool:
    try:
        manifest.check_name(name)
    except ValueError:
        return False
    return True


def _is_version(path: Path) -> bool:
    return bool(_NUMBER.fullmatch(path.name)) and (path / _MANIFEST).is_file()


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.iterdir():
        with contextlib.suppress(OSError), (folder / ".writer").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a live writer holds it: skip
            shutil.rmtree(folder)
