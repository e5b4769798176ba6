"""The opaque cursor of a list: where the last page ended or began. Pure."""

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
_BACK: Final = "back"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The decision at the end of a page, or at its begin for a page towards the newest.

    Attributes:
        started_at: its start, where it has one.
        decision_id: its id.
        back: whether the page goes towards the newest.
    """

    started_at: datetime | None
    decision_id: str
    back: bool = False

    def encode(self) -> str:
        """The cursor as text that is safe in an address."""
        micros = None if self.started_at is None else to_micros(self.started_at)
        facts = [_VERSION, micros, self.decision_id, *([_BACK] if self.back else [])]
        content = json.dumps(facts, separators=(",", ":"))
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
            message = "not a cursor of this server; use one of another page, or leave it out"
            raise Malformed.of([FieldError("cursor", message)]) from error


def _checked(content: Any) -> tuple[datetime | None, str, bool]:
    version, micros, decision_id, *way = content
    if way not in ([], [_BACK]):
        raise ValueError("no such way")
    if version != _VERSION or not isinstance(decision_id, str) or decision_id_fault(decision_id):
        raise ValueError("another version, or no decision id")
    if micros is None:
        return None, decision_id, bool(way)
    if type(micros) is not int:
        raise TypeError("the start is a number of microseconds")
    return from_micros(micros), decision_id, bool(way)
