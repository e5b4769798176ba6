"""What the routes share: the domain they call, and how they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Path, Request, Response

from loopgrid_query import jsontext
from loopgrid_query.access import Asking
from loopgrid_query.ids import DECISION_ID_PATTERN, REPLAY_ID_PATTERN
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
        json_schema_extra={"pattern": f"^{DECISION_ID_PATTERN}$"},
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
ReplayIdInPath = Annotated[
    str,
    Path(
        description="`rpl_` and 32 lower-case hex digits",
        json_schema_extra={"pattern": f"^{REPLAY_ID_PATTERN}$"},
    ),
]


def answer(
    value: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer. Recorded content goes out as the text it is stored as."""
    return Response(
        jsontext.answer(value), status_code=status, media_type="application/json", headers=dict(headers or {})
    )


IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=10_000,
        description="`ETag` of an answer that the client has; what has not changed since is answered 304",
    ),
]


def answer_unless_known(value: Any, known: str | None) -> Response:
    """A JSON answer with its ``ETag``, or 304 where the client says that it has this one.

    The tag is a digest of the answer itself, so that nothing that changes the one can leave the other.

    Args:
        value: what is answered.
        known: the request's ``If-None-Match``.
    """
    body = jsontext.answer(value)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag}
    if known is not None and _names(known, tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _names(known: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` names a tag; a proxy that compressed the answer made it weak (``W/``)."""
    return known.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(","))


KNOWN: Final[dict[int | str, dict[str, Any]]] = {
    HTTPStatus.OK: {
        "headers": {
            "ETag": {"description": "changes when the answer does", "schema": {"type": "string"}},
        }
    },
    HTTPStatus.NOT_MODIFIED: {"description": "The answer is the one that `If-None-Match` names"},
}
"""What ``answer_unless_known`` answers, for a route's description."""

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

ANY_REFUSAL: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "A problem document that says what to do", "content": _PROBLEM}
}
"""What every route may answer instead, for its description."""


def refusals(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """What a route may well refuse with, for its description."""
    return {int(status): {"description": status.phrase, "content": _PROBLEM} for status in statuses}
