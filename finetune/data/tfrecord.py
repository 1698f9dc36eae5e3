"""Examples ↔ TFRecord shards of `tf.train.Example`.

    text    `text` (UTF-8), `label`
    image   `image` (encoded as it was), `height`, `width` (pixels), `label`

`label` is the index in the list that the folder's index holds. TensorFlow reads the shards for
training; this module writes them, reads them back, and says where one is damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bundle import atomic, integrity
from bundle.errors import InputError
from finetune.data import example, records, shard_index
from finetune.data import labels as label_names
from finetune.data.images import Images, Picture
from finetune.data.jsonl import Examples
from finetune.data.records import Record
from finetune.data.shard_index import Index, Kind, Shard
from finetune.errors import DataError

_TEXT: dict[str, type[bytes] | type[int]] = {"text": bytes, "label": int}
_IMAGE: dict[str, type[bytes] | type[int]] = {
    "image": bytes,
    "height": int,
    "width": int,
    "label": int,
}
_STRIDE = 100  # examples between two signs of progress


def kind_of(content: Examples | Images) -> Kind:
    """What the shards of this content are."""
    return "text" if isinstance(content, Examples) else "image"


def write_shard(
    path: Path, content: Examples | Images, advance: Callable[[int], None] | None = None
) -> Shard:
    """Writes one file of records, all or nothing; the same content makes the same bytes.

    Args:
        advance: told of every 100 examples, and of the rest, as they are written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    digest, size_bytes = hashlib.sha256(), 0
    with temporary.open("wb") as file:
        for count, payload in enumerate(_payloads(content), 1):
            record = records.frame(payload)
            file.write(record)
            digest.update(record)
            size_bytes += len(record)
            if advance is not None and (count % _STRIDE == 0 or count == len(content)):
                advance((count - 1) % _STRIDE + 1)
    atomic.sync(temporary)
    temporary.replace(path)
    atomic.sync(path.parent)
    return Shard(
        file=path.name, examples=len(content), size_bytes=size_bytes, sha256=digest.hexdigest()
    )


def read_text(
    folder: Path, labels: Sequence[str], check: Callable[[str], None] | None = None
) -> Examples:
    """Reads and checks every text, in the order of the shards.

    Args:
        labels: the names a label may have; each one's index there is what is returned.
        check: raises InputError for a text that the model can't take.

    Raises:
        DataError: names the file and the byte offset of the first record that can't be used.
    """
    texts: list[str] = []
    indices: list[int] = []
    for path, record, values, label in _read(folder, "text", _TEXT, labels):
        try:
            text = _text(values["text"])
            if check is not None:
                check(text)
        except (ValueError, InputError) as error:
            raise records.damaged(path, record.offset, str(error)) from error
        texts.append(text)
        indices.append(label)
    return Examples(tuple(texts), tuple(indices))


def read_images(folder: Path, labels: Sequence[str]) -> Images:
    """Tells where every picture lies, in the order of the shards; see `read_text`.

    Pictures were decoded when they were converted; here their CRC says that they are the same.
    """
    pictures: list[Picture] = []
    indices: list[int] = []
    for path, record, values, label in _read(folder, "image", _IMAGE, labels):
        encoded = values["image"]
        if min(values["height"], values["width"], len(encoded)) < 1:
            raise records.damaged(path, record.offset, "the picture is empty")
        start = record.offset + records.HEAD + record.payload.index(encoded)
        sha256 = integrity.sha256_bytes(encoded)
        size = values["height"], values["width"]
        pictures.append(Picture(path, start, len(encoded), sha256, *size))
        indices.append(label)
    return Images(tuple(pictures), tuple(indices))


def check_records(folder: Path) -> Index:
    """Reads every shard to its end: what to call when TensorFlow says one is damaged.

    Raises:
        DataError: names the file and the byte offset of the damage.
    """
    index = shard_index.load(folder)
    for shard in index.shards:
        for _ in _scan(folder / shard.file, shard):
            pass
    return index


def _text(encoded: bytes) -> str:
    text = encoded.decode("utf-8")
    if not text.strip():
        raise ValueError(f"`text` must be a non-empty string, not {text!r}")
    return text


def _payloads(content: Examples | Images) -> Iterator[bytes]:
    if isinstance(content, Examples):
        for text, label in zip(content.texts, content.labels, strict=True):
            yield example.encode({"text": text.encode(), "label": label})
        return
    for picture, label in zip(content.pictures, content.labels, strict=True):
        yield example.encode(
            {
                "image": picture.read(),
                "height": picture.height,
                "width": picture.width,
                "label": label,
            }
        )


def _read(
    folder: Path, kind: Kind, wanted: dict[str, type[bytes] | type[int]], labels: Sequence[str]
) -> Iterator[tuple[Path, Record, dict[str, Any], int]]:
    """Every record with its values and the recipe's index of its label."""
    index = shard_index.load(folder)
    if index.kind != kind:
        raise DataError(f"{folder}: holds {index.kind} examples, not {kind}; name another folder")
    indices = label_names.translation(index.labels, labels, str(folder / shard_index.FILE))
    for shard in index.shards:
        path = folder / shard.file
        for record in _scan(path, shard):
            try:
                values = example.decode(record.payload, wanted)
                label = indices[label_names.index(values["label"], index.labels)]
            except ValueError as error:
                raise records.damaged(path, record.offset, str(error)) from error
            yield path, record, values, label


def _scan(path: Path, shard: Shard) -> Iterator[Record]:
    count = 0
    for record in records.scan(path):
        yield record
        count += 1
    if count != shard.examples:
        raise DataError(
            f"{path}: has {count} records, {shard_index.FILE} says {shard.examples}. "
            "Convert the data again."
        )
