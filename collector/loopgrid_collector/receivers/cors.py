"""Cross-origin requests: which pages' browsers may send OTLP over HTTP. Pure but for ASGI.

Nothing here ever allows credentials, so ``*`` is safe to configure: a page can send, and read nothing
that it did not send.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured

_EVERYBODY: Final = "*"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*]+", re.ASCII | re.IGNORECASE)
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,1000}", re.ASCII)
_EXPOSED: Final = "retry-after, loopgrid-receipt"


def guarded(app: ASGIApp, config: CollectorConfig) -> ASGIApp:
    """The application, for browsers of the configured origins too; unchanged if there are none.

    Raises:
        Misconfigured: an origin is none.
    """
    origins = origins_in(config.cors_allowed_origins, "cors_allowed_origins", or_everybody=True)
    return _Guarded(app, origins, config.cors_max_age_s) if origins else app


def origins_in(text: str, setting: str, *, or_everybody: bool) -> frozenset[str]:
    """The origins that a setting names.

    Args:
        text: origins with commas between them.
        setting: its name, for the message.
        or_everybody: whether ``*`` may stand there.

    Raises:
        Misconfigured: one is none.
    """
    origins = frozenset(filter(None, map(str.strip, text.split(","))))
    for origin in origins:
        if not (or_everybody and origin == _EVERYBODY) and not _ORIGIN.fullmatch(origin):
            raise Misconfigured(
                f"{setting}: {origin!r} is no origin. Write scheme, host and port as browsers "
                "do, without a path: https://app.example.com."
            )
    return origins


class _Guarded:
    def __init__(self, app: ASGIApp, origins: frozenset[str], max_age_s: int) -> None:
        self._app = app
        self._origins = origins
        self._max_age_s = max_age_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and (_EVERYBODY in self._origins or origin in self._origins)
        if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(headers, send)
            return
        fields = [(b"vary", b"origin")]
        if allowed:
            fields += [*self._allowing(headers), _pair("access-control-expose-headers", _EXPOSED)]

        async def with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *fields]}
            await send(message)

        await self._app(scope, receive, with_fields)

    async def _preflight(self, headers: Headers, send: Send) -> None:
        wanted = headers.get("access-control-request-headers", "")
        fields = [
            *self._allowing(headers),
            _pair("access-control-allow-methods", "POST"),
            _pair("access-control-max-age", str(self._max_age_s)),
            _pair("vary", "origin, access-control-request-headers"),
        ]
        if wanted and _HEADER_NAMES.fullmatch(wanted):
            fields.append(_pair("access-control-allow-headers", wanted))
        await send({"type": "http.response.start", "status": 204, "headers": fields})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _allowing(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        told = _EVERYBODY if _EVERYBODY in self._origins else headers["origin"]
        return [_pair("access-control-allow-origin", told)]


def _pair(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode("ascii"), value.encode("latin-1")
