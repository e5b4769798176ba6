"""Which pages' browsers may use the API (CORS)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_ASKED: Final = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "X-Request-Id",
)
_SHOWN: Final = (
    *("ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id"),
    *("LoopGrid-Truncated", "LoopGrid-Ledger", "LoopGrid-Commit", "LoopGrid-Chain"),
)


class CrossOrigin:
    """Answers browsers of some origins; other doors on the port have rules of their own."""

    def __init__(
        self, app: ASGIApp, origins: Collection[str], max_age_s: int, others: Collection[str]
    ) -> None:
        """Stand before an application.

        Args:
            app: the application.
            origins: scheme, host and port, as browsers write them.
            max_age_s: seconds for which a browser may remember the answer.
            others: paths of doors that answer browsers themselves (OTLP).
        """
        self._app = app
        self._others = frozenset(others)
        self._guarded = CORSMiddleware(
            app,
            allow_origins=sorted(origins),
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=_ASKED,
            expose_headers=_SHOWN,
            max_age=max_age_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        elsewhere = scope["type"] == "http" and scope["path"] in self._others
        await (self._app if elsewhere else self._guarded)(scope, receive, send)
