"""A publisher with a key, bundles of several versions, and a device that trusts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from bundle import archive, integrity, manifest, signing
from bundle.signing import SigningKey, Trusted
from edge import package
from edge.update import release
from edge.update.release import Release

Files = dict[str, bytes]


@dataclass(frozen=True)
class Publisher:
    """Offers versions of the tiny model in a folder."""

    folder: Path
    key: SigningKey
    trusted: Trusted
    source: Path  # the bundle that they are made of

    def bundle(self, version: int, changed: Files | None = None) -> Path:
        """A signed bundle of that version, with other files where `changed` has some."""
        files = archive.unpack(self.source)
        found = manifest.decode(files.pop(manifest.FILE_NAME), "test")
        files |= changed or {}
        digests = {name: integrity.sha256_bytes(data) for name, data in files.items()}
        final = msgspec.structs.replace(found, version=version, files=digests)
        path = self.folder / f"{version}-dynamic_int8.zip"
        path.write_bytes(archive.pack({**files, manifest.FILE_NAME: manifest.encode(final)}))
        package.sign(path, self.key)
        return path

    def offer(
        self, version: int, changed: Files | None = None, *, rollback: bool = False
    ) -> Release:
        """Publishes a version and the index of it."""
        return release.write(self.bundle(version, changed), self.key, rollback=rollback)


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return signing.generate(tmp_path_factory.mktemp("keys") / "publisher")


@pytest.fixture
def publisher(bundle: Path, key_pair: tuple[Path, Path], tmp_path: Path) -> Publisher:
    folder = tmp_path / "published"
    folder.mkdir()
    private, public = key_pair
    return Publisher(folder, SigningKey.read(private), Trusted.read([public]), bundle)


@pytest.fixture
def corrupt_golden() -> Callable[[Path], bytes]:
    """The golden examples of a bundle, with answers that its model does not give."""
    from bundle import golden

    def make(path: Path) -> bytes:
        found = golden.decode(archive.unpack(path)[golden.FILE_NAME], "test")
        wrong = tuple(tuple(-value - 9 for value in row) for row in found.logits)
        return golden.encode(msgspec.structs.replace(found, logits=wrong))

    return make
