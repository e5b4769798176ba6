"""One request to the API, and how values are written into it. Pure, but for a count of redactions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from loopgrid.capture import Losses, plain
from loopgrid.config import CaptureLimits
from loopgrid.errors import Invalid
from loopgrid.health import Count, health
from loopgrid.prompt import Model, Prompt
from loopgrid.redaction import Redaction
from loopgrid.results import Result

ABSENT: Final[Any] = object()
"""Default of a field that JSON null would say something about."""

_NO_LIMITS: Final = CaptureLimits(
    max_content_bytes=2**40,
    max_depth=64,
    max_items=2**40,
    max_inline_bytes=2**40,
    max_capture_s=3600.0,
    max_array_items=2**40,
)

T = TypeVar("T", bound=Result)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request to the API.

    Attributes:
        method: HTTP method.
        path: path and nothing else.
        result: makes what the method returns of the answer.
        query: query parameters.
        body: JSON object to send.
        settles: what this process has decided must have arrived first.
        repeatable: sent twice it does what it does sent once.
        key: the `Idempotency-Key` that makes it so.
        recorded: what it sends enters the ledger, so the redaction rules hold for it. What only asks (SQL, a
            comparison) is sent as it is: changed, it would be another question.
    """

    method: str
    path: str
    result: Callable[[dict[str, Any]], T]
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    settles: bool = False
    repeatable: bool = False
    key: str | None = None
    recorded: bool = False

    @property
    def safe(self) -> bool:
        """Whether it may be sent again where nobody knows what became of it."""
        return self.method == "GET" or self.repeatable or self.key is not None


def new_key() -> str:
    """An idempotency key for one call."""
    return secrets.token_hex(16)


def as_json(value: Any, name: str) -> Any:
    """The value as JSON, complete.

    Raises:
        Invalid: some of it has no JSON form; the message names the place.
    """
    losses = Losses()
    match value:
        case Prompt():
            value = {key: item for key, item in value.__loopgrid_plain__().items() if item is not None}
        case Model():
            value = value.__loopgrid_plain__()
    written = plain(value, name, _NO_LIMITS, losses)
    missing = losses.entries(1)
    if missing:
        raise Invalid(
            f"{missing[0].split(':')[0]} cannot be written as JSON ({':'.join(missing[0].split(':')[1:])}): "
            "give text, "
            "numbers, lists, maps, dataclasses, dates or pydantic models"
        )
    return written


def redacted(call: Call[T], redaction: Redaction | None) -> Call[T]:
    """The call as it may leave this process.

    Raises:
        Invalid: an override of a replay that is still to run may not leave, or a filter of a review queue;
            with the marker in its place it would be another question.
    """
    if redaction is None or not call.recorded or call.body is None:
        return call
    from loopgrid.redact import Redactor  # noqa: PLC0415 - who redacts nothing does not pay for it

    body, taken = Redactor(redaction).body(call.body)
    health.count(Count.REDACTED, len(taken))
    overridden = next((entry for entry in taken if entry.startswith("overrides")), None)
    if overridden is not None and "output" not in body:
        raise Invalid(
            f"{overridden.split(':')[0]} holds what the redaction rules take out, so the replay could not "
            "run with it: give another value, or run it yourself and pass executor='external' and output="
        )
    filtered = next((entry for entry in taken if entry.startswith("filters")), None)
    if filtered is not None:
        raise Invalid(
            f"{filtered.split(':')[0]} holds what the redaction rules take out, and a filter would be "
            "recorded with the queue: choose the decisions by another one"
        )
    return replace(call, body=body)
