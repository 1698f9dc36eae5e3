"""Law: a record reads back, and damage anywhere is told with the offset of its record."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.data import crc32c, records
from finetune.errors import DataError

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
PAYLOADS = [b"first", b"", b"x" * 100]
OFFSETS = [0, 21, 37]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tfrecord"


@given(st.lists(st.binary(max_size=200), max_size=5))
@shared_folder
def test_reads_back_what_was_framed(path: Path, payloads: list[bytes]) -> None:
    path.write_bytes(b"".join(records.frame(payload) for payload in payloads))
    found = list(records.scan(path))
    assert [record.payload for record in found] == payloads
    ends = [record.offset + len(record.payload) + records.OVERHEAD for record in found]
    assert [0, *ends][: len(found)] == [record.offset for record in found]


def test_tensorflow_writes_what_is_read(path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert path.read_bytes() == b"".join(map(records.frame, PAYLOADS))
    assert [record.offset for record in records.scan(path)] == OFFSETS


def test_any_flipped_byte_is_found_with_its_record(path: Path) -> None:
    whole = b"".join(map(records.frame, PAYLOADS))
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x40
        path.write_bytes(broken)
        offset = max(start for start in OFFSETS if start <= place)
        with pytest.raises(DataError, match=rf"a\.tfrecord, byte {offset}: .*CRC"):
            list(records.scan(path))


def test_a_file_that_ends_anywhere_else_is_cut_off(path: Path) -> None:
    whole = b"".join(map(records.frame, PAYLOADS))
    for end in set(range(len(whole))) - set(OFFSETS):
        path.write_bytes(whole[:end])
        offset = max(start for start in OFFSETS if start <= end)
        with pytest.raises(DataError, match=rf"a\.tfrecord, byte {offset}: the file ends \d+ "):
            list(records.scan(path))


def test_a_length_beyond_the_limit_asks_for_no_memory(path: Path) -> None:
    length = struct.pack("<Q", 1 << 40)
    path.write_bytes(length + struct.pack("<I", crc32c.masked(length)))
    with pytest.raises(DataError, match="byte 0: the record has 1099511627776 bytes, the limit"):
        list(records.scan(path))


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tfrecord: No such file"):
        list(records.scan(path))
