"""Laws of a trial's gateway: TLS and keys change nothing, and what is wrong with them is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pydantic
import pytest
import yaml

from finetune.refresh.settings import Canary, Tls
from serving.errors import ConfigError
from serving.gateway import access
from tensorseek import stack
from tensorseek.canary.gateway import Gateway
from tensorseek.errors import CanaryError
from tensorseek.process import Child

Pem = dict[tuple[str, str], Path]


@pytest.fixture(scope="module")
def pem(
    tmp_path_factory: pytest.TempPathFactory, self_signed: Callable[[], tuple[str, str]]
) -> Pem:
    folder, files = tmp_path_factory.mktemp("pem"), {}
    for whose in ("gateway", "trial"):
        for kind, text in zip(("key", "certificate"), self_signed(), strict=True):
            files[whose, kind] = folder / f"{whose}-{kind}.pem"
            files[whose, kind].write_text(text)
    return files


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, pem: Pem) -> Iterator[Canary]:
    """A gateway that wants a certificate and a key, and how a trial is to ask it."""
    root, ports = tmp_path_factory.mktemp("gateway"), stack.free_ports()
    (root / "models").mkdir()
    (root / "key").write_text(access.add(root / "keys.yaml", "trial"))
    certificate, key = (str(pem["gateway", kind]) for kind in ("certificate", "key"))
    config = root / "gateway.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "models": str(root / "models"),
                "backend": f"{stack.HOST}:{ports.backend}",
                "host": stack.HOST,
                "port": ports.gateway,
                "http_port": ports.http,
                "keys": str(root / "keys.yaml"),
                "tls": {
                    "certificate": certificate,
                    "key": key,
                    "client_ca": str(pem["trial", "certificate"]),
                },
            }
        )
    )
    found = Canary(
        gateway=config,
        address=f"localhost:{ports.gateway}",
        metrics=(f"https://localhost:{ports.http}/metrics",),
        key=root / "key",
        tls=Tls(
            ca=pem["gateway", "certificate"],
            certificate=pem["trial", "certificate"],
            private_key=pem["trial", "key"],
        ),
    )
    command = ["serve", "gateway", "--config", str(config)]
    child = Child("gateway", command, lambda: _counts(found), root)
    with stack.running([child]):
        child.wait_ready(60)
        yield found


def _counts(settings: Canary) -> bool:
    try:
        return Gateway(settings, "tiny").counts() == {}
    except CanaryError:
        return False


def test_certificates_and_a_key_open_it(settings: Canary) -> None:
    gateway = Gateway(settings, "tiny")
    assert gateway.counts() == {}
    with gateway.client() as client:
        assert client.models() == []


def test_one_that_signed_for_itself_is_not_believed(settings: Canary) -> None:
    unknown = settings.model_copy(update={"tls": Tls()})
    with pytest.raises(CanaryError, match="CERTIFICATE_VERIFY_FAILED"):
        Gateway(unknown, "tiny").counts()


def test_a_file_that_is_no_pem_is_named(settings: Canary, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        broken = settings.model_copy(update={"tls": Tls(ca=path)})
        with pytest.raises(ConfigError, match=rf"tls: {path}: can't be used"):
            Gateway(broken, "tiny").counts()


def test_half_a_certificate_is_refused(pem: Pem) -> None:
    with pytest.raises(pydantic.ValidationError, match="belong together"):
        Tls(certificate=pem["trial", "certificate"])
