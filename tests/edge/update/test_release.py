"""Laws of the index: it says what its publisher signed, and its serial only rises."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import signing
from bundle.errors import ManifestError, SignatureError
from bundle.signing import SigningKey, Trusted
from edge.errors import UpdateError
from edge.update import release
from edge.update.release import Release


def test_what_is_written_is_read(publisher: Any) -> None:
    offered = publisher.offer(3)
    data = (publisher.folder / release.FILE_NAME).read_bytes()
    assert release.read(data, publisher.trusted, "index") == offered
    assert (offered.model, offered.version, offered.serial) == ("tiny", 3, 1)
    assert offered.size_bytes == (publisher.folder / offered.file).stat().st_size


def test_each_index_has_a_higher_serial_also_when_it_goes_back(publisher: Any) -> None:
    serials = [publisher.offer(2).serial, publisher.offer(3).serial]
    serials.append(publisher.offer(2, rollback=True).serial)
    assert serials == [1, 2, 3]


def test_a_changed_index_is_refused(publisher: Any) -> None:
    publisher.offer(3)
    data = (publisher.folder / release.FILE_NAME).read_bytes()
    changed = data.replace(b'\\"version\\":3', b'\\"version\\":9')
    assert changed != data
    with pytest.raises(SignatureError, match=r"index: the signature of key .* does not fit"):
        release.read(changed, publisher.trusted, "index")


def test_a_bundle_that_is_not_signed_with_the_key_is_not_offered(
    publisher: Any, tmp_path: Any
) -> None:
    path = publisher.bundle(2)
    other = SigningKey.read(signing.generate(tmp_path / "other")[0])
    with pytest.raises(SignatureError, match="not trusted here"):
        release.write(path, other)


def test_an_index_is_of_one_model(publisher: Any) -> None:
    publisher.offer(2)
    path = publisher.folder / release.FILE_NAME
    before = release.read(path.read_bytes(), publisher.trusted, "index")
    signed = msgspec.json.encode(msgspec.structs.replace(before, model="other"))
    signature = publisher.key.sign(signed, "index")
    path.write_bytes(msgspec.json.encode({"release": signed.decode(), "signature": signature}))
    with pytest.raises(ManifestError, match="is of other, not of tiny"):
        publisher.offer(3)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_index_are_a_named_error(data: bytes) -> None:
    with pytest.raises(UpdateError, match=r"^index: is no index"):
        release.read(data, Trusted({}), "index")


@given(
    st.fixed_dictionaries(
        {
            "file": st.sampled_from(["../a.zip", "/etc/passwd", "a/b.zip", "", "x\0y"]),
            "size_bytes": st.integers(1, 9),
        }
    )
    | st.fixed_dictionaries({"size_bytes": st.sampled_from([0, -1, 1 << 40])})
    | st.fixed_dictionaries({"sha256": st.sampled_from(["", "x" * 64, "A" * 64])})
    | st.fixed_dictionaries({"version": st.sampled_from([0, -3])})
)
def test_a_signed_index_with_a_field_that_can_t_be_is_refused(wrong: dict[str, Any]) -> None:
    right = {
        "model": "tiny",
        "serial": 1,
        "version": 1,
        "profile": "float32",
        "file": "1.zip",
        "size_bytes": 1,
        "sha256": "0" * 64,
    }
    Release(**right)
    with pytest.raises(ValueError, match=r"file|size_bytes|sha256|version"):
        Release(**right | wrong)
