"""The API's door: API key, scope, access log, request id and the headers of every answer."""

from __future__ import annotations

import logging
import math
import re
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopgrid_collector.audit import Access
from loopgrid_collector.errors import CollectorError, Forbidden, Unauthenticated
from loopgrid_collector.guard import CHALLENGE, Guard
from loopgrid_query import access, problems
from loopgrid_query.access import Asking
from loopgrid_query.errors import QueryError
from loopgrid_query.rates import Rates

_LOG: Final = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
_REQUEST_ID_FORM: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Door:
    """Lets requests in that may come in, and notes what the others wanted."""

    def __init__(self, app: ASGIApp, guard: Guard, others: Collection[str], rates: Rates) -> None:
        """Stand before an application.

        Args:
            app: the application.
            guard: keys and audit.
            others: paths of doors that check keys themselves (OTLP, metrics).
            rates: how many requests one caller may make.
        """
        self._rates = rates
        self._app = app
        self._guard = guard
        self._others = frozenset(others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in self._others:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID_FORM.fullmatch(given) else uuid.uuid4().hex
        answer = _Answer(send, request_id, secret=access.is_content(scope["path"]))
        asking = Asking()
        try:
            asking.key = self._admit(scope, headers, request_id)
        except (Unauthenticated, Forbidden) as error:
            challenge = {"WWW-Authenticate": CHALLENGE} if isinstance(error, Unauthenticated) else {}
            refusal = problems.problem(problems.kind_of(error), str(error), headers=challenge)
            await refusal(scope, receive, answer)
            return
        wait_s = self._rates.wait_s(_caller(scope, asking)) if access.is_content(scope["path"]) else 0.0
        if wait_s:
            # As an attempt that was refused: beyond some a second they are counted, so that whoever asks too
            # often does not fill the ledger with having done so.
            attempt = replace(_attempt(scope, request_id), status=problems.TOO_MANY.status, reason=_TOO_MANY)
            key_id = asking.key.key_id if asking.key is not None else None
            self._guard.audit.refused(replace(attempt, key_id=key_id))
            await _too_many(wait_s)(scope, receive, answer)
            return
        scope.setdefault("state", {})["asking"] = asking
        try:
            await self._app(scope, receive, answer)
        except RuntimeError as error:
            # An answer that has begun cannot become a problem document: it ends without its end, which the
            # reader notices. Why is no defect of the server, so its log needs no frames.
            if answer.status is None or not isinstance(error.__cause__, (QueryError, CollectorError)):
                raise
            _LOG.warning("an answer broke off: %s (request %s)", type(error.__cause__).__name__, request_id)
        finally:
            if asking.key is not None and access.is_content(scope["path"]):
                self._guard.audit.note(_access(scope, asking, request_id, answer.status))

    def _admit(self, scope: Scope, headers: Headers, request_id: str) -> Any:
        path, method = scope["path"], scope["method"]
        needed = access.needed(method, path)
        if needed is None:
            return None
        return self._guard.admit(headers.get, needed, _attempt(scope, request_id))


def _attempt(scope: Scope, request_id: str) -> Access:
    """A request that may come to nothing."""
    client = scope.get("client")
    address = client[0] if client else None
    route = _shortened(scope["path"])
    return Access("rest", scope["method"], route, None, request_id=request_id, address=address)


def _caller(scope: Scope, asking: Asking) -> str:
    """Whose rate a request counts to: its key's, or its address's where no keys are asked for."""
    if asking.key is not None:
        return asking.key.key_id
    client = scope.get("client")
    return f"address {client[0]}" if client else "address unknown"


_TOO_MANY: Final = "More requests came than one caller may make"


def _too_many(wait_s: float) -> Response:
    seconds = max(1, math.ceil(wait_s))
    detail = f"{_TOO_MANY}; nothing was done. Come again in {seconds} s."
    return problems.problem(problems.TOO_MANY, detail, headers={"Retry-After": str(seconds)})


class _Answer:
    """Passes an answer on, with the headers that every answer has."""

    def __init__(self, send: Send, request_id: str, *, secret: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._secret = secret
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            headers["x-content-type-options"] = "nosniff"
            # A page has a stricter one of its own.
            headers.setdefault("content-security-policy", "frame-ancestors 'none'")
            if self._secret:
                headers.setdefault("cache-control", "no-store")
        await self._send(message)


def _access(scope: Scope, asking: Asking, request_id: str, status: int | None) -> Access:
    decision_id = scope.get("path_params", {}).get("decision_id")
    asking.shows([decision_id if isinstance(decision_id, str) else None])
    route = getattr(scope.get("route"), "path", None)
    return Access(
        door="rest",
        method=scope["method"],
        route=route if isinstance(route, str) else _shortened(scope["path"]),
        status=status,
        key_id=asking.key.key_id if asking.key is not None else None,
        decision_ids=tuple(asking.decision_ids),
        decisions=asking.decisions,
        statement_sha256=asking.statement_sha256,
        request_id=request_id,
    )


_MAX_PATH_CHARACTERS: Final = 200


def _shortened(path: str) -> str:
    """A path as a stranger sent it, fit to be stored."""
    return path[:_MAX_PATH_CHARACTERS].encode("utf-8", "replace").decode()
