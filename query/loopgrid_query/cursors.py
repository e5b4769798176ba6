"""The opaque cursor of a list: where the last page ended. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from loopgrid_query.errors import FieldError, Malformed
from loopgrid_query.ids import decision_id_fault
from loopgrid_query.instants import from_micros, to_micros

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last decision of a page: its start, where it has one, and its id."""

    started_at: datetime | None
    decision_id: str

    def encode(self) -> str:
        """The cursor as text that is safe in an address."""
        micros = None if self.started_at is None else to_micros(self.started_at)
        content = json.dumps([_VERSION, micros, self.decision_id], separators=(",", ":"))
        return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor that a client gave back.

        Raises:
            Malformed: no page ever ended in it.
        """
        try:
            padded = text + "=" * (-len(text) % 4)
            content = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
            return cls(*_checked(content))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            message = "not a cursor of this server; use next_cursor of the page before, or leave it out"
            raise Malformed.of([FieldError("cursor", message)]) from error


def _checked(content: Any) -> tuple[datetime | None, str]:
    version, micros, decision_id = content
    if version != _VERSION or not isinstance(decision_id, str) or decision_id_fault(decision_id):
        raise ValueError("another version, or no decision id")
    if micros is None:
        return None, decision_id
    if type(micros) is not int:
        raise TypeError("the start is a number of microseconds")
    return from_micros(micros), decision_id
