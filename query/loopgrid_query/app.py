"""The API: its parts put together, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.guard import Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.quack import Check
from loopgrid_collector.receivers.cors import origins_in
from loopgrid_query import problems
from loopgrid_query.analytics import SqlLimits
from loopgrid_query.models import Problem
from loopgrid_query.rates import Rates
from loopgrid_query.replay.providers import Providers
from loopgrid_query.routes import (
    compare,
    decisions,
    evaluations,
    experiments,
    exports,
    health,
    judgements,
    keys,
    pages,
    prices,
    replays,
    reviews,
    schemas,
    snapshot,
    sql,
)
from loopgrid_query.routes.common import ANY_REFUSAL
from loopgrid_query.routes.cross_origin import CrossOrigin
from loopgrid_query.routes.door import Door
from loopgrid_query.routes.in_turn import InTurn
from loopgrid_query.services import Services

MAX_BODY_BYTES: Final = 16 * 2**20
"""Bytes of a request to the API. OTLP bodies come through doors with limits of their own."""

_DESCRIPTION: Final = """\
An append-only, tamper-evident record of AI decisions: record, get, list, mark, correct, replay,
compare, read with SQL. Errors are problem documents (RFC 9457) that say what to do.
"""
_KEY: Final = "an API key, where the server asks for one: `loopgrid keys create`"
_TAGS: Final = [
    {"name": "decisions", "description": "what was decided, with everything it saw"},
    {"name": "judgement", "description": "what people say about it; appended, never an edit"},
    {"name": "review", "description": "queues of decisions for people to judge"},
    {"name": "replay", "description": "a past decision again, with something changed"},
    {"name": "experiment", "description": "many replays of a cohort under one change, with a control arm"},
    {"name": "export", "description": "decisions and corrections as training and test data, with lineage"},
    {"name": "sql", "description": "the public views"},
    {"name": "snapshot", "description": "a copy of the whole ledger"},
    {"name": "keys", "description": "who may do what"},
    {"name": "schemas", "description": "JSON Schemas of records, events and requests"},
    {"name": "health", "description": "for whoever runs the server"},
]


class _Api(FastAPI):
    """FastAPI, whose description knows the problem document."""

    def openapi(self) -> dict[str, Any]:
        """The API's description (OpenAPI 3.1)."""
        if not self.openapi_schema:
            schemas = super().openapi()["components"]["schemas"]
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs", {}))
            schemas["Problem"] = problem
            components = super().openapi()["components"]
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _KEY}}
            # Either a key or none: only where there are keys one is asked for.
            super().openapi()["security"] = [{"key": []}, {}]
        return super().openapi()


def statement_check(app: ASGIApp) -> Check:
    """The API's check of clients' SQL, for DuckDB's own door."""
    if not isinstance(app, _Api):
        raise TypeError("only an application of create_app has one")
    services: Services = app.state.services
    return services.analytics.check


def _operation_id(route: APIRoute) -> str:
    """How generated clients call it: what it is about and what it does, as in ``decisions_get``."""
    return "_".join([*map(str, route.tags[:1]), route.name])


def create_app(
    ledger: Ledger,
    ingest: Ingest,
    guard: Guard,
    *,
    extra_routes: Sequence[BaseRoute] = (),
    sql_limits: SqlLimits | None = None,
    config: CollectorConfig | None = None,
    providers: Providers | None = None,
) -> FastAPI:
    """The API over an open ledger.

    Args:
        ledger: what is read.
        ingest: the door through which everything is appended.
        guard: who may ask, and the access log.
        extra_routes: routes of other doors on the same port (OTLP/HTTP), with limits of their own;
            they ask the guard themselves.
        sql_limits: what a client's SQL statement may use; the usual limits if left out.
        config: the server's settings, for rates, origins and model calls; the defaults if left out.
        providers: whom replays by model may ask; none if left out.

    Raises:
        Misconfigured: an origin is none.
    """
    config = config or CollectorConfig()
    app = _Api(
        title="LoopGrid",
        version=version("loopgrid"),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        generate_unique_id_function=_operation_id,
        responses=ANY_REFUSAL,
        # FastAPI's own pages load their files from elsewhere; see routes/pages.py.
        docs_url=None,
        redoc_url=None,
        # A server that recorded itself would record that it recorded itself.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = Services.on(
        ledger, ingest, guard, sql_limits or SqlLimits(), providers, config.max_model_calls
    )
    parts = (
        *(decisions, judgements, evaluations, reviews, replays, experiments, compare),
        *(exports, sql, snapshot, prices, keys, schemas, health),
    )
    for part in parts:
        app.include_router(part.router, max_body_size=MAX_BODY_BYTES)
    app.include_router(pages.router)
    app.router.routes.append(pages.files)
    app.router.routes.extend(extra_routes)
    problems.install(app)
    others = [route.path for route in extra_routes if isinstance(route, Route)]
    rates = Rates(config.api_requests_per_s, config.api_request_burst, time.monotonic)
    app.add_middleware(InTurn)
    app.add_middleware(Door, guard=guard, others=others, rates=rates)
    origins = origins_in(config.api_cors_allowed_origins, "api_cors_allowed_origins", or_everybody=False)
    if origins:
        # Outermost: a browser asks without a key first, and reads refusals too.
        app.add_middleware(CrossOrigin, origins=origins, max_age_s=config.cors_max_age_s, others=others)
    return app
