"""Labelled pictures as a folder per label:

train/dress/1.jpg
train/dress/2.png
train/hat/7.webp
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle import integrity
from finetune.data import images
from finetune.data import labels as label_names
from finetune.data.images import Images, Picture
from finetune.errors import DataError


def read(folder: Path, labels: Sequence[str]) -> Images:
    """Checks every picture, down to its last byte, and tells where each lies.

    Args:
        folder: a folder for each label; names that begin with a dot are ignored.
        labels: the recipe's; each must have its folder, and no other may be there.

    Returns:
        The pictures in the order of their labels' names and of their own.

    Raises:
        DataError: names the file or folder that can't be used.
    """
    names = labels_of(folder)
    for label in labels:
        if label not in names:
            raise DataError(f"{folder / label}: no such folder; make it, or drop the label")
    indices = label_names.translation(names, labels, str(folder))
    root = folder.resolve()
    pictures: list[Picture] = []
    found: list[int] = []
    for name, index in zip(names, indices, strict=True):
        for path in _entries(folder / name):
            pictures.append(_picture(path, root))
            found.append(index)
    if not pictures:
        raise DataError(f"{folder}: holds no pictures; it needs at least one")
    return Images(tuple(pictures), tuple(found))


def labels_of(folder: Path) -> tuple[str, ...]:
    """The names of a folder's labels, sorted.

    Raises:
        DataError: it can't be read, has none, or holds something else than folders.
    """
    entries = _entries(folder)
    for path in entries:
        if not path.is_dir():
            raise DataError(f"{path}: is no folder of a label; move it out of {folder}")
    if not entries:
        raise DataError(f"{folder}: holds no folders; it needs one for each label")
    return tuple(path.name for path in entries)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}. Name a folder that exists.") from error


def _picture(path: Path, root: Path) -> Picture:
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(root):
            raise DataError(f"{path}: is a link out of {root}; copy the picture instead")
        if not target.is_file():
            raise DataError(f"{path}: is no file; a label's folder holds pictures only")
        size_bytes = target.stat().st_size
        if size_bytes > images.MOST_BYTES:  # before it is read
            raise DataError(f"{path}: has {size_bytes} bytes, the limit is {images.MOST_BYTES}")
        encoded = target.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise DataError(f"{path}: {error}. Replace or delete it.") from error
    height, width = images.measure(encoded, str(path))
    return Picture(path, 0, len(encoded), integrity.sha256_bytes(encoded), height, width)
