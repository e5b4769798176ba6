"""One request to the API, and how values are written into it. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from loopgrid.capture import Losses, plain
from loopgrid.config import CaptureLimits
from loopgrid.errors import Invalid
from loopgrid.prompt import Model, Prompt
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
    """

    method: str
    path: str
    result: Callable[[dict[str, Any]], T]
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    settles: bool = False
    repeatable: bool = False
    key: str | None = None

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
