"""Who may call: API keys, as hashes in a file.

    ts_3f9c01aa_5d…      the key, shown once, kept by the caller
       │        └──────► its SHA-256 is compared in constant time with the file's
       └───────────────► finds the entry

A key is 256 random bits, so its plain hash gives nothing away.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import yaml

from bundle import atomic
from serving.errors import ConfigError, Forbidden, LimitExceeded, Unauthenticated
from serving.gateway.config import Section

_PREFIX = "ts"
_SHA256_LENGTH = 64
_RETRY_S = 0.1


class Key(Section, frozen=True, kw_only=True):
    """What one key is for.

    Args:
        name: whose it is, for logs.
        id: the part of it that is no secret.
        sha256: of the whole key, in hexadecimal digits.
        models: those it may ask; None for all.
        rate_per_s: calls a second in the long run; None for any number.
        burst: calls at once after a pause; by default those of one second.
        concurrency: calls being answered at once; None for any number.
        admin: whether it may have the backend reload its configuration.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    name: str
    id: str
    sha256: str
    models: tuple[str, ...] | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    concurrency: int | None = None
    admin: bool = False

    def __post_init__(self) -> None:
        if len(self.sha256) != _SHA256_LENGTH or set(self.sha256) - set("0123456789abcdef"):
            raise ConfigError(f"keys.{self.name}.sha256: is no SHA-256; give 64 digits 0 to f")
        for name in ("rate_per_s", "burst", "concurrency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"keys.{self.name}.{name}: is {value}; give more than 0")


class KeyFile(Section, frozen=True, kw_only=True):
    """Every key there is.

    Raises:
        ConfigError: two have one id.
    """

    keys: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        ids = [key.id for key in self.keys]
        for each in set(ids):
            if ids.count(each) > 1:
                raise ConfigError(f"keys: {each!r} is there twice; make one of them anew")


class Visitor:
    """A caller that was let in; `with visitor:` counts one call of it.

    Args:
        key: None where everybody is let in.
        clock: seconds, for the rate.

    Raises:
        LimitExceeded: it calls too often, or too much at once.
    """

    def __init__(
        self, name: str, key: Key | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.key = key
        self._clock = clock
        self._in_flight = 0
        self._allowance = self._burst()
        self._seen_s = clock()

    @property
    def is_admin(self) -> bool:
        """Whether its key is an admin's."""
        return self.key is not None and self.key.admin

    def may_ask(self, model: str) -> bool:
        """Whether it may ask a model of this name."""
        return self.key is None or self.key.models is None or model in self.key.models

    def check(self, model: str) -> None:
        """Refuses a model it may not ask.

        Raises:
            Forbidden: names the key and the models it is for.
        """
        if self.key and self.key.models is not None and model not in self.key.models:
            known = ", ".join(self.key.models) or "none"
            raise Forbidden(f"model: the key {self.name!r} is for these models: {known}")

    def __enter__(self) -> None:
        if self.key is not None:
            self._take_turn(self.key)
        self._in_flight += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._in_flight -= 1

    def _take_turn(self, key: Key) -> None:
        if key.concurrency is not None and self._in_flight >= key.concurrency:
            raise LimitExceeded(
                f"the key {key.name!r} already has concurrency={key.concurrency} calls in flight; "
                "try again later",
                _RETRY_S,
            )
        if key.rate_per_s is None:
            return
        now = self._clock()
        earned = (now - self._seen_s) * key.rate_per_s
        self._allowance = min(self._burst(), self._allowance + earned)
        self._seen_s = now
        if self._allowance < 1:
            raise LimitExceeded(
                f"the key {key.name!r} has used up its rate_per_s={key.rate_per_s:g}; "
                "try again later",
                (1 - self._allowance) / key.rate_per_s,
            )
        self._allowance -= 1

    def _burst(self) -> float:
        if self.key is None or self.key.rate_per_s is None:
            return 0.0
        return float(self.key.burst or max(1.0, self.key.rate_per_s))


class Access:
    """Lets callers in by their keys; without a key file, everybody.

    Args:
        path: of the key file.

    Raises:
        ConfigError: the file is not valid.
    """

    def __init__(self, path: Path | None) -> None:
        self._visitors: dict[str, Visitor] | None = None
        self.load(path)

    def load(self, path: Path | None) -> None:
        """Takes the keys of a file in place of those it had; who stays keeps its counts.

        Raises:
            ConfigError: the file is not valid; nothing has changed.
        """
        if path is None:
            self._visitors = None
            return
        known = self._visitors or {}
        visitors = {key.id: Visitor(key.name, key) for key in read(path).keys}
        for name, visitor in visitors.items():
            if name in known and known[name].key == visitor.key:
                visitors[name] = known[name]
        self._visitors = visitors

    def admit(self, credential: str, peer: str) -> Visitor:
        """Who a caller is.

        Args:
            credential: its key, maybe after "Bearer ".
            peer: its address, which stands for it where no keys are asked.

        Raises:
            Unauthenticated: it has no key, or one that is unknown.
        """
        if self._visitors is None:
            return Visitor(peer)
        if not credential:
            raise Unauthenticated("authorization: is missing; send `Bearer` and your key")
        given = credential.removeprefix("Bearer ").strip()
        digest = hashlib.sha256(given.encode()).hexdigest()
        visitor = self._visitors.get(given.split("_")[1] if given.count("_") == 2 else "")
        expected = visitor.key.sha256 if visitor and visitor.key else "0" * _SHA256_LENGTH
        if not hmac.compare_digest(digest, expected) or visitor is None:
            raise Unauthenticated("authorization: the key is unknown; ask for a new one")
        return visitor


def read(path: Path) -> KeyFile:
    """Reads a key file.

    Raises:
        ConfigError: it can't be read or is not valid.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_bytes()) or {}, KeyFile)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError, ConfigError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def add(
    path: Path,
    name: str,
    *,
    models: Sequence[str] | None = None,
    rate_per_s: float | None = None,
    concurrency: int | None = None,
    admin: bool = False,
) -> str:
    """Makes a key, writes its hash into the file, and returns it: nobody can read it later.

    Raises:
        ConfigError: the file is not valid, or has a key of that name.
    """
    known = read(path).keys if path.exists() else ()
    if name in {key.name for key in known}:
        raise ConfigError(f"name: {name!r} has a key in {path}; choose another name")
    identity = secrets.token_hex(4)
    text = f"{_PREFIX}_{identity}_{secrets.token_hex(32)}"
    key = Key(
        name=name,
        id=identity,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        models=tuple(models) if models else None,
        rate_per_s=rate_per_s,
        concurrency=concurrency,
        admin=admin,
    )
    keys = [
        {field: value for field, value in each.items() if value not in (None, False)}
        for each in msgspec.to_builtins((*known, key))
    ]
    atomic.write_bytes(path, yaml.safe_dump({"keys": keys}, sort_keys=False).encode())
    return text
