"""What gateways have counted of a model, by version."""

from __future__ import annotations

import math
import socket
import ssl
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tensorseek.errors import CanaryError

K = TypeVar("K")

_TIMEOUT_S = 10
_METHODS = frozenset({"Predict", "PredictJson", "PredictStream", "Generate"})
# Decided before a version has seen the call, or by who made it.
_NOBODYS_FAULT = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "CANCELLED"}
)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one version.

    Args:
        calls: that ended, right or wrong.
        errors: those that went wrong.
        labels: inputs by the label that was most probable.
        within: seconds, as Prometheus writes them → calls that took at most so long.
        withheld: the gateway gives it no calls, since its golden answers are wrong.
    """

    calls: int = 0
    errors: int = 0
    labels: dict[str, int] = {}
    within: dict[str, int] = {}
    withheld: bool = False

    def since(self, before: Counts) -> Counts:
        """What came after `before`; all of it where a gateway has started anew meanwhile."""
        if self.calls < before.calls:
            return self
        return Counts(
            calls=self.calls - before.calls,
            errors=max(0, self.errors - before.errors),
            labels=_less(self.labels, before.labels),
            within=_less(self.within, before.within),
            withheld=self.withheld,
        )

    def quantile_s(self, share: float) -> float:
        """Seconds that a share of the calls stay under, straight between the histogram's bounds."""
        wanted = share * max(self.within.values(), default=0)
        below, low = 0, 0.0
        for bound, calls in sorted((float(name), calls) for name, calls in self.within.items()):
            if calls >= wanted and calls > below:
                if math.isinf(bound):
                    return low
                return low + (bound - low) * (wanted - below) / (calls - below)
            below, low = calls, bound
        return low


def read(
    addresses: Sequence[str], model: str, tls: ssl.SSLContext | None = None
) -> dict[int, Counts]:
    """Adds up what several gateways say of a model.

    Args:
        addresses: of their metrics, `http://127.0.0.1:9001/metrics`.
        tls: for those that encrypt; by default what the system trusts.

    Raises:
        CanaryError: one of them does not answer, or not with metrics.
    """
    return count(_texts(addresses, tls), model)


def count(texts: Iterable[str], model: str) -> dict[int, Counts]:
    """Adds up what is in Prometheus' text format."""
    calls: Counter[int] = Counter()
    errors: Counter[int] = Counter()
    labels: dict[int, Counter[str]] = {}
    within: dict[int, Counter[str]] = {}
    withheld: set[int] = set()
    for name, version, tags, value in _samples(texts, model):
        if name == "tensorseek_labels_total":
            labels.setdefault(version, Counter())[tags["label"]] += value
        elif name == "tensorseek_version_withheld" and value:
            withheld.add(version)
        elif name == "tensorseek_requests_total" and tags["method"] in _METHODS:
            if tags["code"] not in _NOBODYS_FAULT:
                calls[version] += value
                errors[version] += value * (tags["code"] != "OK")
        elif name == "tensorseek_total_seconds_bucket" and tags["method"] in _METHODS:
            within.setdefault(version, Counter())[tags["le"]] += value
    return {
        version: Counts(
            calls=calls[version],
            errors=errors[version],
            labels=dict(labels.get(version, {})),
            within=dict(within.get(version, {})),
            withheld=version in withheld,
        )
        for version in {*calls, *labels, *within, *withheld}
    }


def _texts(addresses: Sequence[str], tls: ssl.SSLContext | None) -> Iterator[str]:
    no_proxy = urllib.request.ProxyHandler({})  # gateways need none
    opener = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=tls))
    for address in addresses:
        try:
            for each in machines(address):
                with opener.open(each, timeout=_TIMEOUT_S) as answer:
                    yield answer.read().decode()
        except (OSError, ValueError) as error:  # urllib's errors are OSErrors
            raise CanaryError(
                f"{address}: the gateway's metrics can't be read: {error}; is it running?"
            ) from error


def machines(address: str) -> list[str]:
    """The address of each machine that a name stands for, as a headless service's on Kubernetes.

    Not under TLS, whose certificates are of names.
    """
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        return [address]
    found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    family = min(
        each[0] for each in found
    )  # IPv4 where there is any: else one machine counts twice
    places = sorted({each[4] for each in found if each[0] == family})
    hosts = (f"[{host}]" if ":" in str(host) else host for host, *_ in places)
    return [parts._replace(netloc=f"{host}:{parts.port or 80}").geturl() for host in hosts]


def _samples(texts: Iterable[str], model: str) -> Iterator[tuple[str, int, dict[str, str], int]]:
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                tags = sample.labels
                if tags.get("model") == model and tags.get("version"):
                    yield sample.name, int(tags["version"]), tags, int(sample.value)


def _less(after: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    return {key: max(0, value - before.get(key, 0)) for key, value in after.items()}
