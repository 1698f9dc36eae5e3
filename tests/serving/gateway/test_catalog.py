"""Laws of the catalog: the wanted version is served once the backend has it, and what can't be
asked is told apart from what doesn't exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bundle.repository import ModelRepository
from serving.errors import BackendUnavailable, UnknownModel
from serving.gateway.catalog import Catalog
from serving.gateway.published import Model


class Loaded:
    """Which versions a backend has; it can be out of reach."""

    def __init__(self, *versions: int) -> None:
        self.versions = frozenset(versions)
        self.reachable = True
        self.asked = 0
        self.asking = asyncio.Semaphore(0)

    async def __call__(self, name: str, published: Mapping[int, Model]) -> frozenset[int]:
        self.asked += 1
        self.asking.release()
        await asyncio.sleep(0)
        if not self.reachable:
            raise BackendUnavailable("gone")
        return self.versions


def refreshed(models: Path, loaded: Loaded) -> Catalog:
    catalog = Catalog(ModelRepository(models), loaded)
    asyncio.run(catalog.refresh())
    return catalog


@pytest.fixture
def three(models: Path, publish_plain: Callable[..., int]) -> Path:
    """A repository with versions 1 to 3."""
    publish_plain(models)
    publish_plain(models)
    return models


@pytest.mark.parametrize(
    ("pin", "loaded", "serving"),
    [(None, {1, 2, 3}, 3), (None, {1, 2}, 2), (1, {1, 3}, 1), (1, {2, 3}, 3), (None, {9}, 0)],
)
def test_the_wanted_version_is_served_or_else_the_newest_there_is(
    three: Path, pin: int | None, loaded: set[int], serving: int
) -> None:
    if pin:
        ModelRepository(three).pin("tiny", pin)
    catalog = refreshed(three, Loaded(*loaded))
    assert catalog.serving("tiny") == serving
    assert catalog.versions("tiny") == sorted(loaded & {1, 2, 3})


def test_a_given_version_is_found_if_the_backend_has_it(three: Path) -> None:
    catalog = refreshed(three, Loaded(1, 3))
    assert catalog.find("tiny").key == ("tiny", 3)
    assert catalog.find("tiny", 1).key == ("tiny", 1)
    for version in (2, 9):
        with pytest.raises(UnknownModel, match=f"version: {version} .*; there are: 1, 3"):
            catalog.find("tiny", version)


def test_an_unknown_model_is_told_what_there_is(three: Path) -> None:
    with pytest.raises(UnknownModel, match="model: 'none' is not published; there are: tiny"):
        refreshed(three, Loaded(1)).find("none")


def test_a_model_the_backend_has_not_loaded_is_unavailable(three: Path) -> None:
    catalog = refreshed(three, Loaded())
    with pytest.raises(BackendUnavailable, match="model 'tiny': the backend has none of it now"):
        catalog.find("tiny")
    with pytest.raises(UnknownModel, match="there are: 1, 2, 3"):
        catalog.find("tiny", 9)


def test_a_backend_out_of_reach_serves_nothing_but_may_still_be_tried(three: Path) -> None:
    loaded = Loaded(3)
    catalog = refreshed(three, loaded)
    loaded.reachable = False
    asyncio.run(catalog.refresh())
    assert catalog.fault == "gone"
    assert catalog.serving("tiny") == 0
    assert catalog.find("tiny").key.version == 3


def test_all_who_want_to_look_again_meanwhile_share_one_look(three: Path) -> None:
    loaded = Loaded(3)
    catalog = Catalog(ModelRepository(three), loaded)

    async def crowd() -> None:
        await asyncio.gather(*(catalog.refresh() for _ in range(20)))

    asyncio.run(crowd())
    assert loaded.asked == 2  # the one under way may have begun too early for the others


def test_a_look_that_was_cancelled_counts_for_nobody(three: Path) -> None:
    loaded = Loaded(3)
    catalog = Catalog(ModelRepository(three), loaded)

    async def crowd() -> None:
        tasks = [asyncio.create_task(catalog.refresh()) for _ in range(3)]
        await tasks[0]
        for _ in range(2):  # now the second looks, and the third waits for it
            await loaded.asking.acquire()
        tasks[1].cancel()
        await tasks[2]

    asyncio.run(crowd())
    assert loaded.asked == 3
