"""A server whose ledger has a key of each kind, for tests of who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.rpc import status_pb2

from loopgrid_collector.auth import Scope
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.keyring import Keyring, utc_now
from loopgrid_collector.ledger.ledger import Ledger
from tests.support.server import RunningServer, running_server

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}
DECISION = {"decision_type": "reply", "input": "hi", "output": "ho", "service_name": "shop"}


@contextmanager
def keyring(file: Path, age: timedelta = timedelta()) -> Iterator[Keyring]:
    """The keys of a ledger that no server has open, as they were some time ago."""
    ledger = Ledger.open(str(file), CollectorConfig())
    try:
        yield Keyring(ledger, clock=lambda: utc_now() - age)
    finally:
        ledger.close()


class House:
    """A server with a key of each kind."""

    def __init__(self, server: RunningServer, keys: dict[str, str]) -> None:
        self.server = server
        self.keys = keys

    def headers(self, name: str) -> dict[str, str]:
        """What a client with that key sends."""
        special = {
            "missing": {},
            "wrong": {"authorization": f"Bearer {self.keys.get('admin', '')[:-4]}aaaa"},
            "no key at all": {"authorization": "Bearer nonsense"},
            "password": {"authorization": "Basic dXNlcjpwYXNz"},
        }
        return special.get(name, {"authorization": f"Bearer {self.keys.get(name, '')}"})

    def ask(self, name: str, method: str, path: str, **more: Any) -> httpx.Response:
        """A request to the API."""
        headers = self.headers(name) | more.pop("headers", {})
        return httpx.request(
            method, self.server.api + path, headers=headers, trust_env=False, timeout=60, **more
        )

    def send(
        self, name: str, body: bytes, base: str | None = None, path: str = "/v1/traces"
    ) -> httpx.Response:
        """An OTLP/HTTP request."""
        url = (base or self.server.otlp_http) + path
        return httpx.post(
            url, content=body, headers=PROTOBUF | self.headers(name), trust_env=False, timeout=60
        )

    def export(self, name: str, body: bytes) -> grpc.StatusCode:
        """The code of an OTLP/gRPC call."""
        with grpc.insecure_channel(self.server.otlp_grpc) as channel:
            call: Any = channel.unary_unary(EXPORT, None, None)
            try:
                call(body, timeout=20, metadata=tuple(self.headers(name).items()))
            except grpc.RpcError as error:
                refused: Any = error
                details = dict(refused.trailing_metadata())["grpc-status-details-bin"]
                assert status_pb2.Status.FromString(details).message == refused.details()
                code: grpc.StatusCode = refused.code()
                return code
        return grpc.StatusCode.OK

    def count(self, view: str) -> int:
        """Rows of a view."""
        answer = self.ask("admin", "POST", "/v1/sql", json={"query": f"FROM {view} SELECT count(*)"})
        return int(answer.json()["rows"][0][0])

    def accesses(self) -> list[dict[str, Any]]:
        """The access log; the server is stopped for it, so that everything is in it."""
        assert self.server.stop() == 0
        ledger = Ledger.open(str(self.server.ledger), CollectorConfig())
        try:
            with ledger.cursor() as cursor:
                table = cursor.execute("FROM access_log ORDER BY accessed_at").to_arrow_table()
        finally:
            ledger.close()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def key_id(self, name: str) -> str:
        return self.keys[name].split("_")[1]


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """A server whose ledger has a key of each kind."""
    file = folder / "ledger.duckdb"
    keys: dict[str, str] = {}
    with keyring(file, timedelta(days=2)) as ring:
        _, keys["admin"] = ring.create("boss", [Scope.ADMIN])
        _, keys["expired"] = ring.create("old", [Scope.ADMIN], expires_at=ring.now + timedelta(days=1))
        gone, keys["revoked"] = ring.create("gone", [Scope.ADMIN])
        ring.revoke(gone.key_id)
        for scope in ("ingest", "read", "replay"):
            _, keys[scope] = ring.create(scope, [Scope(scope)])
        _, keys["review"] = ring.create("review", [Scope.REVIEW], person="dana")
        _, keys["shop"] = ring.create("shop only", [Scope.INGEST], services=["shop"])
    with running_server(folder, ledger=file) as server:
        yield House(server, keys)
