"""From what went wrong to a problem document (RFC 9457), in one table.

``type`` is ``urn:loopgrid:problem:<slug>``. What is wrong with the address is 400, what is wrong with a body
that reads is 422.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from loopgrid_collector.errors import (
    CollectorError,
    Fatal,
    Forbidden,
    Permanent,
    Retryable,
    TooLarge,
    Unauthenticated,
)
from loopgrid_query import errors, jsontext
from loopgrid_query.errors import FieldError, QueryError
from loopgrid_query.models import UNKNOWN_FIELD
from loopgrid_query.nearest import nearest

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:loopgrid:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its status, slug and title."""

    status: HTTPStatus
    slug: str
    title: str


KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.Malformed: Kind(HTTPStatus.BAD_REQUEST, "malformed", "The address cannot be read"),
    errors.Invalid: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "The request cannot be carried out"),
    errors.NotFound: Kind(HTTPStatus.NOT_FOUND, "not-found", "Not on record"),
    errors.Conflict: Kind(HTTPStatus.CONFLICT, "conflict", "On record with other content"),
    errors.NotAcceptable: Kind(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", "No such media type"),
    errors.SqlRefused: Kind(HTTPStatus.FORBIDDEN, "sql-refused", "The statement is not allowed"),
    errors.SqlInvalid: Kind(HTTPStatus.BAD_REQUEST, "sql-invalid", "The statement cannot run"),
    errors.SqlTooCostly: Kind(HTTPStatus.BAD_REQUEST, "sql-too-costly", "The statement was stopped"),
    errors.NotInstalled: Kind(HTTPStatus.NOT_IMPLEMENTED, "not-installed", "An extra is not installed"),
    errors.SqlBusy: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Try again in a moment"),
    Unauthenticated: Kind(HTTPStatus.UNAUTHORIZED, "unauthenticated", "An API key is needed"),
    Forbidden: Kind(HTTPStatus.FORBIDDEN, "forbidden", "The API key may not do this"),
    TooLarge: Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request is too large"),
    Permanent: Kind(HTTPStatus.BAD_REQUEST, "malformed", "The request cannot be read"),
    Retryable: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Try again in a moment"),
    Fatal: Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The server cannot go on"),
}
"""Every error of this package and of the collector; a subclass follows its nearest ancestor here."""

_UNREADABLE: Final = Kind(HTTPStatus.BAD_REQUEST, "malformed", "The request cannot be read")
_NO_JSON: Final = Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not JSON")
_INTERNAL: Final = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The server failed")
TOO_MANY: Final = Kind(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
"""One caller asks more often than it may."""
_BUSY_RETRY_S: Final = 1
_PLAIN: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    **dict.fromkeys(("string_type", "string_sub_type"), "must be text"),
    "string_unicode": "must be text that can be written as UTF-8",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a smaller number",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a JSON object"),
    "list_type": "must be a list",
    "too_short": "must have {min_length} or more",
    "too_long": "must have at most {max_length}",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
}
"""pydantic's kinds of faults, in the words of one who sends JSON."""
_IN_ADDRESS: Final = frozenset({"path", "query", "header", "cookie"})


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(QueryError, _on_domain_error)
    app.add_exception_handler(CollectorError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    # The outermost boundary: what nobody foresaw is told without its inside, and logged by the server.
    app.add_exception_handler(Exception, _on_surprise)


def kind_of(error: Exception) -> Kind:
    """The kind of problem that an error of ours is."""
    return next(KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS)


def problem(
    kind: Kind, detail: str, faults: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem document as answer.

    Args:
        kind: what kind of problem it is.
        detail: what happened and what to do.
        faults: the parts of the request that are wrong.
        headers: further headers of the answer.
    """
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": jsontext.printable(detail),
    }
    if faults:
        document["errors"] = [_fault(fault) for fault in faults]
    return Response(
        jsontext.answer(document), status_code=kind.status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def _fault(fault: FieldError) -> dict[str, str]:
    told = {"field": jsontext.printable(fault.field), "message": jsontext.printable(fault.message)}
    return told if fault.suggestion is None else {**told, "suggestion": fault.suggestion}


async def _on_domain_error(_request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, Retryable):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif isinstance(error, errors.SqlBusy):
        headers["Retry-After"] = str(_BUSY_RETRY_S)
    faults = error.errors if isinstance(error, QueryError) else ()
    return problem(kind_of(error), str(error), faults, headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError("registered for validation errors") from error
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if isinstance(error.body, bytes) and error.body and not media_type.endswith("json"):
        sent = f"it came as {media_type}" if media_type else "it came without a Content-Type"
        return problem(_NO_JSON, f"Send the body as JSON, with Content-Type: application/json; {sent}.")
    found = error.errors()
    faults = [_field_error(item) for item in found]
    unreadable = any(item["type"] == "json_invalid" or item["loc"][0] in _IN_ADDRESS for item in found)
    kind = _UNREADABLE if unreadable else KINDS[errors.Invalid]
    return problem(kind, str(QueryError.of(faults)), faults)


def _field_error(item: Mapping[str, Any]) -> FieldError:
    """One of pydantic's errors in our words."""
    context = item.get("ctx") or {}
    if item["type"] == "json_invalid":
        return FieldError(
            "body", f"is no JSON: {context.get('error', item['msg'])} at character {item['loc'][-1]}"
        )
    place = [str(step) for step in item["loc"][1:] if step != "[key]"]
    if item["type"] == UNKNOWN_FIELD:
        return FieldError(".".join([*place, context["name"]]), item["msg"], context["suggestion"] or None)
    message = _PLAIN[item["type"]].format_map(context) if item["type"] in _PLAIN else item["msg"]
    return FieldError(".".join(place) or "body", message[:1].lower() + message[1:])


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("registered for HTTP errors") from error
    status = HTTPStatus(error.status_code)
    slug = status.phrase.lower().replace(" ", "-")
    detail, headers = error.detail, dict(error.headers or {})
    if status is HTTPStatus.NOT_FOUND:
        hint = _nearest_address(request)
        detail = f"There is nothing at {request.url.path}.{hint} GET /docs tells what there is."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request)) or headers.get("Allow", "")
        headers["Allow"] = allowed
        detail = f"{request.method} is not possible at {request.url.path}; use {allowed}."
    return problem(Kind(status, slug, status.phrase), detail, headers=headers)


def _addresses(request: Request) -> dict[str, list[str]]:
    """The API's addresses with their methods, as its description has them."""
    described: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    return {address: sorted(method.upper() for method in methods) for address, methods in described.items()}


def _nearest_address(request: Request) -> str:
    found = nearest(request.url.path, (address for address in _addresses(request) if "{" not in address))
    return f" Did you mean {found}?" if found else ""


def _methods(request: Request) -> list[str]:
    """The methods that are possible where this request went."""
    here = request.url.path.split("/")
    for address, methods in _addresses(request).items():
        steps = address.split("/")
        if len(steps) == len(here) and all(
            step.startswith("{") or step == name for step, name in zip(steps, here, strict=True)
        ):
            return methods
    return []


async def _on_surprise(_request: Request, _error: Exception) -> Response:
    return problem(_INTERNAL, "Something went wrong on the server; its log says what.")
