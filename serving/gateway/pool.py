"""Several backends as one: each call goes where it can be answered, and elsewhere when it fails.

             ┌─► 10.0.0.1:8500   has 7, 8   3 in flight       in order: has the version,
    call ────┤                                                 connected and without a run of
             └─► 10.0.0.2:8500   has 7      set aside          faults, fewest calls in flight

What a model computes changes nothing, so a call may be made twice. A version takes part on a
backend once that backend says AVAILABLE and gives its golden answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import grpc.aio

from serving.errors import (
    BackendFault,
    BackendUnavailable,
    LimitExceeded,
    ServingError,
    UnknownModel,
)
from serving.gateway import trial
from serving.gateway.backend import Backend
from serving.gateway.call import Metadata
from serving.gateway.config import GatewayConfig
from serving.gateway.published import Model, Stamp
from serving.gateway.types import SIGNATURE, Deadline, ModelKey, Tensors

_log = logging.getLogger(__name__)
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_FAULTS = 5  # in a row, until a backend is set aside
_ASIDE_S = 5.0
_CLOSE_S = 30.0  # for calls to a backend that the configuration no longer names

# What another backend may do better: it is there, has the version, has room, is not broken.
_ELSEWHERE = (BackendUnavailable, UnknownModel, LimitExceeded, BackendFault)
_PASSED_ELSEWHERE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)

T = TypeVar("T")
Failed = Callable[[str], None]


@dataclass(eq=False)
class _Member:
    """One backend and what is known of it."""

    address: str
    backend: Backend
    has: dict[str, frozenset[int]] = field(default_factory=dict)  # versions that may be asked
    verdicts: dict[ModelKey, tuple[Stamp, str | None]] = field(default_factory=dict)
    in_flight: int = 0
    faults: int = 0
    aside_until_s: float = 0.0
    asked_s: float = 0.0  # the last time

    def rank(self, key: ModelKey, now_s: float) -> tuple[bool, bool, int, float]:
        """The lower, the sooner it is asked."""
        lacks = key.version > 0 and key.version not in self.has.get(key.name, ())
        out = now_s < self.aside_until_s or not self.backend.connected
        return lacks, out, self.in_flight, self.asked_s


class Pool:
    """Every backend of a configuration, to be made and used on one event loop.

    Args:
        failed: hears of each address that failed a call which then was asked elsewhere.
    """

    def __init__(self, config: GatewayConfig, failed: Failed) -> None:
        self._config = config
        self._failed = failed
        self._members: dict[str, _Member] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.apply(config)

    def apply(self, config: GatewayConfig) -> None:
        """Takes the backends of another configuration; calls to those that go may still end."""
        self._config = config
        wanted = {address for name in ("", *config.backends) for address in config.addresses(name)}
        most_bytes = max(config.max_message_bytes, config.max_cache_bytes)
        alone = len(wanted) == 1
        for address in wanted - self._members.keys():
            self._members[address] = _Member(address, Backend(address, most_bytes, alone=alone))
        for address in self._members.keys() - wanted:
            gone = self._members.pop(address)
            closing = asyncio.ensure_future(gone.backend.close(_CLOSE_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def ready(self, key: ModelKey) -> int:
        """How many backends can be asked for a version; at least the one that would be tried."""
        members = self._of(key.name)
        if len(members) == 1:
            return 1
        now_s = time.monotonic()
        return max(1, sum(not any(member.rank(key, now_s)[:2]) for member in members))

    @property
    def withheld(self) -> Mapping[ModelKey, str]:
        """Versions that a backend has and that it must not be asked for, and why."""
        return {
            key: reason
            for member in self._members.values()
            for key, (_, reason) in member.verdicts.items()
            if reason
        }

    async def execute(self, key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        """Runs one version of a model on named input tensors; see `run`."""
        return await self.run(key, SIGNATURE, inputs, deadline)

    async def run(
        self, key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline
    ) -> Tensors:
        """Runs one signature of one version of a model; see `Backend.run`.

        Raises:
            ServingError: what the first backend that was asked answered, as no other did better.
        """
        first: ServingError | None = None
        for member in self._order(key):
            try:
                return await _counted(member, member.backend.run(key, signature, inputs, deadline))
            except _ELSEWHERE as error:
                self._note(member, broken=isinstance(error, BackendUnavailable | BackendFault))
                first = first or error
        raise first or BackendUnavailable("there is no backend; try again later")

    async def forward(
        self, method: str, model: str, request: bytes, *, metadata: Metadata, deadline: Deadline
    ) -> bytes:
        """Calls any unary method with bytes as they are; see `Backend.forward`.

        Args:
            model: whose backends are asked.
        """
        if method == RELOAD:
            return await self._forward_to_all(method, request, metadata, deadline)
        first: Exception | None = None
        for member in self._order(ModelKey(model, 0)):
            call = member.backend.forward(method, request, metadata=metadata, deadline=deadline)
            try:
                return await _counted(member, call)
            except BackendUnavailable as error:
                self._note(member, broken=True)
                first = first or error
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSED_ELSEWHERE:
                    raise
                self._note(member, broken=error.code() is grpc.StatusCode.UNAVAILABLE)
                first = first or error
        raise first or BackendUnavailable("there is no backend; try again later")

    async def available(self, name: str, versions: Mapping[int, Model]) -> frozenset[int]:
        """Versions of a model that some backend can be asked for.

        Args:
            versions: what is published of it.

        Raises:
            ServingError: no backend can say.
        """
        members = self._of(name)
        looks = [self._look(member, name, versions) for member in members]
        found = await asyncio.gather(*looks, return_exceptions=True)
        answers = [each for each in found if isinstance(each, frozenset)]
        if not answers:
            raise next(each for each in found if isinstance(each, BaseException))
        return frozenset().union(*answers)

    async def close(self) -> None:
        """Ends every connection and every call."""
        await asyncio.gather(*(member.backend.close() for member in self._members.values()))

    def _of(self, name: str) -> Sequence[_Member]:
        return [self._members[address] for address in self._config.addresses(name)]

    def _order(self, key: ModelKey) -> Iterable[_Member]:
        members = self._of(key.name)
        if len(members) == 1:
            return members
        now_s = time.monotonic()
        return sorted(members, key=lambda member: member.rank(key, now_s))

    def _note(self, member: _Member, *, broken: bool) -> None:
        if len(self._members) > 1:
            self._failed(member.address)
        if not broken:
            return
        member.faults += 1
        if member.faults % _FAULTS == 0:
            member.aside_until_s = time.monotonic() + _ASIDE_S
            _log.warning("a backend is set aside", extra={"address": member.address})

    async def _forward_to_all(
        self, method: str, request: bytes, metadata: Metadata, deadline: Deadline
    ) -> bytes:
        calls = [
            member.backend.forward(method, request, metadata=metadata, deadline=deadline)
            for member in self._members.values()
        ]
        return (await asyncio.gather(*calls))[0]

    async def _look(
        self, member: _Member, name: str, versions: Mapping[int, Model]
    ) -> frozenset[int]:
        there = await member.backend.available(name)
        for key in [
            key for key in member.verdicts if key.name == name and key.version not in there
        ]:
            del member.verdicts[key]  # when it comes back it may be another model
        known = [versions[number] for number in there if number in versions]
        passed = await asyncio.gather(*(self._passes(member, model) for model in known))
        found = frozenset(
            model.key.version for model, good in zip(known, passed, strict=True) if good
        )
        member.has[name] = found
        return found

    async def _passes(self, member: _Member, model: Model) -> bool:
        judged = member.verdicts.get(model.key)
        if judged is None or judged[0] != model.stamp:
            try:
                reason = await trial.verdict(model, member.backend.execute)
            except ServingError as error:
                _log.warning("golden inputs not answered", extra=_described(member, model, error))
                return False
            if reason:
                _log.error("a version is withheld", extra=_described(member, model, reason))
            judged = member.verdicts[model.key] = (model.stamp, reason)
        return judged[1] is None


def _described(member: _Member, model: Model, reason: object) -> Mapping[str, object]:
    name, version = model.key
    return {"model": name, "version": version, "address": member.address, "reason": str(reason)}


async def _counted(member: _Member, call: Awaitable[T]) -> T:
    member.in_flight += 1
    member.asked_s = time.monotonic()
    try:
        answer = await call
    finally:
        member.in_flight -= 1
    member.faults = 0
    return answer
