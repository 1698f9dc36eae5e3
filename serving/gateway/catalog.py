"""The models that can be asked now.

    models/ ──scan, in a thread──► published versions, the wanted one ┐
    backend ──GetModelStatus─────► available versions ────────────────┼──► find(name, version)
    configuration ───────────────► which of them ─────────────────────┘    serving()

Where the configuration says nothing, the served version of a model is the wanted one (pinned, or
newest) once the backend has it, and until then the newest that the backend has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from bundle.repository import ModelRepository
from serving.errors import BackendUnavailable, ServingError, UnknownModel
from serving.gateway.published import Model, Published, PublishedModel
from serving.gateway.types import shown
from serving.gateway.versions import Choice

_log = logging.getLogger(__name__)

Available = Callable[[str, Mapping[int, Model]], Awaitable[frozenset[int]]]

_LATEST = Choice()


class Catalog:
    """What the repository holds and the backend has loaded, as of the last `refresh`.

    While the backend does not answer, the last known versions stay: a call may find it back
    before the next poll does.

    Args:
        available: asks the backend which of the published versions of a model it serves.
        choices: what the configuration says about single models.
    """

    def __init__(
        self,
        repository: ModelRepository,
        available: Available,
        choices: Mapping[str, Choice] | None = None,
    ) -> None:
        self.choices = choices or {}
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
        """The served version of a published model, 0 for none; of a split the largest part."""
        if self.fault:
            return 0
        split = self.choices.get(name, _LATEST).split
        usable = self.versions(name)
        parts = [version for version in split if version in usable]
        return max(parts, key=split.__getitem__) if parts else self._choose(name, "")

    def find(self, name: str, version: int = 0, label: str = "", request_key: str = "") -> Model:
        """A model that the backend can be asked for.

        Args:
            version: 0 for the served one.
            label: stands for a version, if there is no `version`.
            request_key: gets the same version of a split each time.

        Raises:
            UnknownModel: names the model or version, and what there is.
            BackendUnavailable: the backend has no version of it now.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self.names()) or "none"
            raise UnknownModel(f"model: {shown(name)} is not published; there are: {known}")
        usable = self.versions(name)
        if label and not version:
            version = self.choices.get(name, _LATEST).labelled(label)
        if version and version not in (usable or model.versions):
            known = ", ".join(map(str, usable or model.versions))
            raise UnknownModel(f"version: {version} of {name!r} is not served; there are: {known}")
        if not usable:
            raise BackendUnavailable(f"model {name!r}: the backend has none of it now; try again")
        return model.versions[version or self._choose(name, request_key)]

    def _choose(self, name: str, request_key: str) -> int:
        choice = self.choices.get(name, _LATEST)
        return choice.choose(self.versions(name), self._models[name].wanted, request_key)

    async def _look(self) -> None:
        await self.scan()
        names = list(self._models)
        asks = [self._ask(name, model.versions) for name, model in self._models.items()]
        try:
            answers = await asyncio.gather(*asks)
        except ServingError as error:
            self._note(str(error))
        else:
            self._available = dict(zip(names, answers, strict=True))
            self._note(None)

    def _note(self, fault: str | None) -> None:
        if fault != self.fault:
            _log.info("the backend changed", extra={"fault": fault})
        self.fault = fault
