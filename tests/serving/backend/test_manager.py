"""Law: a swap fails no request; what fails to load changes nothing; what is unused is freed.

The loader is a plain function here: it is what the manager is given in the backend too.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle.repository import ModelRepository
from serving.backend.manager import Manager, Pace, State, VersionStatus
from serving.backend.model_config import Listed
from serving.backend.source import ListedSource, RepositorySource, Source
from serving.errors import UnknownModel

WAIT_S = 10.0
Eventually = Callable[[Callable[[], bool]], None]


class Loaded:
    """Stands for a loaded model."""

    def __init__(self, version: int) -> None:
        self.version = version


class Shelf:
    """A repository of version folders, a loader that can be held up, and a manager over them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[tuple[str, bool]] = []
        self.loads: list[int] = []
        self.refs: dict[int, weakref.ref[Loaded]] = {}
        self.loading = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.manager: Manager[Loaded] = self.make()

    def make(self, grace_s: float = 0.0) -> Manager[Loaded]:
        return self.make_over(RepositorySource(self.root), Pace(poll_s=0.01, grace_s=grace_s))

    def make_over(self, source: Source, pace: Pace) -> Manager[Loaded]:
        self.manager = Manager(
            source,
            self.load,
            lambda name, serving: self.told.append((name, serving)),
            pace,
        )
        return self.manager

    def load(self, name: str, version: int) -> Loaded:
        self.loads.append(version)
        self.loading.release()
        assert self.gate.wait(WAIT_S)
        if (self.root / name / str(version) / "broken").exists():
            raise ValueError("the graph is broken\nwith details")
        loaded = Loaded(version)
        self.refs[version] = weakref.ref(loaded)
        return loaded

    def put(self, version: int, *, broken: bool = False, name: str = "model") -> None:
        hidden = self.root / f".{name}-{version}"
        hidden.mkdir()
        (hidden / "saved_model.pb").write_bytes(b"graph")
        if broken:
            (hidden / "broken").touch()
        (self.root / name).mkdir(exist_ok=True)
        hidden.rename(self.root / name / str(version))

    def serving(self, version: int | None = None) -> int | None:
        try:
            with self.manager.lease("model", version) as lease:
                assert lease.version == lease.servable.version
                return lease.version
        except UnknownModel:
            return None

    def states(self) -> dict[int, State]:
        return {status.version: status.state for status in self.manager.status("model")}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.gate.set()
    shelf.manager.stop()


def test_the_newest_version_is_served_and_known_by_its_states(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1)
    shelf.put(2)
    shelf.gate.clear()
    shelf.manager.start()
    assert shelf.loading.acquire(timeout=WAIT_S)
    assert shelf.states() == {2: State.LOADING}
    assert shelf.serving() is None
    shelf.gate.set()
    eventually(lambda: shelf.serving() == 2)
    assert shelf.manager.status("model") == [VersionStatus(2, State.AVAILABLE, "")]
    assert shelf.loads == [2]


def test_the_world_is_told_when_a_model_answers_and_when_the_first_look_is_over(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.told == [("model", True), ("", True)])
    shutil.rmtree(shelf.root / "model")
    eventually(lambda: shelf.told[2:] == [("model", False)])
    assert shelf.serving() is None


def test_an_empty_repository_is_ready_and_serves_what_comes(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.manager.start()
    eventually(lambda: shelf.told == [("", True)])
    assert shelf.manager.status("model") == []
    shelf.put(1)
    eventually(lambda: shelf.serving() == 1)


@pytest.mark.parametrize(
    ("version", "message"), [(None, r"Latest\(model\)"), (3, r"Specific\(model, 3\)")]
)
def test_an_unknown_model_or_version_is_named_as_tensorflow_serving_does(
    shelf: Shelf, version: int | None, message: str
) -> None:
    with (
        pytest.raises(UnknownModel, match=f"^Servable not found for request: {message}$"),
        shelf.manager.lease("model", version),
    ):
        pass


def test_the_old_version_answers_until_the_new_one_is_ready_and_is_freed_afterwards(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    assert shelf.loading.acquire(timeout=WAIT_S)
    shelf.gate.clear()
    shelf.put(2)
    assert shelf.loading.acquire(timeout=WAIT_S)
    assert shelf.serving() == 1
    shelf.gate.set()
    eventually(lambda: shelf.states() == {2: State.AVAILABLE, 1: State.END})
    assert shelf.serving() == 2
    assert shelf.serving(1) is None
    assert shelf.refs[1]() is None, "nothing may hold the old version"


def test_a_version_in_use_is_not_freed_under_its_user(shelf: Shelf, eventually: Eventually) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    with shelf.manager.lease("model"):
        shelf.put(2)
        eventually(lambda: shelf.states().get(1) is State.UNLOADING)
        assert shelf.serving() == 2
        assert shelf.refs[1]() is not None
        assert shelf.serving(1) is None, "a version that unloads takes no new requests"
    eventually(lambda: shelf.states()[1] is State.END)
    assert shelf.refs[1]() is None


def test_within_its_grace_the_old_version_answers_those_who_name_it(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.make(grace_s=3600)
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    shelf.put(2)
    eventually(lambda: shelf.serving() == 2)
    assert shelf.serving(1) == 1
    assert shelf.states() == {2: State.AVAILABLE, 1: State.AVAILABLE}


def test_a_rollback_within_the_grace_takes_the_loaded_version_back(
    shelf: Shelf, eventually: Eventually, publish_plain: Callable[..., int]
) -> None:
    shelf.make(grace_s=3600)
    repository = ModelRepository(shelf.root)
    publish_plain(shelf.root, "model")
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    publish_plain(shelf.root, "model")
    eventually(lambda: shelf.serving() == 2)
    repository.rollback("model")
    eventually(lambda: shelf.serving() == 1)
    repository.unpin("model")
    eventually(lambda: shelf.serving() == 2)
    assert shelf.loads == [1, 2]


def test_a_rollback_after_the_grace_loads_the_old_version_again(
    shelf: Shelf, eventually: Eventually, publish_plain: Callable[..., int]
) -> None:
    publish_plain(shelf.root, "model")
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    publish_plain(shelf.root, "model")
    eventually(lambda: shelf.states() == {2: State.AVAILABLE, 1: State.END})
    ModelRepository(shelf.root).rollback("model")
    eventually(lambda: shelf.states() == {1: State.AVAILABLE, 2: State.END})
    assert shelf.loads == [1, 2, 1]


def test_a_version_that_does_not_load_leaves_the_old_one_and_says_why_once(
    shelf: Shelf, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    shelf.put(2, broken=True)
    eventually(lambda: shelf.states().get(2) is State.END)
    reason = "ValueError: the graph is broken"
    assert shelf.manager.status("model")[0] == VersionStatus(2, State.END, reason)
    for name in ("n", "o", "p"):  # each is found by a further look
        shelf.put(1, name=name)
        eventually(lambda name=name: (name, True) in shelf.told)  # type: ignore[misc]
    assert shelf.serving() == 1
    assert shelf.loads.count(2) == 1
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_version_that_did_not_load_is_tried_again_when_its_folder_changes(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1, broken=True)
    shelf.manager.start()
    eventually(lambda: shelf.states().get(1) is State.END)
    (shelf.root / "model" / "1" / "broken").unlink()
    eventually(lambda: shelf.serving() == 1)
    assert shelf.manager.status("model") == [VersionStatus(1, State.AVAILABLE, "")]


def test_a_start_with_a_broken_newest_version_serves_the_one_before(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1)
    shelf.put(2, broken=True)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    assert shelf.states() == {2: State.END, 1: State.AVAILABLE}


def test_a_pin_to_a_version_that_is_not_there_keeps_what_runs(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    (shelf.root / "model" / "9").mkdir()
    (shelf.root / "model" / "9" / "broken").touch()
    (shelf.root / "model" / "pin.json").write_text('{"version": 9}')
    eventually(lambda: shelf.states().get(9) is State.END)
    assert shelf.serving() == 1


def test_a_repository_that_can_not_be_read_keeps_what_runs_and_is_logged_once(
    shelf: Shelf, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[Any]:
        return [record for record in caplog.records if record.levelno == logging.WARNING]

    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    pin = shelf.root / "model" / "pin.json"
    pin.write_text("{")
    eventually(lambda: len(warnings()) == 1)
    shelf.put(2)
    shelf.put(1, name="other")
    eventually(lambda: ("other", True) in shelf.told)
    assert shelf.serving() == 1
    pin.unlink()
    eventually(lambda: shelf.serving() == 2)
    assert len(warnings()) == 1


def test_stopping_lets_go_of_every_version(shelf: Shelf, eventually: Eventually) -> None:
    shelf.put(1)
    shelf.manager.start()
    eventually(lambda: shelf.serving() == 1)
    shelf.manager.stop()
    assert shelf.serving() is None
    assert shelf.refs[1]() is None


def test_every_wanted_version_answers_who_names_it_and_the_newest_the_rest(
    shelf: Shelf, eventually: Eventually
) -> None:
    for version in (1, 2, 3):
        shelf.put(version)
    source = ListedSource([Listed(name="model", base=shelf.root / "model", latest=2)])
    shelf.make_over(source, Pace(poll_s=0.01, grace_s=0)).start()
    eventually(lambda: shelf.states() == {3: State.AVAILABLE, 2: State.AVAILABLE})
    assert [shelf.serving(version) for version in (None, 3, 2, 1)] == [3, 3, 2, None]
    shelf.put(4)
    eventually(lambda: shelf.states() == {4: State.AVAILABLE, 3: State.AVAILABLE, 2: State.END})
    assert shelf.serving() == 4


def test_a_refresh_returns_when_what_is_new_has_been_tried(shelf: Shelf) -> None:
    for version in (1, 2):
        shelf.put(version)
    model = Listed(name="model", base=shelf.root / "model")
    source = ListedSource([])
    shelf.make_over(source, Pace(poll_s=math.inf, grace_s=0)).start()
    source.replace([model])
    shelf.manager.refresh()
    assert shelf.serving() == 2
    assert shelf.manager.answers("model")
    assert shelf.manager.is_available("model", 2)
    source.replace([dataclasses.replace(model, latest=None, versions=(1,))])
    shelf.manager.refresh()
    assert (shelf.serving(), shelf.states()[2]) == (1, State.END)
    source.replace([])
    shelf.manager.refresh()
    assert not shelf.manager.answers("model")


def test_a_version_that_does_not_load_is_tried_again_so_many_times(
    shelf: Shelf, eventually: Eventually
) -> None:
    shelf.put(1, broken=True)
    shelf.put(1, name="other")
    source = RepositorySource(shelf.root)
    shelf.make_over(source, Pace(poll_s=0.01, grace_s=0, retries=2, retry_s=0)).start()
    eventually(lambda: shelf.loads.count(1) == 4)  # once the other one
    for name in ("n", "o"):  # each is found by a further look
        shelf.put(1, name=name)
        eventually(lambda name=name: (name, True) in shelf.told)  # type: ignore[misc]
    assert len(shelf.loads) == 6
    assert shelf.states() == {1: State.END}


def test_as_many_models_load_at_once_as_there_are_threads(shelf: Shelf) -> None:
    for name in ("a", "b", "c"):
        shelf.put(1, name=name)
    shelf.gate.clear()
    source = RepositorySource(shelf.root)
    shelf.make_over(source, Pace(poll_s=0.01, load_threads=2)).start()
    for _ in range(2):
        assert shelf.loading.acquire(timeout=WAIT_S)
    assert not shelf.loading.acquire(timeout=0.05)
    shelf.gate.set()
    shelf.manager.refresh()
    assert all(shelf.manager.answers(name) for name in ("a", "b", "c"))
