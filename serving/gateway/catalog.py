"""The models that can be asked now.

    models/ ──scan, in a thread──► published versions, the wanted one ┐
                                                                      ├──► find(name, version)
    backend ──GetModelStatus─────► available versions ────────────────┘    serving()

The served version of a model is the wanted one (pinned, or newest) once the backend has it, and
until then the newest that the backend has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from bundle.repository import ModelRepository
from serving.errors import BackendUnavailable, ServingError, UnknownModel
from serving.gateway.published import Model, Published, PublishedModel
from serving.gateway.types import shown

_log = logging.getLogger(__name__)

Available = Callable[[str], Awaitable[frozenset[int]]]


class Catalog:
    """What the repository holds and the backend has loaded, as of the last `refresh`.

    While the backend does not answer, the last known versions stay: a call may find it back
    before the next poll does.

    Args:
        available: asks the backend which versions of a model it serves.
    """

    def __init__(self, repository: ModelRepository, available: Available) -> None:
        self._published = Published(repository)
        self._ask = available
        self._lock = asyncio.Lock()
        self._begun = 0  # looks, numbered from 1
        self._ended = 0  # the last that came to its end
        self._models: Mapping[str, PublishedModel] = {}
        self._available: Mapping[str, frozenset[int]] = {}
        self.fault: str | None = "the backend has not been asked yet"

    async def scan(self) -> None:
        """Reads the repository, without asking the backend."""
        self._models = await asyncio.to_thread(self._published.scan)

    async def refresh(self) -> None:
        """Looks again; of many callers at once, one does the work for all who wait."""
        begun = self._begun
        async with self._lock:
            if self._ended <= begun:  # else one that began after this call has ended
                self._begun += 1
                await self._look()
                self._ended = self._begun

    def __contains__(self, name: str) -> bool:
        """Whether a model is published."""
        return name in self._models

    def names(self) -> list[str]:
        """Models that are published, sorted."""
        return sorted(self._models)

    def task(self, name: str) -> str:
        """What a published model does."""
        return next(iter(self._models[name].versions.values())).manifest.task

    def versions(self, name: str) -> list[int]:
        """Versions of a published model that can be asked, rising."""
        published = self._models[name].versions.keys()
        return sorted(published & self._available.get(name, frozenset()))

    def serving(self, name: str) -> int:
        """The served version of a published model, 0 for none."""
        if self.fault:
            return 0
        return self._choose(name)

    def find(self, name: str, version: int = 0) -> Model:
        """A model that the backend can be asked for.

        Args:
            version: 0 for the served one.

        Raises:
            UnknownModel: names the model or version, and what there is.
            BackendUnavailable: the backend has no version of it now.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self.names()) or "none"
            raise UnknownModel(f"model: {shown(name)} is not published; there are: {known}")
        usable = self.versions(name)
        if version and version not in (usable or model.versions):
            known = ", ".join(map(str, usable or model.versions))
            raise UnknownModel(f"version: {version} of {name!r} is not served; there are: {known}")
        if not usable:
            raise BackendUnavailable(f"model {name!r}: the backend has none of it now; try again")
        return model.versions[version or self._choose(name)]

    def _choose(self, name: str) -> int:
        versions = self.versions(name)
        wanted = self._models[name].wanted
        return wanted if wanted in versions else max(versions, default=0)

    async def _look(self) -> None:
        await self.scan()
        names = list(self._models)
        try:
            answers = await asyncio.gather(*map(self._ask, names))
        except ServingError as error:
            self._note(str(error))
        else:
            self._available = dict(zip(names, answers, strict=True))
            self._note(None)

    def _note(self, fault: str | None) -> None:
        if fault != self.fault:
            _log.info("the backend changed", extra={"fault": fault})
        self.fault = fault
