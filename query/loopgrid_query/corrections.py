"""What people say about decisions: marks and corrections. Appended, never an edit."""

from __future__ import annotations

from typing import Any

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import CorrectionRequest, MarkRequest
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, entry_record


class Corrections:
    """Marks and corrections of one ledger's decisions."""

    def __init__(self, reader: Reader, ingest: Ingest, decisions: Decisions) -> None:
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._locks = KeyedLocks()

    def mark(self, decision_id: str, request: MarkRequest) -> Record:
        """Append that a decision was incorrect; the mark as it is on record.

        Raises:
            Malformed, NotFound: there is no such decision.
            Invalid: a text is no Unicode.
            CollectorError: the door refuses; nothing is stored.
        """
        self._decisions.row(decision_id)
        body = {"reason": request.reason, "marked_by": request.marked_by}
        mark_id = ids.new_mark_id()
        self._append(mark_id, "mark", decision_id, request.marked_by, body)
        return self._made("mark", mark_id)

    def correct(self, decision_id: str, request: CorrectionRequest) -> Record:
        """Append what a decision's output should have been; the correction as it is on record.

        It takes the place of the correction that stood before, which stays on record.

        Raises:
            as ``mark``.
        """
        self._decisions.row(decision_id)
        jsontext.check(request.correction, "correction")
        body: dict[str, Any] = {"output": request.correction, "corrected_by": request.corrected_by}
        if request.reason is not None:
            body["reason"] = request.reason
        correction_id = ids.new_correction_id()
        with self._locks.holding(decision_id):
            standing = self._reader.row("decision_ground_truth", decision_id=decision_id)
            if standing is not None:
                body["supersedes"] = standing["correction_id"]
            self._append(correction_id, "correction", decision_id, request.corrected_by, body)
        return self._made("correction", correction_id)

    def _append(
        self, entry_id: str, entry_type: str, decision_id: str, actor: str | None, body: dict[str, Any]
    ) -> None:
        for name, value in body.items():
            jsontext.check(value, name)
        trace_id, span_id = ids.split_decision_id(decision_id)
        self._ingest.entry_blocking(
            Entry(
                entry_id=entry_id,
                entry_type=entry_type,
                trace_id=trace_id,
                span_id=span_id,
                subject_id=None,
                actor=actor,
                body=body,
            )
        )

    def _made(self, query: str, entry_id: str) -> Record:
        row = self._reader.row(query, **{f"{query}_id": entry_id})
        if row is None:
            raise AssertionError(f"{entry_id} was acknowledged, so it is on record")
        return entry_record(row)
