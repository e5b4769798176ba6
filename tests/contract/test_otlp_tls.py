"""TLS and client certificates on all three ports."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import trustme

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.receivers.tls import Tls
from loopgrid_collector.server import Server
from tests.contract.doors import PROTOBUF, Doors, running
from tests.support.spans import span, traces

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Papers:
    """A certificate authority, the server's files, and clients' certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.renew()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))

    def renew(self) -> bytes:
        """A new certificate for the server, in the same files; its PEM."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        pem = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (self.folder / "cert.pem").write_bytes(pem)
        return pem

    def settings(self, *, mutual: bool = False) -> dict[str, Any]:
        files = {"tls_cert_file": "cert.pem", "tls_key_file": "key.pem"}
        if mutual:
            files["tls_client_ca_file"] = "ca.pem"
        return {setting: str(self.folder / file) for setting, file in files.items()}

    def context(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if client:
            client.configure_cert(context)
        return context

    def channel(self, target: str, client: trustme.LeafCert | None = None) -> grpc.Channel:
        key = client.private_key_pem.bytes() if client else None
        chain = b"".join(blob.bytes() for blob in client.cert_chain_pems) if client else None
        credentials = grpc.ssl_channel_credentials(self.authority.cert_pem.bytes(), key, chain)
        return grpc.secure_channel(target, credentials)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def post(url: str, context: ssl.SSLContext) -> int:
    with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
        headers = {"content-type": PROTOBUF}
        return client.post(url + "/v1/traces", content=traces(span(1)), headers=headers).status_code


def export(channel: grpc.Channel) -> bytes:
    call: Any = channel.unary_unary(EXPORT, None, None)
    with channel:
        answer: bytes = call(traces(span(1)), timeout=20)
    return answer


@contextmanager
def refused_handshake() -> Iterator[None]:
    with pytest.raises((httpx.TransportError, ssl.SSLError, grpc.RpcError)):
        yield


def test_all_three_ports_speak_tls_and_say_so(papers: Papers):
    with running(papers.folder, **papers.settings()) as doors:
        assert doors.addresses.api.startswith("https://")
        assert post(doors.addresses.api, papers.context()) == 200
        assert post(doors.addresses.otlp_http, papers.context()) == 200
        assert export(papers.channel(doors.addresses.otlp_grpc)) == b""
        assert doors.count("spans") == 1


def test_a_client_without_tls_gets_nowhere(papers: Papers):
    with running(papers.folder, **papers.settings()) as doors:
        with refused_handshake():
            post(doors.addresses.otlp_http.replace("https", "http"), papers.context())
        with refused_handshake():
            export(grpc.insecure_channel(doors.addresses.otlp_grpc))


def test_tls_older_than_1_2_is_refused(papers: Papers):
    tls = Tls.of(CollectorConfig(**papers.settings()))

    assert tls is not None
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_with_an_authority_for_clients_only_its_clients_get_in(papers: Papers):
    known, stranger = papers.authority.issue_cert("sender"), trustme.CA().issue_cert("sender")
    with running(papers.folder, **papers.settings(mutual=True)) as doors:
        assert post(doors.addresses.otlp_http, papers.context(known)) == 200
        assert export(papers.channel(doors.addresses.otlp_grpc, known)) == b""
        for client in (None, stranger):
            with refused_handshake():
                post(doors.addresses.otlp_http, papers.context(client))
            with refused_handshake():
                post(doors.addresses.api, papers.context(client))
            with refused_handshake():
                export(papers.channel(doors.addresses.otlp_grpc, client))


def test_replaced_files_are_taken_up_without_a_restart(papers: Papers):
    tls = Tls.of(CollectorConfig(**papers.settings()))
    assert tls is not None
    assert not tls.reload()
    renewed = papers.renew()

    assert tls.reload()
    assert served(tls, papers) == ssl.PEM_cert_to_DER_cert(renewed.decode())


def test_replaced_files_that_do_not_fit_leave_the_old_ones_in_use(papers: Papers):
    before = (papers.folder / "cert.pem").read_text()
    tls = Tls.of(CollectorConfig(**papers.settings()))
    assert tls is not None
    (papers.folder / "cert.pem").write_text("half a certifi")

    assert not tls.reload()
    assert served(tls, papers) == ssl.PEM_cert_to_DER_cert(before)


def test_grpc_serves_the_renewed_certificate_too(papers: Papers):
    (papers.folder / "other").mkdir()
    stranger = Papers(papers.folder / "other")
    with running(papers.folder, **papers.settings()) as doors:
        with refused_handshake():
            export(stranger.channel(doors.addresses.otlp_grpc))
        for file in ("cert.pem", "key.pem"):
            (papers.folder / file).write_bytes((stranger.folder / file).read_bytes())
        reload_of(doors)
        assert export(stranger.channel(doors.addresses.otlp_grpc)) == b""


def test_an_authority_that_was_taken_away_is_trusted_no_longer(papers: Papers):
    tls = Tls.of(CollectorConfig(**papers.settings(mutual=True)))
    assert tls is not None
    client = papers.context(papers.authority.issue_cert("sender"))
    assert served(tls, papers, client) is not None

    trustme.CA().cert_pem.write_to_path(str(papers.folder / "ca.pem"))

    assert tls.reload()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        served(tls, papers, client)


def test_no_handshake_fails_while_files_are_taken_up(papers: Papers):
    tls = Tls.of(CollectorConfig(**papers.settings()))
    assert tls is not None
    done = threading.Event()

    def renew() -> int:
        taken = 0
        try:
            for turn in range(2_000):
                for file in ("cert.pem", "key.pem"):
                    os.utime(papers.folder / file, ns=(turn, turn))
                taken += tls.reload()
        finally:
            done.set()
        return taken

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        while not done.is_set():
            assert served(tls, papers)
        assert renewing.result() == 2_000


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tls_cert_file": "cert.pem"}, "LOOPGRID_TLS_KEY_FILE"),
        ({"tls_key_file": "key.pem"}, "LOOPGRID_TLS_CERT_FILE"),
        ({"tls_client_ca_file": "ca.pem"}, "LOOPGRID_TLS_CERT_FILE"),
    ],
)
def test_half_of_what_tls_needs_is_a_start_error_that_names_the_other_half(settings, told):
    with pytest.raises(Misconfigured, match=told):
        CollectorConfig(**settings)


@pytest.mark.parametrize("spoil", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("content", [None, b"no pem"])
def test_a_file_that_is_missing_or_is_none_stops_the_start(papers: Papers, spoil, content):
    path = papers.folder / spoil
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    ports: dict[str, Any] = {"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0}
    config = CollectorConfig(ledger=str(papers.folder / "x.duckdb"), **ports, **papers.settings(mutual=True))

    with pytest.raises(Misconfigured, match="TLS cannot be set up"):
        asyncio.run(Server(config, None).start())


def served(tls: Tls, papers: Papers, context: ssl.SSLContext | None = None) -> bytes | None:
    """The certificate that a handshake with the context shows."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = (context or papers.context()).wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert(binary_form=True)


def reload_of(doors: Doors) -> None:
    """Wait until the server has looked at its files again."""
    address = urlsplit(doors.addresses.otlp_http)
    first = seen = ssl.get_server_certificate((str(address.hostname), address.port or 0))
    while seen == first:
        seen = ssl.get_server_certificate((str(address.hostname), address.port or 0))
