"""TLS of all three ports, from the same PEM files, at least version 1.2, with client certificates if asked.

Replaced files are taken up at the next handshake: by gRPC all of them, by HTTP certificate and key, and
authorities of clients that were added; taking an authority away needs a restart there.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import grpc

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured

RELOAD_S: Final = 5.0
"""Seconds between two looks at the files."""

_log = logging.getLogger(__name__)


def _encrypted(*_: object) -> NoReturn:
    # Without this, OpenSSL would ask on the terminal.
    raise ValueError("the key is encrypted")


@dataclass(slots=True)
class Tls:
    """The files and what was made of them."""

    cert: Path
    key: Path
    client_ca: Path | None
    context: ssl.SSLContext = field(init=False)
    _seen: tuple[object, ...] = field(init=False, default=())
    _pems: tuple[bytes, bytes, bytes | None] = field(init=False, default=(b"", b"", None))

    @classmethod
    def of(cls, config: CollectorConfig) -> Tls | None:
        """As configured; ``None`` without TLS.

        Raises:
            Misconfigured: a file cannot be read, or does not hold what it should.
        """
        if not config.tls_cert_file:
            return None
        ca = Path(config.tls_client_ca_file) if config.tls_client_ca_file else None
        tls = cls(Path(config.tls_cert_file), Path(config.tls_key_file), ca)
        try:
            tls._seen = tls._stamps()
            tls.context = tls._new_context()
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"TLS cannot be set up: {_told(error)}. Look at tls_cert_file {str(tls.cert)!r}, "
                f"tls_key_file {str(tls.key)!r} (PEM, not encrypted, the key of that certificate)"
                + (f" and tls_client_ca_file {str(ca)!r}." if ca else ".")
            ) from error
        return tls

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server, which looks at the files again at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(), self._grpc_configuration, self.client_ca is not None
        )

    def reload(self) -> bool:
        """Take up files that changed; whether any did. Files that do not fit leave all as it was."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return False
            self._new_context()  # tried apart first: half a change must not reach the one in use
            self._load(self.context)
        except (OSError, ValueError) as error:
            _log.warning("The TLS files changed and cannot be used, the old ones stay: %s", _told(error))
            return False
        self._seen = stamps
        _log.info("The TLS files changed and are in use.")
        return True

    def _stamps(self) -> tuple[object, ...]:
        files = [self.cert, self.key, *([self.client_ca] if self.client_ca else [])]
        found = [path.stat() for path in files]
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self.cert, self.key, password=_encrypted)
        if self.client_ca:
            context.load_verify_locations(self.client_ca)
        ca = self.client_ca.read_bytes() if self.client_ca else None
        self._pems = (self.key.read_bytes(), self.cert.read_bytes(), ca)

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        key, cert, ca = self._pems
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
