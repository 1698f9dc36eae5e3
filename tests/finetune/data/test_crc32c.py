"""Law: the checksum is CRC-32C, for any length, and TensorFlow's reader accepts its mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import crc32c, records


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, B.4, and the usual check value
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_known_values(data: bytes, crc: int) -> None:
    assert crc32c.crc32c(data) == crc


def bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=5), st.integers(0, 3000), st.integers(0, 255))
def test_long_and_short_data_agree_with_the_definition(
    start: bytes, length: int, fill: int
) -> None:
    data = start + bytes((fill + index * index) % 256 for index in range(length))
    assert crc32c.crc32c(data) == bit_by_bit(data)


def test_tensorflow_accepts_it(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    payloads = [bytes(index % 251 for index in range(size)) for size in (0, 1, 63, 64, 1024, 5000)]
    path.write_bytes(b"".join(records.frame(payload) for payload in payloads))
    found = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert found == payloads
