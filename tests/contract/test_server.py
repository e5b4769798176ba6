"""Starting and stopping the whole server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured, PortTaken
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.server import Server
from tests.contract.doors import PROTOBUF, running, started
from tests.support.spans import span, traces

FREE: dict[str, Any] = {"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0}
FLAGS = {"port": "--port", "otlp_http_port": "--otlp-http-port", "otlp_grpc_port": "--otlp-grpc-port"}

PROGRAM = """
import dataclasses, json, sys
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.server import Server

config = CollectorConfig(ledger=sys.argv[1], port=0, otlp_http_port=0, otlp_grpc_port=0)
ready = lambda addresses: print(json.dumps(dataclasses.asdict(addresses)), flush=True)
sys.exit(Server(config, None).run(ready))
"""


@contextmanager
def process(ledger: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A server process and its addresses, once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(ledger)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            yield child, json.loads(child.stdout.readline())
        finally:
            if child.poll() is None:
                child.kill()


def spans_in(ledger: Path) -> set[str]:
    opened = Ledger.open(str(ledger), CollectorConfig())
    try:
        with opened.cursor() as cursor:
            return {row[0] for row in cursor.execute("SELECT span_id FROM spans").fetchall()}
    finally:
        opened.close()


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    assert where.hostname
    assert where.port
    return socket.create_connection((where.hostname, where.port), timeout=20)


def refuses_connections(url: str) -> bool:
    try:
        connect(url).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("setting", sorted(FLAGS))
def test_a_taken_port_stops_the_start_at_once_and_names_its_flag(tmp_path, setting):
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        config = CollectorConfig(ledger=str(tmp_path / "new.duckdb"), **{**FREE, setting: port})

        with pytest.raises(PortTaken, match=rf"Port {port} .*{FLAGS[setting]} \("):
            asyncio.run(Server(config, None).start())

    assert list(tmp_path.iterdir()) == []


def test_a_start_that_failed_gives_its_ports_back(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    missing = tmp_path / "missing" / "folder.duckdb"
    config = CollectorConfig(ledger=str(missing), **{**FREE, "otlp_http_port": port})
    with pytest.raises(Exception, match=re.escape(str(missing.parent))):
        asyncio.run(Server(config, None).start())

    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_host_that_is_not_here_stops_the_start(tmp_path):
    config = CollectorConfig(ledger=str(tmp_path / "new.duckdb"), host="192.0.2.1", **FREE)

    with pytest.raises(Misconfigured, match="--host"):
        asyncio.run(Server(config, None).start())


def test_every_port_is_on_loopback_unless_told_otherwise(tmp_path):
    with running(tmp_path) as doors:
        assert urlsplit(doors.addresses.api).hostname == "127.0.0.1"
        assert urlsplit(doors.addresses.otlp_http).hostname == "127.0.0.1"
        assert doors.addresses.otlp_grpc.startswith("127.0.0.1:")


def test_without_an_api_its_port_takes_otlp_all_the_same(tmp_path):
    config = CollectorConfig(ledger=str(tmp_path / "test.duckdb"), **FREE)
    with started(Server(config, None)) as addresses:
        assert httpx.get(addresses.api + "/healthz", trust_env=False).status_code == 200


def test_after_a_stop_nothing_is_taken_any_more(tmp_path):
    with running(tmp_path) as doors:
        addresses = doors.addresses

    assert refuses_connections(addresses.api)
    assert refuses_connections(addresses.otlp_http)
    assert refuses_connections("grpc://" + addresses.otlp_grpc)


def test_a_server_starts_again_on_the_same_ports_and_ledger(tmp_path):
    with running(tmp_path) as doors:
        doors.post("/v1/traces", traces(span(1)))
        port = urlsplit(doors.addresses.otlp_http).port
    with running(tmp_path, otlp_http_port=port) as doors:
        assert doors.count("spans") == 1


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_with_code_0_and_everything_acknowledged_on_disk(tmp_path, told):
    with process(tmp_path / "test.duckdb") as (child, addresses):
        answer = httpx.post(
            addresses["otlp_http"] + "/v1/traces",
            content=traces(span(1)),
            headers={"content-type": PROTOBUF},
            trust_env=False,
        )
        child.send_signal(told)

        assert (answer.status_code, child.wait(30)) == (200, 0)
    assert len(spans_in(tmp_path / "test.duckdb")) == 1


def test_every_200_sent_while_the_server_is_told_to_stop_is_on_disk(tmp_path):
    with process(tmp_path / "test.duckdb") as (child, addresses), ThreadPoolExecutor(50) as pool:
        under_way = threading.Barrier(51)
        senders = [
            pool.submit(send_until_refused, addresses["otlp_http"], sender, under_way)
            for sender in range(1, 51)
        ]
        under_way.wait(30)
        child.send_signal(signal.SIGTERM)
        acknowledged = {span_id for sender in senders for span_id in sender.result(60)}
        code = child.wait(30)

    assert code == 0
    assert acknowledged
    assert acknowledged <= spans_in(tmp_path / "test.duckdb")


def send_until_refused(url: str, sender: int, under_way: threading.Barrier) -> set[str]:
    acknowledged: set[str] = set()
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        for number in range(1, 100_000):
            one = span(sender * 1_000_000 + number)
            try:
                answer = client.post("/v1/traces", content=traces(one), headers={"content-type": PROTOBUF})
            except httpx.TransportError:
                break
            assert answer.status_code in {200, 503}
            if answer.status_code == 200:
                acknowledged.add(one.span_id.hex())
            if number == 1:
                under_way.wait(30)
    return acknowledged


def test_a_second_signal_ends_the_process_at_once_with_code_1(tmp_path):
    with process(tmp_path / "test.duckdb") as (child, addresses), connect(addresses["otlp_http"]) as stalled:
        # A sender in the middle of its body holds the clean stop up.
        head = f"POST /v1/traces HTTP/1.1\r\nHost: t\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 9\r\n"
        stalled.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert stalled.recv(100).startswith(b"HTTP/1.1 100")
        child.send_signal(signal.SIGTERM)
        while not refuses_connections(addresses["otlp_http"]):
            pass
        child.send_signal(signal.SIGTERM)

        assert child.wait(30) == 1


def test_a_sender_that_holds_up_the_stop_is_told_to_resend_when_the_grace_is_over(tmp_path):
    config = CollectorConfig(ledger=str(tmp_path / "test.duckdb"), shutdown_grace_s=1, **FREE)
    server = Server(config, None)

    async def stop_with_a_stalled_sender() -> bytes:
        addresses = await server.start()
        where = urlsplit(addresses.otlp_http)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"POST /v1/traces HTTP/1.1\r\nHost: t\r\nContent-Type: {PROTOBUF}\r\n".encode())
        writer.write(b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await server.stop()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    answer = asyncio.run(stop_with_a_stalled_sender())

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
