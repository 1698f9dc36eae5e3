"""Tensors of a .safetensors file, one at a time, without reading the others.

    8 bytes: length of the header │ header, JSON: name → dtype, shape, offsets │ the tensors' bytes

The library of that name is the reference; with NumPy it can't give FP8, which DeepSeek-V3 is
published in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from finetune.errors import ModelError

_ALL = slice(None)
_LONGEST_HEADER = 100_000_000  # bytes: the library's own limit
_DTYPES: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "I64": np.int64,
    "I32": np.int32,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a tensor lies in its file."""

    name: str
    dtype: str  # safetensors' name
    shape: tuple[int, ...]
    offset: int  # bytes into the file


class SafetensorsFile:
    """A file whose header was read; its tensors are read when they are asked for.

    Not mapped into memory: what was read of a mapped file counts as the process's own.

    Raises:
        ModelError: it is missing, cut off, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size_bytes = path.stat().st_size
            with path.open("rb") as file:
                first = file.read(8)
                # A header that says it is longer than the file is cut off, and so no JSON.
                header = file.read(min(int.from_bytes(first, "little"), _LONGEST_HEADER))
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; restore the file") from error
        self.entries = {entry.name: entry for entry in self._entries(first, header)}

    def read(self, name: str, rows: slice = _ALL) -> NDArray[Any]:
        """A tensor, or some rows of its first axis."""
        entry = self.entries[name]
        dtype = np.dtype(_DTYPES[entry.dtype])
        first, last, _ = rows.indices(entry.shape[0] if entry.shape else 1)
        row = math.prod(entry.shape[1:])
        offset = entry.offset + first * row * dtype.itemsize
        count = (last - first) * row * dtype.itemsize
        raw = np.fromfile(self.path, np.uint8, count, offset=offset).view(dtype)
        found: NDArray[Any] = raw.reshape([last - first, *entry.shape[1:]] if entry.shape else [])
        return found

    def _entries(self, first: bytes, header: bytes) -> Iterator[Entry]:
        try:
            for name, told in json.loads(header).items():
                if name != "__metadata__":
                    start = 8 + int.from_bytes(first, "little")
                    yield self._entry(name, told, start)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            problem = f"not a whole safetensors file: {error}; restore the file"
            raise ModelError(f"{self.path}: {problem}") from error

    def _entry(self, name: str, told: dict[str, Any], start: int) -> Entry:
        first, last = told["data_offsets"]
        shape = tuple(int(size) for size in told["shape"])
        if told["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has dtype {told['dtype']}, which is not supported")
        size = math.prod(shape) * np.dtype(_DTYPES[told["dtype"]]).itemsize
        if min(*shape, first, 0) < 0 or last - first != size or start + last > self._size_bytes:
            raise ValueError(f"{name} has {size} bytes at {first} to {last}, beyond what is there")
        return Entry(name=name, dtype=told["dtype"], shape=shape, offset=start + first)
