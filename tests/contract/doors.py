"""The real server of the collector, in this process, on ports that the system chooses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvloop
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.server import Addresses, Server

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


@dataclass(slots=True)
class Doors:
    """A running server.

    Attributes:
        addresses: where it can be reached.
        ledger: its ledger.
        ingest: the door into it.
        client: an HTTP client on the OTLP/HTTP port.
    """

    addresses: Addresses
    ledger: Ledger
    ingest: Ingest
    client: httpx.Client = field(repr=False)

    def post(self, path: str, content: bytes, content_type: str = PROTOBUF, **headers: str) -> httpx.Response:
        """One OTLP/HTTP request; underscores of header names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=content, headers={"content-type": content_type, **named})

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query on the public views, read while the server runs."""
        with self.ledger.cursor() as cursor:
            found: list[tuple[Any, ...]] = cursor.execute(query).fetchall()
        return found

    def count(self, view: str) -> int:
        """How many rows a view has."""
        return int(self.rows(f"SELECT count(*) FROM {view}")[0][0])  # noqa: S608

    def connect(self) -> socket.socket:
        """A bare connection to the OTLP/HTTP port, for what HTTP clients would not send."""
        where = urlsplit(self.addresses.otlp_http)
        assert where.hostname
        assert where.port
        return socket.create_connection((where.hostname, where.port), timeout=20)


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Doors]:
    """A server for the length of a ``with`` block, with an empty ledger in the folder."""
    ports = {"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0}
    config = CollectorConfig(ledger=str(folder / "test.duckdb"), **{**ports, **settings})
    house: list[tuple[Ledger, Ingest]] = []

    def api(ledger: Ledger, ingest: Ingest, routes: list[BaseRoute], _guard: Guard) -> ASGIApp:
        house.append((ledger, ingest))
        return Router(routes)

    with started(Server(config, api)) as addresses:
        ((ledger, ingest),) = house
        with httpx.Client(base_url=addresses.otlp_http, trust_env=False, timeout=20) as client:
            yield Doors(addresses, ledger, ingest, client)


@contextmanager
def started(server: Server) -> Iterator[Addresses]:
    """The server on an event loop in a thread, stopped in the end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, name="server-under-test")
        thread.start()
        try:
            addresses = asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
            try:
                yield addresses
            finally:
                asyncio.run_coroutine_threadsafe(server.stop(5), loop).result(60)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
