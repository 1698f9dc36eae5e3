"""Laws of the repository: publish is atomic, versions rise, pins decide what is served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle.errors import IntegrityError, ManifestError, RepositoryError
from bundle.manifest import EdgeModel, Manifest
from bundle.repository import EXTRA, ModelRepository


def publish(
    repository: ModelRepository, draft: Manifest, content: bytes = b"model", **how: bool
) -> int:
    with repository.staging() as staged:
        (staged / EXTRA).mkdir()
        (staged / "saved_model.pb").write_bytes(content)
        (staged / EXTRA / "tokenizer.json").write_bytes(b"{}")
        return repository.publish(staged, draft, **how).manifest.version


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def test_versions_rise_and_the_newest_is_served(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    assert [publish(repository, tiny_manifest) for _ in range(3)] == [1, 2, 3]
    assert repository.names() == ["tiny"]
    assert repository.versions("tiny") == [1, 2, 3]
    assert repository.load("tiny").manifest.provenance.parent_version == 2


def test_pin_unpin_and_rollback(repository: ModelRepository, tiny_manifest: Manifest) -> None:
    for _ in range(3):
        publish(repository, tiny_manifest)
    assert repository.rollback("tiny") == 2
    assert repository.rollback("tiny") == 1
    with pytest.raises(RepositoryError, match="no version before 1"):
        repository.rollback("tiny")
    assert repository.serving("tiny") == 1
    repository.unpin("tiny")
    assert repository.serving("tiny") == 3
    with pytest.raises(RepositoryError, match=r"no version 9; it has: \[1, 2, 3\]"):
        repository.pin("tiny", 9)


def test_a_version_on_trial_is_served_when_it_is_promoted(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    assert publish(repository, tiny_manifest, on_trial=True) == 1
    assert (repository.serving("tiny"), repository.held("tiny").trial) == (1, None)
    assert publish(repository, tiny_manifest, on_trial=True) == 2
    assert (repository.serving("tiny"), repository.held("tiny").trial) == (1, 2)
    assert repository.outdated("tiny", 1) == []
    repository.promote("tiny")
    assert (repository.serving("tiny"), repository.held("tiny").trial) == (2, None)


def test_a_withdrawn_version_is_served_only_to_who_pins_it(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    for on_trial in (False, False, True):
        publish(repository, tiny_manifest, on_trial=on_trial)
    repository.withdraw("tiny")
    repository.withdraw("tiny")  # no trial: nothing changes
    assert (repository.serving("tiny"), repository.held("tiny").withdrawn) == (2, (3,))
    assert publish(repository, tiny_manifest) == 4
    assert repository.serving("tiny") == 4
    assert repository.rollback("tiny") == 2
    repository.pin("tiny", 3)
    assert repository.serving("tiny") == 3
    repository.unpin("tiny")
    repository.remove("tiny", 3)
    repository.pin("tiny", 1)
    for version in (4, 2):
        repository.remove("tiny", version)
    repository.unpin("tiny")
    assert [publish(repository, tiny_manifest) for _ in range(2)] == [2, 3]
    assert repository.serving("tiny") == 3  # another version under a number that was withdrawn


def test_a_corrupted_file_is_named_with_both_hashes(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    publish(repository, tiny_manifest)
    path = repository.root / "tiny/1/saved_model.pb"
    path.write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        repository.load("tiny")
    message = str(caught.value)
    assert str(path) in message
    assert message.count("expected: 9372c470") == 1  # SHA-256 of b"model"
    assert message.count("found: d9298a10") == 1  # SHA-256 of b"other"
    path.unlink()
    with pytest.raises(IntegrityError, match=r"saved_model\.pb: missing.*found: no file"):
        repository.load("tiny")


def test_a_broken_manifest_is_named(repository: ModelRepository, tiny_manifest: Manifest) -> None:
    publish(repository, tiny_manifest)
    path = repository.root / "tiny/1" / EXTRA / "manifest.json"
    for change, expected in [
        ({"version": "x"}, r"Expected `int`.*\$\.version"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"schema_version": 99}, "schema_version is 99"),
        ({"files": {"../x": "0" * 64}}, "plain relative path"),
    ]:
        original = path.read_bytes()
        path.write_text(json.dumps({**json.loads(original), **change}))
        with pytest.raises(ManifestError, match=expected):
            repository.load("tiny")
        path.write_bytes(original)


def test_unknown_model_lists_what_there_is(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    publish(repository, tiny_manifest)
    (repository.root / "a-file").write_bytes(b"")
    for name in ("other", "../tiny", "", "Tiny", "a-file", "tiny\0", "x" * 300):
        with pytest.raises(RepositoryError, match="it has: tiny"):
            repository.load(name)


def test_only_folders_that_can_be_loaded_are_versions(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    publish(repository, tiny_manifest)
    for name in ("01", "0", "-1", "2.5", "x", "٣"):
        shutil.copytree(repository.root / "tiny/1", repository.root / "tiny" / name)
    (repository.root / "tiny/7").mkdir()  # no manifest
    assert repository.versions("tiny") == [1]


def test_publishing_never_touches_a_folder_that_is_no_bundle(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    foreign = repository.root / "tiny/1/saved_model.pb"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"someone's")
    with pytest.raises(RepositoryError, match=r"tiny/1: is no bundle.*move it away"):
        publish(repository, tiny_manifest)
    assert foreign.read_bytes() == b"someone's"
    assert list((repository.root / ".staging").iterdir()) == []


def test_a_broken_pin_is_named(repository: ModelRepository, tiny_manifest: Manifest) -> None:
    publish(repository, tiny_manifest)
    (repository.root / "tiny/pin.json").write_text('{"version": "newest"}')
    with pytest.raises(ManifestError, match=r"pin\.json: Expected `int`.*Pin the version again"):
        repository.load("tiny")


def test_a_copied_version_folder_is_refused(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    publish(repository, tiny_manifest)
    shutil.copytree(repository.root / "tiny/1", repository.root / "tiny/2")
    with pytest.raises(ManifestError, match="is of tiny version 1"):
        repository.load("tiny")


def test_a_file_of_a_bundle_is_read_only_if_it_is_the_published_one(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    publish(repository, tiny_manifest)
    saved = repository.load("tiny")
    assert saved.read("tokenizer.json") == b"{}"
    for name in ("unknown.json", "../saved_model.pb", "manifest.json"):
        with pytest.raises(IntegrityError, match="SHA-256 expected: not listed"):
            saved.read(name)
    (saved.path / EXTRA / "tokenizer.json").write_bytes(b"[]")
    with pytest.raises(IntegrityError, match="corrupted"):
        saved.read("tokenizer.json")


def test_edge_bundle_belongs_to_a_published_version(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    edge = EdgeModel(
        profile="dynamic_int8",
        min_runtime="2.0",
        ops={},
        weight_dtypes={},
        float_ops={},
        evaluation={},
    )
    draft = msgspec.structs.replace(tiny_manifest, edge=edge)
    with pytest.raises(RepositoryError, match="no model 'tiny'"):
        repository.publish_edge(draft, {"model.tflite": b"x"})
    publish(repository, tiny_manifest)
    path = repository.publish_edge(draft, {"model.tflite": b"x"})
    assert repository.edge_bundles("tiny", 1) == [path]
    again = path.read_bytes()
    repository.publish_edge(draft, {"model.tflite": b"x"})
    assert path.read_bytes() == again  # same content, same bytes


def test_writers_in_many_processes_never_share_a_version(
    repository: ModelRepository, tiny_manifest: Manifest
) -> None:
    children = [_writer(repository.root, tiny_manifest, "") for _ in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    assert repository.versions("tiny") == [1, 2, 3, 4]


@pytest.mark.parametrize("step", ["before_manifest", "before_rename", "after_rename"])
def test_killed_while_publishing_leaves_all_or_nothing(
    repository: ModelRepository, tiny_manifest: Manifest, step: str
) -> None:
    child = _writer(repository.root, tiny_manifest, step)
    assert child.wait(60) == -signal.SIGKILL
    assert repository.versions("tiny") == ([1] if step == "after_rename" else [])
    for version in repository.versions("tiny"):
        repository.load("tiny", version)
    publish(repository, tiny_manifest)  # running again finishes, and cleans up
    assert repository.load("tiny").manifest.version == (2 if step == "after_rename" else 1)
    assert list((repository.root / ".staging").iterdir()) == []


_WRITER = """
import os, sys
from pathlib import Path
from bundle import atomic, manifest
from bundle.repository import EXTRA, ModelRepository
root, step, draft = sys.argv[1:]
kill = lambda *args: os.kill(os.getpid(), 9)
if step == "before_manifest": manifest.encode = kill
if step == "before_rename": atomic.rename_directory = kill
repository = ModelRepository(Path(root))
with repository.staging() as staged:
    (staged / EXTRA).mkdir()
    (staged / "saved_model.pb").write_bytes(b"model")
    repository.publish(staged, manifest.decode(draft.encode(), "argument"))
    if step == "after_rename": kill()
"""


def _writer(root: Path, draft: Manifest, step: str) -> subprocess.Popen[Any]:
    from bundle import manifest

    command = [sys.executable, "-c", _WRITER, str(root), step, manifest.encode(draft).decode()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment)
