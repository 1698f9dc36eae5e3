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
    """An open file.

    Raises:
        ModelError: it is missing, cut off, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise ModelError(f"{path}: {error}; restore the file") from error
        self.entries = {entry.name: entry for entry in self._read_header()}

    def read(self, name: str) -> NDArray[Any]:
        """A tensor, still in the file until it is used."""
        entry = self.entries[name]
        dtype = np.dtype(_DTYPES[entry.dtype])
        size = math.prod(entry.shape) * dtype.itemsize
        found: NDArray[Any] = self._bytes[entry.offset : entry.offset + size].view(dtype)
        return found.reshape(entry.shape)

    def _read_header(self) -> Iterator[Entry]:
        try:
            (length,) = self._bytes[:8].view("<u8").tolist()
            # A header that says it is longer than the file is cut off, and so no JSON.
            header = json.loads(self._bytes[8 : 8 + min(length, _LONGEST_HEADER)].tobytes())
            for name, told in header.items():
                if name != "__metadata__":
                    yield self._entry(name, told, start=8 + length)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            problem = f"not a whole safetensors file: {error}; restore the file"
            raise ModelError(f"{self.path}: {problem}") from error

    def _entry(self, name: str, told: dict[str, Any], start: int) -> Entry:
        first, last = told["data_offsets"]
        shape = tuple(int(size) for size in told["shape"])
        if told["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has dtype {told['dtype']}, which is not supported")
        size = math.prod(shape) * np.dtype(_DTYPES[told["dtype"]]).itemsize
        if min(*shape, first, 0) < 0 or last - first != size or start + last > len(self._bytes):
            raise ValueError(f"{name} has {size} bytes at {first} to {last}, beyond what is there")
        return Entry(name=name, dtype=told["dtype"], shape=shape, offset=start + first)
