"""The list of models while the server runs: replaced by a call, or when its file changes.

    HandleReloadConfigRequest ─┐
    models.config, read again ─┴─► checked as a whole ─► source, labels ─► manager loads ─► answer

What is wrong in a new list leaves the old one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.backend import model_config
from serving.backend.labels import Labels
from serving.backend.manager import Manager
from serving.backend.model_config import Listed
from serving.backend.source import ListedSource
from serving.errors import BackendUnavailable, ConfigError

_log = logging.getLogger(__name__)


class Listing:
    """Replaces the list of models; one at a time.

    Args:
        models: the first list, which the source has already.
    """

    def __init__(
        self,
        source: ListedSource,
        labels: Labels,
        manager: Manager[Any],
        models: Sequence[Listed],
    ) -> None:
        self._source = source
        self._labels = labels
        self._manager = manager
        self._models = tuple(models)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def settle(self) -> None:
        """Gives the first list its labels, now that its models are loaded.

        Raises:
            ConfigError: one names a version that does not answer.
        """
        self._labels.check(self._models)
        self._labels.replace(self._models)

    def reload(self, config: Any) -> None:
        """Serves the list of a ModelServerConfig from now on.

        Raises:
            ConfigError: the list, or a label in it, is wrong; nothing has changed.
            BackendUnavailable: a new model could not be loaded; the others are served.
        """
        self.replace(model_config.listed(config))

    def replace(self, models: Sequence[Listed]) -> None:
        """Serves another list, and returns when what is new in it has been tried; see `reload`."""
        with self._lock:
            self._labels.check(models)
            new = {model.name for model in models} - set(self._source.names())
            self._models = tuple(models)
            self._source.replace(models)
            self._labels.replace(models)
            self._manager.refresh()
        failed = [name for name in sorted(new) if not self._manager.answers(name)]
        if failed:
            reasons = ", ".join(f"{{{name}{self._reason(name)}}}" for name in failed)
            raise BackendUnavailable(
                f"{len(failed)} model(s) did not become available: {{{reasons}}}"
            )

    def watch(self, path: Path, every_s: float) -> None:
        """Reads a file again and again, in a thread of its own, until `stop`."""
        self._thread = threading.Thread(
            target=self._watch, args=(path, every_s), name="models-config", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends `watch`."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _watch(self, path: Path, every_s: float) -> None:
        problem = ""
        while not self._stop.wait(every_s):
            try:
                models = model_config.read_models(path)
                if models != self._models:
                    self.replace(models)
                    _log.info("list of models was replaced", extra={"file": str(path)})
                problem = ""
            except (ConfigError, BackendUnavailable) as error:
                if str(error) != problem:  # once, not at each look
                    _log.error("list of models can't be used", extra={"reason": str(error)})
                problem = str(error)

    def _reason(self, name: str) -> str:
        errors = [status.error for status in self._manager.status(name) if status.error]
        return f" due to error: {errors[0]}" if errors else ""
