"""What people say about decisions: marks and corrections. Appended, never an edit."""

from __future__ import annotations

from typing import Any

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid
from loopgrid_query.judgement import Made, corrected
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import CorrectionRequest, MarkRequest
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, entry_record, parsed


class Corrections:
    """Marks and corrections of one ledger's decisions."""

    def __init__(self, reader: Reader, ingest: Ingest, decisions: Decisions, locks: KeyedLocks) -> None:
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._locks = locks

    def mark(self, decision_id: str, request: MarkRequest, key: str | None = None) -> Made:
        """Append that a decision was incorrect; the mark as it is on record.

        Args:
            decision_id: the decision.
            request: what is said about it.
            key: the idempotency key; the mark that an earlier request with it appended is answered again.

        Raises:
            Malformed, NotFound: there is no such decision.
            Invalid: a text is no Unicode.
            Conflict: the key stands for a mark that says something else.
            CollectorError: the door refuses; nothing is stored.
        """
        self._decisions.row(decision_id)
        body = {"reason": request.reason, "marked_by": request.marked_by}
        optional = {"category": request.category, "severity": request.severity}
        body |= {name: value for name, value in optional.items() if value is not None}
        mark_id = ids.new_mark_id(decision_id, key)
        with self._locks.holding(mark_id):
            before = self._before("mark", mark_id, key, {"category": None, "severity": None, **body})
            if before is not None:
                return before
            self._append(mark_id, "mark", decision_id, request.marked_by, body)
        return Made(self._made("mark", mark_id), created=True)

    def correct(self, decision_id: str, request: CorrectionRequest, key: str | None = None) -> Made:
        """Append what a decision's output should have been; the correction as it is on record.

        It takes the place of the correction that stood before, which stays on record.

        Raises:
            as ``mark``.
        """
        row = self._decisions.row(decision_id)
        if request.corrected_by is None:
            raise Invalid.of([FieldError("corrected_by", "is missing")])
        stated = "correction" in request.model_fields_set
        if stated == (request.patch is not None):
            raise Invalid.of([FieldError("correction", "give either correction or patch")])
        body: dict[str, Any] = corrected(row, request.correction, request.patch)
        body["corrected_by"] = request.corrected_by
        optional = {"reason": request.reason, "category": request.category, "severity": request.severity}
        body |= {name: value for name, value in optional.items() if value is not None}
        correction_id = ids.new_correction_id(decision_id, key)
        with self._locks.holding(decision_id):
            said = dict.fromkeys(("reason", "category", "severity", "patch")) | body
            before = self._before("correction", correction_id, key, said)
            if before is not None:
                return before
            standing = self._reader.row("decision_ground_truth", decision_id=decision_id)
            if standing is not None:
                body["supersedes"] = standing["correction_id"]
            self._append(correction_id, "correction", decision_id, request.corrected_by, body)
        return Made(self._made("correction", correction_id), created=True)

    def _before(self, query: str, entry_id: str, key: str | None, said: dict[str, Any]) -> Made | None:
        """What an earlier request with the same key appended, or None."""
        row = None if key is None else self._reader.row(query, **{f"{query}_id": entry_id})
        if row is None:
            return None
        stored = entry_record(row, parsed)
        unlike = [name for name, value in said.items() if not compare.same(stored[name], value)]
        if unlike:
            raise Conflict(
                f"The idempotency key stands for {query} {entry_id}, which has another {', '.join(unlike)}. "
                "Send the same request again, or choose another key."
            )
        return Made(entry_record(row), created=False)

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
