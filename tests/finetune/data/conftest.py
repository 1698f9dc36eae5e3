"""Tiny data sets that several test files of data share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePictures = Callable[..., Path]


@pytest.fixture(scope="session")
def make_pictures() -> MakePictures:
    """Makes a folder of pictures of noise, each of its own size, a folder for each label."""

    def make(folder: Path, counts: Mapping[str, int], seed: int = 0) -> Path:
        generator = np.random.default_rng(seed)
        for label, count in counts.items():
            (folder / label).mkdir(parents=True)
            for number in range(count):
                suffix = ("jpg", "png", "webp")[number % 3]
                size = (*generator.integers(8, 40, 2), 3)
                pixels = generator.integers(0, 256, size, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / label / f"{number}.{suffix}")
        return folder

    return make


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, where there is one."""
    folder = os.environ.get("TENSORSEEK_DATA")
    if not folder:
        pytest.skip("TENSORSEEK_DATA names no folder of data sets")
    return Path(folder)
