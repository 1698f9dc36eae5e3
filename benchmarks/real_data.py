"""The splits of real data sets, made from the files that lie where `TENSORSEEK_DATA` says.

banking77/{train,test}.csv                     ─► data/banking77/{train,dev,test}.jsonl
clothing/{train,validation}/<label>/*.jpg      ─► data/clothing/{train,dev,test}/<label>/*.jpg
text/tinyshakespeare.txt                       ─► data/tinyshakespeare/{train,dev,test}.txt

The test parts are the data sets' own, so that results compare with others'; what of them also
stands among the training examples is left out there.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

from bundle import atomic, integrity
from finetune.data import delimited, jsonl, split
from finetune.errors import DataError

_VARIABLE = "TENSORSEEK_DATA"
_SEED = 7
_DEV = 0.1  # of the training examples


def banking77(folder: Path) -> None:
    """Writes the questions with their intents into `folder`, as JSON lines.

    Raises:
        DataError: they are not there, or can't be read.
    """
    source = _source("banking77")
    train, test = (_rows(source / f"{name}.csv") for name in ("train", "test"))
    asked = {split.normalized(text) for text, _ in test}
    own = [row for row in train if split.normalized(row[0]) not in asked]
    parts = split.stratified(own, seed=_SEED, dev=_DEV, test=0.0)
    for name, rows in (("train", parts.train), ("dev", parts.dev), ("test", test)):
        jsonl.write(folder / f"{name}.jsonl", rows)


def clothing(folder: Path) -> None:
    """Copies the photos into `folder`, unless it is there.

    Raises:
        DataError: they are not there.
    """
    source = _source("clothing")
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        content = Path(temporary, "content")
        shutil.copytree(source / "validation", content / "test")
        shown = {integrity.sha256_file(path) for path in content.glob("test/*/*")}
        generator = random.Random(_SEED)  # noqa: S311 (no secret)
        for label in sorted(path.name for path in (source / "train").iterdir()):
            photos = sorted((source / "train" / label).iterdir())
            own = [path for path in photos if integrity.sha256_file(path) not in shown]
            generator.shuffle(own)
            dev = round(len(own) * _DEV)
            for name, part in (("dev", own[:dev]), ("train", own[dev:])):
                place = content / name / label
                place.mkdir(parents=True)
                for path in part:
                    shutil.copyfile(path, place / path.name)
        atomic.rename_directory(content, folder)


def tinyshakespeare(folder: Path) -> None:
    """Cuts the plays into the first 90 %, the next 5 % and the last 5 % of their characters.

    Raises:
        DataError: they are not there.
    """
    text = (_source("text") / "tinyshakespeare.txt").read_text(encoding="utf-8")
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    parts = {"train": text[:first], "dev": text[first:second], "test": text[second:]}
    for name, part in parts.items():
        atomic.write_bytes(folder / f"{name}.txt", part.encode())


def _source(name: str) -> Path:
    root = os.environ.get(_VARIABLE)
    if not root:
        raise DataError(f"{_VARIABLE}: is not set; name the folder that holds `{name}`")
    path = Path(root, name)
    if not path.is_dir():
        raise DataError(f"{_VARIABLE}: {path} is no folder; name one that holds `{name}`")
    return path


def _rows(path: Path) -> list[split.Row]:
    rows = delimited.rows(path, text_column="text", label_column="category")
    return [(text.strip(), label) for _, text, label in rows]
