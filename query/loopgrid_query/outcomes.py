"""What became of decisions, told later by a business key. Appended; joined to decisions by a view."""

from __future__ import annotations

from typing import Any

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.errors import Conflict
from loopgrid_query.instants import as_stored, parse_instant
from loopgrid_query.judgement import Made
from loopgrid_query.judgement_models import OutcomeRequest
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, entry_record, parsed


class Outcomes:
    """The outcomes of one ledger."""

    def __init__(self, reader: Reader, ingest: Ingest) -> None:
        self._reader = reader
        self._ingest = ingest
        self._locks = KeyedLocks()

    def report(self, request: OutcomeRequest, by: str | None, key: str | None = None) -> Made:
        """Append an outcome; which decisions it is about may be known, or become known later.

        Args:
            request: the outcome and the business key.
            by: who says so.
            key: the idempotency key; the outcome that an earlier request with it appended is answered again.

        Returns:
            ``items``: it beside each decision that states the key now, or beside none.

        Raises:
            Invalid: a text is no Unicode.
            Conflict: the key stands for another outcome.
            CollectorError: the door refuses; nothing is stored.
        """
        body: dict[str, Any] = {"key": request.key, "value": request.value, "outcome": request.outcome}
        if request.occurred_at is not None:
            body["occurred_at"] = as_stored(parse_instant(request.occurred_at)).isoformat()
        jsontext.check(body, "outcome")
        if by is not None:
            jsontext.check(by, "reported_by")
        outcome_id = ids.new_entry_id("outcome", f"{request.key}\0{request.value}", key)
        with self._locks.holding(outcome_id):
            before = [] if key is None else self._reader.rows("outcome", {"outcome_id": outcome_id})
            if before:
                stored = entry_record(before[0], parsed)
                if not compare.same(stored["outcome"], request.outcome) or stored["reported_by"] != by:
                    raise Conflict(
                        f"The idempotency key stands for outcome {outcome_id}, which says something else. "
                        "Send the same request again, or choose another key."
                    )
                return Made({"items": [entry_record(row) for row in before]}, created=False)
            self._ingest.entry_blocking(
                Entry(
                    entry_id=outcome_id,
                    entry_type="outcome",
                    trace_id=0,
                    span_id=0,
                    subject_id=None,
                    actor=by,
                    body=body,
                )
            )
        rows = self._reader.rows("outcome", {"outcome_id": outcome_id})
        return Made({"items": [entry_record(row) for row in rows]}, created=True)

    def of(self, decision_id: str) -> Record:
        """The outcomes under the business keys that a decision states, oldest first."""
        rows = self._reader.rows("decision_outcomes", {"decision_id": decision_id})
        return {"items": [entry_record(row) for row in rows]}
