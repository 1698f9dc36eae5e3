"""Certificates of both servers, read anew when their files change."""

from __future__ import annotations

import logging
import ssl

import grpc

from serving.errors import ConfigError
from serving.gateway.config import Tls
from serving.gateway.watched import Watched

_log = logging.getLogger(__name__)


class Certificates:
    """What gRPC and HTTP prove themselves with.

    Args:
        tls: the files.

    Raises:
        ConfigError: they can't be used.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._files = Watched(*(path for path in (tls.certificate, tls.key, tls.client_ca) if path))
        self.http = _context(tls)
        self._read = self._load()
        self._given = self._read
        self.grpc = grpc.dynamic_ssl_server_credentials(
            self._read,
            self._newer,  # type: ignore[arg-type]  # the stubs forget None: nothing new
            require_client_authentication=tls.client_ca is not None,
        )

    def refresh(self) -> None:
        """Takes up files that have changed; those that can't be used are reported and left."""
        if not self._files.changed():
            return
        try:
            _context(self._tls)  # both files together, before anyone meets them
            self.http.load_cert_chain(self._tls.certificate, self._tls.key)
            self._read = self._load()
        except (ConfigError, OSError) as error:
            _log.error("the new certificate can't be used", extra={"reason": str(error)})
        else:
            _log.info("new certificate", extra={"file": str(self._tls.certificate)})

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked at every handshake, on a thread of gRPC's."""
        if self._read is self._given:
            return None
        self._given = self._read
        return self._given

    def _load(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        root = tls.client_ca.read_bytes() if tls.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], root)


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            # Health and metrics are for those who watch; predictions ask for the certificate.
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:  # ssl's errors are such
        raise ConfigError(
            f"tls: can't be used: {error}; give a PEM certificate and its own key"
        ) from error
    return context
