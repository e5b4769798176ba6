"""The real server with the real API, and decisions to put into it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.server import Server
from loopgrid_query.analytics import SqlLimits
from loopgrid_query.app import create_app, statement_check
from loopgrid_query.replay.providers import Providers
from loopgrid_query.services import Services
from tests.contract.doors import PROTOBUF, started

PROBLEM = "application/problem+json"
UNKNOWN_DECISION = "1" * 32 + "-" + "1" * 16
UNKNOWN_REPLAY = "rpl_" + "1" * 32

_numbers = itertools.count(1)


@dataclass(slots=True)
class Api:
    """A running server.

    Attributes:
        client: an HTTP client on the API port.
        services: the domain behind it.
        quack: what another DuckDB attaches.
    """

    client: httpx.Client = field(repr=False)
    services: Services = field(repr=False)
    quack: str | None = None

    def record(self, **fields: Any) -> dict[str, Any]:
        """Record a decision through the API."""
        answer = self.client.post("/v1/decisions", json={"decision_type": "reply", **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def export(self, *spans: Span, service: str | None = None) -> None:
        """Send spans as an OpenTelemetry exporter does."""
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        if service is not None:
            resource_spans.resource.attributes.append(attribute("service.name", service))
        resource_spans.scope_spans.add().spans.extend(spans)
        headers = {"content-type": PROTOBUF}
        answer = self.client.post("/v1/traces", content=request.SerializeToString(), headers=headers)
        assert answer.status_code == 200, answer.text

    def decorated(self, function: str = "app.reply", **attributes: Any) -> str:
        """Send the span of a decorated function's decision; its id."""
        sent = decorated_span(function, **attributes)
        self.export(sent)
        return f"{sent.trace_id.hex()}-{sent.span_id.hex()}"

    def sql(self, query: str, parameters: Any = None, **headers: str) -> httpx.Response:
        """One SQL statement."""
        body = {"query": query} if parameters is None else {"query": query, "parameters": parameters}
        return self.client.post("/v1/sql", json=body, headers=headers)

    def everything(self) -> list[list[Any]]:
        """How many rows each kind of record has: what must not change when something is refused."""
        views = ("spans", "marks", "corrections", "replays", "quarantine", "conflicts", "commits")
        return [self.sql("SELECT count(*) FROM " + view).json()["rows"] for view in views]  # noqa: S608 - names of ours


@contextmanager
def running_api(
    folder: Path, limits: SqlLimits | None = None, providers: Providers | None = None, **settings: Any
) -> Iterator[Api]:
    """A server for the length of a ``with`` block, with the ledger in the folder, which is empty at first."""
    ports = {"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0}
    config = CollectorConfig(ledger=str(folder / "ledger.duckdb"), **{**ports, **settings})
    services: list[Services] = []

    def api(ledger: Ledger, ingest: Ingest, routes: list[BaseRoute], guard: Guard) -> ASGIApp:
        app = create_app(
            ledger, ingest, guard, extra_routes=routes, sql_limits=limits, config=config, providers=providers
        )
        services.append(app.state.services)
        return app

    with (
        started(Server(config, api, statement_check)) as addresses,
        httpx.Client(base_url=addresses.api, trust_env=False, timeout=60) as client,
    ):
        yield Api(client, services[0], addresses.quack)


def attribute(key: str, value: str | int | list[str]) -> KeyValue:
    """An OTLP attribute."""
    if isinstance(value, list):
        texts = ArrayValue(values=[AnyValue(string_value=text) for text in value])
        return KeyValue(key=key, value=AnyValue(array_value=texts))
    told = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    return KeyValue(key=key, value=told)


def span(name: str = "span", *, parent: Span | None = None, **attributes: str | int) -> Span:
    """A span with ids of its own, under a parent or in a trace of its own; ``_`` in keys stands for ``.``."""
    number = next(_numbers)
    return Span(
        trace_id=parent.trace_id if parent else (2**100 + number).to_bytes(16, "big"),
        span_id=(2**40 + number).to_bytes(8, "big"),
        parent_span_id=parent.span_id if parent else b"",
        name=name,
        start_time_unix_nano=1_700_000_000_000_000_000 + number * 1000,
        end_time_unix_nano=1_700_000_000_100_000_000 + number * 1000,
        attributes=[attribute(key.replace("__", "."), value) for key, value in attributes.items()],
    )


def decorated_span(function: str = "app.reply", **attributes: Any) -> Span:
    """The span of a decorated function's decision, with an input of one argument."""
    given = {
        "loopgrid__record__version": 1,
        "loopgrid__decision__type": "reply",
        "loopgrid__decision__input": json.dumps({"message": "hello"}),
        "loopgrid__decision__output": json.dumps({"response": "hi"}),
        "code__function__name": function,
        **attributes,
    }
    return span("reply", **given)


def llm_span(parent: Span | None = None, **attributes: Any) -> Span:
    """A model call in OpenTelemetry's GenAI convention."""
    given = {
        "gen_ai__operation__name": "chat",
        "gen_ai__provider__name": "openai",
        "gen_ai__request__model": "gpt-4o",
        "gen_ai__usage__input_tokens": 3,
        "gen_ai__usage__output_tokens": 2,
        **attributes,
    }
    return span(
        "chat gpt-4o", parent=parent, **{key: value for key, value in given.items() if value is not None}
    )


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:loopgrid:problem:")
    assert document["detail"]
    return document
