"""What the edge tests share: the published bundle, and bundles made wrong in one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle import archive, integrity, manifest
from bundle.manifest import Manifest

Rebuild = Callable[..., Path]


@pytest.fixture(scope="session")
def bundle(published: Any) -> Path:
    """The tiny model's dynamic_int8 bundle. Don't change it."""
    return published.outcome.edge[0]


@pytest.fixture
def rebuild(bundle: Path, tmp_path: Path) -> Rebuild:
    """Makes a bundle with other files or manifest fields, and with hashes that fit."""

    def make(changed: dict[str, bytes | None] | None = None, /, **fields: Any) -> Path:
        content = archive.unpack(bundle)
        found = manifest.decode(content.pop(manifest.FILE_NAME), str(bundle))
        merged = {**content, **(changed or {})}
        kept = {name: data for name, data in merged.items() if data is not None}
        digests = {name: integrity.sha256_bytes(data) for name, data in kept.items()}
        return write(msgspec.structs.replace(found, **{"files": digests, **fields}), kept)

    def write(found: Manifest, files: dict[str, bytes]) -> Path:
        path = tmp_path / "1-dynamic_int8.zip"
        path.write_bytes(archive.pack({**files, manifest.FILE_NAME: manifest.encode(found)}))
        return path

    return make
