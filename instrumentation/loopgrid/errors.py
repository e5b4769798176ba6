"""What can go wrong between an application and LoopGrid.

Three kinds, told apart by what helps: a `Permanent` error needs a different request, a `Retryable` one
needs time, a `Fatal` one needs a person. Each message says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class LoopGridError(Exception):
    """Root of every error LoopGrid raises.

    Attributes:
        message: what happened and what to do next.
        status: HTTP status of the server's answer, where there was one.
        problem: the server's problem document (RFC 9457), where there was one.
    """

    def __init__(
        self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.problem = dict(problem) if problem is not None else None


class Permanent(LoopGridError):
    """Sending the same request again cannot succeed."""


class Invalid(Permanent):
    """The request says something that cannot be: an unknown name, a malformed id, a wrong shape."""


class NotFound(Permanent):
    """The server has no decision or replay of that id."""


class Forbidden(Permanent):
    """The server wants an API key, or another one."""


class Conflict(Permanent):
    """The request contradicts something already in the ledger."""


class NotReplayable(Permanent):
    """The decision cannot be run again in this process; the message names what is missing."""


class ServerDefect(Permanent):
    """The server failed in a way that is its own fault."""


class Retryable(LoopGridError):
    """The same request may succeed later.

    Attributes:
        retry_after_s: seconds the server asked to wait, where it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, status=status, problem=problem)
        self.retry_after_s = retry_after_s


class Unreachable(Retryable):
    """Nothing answers at the endpoint."""


class Unavailable(Retryable):
    """The server answers that it cannot serve now, or what was sent has not arrived yet."""


class SpoolFull(Retryable):
    """There is no room on disk for one more decision, and the settings say to raise then."""


class Fatal(LoopGridError):
    """Nothing works before somebody changes the set-up."""


class Misconfigured(Fatal):
    """A setting has a value that cannot be meant."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there is: {', '.join(names)}" if names else "there is none"
