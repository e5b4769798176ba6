"""Where OTLP is taken: Unix sockets, a path prefix, one family of addresses."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import httpx
import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured, PortTaken
from loopgrid_collector.receivers import sockets
from tests.contract.doors import PROTOBUF, running
from tests.support.server import running_server, start_server
from tests.support.spans import span, traces

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HEADERS = {"content-type": PROTOBUF}


def over_http(path: Path, body: bytes) -> int:
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=20) as client:
        return client.post("/v1/traces", content=body, headers=HEADERS).status_code


def over_grpc(path: Path, body: bytes) -> bytes:
    with grpc.insecure_channel(f"unix:{path}") as channel:
        answer: bytes = channel.unary_unary(EXPORT, None, None)(body, timeout=20)
    return answer


def test_unix_sockets_take_both_transports_and_are_gone_after_a_stop(tmp_path):
    http, grpc_ = tmp_path / "http.sock", tmp_path / "grpc.sock"
    with running(tmp_path, otlp_http_socket=str(http), otlp_grpc_socket=str(grpc_)) as doors:
        assert over_http(http, traces(span(1))) == 200
        assert over_grpc(grpc_, traces(span(2))) == b""
        assert doors.post("/v1/traces", traces(span(3))).status_code == 200
        assert doors.count("spans") == 3

    assert not http.exists()
    assert not grpc_.exists()


def test_socket_files_of_a_killed_server_do_not_stop_the_next_one(tmp_path):
    http, grpc_ = tmp_path / "http.sock", tmp_path / "grpc.sock"
    places = {"LOOPGRID_OTLP_HTTP_SOCKET": str(http), "LOOPGRID_OTLP_GRPC_SOCKET": str(grpc_)}
    start_server(tmp_path, environ=places).kill()
    assert http.is_socket()

    with running_server(tmp_path, environ=places):
        assert over_http(http, traces(span(1))) == 200
        assert over_grpc(grpc_, traces(span(2))) == b""


@pytest.mark.parametrize("setting", ["otlp_http_socket", "otlp_grpc_socket"])
def test_a_socket_that_somebody_listens_on_is_left_alone_and_stops_the_start(tmp_path, setting):
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        with (
            pytest.raises(PortTaken, match=f"LOOPGRID_{setting.upper()}"),
            running(tmp_path, **{setting: str(path)}),
        ):
            pass

    assert path.is_socket()


@pytest.mark.parametrize("setting", ["otlp_http_socket", "otlp_grpc_socket"])
def test_a_file_that_is_no_socket_is_never_taken_away(tmp_path, setting):
    path = tmp_path / "precious"
    path.write_text("data")

    with pytest.raises(Misconfigured, match="no socket"), running(tmp_path, **{setting: str(path)}):
        pass

    assert path.read_text() == "data"


@pytest.mark.parametrize("setting", ["otlp_http_socket", "otlp_grpc_socket"])
def test_a_path_in_a_folder_that_is_not_there_stops_the_start(tmp_path, setting):
    path = str(tmp_path / "nowhere" / "x.sock")

    with (
        pytest.raises(Misconfigured, match=f"LOOPGRID_{setting.upper()}"),
        running(tmp_path, **{setting: path}),
    ):
        pass


def test_with_a_prefix_all_signal_paths_move_together_and_the_old_ones_are_404(tmp_path):
    with running(tmp_path, otlp_path_prefix="/otlp/in") as doors:
        for base in (doors.addresses.otlp_http, doors.addresses.api):
            for signal in ("traces", "logs", "metrics"):
                moved = httpx.post(f"{base}/otlp/in/v1/{signal}", content=b"", headers=HEADERS)
                assert moved.status_code == 200
                left = httpx.post(f"{base}/v1/{signal}", content=b"", headers=HEADERS)
                assert left.status_code == 404
        assert "/otlp/in/v1/traces" in doors.post("/v1/traces", b"").text
        assert doors.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("prefix", ["otlp", "/otlp/", "/", "/a b", "/a//b", "/{x}"])
def test_a_prefix_that_is_no_path_stops_the_start(prefix):
    with pytest.raises(Misconfigured, match="LOOPGRID_OTLP_PATH_PREFIX"):
        CollectorConfig(otlp_path_prefix=prefix)


@pytest.mark.parametrize(
    ("family", "served", "refused"), [("4", "127.0.0.1", "::1"), ("6", "::1", "127.0.0.1")]
)
def test_a_forced_family_is_served_and_the_other_one_is_refused(
    tmp_path, monkeypatch, family, served, refused
):
    """`localhost` stands for both; here the resolver is told so, whatever the machine's own tables say."""
    resolve = socket.getaddrinfo

    def both(host, *arguments, **named):
        if host != "localhost":
            return resolve(host, *arguments, **named)
        return [*resolve("127.0.0.1", *arguments, **named), *resolve("::1", *arguments, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with running(tmp_path, host="localhost", ip_family=family) as doors:
        for where in (doors.addresses.otlp_http, doors.addresses.otlp_grpc, doors.addresses.api):
            port = int(where.rpartition(":")[2])
            socket.create_connection((served, port), timeout=20).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((refused, port), timeout=20)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "6"), ("::1", "4"), ("::", "6")])
def test_a_family_that_the_host_cannot_keep_to_stops_the_start(host, family):
    with pytest.raises(Misconfigured, match="LOOPGRID_IP_FAMILY"):
        sockets.addresses_of(host, family)
