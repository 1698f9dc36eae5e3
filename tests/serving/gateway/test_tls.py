"""Laws of encryption: only who can prove it is let in, and a new certificate needs no restart."""

from __future__ import annotations

import datetime
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving.gateway.config import Tls

REQUEST = inference_pb2.PredictRequest(model="tiny", inputs=[inference_pb2.Input(text="good")])


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def write(self, certificate: Path, key: Path) -> None:
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)


def issue(name: str, authority: Identity | None = None) -> Identity:
    """By an authority, or one of its own."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    signer = authority.private if authority else private
    return Identity(builder.sign(signer, hashes.SHA256()), private)


@pytest.fixture(scope="module")
def authority() -> Identity:
    return issue("authority")


@pytest.fixture
def files(tmp_path: Path, authority: Identity) -> Tls:
    """Those of a gateway, with the authority of its callers beside them."""
    issue("gateway", authority).write(tmp_path / "chain.pem", tmp_path / "key.pem")
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    return Tls(certificate=tmp_path / "chain.pem", key=tmp_path / "key.pem")


def ask(port: int, credentials: grpc.ChannelCredentials) -> inference_pb2.PredictResponse:
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        return InferenceStub(channel).Predict(REQUEST, timeout=10)


def shown(port: int) -> int:
    """The serial number of the certificate that a port shows."""
    pem = ssl.get_server_certificate(("localhost", port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def post(port: int, context: ssl.SSLContext) -> tuple[int, Any]:
    body = json.dumps({"inputs": [{"text": "good"}]}).encode()
    url = f"https://localhost:{port}/v1/models/tiny:predict"
    try:
        with urllib.request.urlopen(url, body, timeout=10, context=context) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_callers_who_know_the_authority_are_answered_and_plain_ones_are_not(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    files: Tls,
    authority: Identity,
) -> None:
    with running(make_config(tls=files)) as gateway:
        trusted = grpc.ssl_channel_credentials(authority.pem)
        assert ask(gateway.port, trusted).model_version == 1
        context = ssl.create_default_context(cadata=authority.pem.decode())
        assert post(gateway.http_port, context)[0] == 200
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            ask(gateway.port, grpc.ssl_channel_credentials(issue("stranger").pem))
        with (
            grpc.insecure_channel(f"localhost:{gateway.port}") as channel,
            pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
        ):
            InferenceStub(channel).Predict(REQUEST, timeout=10)


def test_callers_need_a_certificate_where_the_gateway_asks_for_one(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    files: Tls,
    authority: Identity,
    tmp_path: Path,
) -> None:
    tls = Tls(
        certificate=files.certificate, key=files.key, client_ca=files.key.with_name("clients.pem")
    )
    caller = issue("caller", authority)
    caller.write(tmp_path / "caller.pem", tmp_path / "caller-key.pem")
    with running(make_config(tls=tls)) as gateway:
        known = grpc.ssl_channel_credentials(authority.pem, caller.key_pem, caller.pem)
        assert ask(gateway.port, known).model_version == 1
        stranger = issue("stranger")
        for pair in ((None, None), (stranger.key_pem, stranger.pem)):
            with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
                ask(gateway.port, grpc.ssl_channel_credentials(authority.pem, *pair))
        context = ssl.create_default_context(cadata=authority.pem.decode())
        code, answer = post(gateway.http_port, context)
        assert (code, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
        assert answer["error"]["message"].startswith("certificate: is missing")
        context.load_cert_chain(tmp_path / "caller.pem", tmp_path / "caller-key.pem")
        assert post(gateway.http_port, context)[0] == 200


def test_a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    eventually: Callable[[Callable[[], bool]], None],
    files: Tls,
    authority: Identity,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(make_config(tls=files)) as gateway:
        doors = (gateway.port, gateway.http_port)
        newer = issue("gateway", authority)
        newer.write(files.certificate, files.key)
        serial = newer.certificate.serial_number
        eventually(lambda: [shown(port) for port in doors] == [serial, serial])

        other = issue("gateway", authority)
        files.certificate.write_bytes(other.pem)  # its key is not there
        eventually(lambda: "the new certificate can't be used" in caplog.text)
        assert [shown(port) for port in doors] == [serial, serial]
        assert ask(gateway.port, grpc.ssl_channel_credentials(authority.pem)).model_version == 1

        files.key.write_bytes(other.key_pem)  # now it is
        serial = other.certificate.serial_number
        eventually(lambda: [shown(port) for port in doors] == [serial, serial])
