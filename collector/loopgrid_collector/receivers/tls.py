"""TLS of all three ports, from the same PEM files, at least version 1.2, with client certificates if asked.

Replaced files are taken up whole, at the next handshake, by all ports. A context in use is never changed:
while OpenSSL loads a certificate and its key into one, a handshake there finds one without the other.
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
    """What listeners are given, for good; each handshake then goes on with the newest."""
    _newest: ssl.SSLContext = field(init=False)
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
            tls._newest, tls._pems = tls._new_context(), tls._read()
            tls.context = tls._new_context()
            tls.context.sni_callback = tls._hand_over
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
            context, pems = self._new_context(), self._read()
            if stamps != self._stamps():
                return False  # still being written: the next look takes them
        except (OSError, ValueError) as error:
            _log.warning("The TLS files changed and cannot be used, the old ones stay: %s", _told(error))
            return False
        self._newest, self._pems, self._seen = context, pems, stamps
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
            context.num_tickets = 0  # who resumes shows no certificate again
        context.load_cert_chain(self.cert, self.key, password=_encrypted)
        if self.client_ca:
            context.load_verify_locations(self.client_ca)
        return context

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        ca = self.client_ca.read_bytes() if self.client_ca else None
        return self.key.read_bytes(), self.cert.read_bytes(), ca

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _of: ssl.SSLContext) -> None:
        # OpenSSL calls this for handshakes that name no server, too.
        handshake.context = self._newest

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        key, cert, ca = self._pems
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
