"""One table: what each kind of refusal means to a sender, over gRPC and over HTTP.

A sender resends only what its protocol calls retryable: HTTP 429, 502, 503 and 504, gRPC UNAVAILABLE
and a few more. It throws the data away on every other code. So a row is either permanent, and then it
says so, or retryable, and then it names a delay. Pure: no I/O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from loopgrid_collector import errors


class Code(IntEnum):
    """The codes of ``google.rpc.Status``, which are those of gRPC, as far as this server uses them."""

    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class UnknownPath(errors.Permanent):
    """No OTLP signal is served at the path."""


class MethodNotAllowed(errors.Permanent):
    """The path takes POST only."""


class SlowSender(errors.Retryable):
    """The body did not arrive in time; a resend may be luckier."""


class SenderGone(errors.Retryable):
    """The sender hung up before its body was complete; nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one refusal is told.

    Attributes:
        code: gRPC status code, also the ``code`` of a ``google.rpc.Status`` body.
        http: HTTP status code.
        message: what happened and what to do, without any part of the payload.
        retry_after_s: whole seconds, at least 1, after which to resend; ``None`` means never.
    """

    code: Code
    http: int
    message: str
    retry_after_s: int | None


_BUG: Final = "The server has a bug here: nothing of this request was stored. Its log says where."

_INVALID: Final = (Code.INVALID_ARGUMENT, 400)
_LATER: Final = (Code.UNAVAILABLE, 503)

TABLE: Final[dict[type, tuple[Code, int]]] = {
    errors.Permanent: _INVALID,
    errors.Undecodable: _INVALID,
    errors.UnsupportedCoding: _INVALID,
    errors.UnsupportedType: (Code.INVALID_ARGUMENT, 415),
    errors.TooLarge: (Code.RESOURCE_EXHAUSTED, 413),
    errors.Unauthenticated: (Code.UNAUTHENTICATED, 401),
    errors.Forbidden: (Code.PERMISSION_DENIED, 403),
    UnknownPath: (Code.UNIMPLEMENTED, 404),
    MethodNotAllowed: (Code.UNIMPLEMENTED, 405),
    errors.Retryable: _LATER,
    # Whatever else the collector raises on purpose while it serves is trouble on its side, not the
    # sender's: the data must come back.
    errors.CollectorError: _LATER,
    Exception: (Code.INTERNAL, 500),
}
"""Error class → gRPC code and HTTP status. The nearest class in the error's ancestry counts."""


def verdict(error: Exception) -> Verdict:
    """How to tell a sender of the error. One that nobody raised on purpose is a bug of ours."""
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    if not isinstance(error, errors.CollectorError):
        return Verdict(*row, message=_BUG, retry_after_s=None)
    retry_after_s = None
    if row == _LATER:
        delay_s = error.retry_after_s if isinstance(error, errors.Retryable) else 1.0
        retry_after_s = max(1, math.ceil(delay_s))
    return Verdict(*row, message=error.message, retry_after_s=retry_after_s)
