"""A challenger that passed becomes a version of the real repository, with its edge bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from bundle import archive, manifest
from bundle.errors import ManifestError
from bundle.repository import EXTRA, ModelRepository, SavedBundle


def published(repository: ModelRepository, staged: SavedBundle) -> SavedBundle | None:
    """The version that was made by the same training as the staged one, if it is there."""
    made = staged.manifest
    return repository.made_by(made.name, made.provenance.recipe_sha256)


def promote(
    repository: ModelRepository,
    staging: ModelRepository,
    staged: SavedBundle,
    *,
    on_trial: bool = False,
) -> SavedBundle:
    """Publishes a staged version, and its edge bundles, unless they are there already.

    Args:
        on_trial: as of `ModelRepository.publish`.
    """
    saved = published(repository, staged) or _copy(repository, staged, on_trial=on_trial)
    for path in staging.edge_bundles(staged.manifest.name, staged.manifest.version):
        _copy_edge(repository, saved, path)
    return saved


def _copy(repository: ModelRepository, staged: SavedBundle, *, on_trial: bool) -> SavedBundle:
    with repository.staging() as folder:
        shutil.copytree(staged.path, folder, dirs_exist_ok=True)
        (folder / EXTRA / manifest.FILE_NAME).unlink()
        return repository.publish(folder, staged.manifest, on_trial=on_trial)


def _copy_edge(repository: ModelRepository, saved: SavedBundle, path: Path) -> None:
    files = archive.unpack(path)
    described = manifest.decode(files.pop(manifest.FILE_NAME), str(path))
    if described.edge is None:
        raise ManifestError(f"{path}: is no edge bundle; remove it")
    # Of the version it belongs to now, but for the recipe, which holds the gates it passed.
    provenance = msgspec.structs.replace(
        saved.manifest.provenance, recipe=described.provenance.recipe
    )
    draft = msgspec.structs.replace(
        described, version=saved.manifest.version, provenance=provenance
    )
    target = repository.edge_path(draft.name, draft.version, described.edge.profile)
    if not target.exists():
        repository.publish_edge(draft, files)
