"""Examples of any kind, with a key by which two count as one.

Texts that differ only in case or white space are one; pictures are, when their files are the same.
What a language model learns, documents or conversations, has no label: it counts as the first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from finetune.data import conversations, documents, jsonl, source, split
from finetune.data.images import Picture
from finetune.recipe import Recipe


@dataclass(frozen=True)
class Item:
    """One example."""

    key: str
    label: int  # index in the recipe's labels
    content: str | Picture | bytes  # of a language model's: a line of JSON; a logged picture

    def is_kept(self, share: float) -> bool:
        """Whether it is one of the share that is kept from training: always the same ones."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return int.from_bytes(digest[:8]) < share * 2**64


def read(path: Path, recipe: Recipe, check: Callable[[str], None] | None = None) -> list[Item]:
    """Every example of a data set.

    Args:
        check: raises InputError for a text that the model can't take.

    Raises:
        DataError: names the file, the place in it and the reason.
    """
    settings = recipe.data
    if recipe.task == "text-generation":
        return _unlabelled(path, settings.format)
    if recipe.task == "image-classification":
        images = source.read_images(path, settings.labels)
        return [
            Item(picture.sha256, label, picture)
            for picture, label in zip(images.pictures, images.labels, strict=True)
        ]
    texts = source.read_text(
        path,
        settings.labels,
        check,
        text_column=settings.text_column,
        label_column=settings.label_column,
    )
    return [of_text(text, label) for text, label in zip(texts.texts, texts.labels, strict=True)]


def of_text(text: str, label: int) -> Item:
    """A text with its label."""
    return Item(split.normalized(text), label, text)


def of_picture(encoded: bytes, label: int) -> Item:
    """An encoded picture with its label."""
    return Item(hashlib.sha256(encoded).hexdigest(), label, encoded)


def names(recipe: Recipe) -> tuple[str, ...]:
    """Of the labels, by index; a language model's texts are all of one."""
    return recipe.data.labels or ("text",)


def _unlabelled(path: Path, form: Literal["plain", "chat"]) -> list[Item]:
    if form == "chat":
        lines = [msgspec.json.encode({"messages": each}) for each in conversations.read(path)]
    else:
        lines = [msgspec.json.encode({"text": each}) for each in documents.read(path)]
    return [Item(split.normalized(line.decode()), 0, line.decode()) for line in lines]


def place(folder: Path, name: str, recipe: Recipe) -> Path:
    """Where `write` puts a data set: a file of texts, or a folder of pictures."""
    return folder / name if recipe.task == "image-classification" else folder / f"{name}.jsonl"


def write(path: Path, items: Sequence[Item], recipe: Recipe) -> None:
    """Writes a data set that `read` reads; without any example, nothing."""
    if not items:
        return
    labels = recipe.data.labels
    if recipe.task == "text-generation":
        path.write_text("".join(f"{item.content!s}\n" for item in items), encoding="utf-8")
        return
    if recipe.task != "image-classification":
        jsonl.write(path, ((str(item.content), labels[item.label]) for item in items))
        return
    for name in labels:
        (path / name).mkdir(parents=True)
    for item in items:
        target = path / labels[item.label] / item.key
        if isinstance(item.content, Picture):
            _place_picture(item.content, target)
        elif isinstance(item.content, bytes):
            target.write_bytes(item.content)


def _place_picture(picture: Picture, target: Path) -> None:
    """A second name for the file where that can be, since pictures are large."""
    if picture.offset == 0 and picture.path.stat().st_size == picture.size_bytes:
        source_path = picture.path.resolve()
        try:
            os.link(source_path, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source_path, target)
    else:
        target.write_bytes(picture.read())
