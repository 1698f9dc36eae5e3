"""Which versions are loaded, and which one answers.

    wanted by the source ─► START ─► LOADING ─► AVAILABLE ─► UNLOADING ─► END
                                        └─ fails ─► END, with the reason; is tried again later

    v1  ════ answers ═════════════════╗ grace: answers who names it ═══ last lease back, freed
    v2            load, warm up ──────╚══ answers ═══════════════════════════════════════════
                                      └ the swap: one assignment under the lock

One thread polls, swaps and unloads; models load one after the other, or in threads of their own.
Requests hold a lease on the version that they use, so nothing is freed under them.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from bundle.errors import BundleError
from serving.backend import memory
from serving.backend.source import Fingerprint, Source
from serving.errors import ConfigError, UnknownModel

T = TypeVar("T")

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """TensorFlow Serving's states of a version, with its numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class VersionStatus(NamedTuple):
    """What a caller may know of a version; `error` is empty unless loading failed."""

    version: int
    state: State
    error: str


class Lease(NamedTuple, Generic[T]):
    """A version that stays loaded while it is used."""

    version: int
    servable: T


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often and how long.

    Args:
        poll_s: time between two looks at the source; infinite looks once.
        grace_s: how long a version that was replaced still answers those who name it.
        load_threads: models that load at once.
        retries: times that a version which fails to load is tried again while it stays as it is;
            when its folder changes it always is.
        retry_s: time before that.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    poll_s: float = 1.0
    grace_s: float = 5.0
    load_threads: int = 1
    retries: int = 0
    retry_s: float = 60.0

    def __post_init__(self) -> None:
        lows = {"poll_s": 0.01, "grace_s": 0, "load_threads": 1, "retries": 0, "retry_s": 0}
        for name, low in lows.items():
            value = getattr(self, name)
            if not value >= low:  # also when it is no number
                raise ConfigError(f"pace.{name}: is {value}; use {low} or more")


class Manager(Generic[T]):
    """Keeps the wanted versions of every model loaded.

    Args:
        source: what there is to serve.
        load: (name, version) → a servable that is ready to answer.
        on_change: told (name, whether a version of it answers), and ("", True) after the first
            look at the source, when all that can be loaded is.
    """

    def __init__(
        self,
        source: Source,
        load: Callable[[str, int], T],
        on_change: Callable[[str, bool], None],
        pace: Pace,
    ) -> None:
        self._source = source
        self._load = load
        self._on_change = on_change
        self._pace = pace
        self._lock = threading.Lock()
        self._models: dict[str, _Model[T]] = {}
        self._problems: dict[str, str] = {}  # by model, "" for the source: logged once
        self._wake = threading.Event()
        self._looked = threading.Condition()
        self._looks_asked = self._looks_done = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="model-manager", daemon=True)

    def start(self) -> None:
        """Begins to poll and load, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and lets go of every version; no lease may be taken afterwards.

        A version that is being loaded is waited for: a process that ends while TensorFlow works
        is aborted.
        """
        self._stopping = True
        self._wake.set()
        with self._looked:
            self._looked.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._models.clear()

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None = None) -> Iterator[Lease[T]]:
        """Takes a version for as long as the `with` block runs, by default the one that answers.

        Raises:
            UnknownModel: there is no such model or version, or it is not loaded.
        """
        with self._lock:
            entry, servable = self._find(name, version)
            entry.leases += 1
        try:
            yield Lease(entry.number, servable)
        finally:
            with self._lock:
                entry.leases -= 1
            if entry.state is State.UNLOADING:
                self._wake.set()

    def refresh(self) -> None:
        """Looks at the source now, and returns when what it wants is loaded, or has failed to."""
        with self._looked:
            self._looks_asked += 1
            asked = self._looks_asked
            self._wake.set()
            self._looked.wait_for(lambda: self._looks_done >= asked or self._stopping)

    def is_available(self, name: str, version: int) -> bool:
        """Whether a version answers those who name it."""
        return VersionStatus(version, State.AVAILABLE, "") in self.status(name)

    def answers(self, name: str) -> bool:
        """Whether a model can be asked without naming a version."""
        with self._lock:
            model = self._models.get(name)
            return model is not None and model.serving is not None

    def status(self, name: str) -> list[VersionStatus]:
        """Every version of a model that was ever looked at, newest first; empty if unknown."""
        with self._lock:
            model = self._models.get(name)
            entries = sorted(model.versions.items(), reverse=True) if model else []
            return [VersionStatus(number, entry.state, entry.error) for number, entry in entries]

    def _find(self, name: str, version: int | None) -> tuple[_Version[T], T]:
        model = self._models.get(name)
        number = model.serving if model and version is None else version
        entry = model.versions.get(number) if model and number is not None else None
        if entry and entry.state is State.AVAILABLE and entry.servable is not None:
            return entry, entry.servable
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise UnknownModel(f"Servable not found for request: {asked}")

    def _work(self) -> None:
        first = True
        with ThreadPoolExecutor(self._pace.load_threads, thread_name_prefix="load") as pool:
            while not self._stopping:
                asked = self._looks_asked
                try:
                    self._look(pool)
                except Exception:  # noqa: BLE001  # a fault of ours must not end the serving
                    _log.exception("looking at the models failed")
                if first:
                    self._on_change("", True)
                first = False
                with self._looked:
                    self._looks_done = asked
                    self._looked.notify_all()
                self._wake.wait(self._pause_s())
                self._wake.clear()

    def _look(self, pool: ThreadPoolExecutor) -> None:
        """One pass: loads, swaps and unloads what has become due."""
        with self._noted(""):
            list(pool.map(self._update_noted, sorted({*self._source.names(), *self._models})))
        for name, model in self._models.items():
            self._unload_due(name, model)

    def _update_noted(self, name: str) -> None:
        with self._noted(name):
            self._update(name)

    @contextlib.contextmanager
    def _noted(self, subject: str) -> Iterator[None]:
        """Logs a source that can't be read once, not at each look; what runs stays."""
        try:
            yield
        except (BundleError, OSError) as error:
            problem = str(error)
            if self._problems.get(subject) != problem:
                _log.warning("model repository can't be read", extra={"reason": problem})
            self._problems[subject] = problem
        else:
            self._problems.pop(subject, None)

    def _update(self, name: str) -> None:
        """Loads the wanted versions of a model; the best of them becomes the one that answers."""
        wanted = self._source.wanted(name)
        with self._lock:
            model = self._models.setdefault(name, _Model())
        kept: list[int] = []
        for number in wanted.versions:
            if self._stopping or len(kept) == wanted.keep:
                break
            if self._ensure(name, model, number):
                kept.append(number)
                self._serve(name, model, kept[0])
        if not wanted.versions:
            self._serve(name, model, None)
        if kept or not wanted.versions:  # else what runs is all there is
            self._retire(model, kept)

    def _ensure(self, name: str, model: _Model[T], number: int) -> bool:
        """Loads a version unless it is loaded; False when it can't be, also not this time."""
        entry = model.versions.get(number)
        if entry and entry.state is not State.END:
            return entry.state is State.AVAILABLE
        fingerprint = self._source.fingerprint(name, number)
        failures = 0
        if entry and entry.error and entry.fingerprint == fingerprint:
            failures = entry.failures
            if failures > self._pace.retries or time.monotonic() < entry.retry_at_s:
                return False
        entry = _Version(number, fingerprint, failures=failures)
        with self._lock:
            model.versions[number] = entry
        return self._fill(name, entry)

    def _fill(self, name: str, entry: _Version[T]) -> bool:
        about = {"model": name, "version": entry.number}
        begin_s = time.monotonic()
        entry.state = State.LOADING
        try:
            entry.servable = self._load(name, entry.number)
        except Exception as error:  # noqa: BLE001  # a damaged model may raise anything
            _log.exception("model version can't be loaded", extra=about)
            entry.error = f"{type(error).__name__}: {error}".partition("\n")[0]
            entry.failures += 1
            entry.retry_at_s = time.monotonic() + self._pace.retry_s
            entry.state = State.END
            return False
        entry.state = State.AVAILABLE
        load_s = round(time.monotonic() - begin_s, 3)
        _log.info("model version is loaded", extra={**about, "load_s": load_s})
        return True

    def _serve(self, name: str, model: _Model[T], number: int | None) -> None:
        """The swap."""
        with self._lock:
            before, model.serving = model.serving, number
        if before != number:
            _log.info("model serves", extra={"model": name, "version": number, "before": before})
            self._on_change(name, number is not None)

    def _retire(self, model: _Model[T], kept: Collection[int]) -> None:
        """Every other version that still answers gets its time to retire."""
        with self._lock:
            for entry in model.versions.values():
                if entry.number in kept:
                    entry.retire_at_s = None
                elif entry.state is State.AVAILABLE and entry.retire_at_s is None:
                    entry.retire_at_s = time.monotonic() + self._pace.grace_s

    def _unload_due(self, name: str, model: _Model[T]) -> None:
        for entry in model.versions.values():
            with self._lock:
                if entry.left_s() <= 0:
                    entry.state = State.UNLOADING
                free = entry.state is State.UNLOADING and not entry.leases
            if free:
                entry.servable = None
                memory.give_back()
                entry.state = State.END
                extra = {"model": name, "version": entry.number}
                _log.info("model version is unloaded", extra=extra)

    def _pause_s(self) -> float | None:
        entries = [entry for model in self._models.values() for entry in model.versions.values()]
        pause_s = min([self._pace.poll_s, *(entry.left_s() for entry in entries)])
        return max(pause_s, 0.0) if math.isfinite(pause_s) else None


@dataclass
class _Version(Generic[T]):
    """One version; written by the manager's thread, but for `leases`."""

    number: int
    fingerprint: Fingerprint
    state: State = State.START
    error: str = ""
    servable: T | None = None
    leases: int = 0
    retire_at_s: float | None = None  # on the monotonic clock
    failures: int = 0
    retry_at_s: float = 0.0

    def left_s(self) -> float:
        """Time until it must begin to unload; without end while nothing replaced it."""
        if self.state is not State.AVAILABLE or self.retire_at_s is None:
            return math.inf
        return self.retire_at_s - time.monotonic()


@dataclass
class _Model(Generic[T]):
    """A model's versions by number, and the one that answers."""

    versions: dict[int, _Version[T]] = field(default_factory=dict)
    serving: int | None = None
