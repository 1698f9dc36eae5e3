"""An edge bundle, opened and verified: nothing in it is used before its hash is checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundle import archive, golden, integrity, manifest, preprocess
from bundle.errors import ManifestError
from bundle.manifest import EDGE_MODEL_FILE, EdgeModel, Manifest
from bundle.preprocess import Preprocessor

MAX_BYTES = 1 << 30  # more than any model that a phone should load


@dataclass(frozen=True)
class EdgePackage:
    """The content of an edge bundle."""

    path: Path
    manifest: Manifest
    edge: EdgeModel
    model: bytes
    preprocessor: Preprocessor
    golden: golden.Golden


def read(path: Path) -> EdgePackage:
    """Opens the bundle at `path`.

    Raises:
        ArchiveError: it is missing, not a zip, or unsafe to open.
        ManifestError: its manifest is missing, broken, or not of an edge bundle.
        IntegrityError: a file is missing or corrupted; names it and both hashes.
    """
    files = archive.unpack(path, MAX_BYTES)
    try:
        found = manifest.decode(files.pop(manifest.FILE_NAME), f"{path}:{manifest.FILE_NAME}")
    except KeyError as error:
        raise ManifestError(f"{path}: has no {manifest.FILE_NAME}; publish it again") from error
    if found.edge is None:
        raise ManifestError(f"{path}: is not an edge bundle: its manifest has no `edge`")
    integrity.verify_bytes(str(path), files, found.files)
    for name in (EDGE_MODEL_FILE, *found.preprocess.files, golden.FILE_NAME):
        if name not in files:
            raise ManifestError(f"{path}: its manifest lists no {name}; publish it again")
    examples = golden.decode(files[golden.FILE_NAME], f"{path}:{golden.FILE_NAME}")
    if any(len(row) != len(found.labels) for row in examples.logits):
        raise ManifestError(
            f"{path}:{golden.FILE_NAME}: an answer has not one logit for each of the "
            f"{len(found.labels)} labels; publish it again"
        )
    return EdgePackage(
        path=path,
        manifest=found,
        edge=found.edge,
        model=files[EDGE_MODEL_FILE],
        preprocessor=preprocess.create(found.preprocess, files.__getitem__),
        golden=examples,
    )
