"""An edge bundle, opened and verified: nothing in it is used before its hash is checked.

<N>-<profile>.zip, or the folder it was unpacked to
    manifest.sig ─ signs ─► manifest.json ─ SHA-256 of ─► model.tflite, tokenizer.json, golden.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle import archive, atomic, golden, integrity, manifest, preprocess, signing
from bundle.errors import IntegrityError, ManifestError, SignatureError
from bundle.manifest import EDGE_MODEL_FILE, EdgeModel, Manifest
from bundle.preprocess import Preprocessor
from bundle.signing import Signature, SigningKey, Trusted
from edge.writer import vocabulary

MAX_BYTES = 1 << 30  # more than any model that a phone should load


@dataclass(frozen=True)
class EdgePackage:
    """The content of an edge bundle.

    The model of an unpacked one is a path, so that a runtime can map it instead of reading it.
    """

    path: Path
    manifest: Manifest
    edge: EdgeModel
    model: bytes | Path
    preprocessor: Preprocessor
    golden: golden.Golden
    assets: Mapping[str, bytes]  # the preprocessor's files


def read(path: Path, trusted: Trusted | None = None) -> EdgePackage:
    """Opens the bundle at `path`, a zip or a folder.

    Args:
        trusted: whose signature it must have; None for a bundle that may have none.

    Raises:
        ArchiveError: it is missing, not a zip, or unsafe to open.
        SignatureError: it is not signed, or not by one who is trusted.
        ManifestError: its manifest is missing, broken, or not of an edge bundle.
        IntegrityError: a file is missing or corrupted; names it and both hashes.
    """
    if path.is_dir():
        return _read_folder(path, trusted)
    files = archive.unpack(path, MAX_BYTES)
    signature = files.pop(signing.FILE_NAME, None)
    described = _describe(path, files.pop(manifest.FILE_NAME, None), signature, trusted)
    integrity.verify_bytes(str(path), files, described.files)
    return _open(path, described, files, files.get(EDGE_MODEL_FILE, b""))


def _read_folder(path: Path, trusted: Trusted | None) -> EdgePackage:
    content = {
        name: (path / name).read_bytes()
        for name in (manifest.FILE_NAME, signing.FILE_NAME)
        if (path / name).is_file()
    }
    signature = content.get(signing.FILE_NAME)
    described = _describe(path, content.get(manifest.FILE_NAME), signature, trusted)
    integrity.verify_folder(path, described.files)
    for file in path.iterdir():
        if file.name not in {*described.files, manifest.FILE_NAME, signing.FILE_NAME}:
            raise IntegrityError(f"{file}: not listed in the manifest. Unpack the bundle again.")
    small = {
        name: (path / name).read_bytes() for name in described.files if name != EDGE_MODEL_FILE
    }
    return _open(path, described, small, path / EDGE_MODEL_FILE)


def _describe(
    path: Path, encoded: bytes | None, signature: bytes | None, trusted: Trusted | None
) -> Manifest:
    """The manifest of a bundle, if it may be believed."""
    if encoded is None:
        raise ManifestError(f"{path}: has no {manifest.FILE_NAME}; publish it again")
    if trusted is not None:
        if signature is None:
            raise SignatureError(f"{path}: is not signed; sign it: edge sign, or get one that is")
        origin = f"{path}:{signing.FILE_NAME}"
        trusted.check(encoded, signing.decode(signature, origin), "manifest", str(path))
    return manifest.decode(encoded, f"{path}:{manifest.FILE_NAME}")


def _open(
    path: Path, found: Manifest, files: Mapping[str, bytes], model: bytes | Path
) -> EdgePackage:
    if found.edge is None:
        raise ManifestError(f"{path}: is not an edge bundle: its manifest has no `edge`")
    for name in (EDGE_MODEL_FILE, *found.preprocess.files, golden.FILE_NAME):
        if name not in found.files:
            raise ManifestError(f"{path}: its manifest lists no {name}; publish it again")
    examples = golden.decode(files[golden.FILE_NAME], f"{path}:{golden.FILE_NAME}")
    outcomes, kind = len(found.labels), "labels"
    if found.generation is not None:
        outcomes, kind = vocabulary(found, str(path)), "tokens"
    if any(len(row) != outcomes for row in examples.logits):
        raise ManifestError(
            f"{path}:{golden.FILE_NAME}: an answer has not one logit for each of the "
            f"{outcomes} {kind}; publish it again"
        )
    return EdgePackage(
        path=path,
        manifest=found,
        edge=found.edge,
        model=model,
        preprocessor=preprocess.create(found.preprocess, files.__getitem__),
        golden=examples,
        assets={name: files[name] for name in found.preprocess.files},
    )


def sign(path: Path, key: SigningKey) -> Signature:
    """Signs the zip at `path`, which it replaces at once; a signature that it had is dropped.

    Raises:
        BundleError: it is not a whole edge bundle.
    """
    read(path)
    files = archive.unpack(path, MAX_BYTES)
    signature = key.sign(files[manifest.FILE_NAME], "manifest")
    signed = {**files, signing.FILE_NAME: signing.encode(signature)}
    atomic.write_bytes(path, archive.pack(signed))
    return signature
