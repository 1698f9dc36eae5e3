"""Laws of writing: a reader sees the old content or the new, also when the writer was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import atomic

# Kills itself where the operating system is asked for the named thing the n-th time.
_WRITER = """
import os, sys
from pathlib import Path
from bundle import atomic
path, call, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, seen = getattr(os, call), []
def killing(*args, **kwargs):
    seen.append(args)
    if len(seen) == count: os.kill(os.getpid(), 9)
    return original(*args, **kwargs)
setattr(os, call, killing)
if path.suffix: atomic.write_bytes(path, b"new" * 100_000)
else: atomic.rename_directory(path.with_name("source"), path)
"""


def killed(path: Path, call: str, count: int = 1) -> bool:
    """Runs a writer of `path`; whether it was killed, and not done before."""
    command = [sys.executable, "-c", _WRITER, str(path), call, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    code = subprocess.run(command, env=environment, check=False, timeout=60).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_replaces_the_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "pin.json"
    for content in (b"first", b"", b"second"):
        atomic.write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_killed_before_the_rename_leaves_the_old_content(
    tmp_path: Path, call: str
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b"old")
    assert killed(path, call)
    assert path.read_bytes() == b"old"
    atomic.write_bytes(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_a_writer_killed_after_the_rename_leaves_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b"old")
    assert killed(path, "fsync", 2)  # of the folder
    assert path.read_bytes() == b"new" * 100_000


def test_a_failed_write_leaves_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.mkdir()  # can't be replaced by a file
    with pytest.raises(OSError, match="directory"):
        atomic.write_bytes(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_bytes(b"a")
    return folder


def test_a_folder_appears_whole(source: Path) -> None:
    target = source.with_name("target")
    atomic.rename_directory(source, target)
    assert (target / "sub/a").read_bytes() == b"a"
    assert not source.exists()


def test_a_folder_that_is_not_empty_is_never_replaced(source: Path) -> None:
    target = source.with_name("target")
    target.mkdir()
    (target / "old").write_bytes(b"old")
    with pytest.raises(OSError, match="not empty"):
        atomic.rename_directory(source, target)
    assert [path.name for path in target.iterdir()] == ["old"]
    assert (source / "sub/a").read_bytes() == b"a"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_writer_killed_at_any_sync_leaves_no_folder_or_the_whole(
    source: Path, count: int
) -> None:
    target = source.with_name("target")
    assert killed(target, "fsync", count)
    assert not target.exists()
    assert (source / "sub/a").read_bytes() == b"a"


def test_content_is_on_the_disk_before_its_name_is(source: Path) -> None:
    """Two folders and a file are synced, then the rename, then the folder it is in."""
    target = source.with_name("target")
    assert killed(target, "fsync", 4)
    assert (target / "sub/a").read_bytes() == b"a"


def test_a_directory_is_exchanged_without_a_moment_in_which_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    # No plain rename takes part, between which it would be missing.
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("renamed"))
    atomic.exchange_directory(new, old)
    assert (old / "name").read_text() == "new"
    assert (new / "name").read_text() == "old"


def test_where_the_system_can_t_exchange_two_renames_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)
    atomic.exchange_directory(new, old)
    assert (old / "name").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_exchanging_with_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError):
        atomic.exchange_directory(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "new").is_dir()
