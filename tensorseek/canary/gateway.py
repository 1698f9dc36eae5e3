"""The gateway as a trial sees it: its configuration file, its metrics, its calls."""

from __future__ import annotations

from finetune.refresh.settings import Canary
from serving.client import Client, Tls
from serving.gateway import config_file
from serving.gateway.config import GatewayConfig, RequestLog
from serving.gateway.config_file import Source
from serving.gateway.versions import Choice
from tensorseek.canary import counts
from tensorseek.canary.counts import Counts
from tensorseek.errors import CanaryError

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (what another gateway listens on)


class Gateway:
    """Reads the configuration anew each time: a person may have changed it.

    Raises:
        ConfigError: it is not valid.
        CanaryError: it says already which version the model's calls get.
    """

    def __init__(self, settings: Canary, model: str) -> None:
        self._settings, self._model = settings, model

    @property
    def request_log(self) -> RequestLog | None:
        """Where it keeps a sample of its calls."""
        return self._config().request_log

    def counts(self) -> dict[int, Counts]:
        """What it has counted of the model, by version.

        Raises:
            CanaryError: it does not answer.
        """
        config = self._config()
        scheme = "https" if config.tls else "http"
        own = f"{scheme}://{_host(config)}:{config.http_port}/metrics"
        addresses = self._settings.metrics or (own,)
        return counts.read(addresses, self._model, self._tls.context())

    def client(self) -> Client:
        """A connection to it."""
        config, key = self._config(), self._settings.key
        return Client(
            self._settings.address or f"{_host(config)}:{config.port}",
            key=key.read_text().strip() if key else None,
            tls=self._tls if config.tls else None,
        )

    def split(self, champion: int, version: int, share: float) -> None:
        """Gives a version a share of the calls that name none."""
        choice = self._choice(champion, version)
        weights = {champion: round(100 * (1 - share), 6), version: round(100 * share, 6)}
        self._choose(Choice(split=weights, labels=choice.labels))

    def split_no_more(self, champion: int, version: int) -> None:
        """Gives every call the version that the repository says."""
        self._choose(Choice(labels=self._choice(champion, version).labels))

    @property
    def _tls(self) -> Tls:
        files = self._settings.tls
        return Tls(ca=files.ca, certificate=files.certificate, private_key=files.private_key)

    def _choose(self, choice: Choice) -> None:
        config_file.choose(self._settings.gateway, self._model, choice)

    def _choice(self, champion: int, version: int) -> Choice:
        found = self._config().versions.get(self._model, Choice())
        ours = set(found.split) <= {champion, version}
        if found.version is not None or found.label is not None or not ours:
            raise CanaryError(
                f"{self._settings.gateway}: versions.{self._model} says which version its calls "
                "get, and so does refresh.canary; remove one of them"
            )
        return found

    def _config(self) -> GatewayConfig:
        return Source(self._settings.gateway).load()


def _host(config: GatewayConfig) -> str:
    return "127.0.0.1" if config.host in _EVERYWHERE else config.host
