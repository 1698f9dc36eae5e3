"""Laws of the manifest: it reads back as written, and says what is wrong with anything else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import manifest
from bundle.errors import ManifestError
from bundle.manifest import EdgeModel, Manifest, TextPreprocess

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def content(tiny_manifest: Manifest) -> dict[str, Any]:
    """A valid edge manifest as plain JSON."""
    edge = EdgeModel(
        profile="dynamic_int8",
        min_runtime="2.17.0",
        ops={"FULLY_CONNECTED/12": 6},
        weight_dtypes={"int8": 4096},
        float_ops={"SOFTMAX": 1},
        evaluation={"drop": 0.0},
    )
    files = {"model.tflite": "a" * 64}
    whole = msgspec.structs.replace(tiny_manifest, edge=edge, files=files)
    return dict(json.loads(manifest.encode(whole)))


def decode(content: Any) -> Manifest:
    return manifest.decode(json.dumps(content).encode(), "here")


def test_reads_back_as_written(tiny_manifest: Manifest, content: dict[str, Any]) -> None:
    for whole in (tiny_manifest, decode(content)):
        assert manifest.decode(manifest.encode(whole), "here") == whole


def test_the_same_manifest_has_the_same_bytes(content: dict[str, Any]) -> None:
    shuffled = dict(reversed(content.items()))
    assert manifest.encode(decode(shuffled)) == manifest.encode(decode(content))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("surprise", 1, "unknown field `surprise`"),
        ("schema_version", 2, "schema_version is 2, this program reads 1"),
        ("schema_version", "1", r"Expected `int`, got `str` - at `\$\.schema_version`"),
        ("name", "Tiny", "model name 'Tiny' must be"),
        ("name", "../tiny", "model name '../tiny' must be"),
        ("name", "a" * 64, "must be 1 to 63"),
        ("name", "", "must be 1 to 63"),
        ("version", 0, "version 0 must be 1 to"),
        ("version", 2**70, "must be 1 to 2"),
        ("task", "astrology", r"Invalid enum value 'astrology' - at `\$\.task`"),
        ("labels", ["a", "a"], r"labels \['a', 'a'\] repeat"),
        ("files", {"a": "A" * 64}, r"files\['a'\] is not a SHA-256"),
        ("files", {"a": "0" * 63}, r"files\['a'\] is not a SHA-256"),
        ("preprocess.buckets", [], "must rise, with at least one"),
        ("preprocess.buckets", [16, 8], r"buckets \[16, 8\] must rise"),
        ("preprocess.buckets", [8, 8], r"buckets \[8, 8\] must rise"),
        ("preprocess.buckets", [0, 8], "at least 1"),
        ("preprocess.max_characters", 0, "at least 1"),
        ("preprocess.pad_id", -1, "pad_id -1 must be at least 0"),
        ("preprocess.tokenizer", "../../etc/passwd", "plain relative path"),
        ("preprocess.kind", "smell", "Invalid value 'smell'"),
        ("edge.profile", "int3", "Invalid enum value 'int3'"),
        ("edge.min_runtime", "newest", "min_runtime 'newest' must be like 2.17.0"),
    ],
)
def test_a_broken_field_is_named(
    content: dict[str, Any], field: str, value: Any, expected: str
) -> None:
    broken = copy.deepcopy(content)
    *parents, last = field.split(".")
    place = broken
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(ManifestError, match=f"^here: .*{expected}.*Publish the bundle again"):
        decode(broken)


@pytest.mark.parametrize("field", ["schema_version", "name", "preprocess", "files", "provenance"])
def test_a_missing_field_is_named(content: dict[str, Any], field: str) -> None:
    with pytest.raises(ManifestError, match=f"missing required field `{field}`"):
        decode({key: value for key, value in content.items() if key != field})


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../a", "a/../b", "/a", "a//b", "./a", "a/", "a\\b", "C:a", "a\0b", "a/."],
)
def test_a_path_that_is_not_plain_and_inside_is_refused(content: dict[str, Any], path: str) -> None:
    with pytest.raises(ValueError, match="must be a plain relative path"):
        manifest.check_relative(path)
    with pytest.raises(ManifestError, match="must be a plain relative path"):
        decode({**content, "files": {path: "0" * 64}})


@pytest.mark.parametrize("path", ["a", "a/b", "..a", "a..b", "assets.extra/tf é.json", "a b"])
def test_a_plain_path_is_taken(path: str) -> None:
    manifest.check_relative(path)


def test_what_could_not_be_read_is_not_written(tiny_manifest: Manifest) -> None:
    broken = msgspec.structs.replace(tiny_manifest, labels=(1, 2))
    with pytest.raises(ManifestError, match="new manifest: Expected `str`, got `int`"):
        manifest.encode(broken)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json: No such file"):
        manifest.read(tmp_path / "manifest.json")
    with pytest.raises(ManifestError, match="Is a directory"):
        manifest.read(tmp_path)


def test_a_manifest_nested_without_end_is_refused(content: dict[str, Any]) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    whole = manifest.encode(decode(content)).replace(b'"recipe": {}', b'"recipe": ' + deep)
    with pytest.raises(ManifestError, match="here: "):
        manifest.decode(whole, "here")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^here: .*Publish the bundle again\.$"):
        manifest.decode(data, "here")


@given(data=st.data(), value=json_values)
def test_any_change_gives_a_manifest_or_a_manifest_error(
    content: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    changed = copy.deepcopy(content)
    place: Any = changed
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = value
    try:
        found = decode(changed)
    except ManifestError:
        return
    assert manifest.decode(manifest.encode(found), "here") == found


def test_preprocess_is_checked_when_it_is_made_in_code() -> None:
    with pytest.raises(ValueError, match="must rise"):
        TextPreprocess(buckets=(), pad_id=0, max_characters=1)
