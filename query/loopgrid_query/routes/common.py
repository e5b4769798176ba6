"""What the routes share: the domain they call, and how they answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Path, Request, Response

from loopgrid_query import jsontext
from loopgrid_query.access import Asking
from loopgrid_query.services import Services


async def _services(request: Request) -> Services:
    # A coroutine, so that looking it up costs no thread.
    services: Services = request.app.state.services
    return services


async def _asking(request: Request) -> Asking:
    found: Asking = request.state.asking
    return found


Domain = Annotated[Services, Depends(_services)]
Asked = Annotated[Asking, Depends(_asking)]
DecisionIdInPath = Annotated[
    str,
    Path(
        description="`<trace_id>-<span_id>`: 32 lower-case hex digits, a hyphen and 16 more",
        examples=["4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
    ),
]
MAX_KEY_CHARS: Final = 255
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_CHARS,
        description="sent again with the same key and body, the request is answered as before and done once",
    ),
]
ReplayIdInPath = Annotated[str, Path(description="`rpl_` and 32 lower-case hex digits")]


def answer(
    value: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer. Recorded content goes out as the text it is stored as."""
    return Response(
        jsontext.answer(value), status_code=status, media_type="application/json", headers=dict(headers or {})
    )


_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

ANY_REFUSAL: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "A problem document that says what to do", "content": _PROBLEM}
}
"""What every route may answer instead, for its description."""


def refusals(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What a route may well refuse with, for its description."""
    return {int(status): {"description": status.phrase, "content": _PROBLEM} for status in statuses}
