"""What can go wrong when somebody asks: one hierarchy, said for the person who asked.

How each kind reaches a client stands in one table, in ``problems.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one part of a request.

    Attributes:
        field: where it stands, dots nest (``model.name``); a filter's or parameter's name.
        message: what is wrong and what would be right.
        suggestion: the nearest name that exists, where a name is unknown.
    """

    field: str
    message: str
    suggestion: str | None = None


class QueryError(Exception):
    """Root of everything this package raises on purpose. Its text says what to do next.

    Attributes:
        errors: the parts of the request that are wrong, where parts can be named.
    """

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> QueryError:
        """One error that says all of ``errors``."""
        return cls(" ".join(_sentence(error) for error in errors), errors)


def _sentence(error: FieldError) -> str:
    end = "" if error.message.endswith((".", "?")) else "."
    return f"{error.field}: {error.message}{end}"


class Malformed(QueryError):
    """A part of the address has a form that cannot mean anything: an id, a filter, a cursor."""


class Invalid(QueryError):
    """The body reads, but something it says cannot be done."""


class NotFound(QueryError):
    """Nothing in the ledger has this id."""


class Conflict(QueryError):
    """The id or key was used before, for something else."""


class NotAcceptable(QueryError):
    """None of the media types the client accepts is one we write."""


class SqlRefused(QueryError):
    """The statement does more than read the public views."""


class SqlInvalid(QueryError):
    """The statement cannot run as it is written."""


class SqlTooCostly(QueryError):
    """The statement was stopped at a limit of time or memory."""


class SqlBusy(QueryError):
    """As many statements run as may run at once; nothing was started."""


class NotInstalled(QueryError):
    """It is done with a library that this server was installed without."""
