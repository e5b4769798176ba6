"""Judgement leaves as OpenTelemetry evaluations; those of others become judgement where a person says so.

An evaluation that arrives is what its sender claims: whoever may ingest may send one. It becomes a mark, an
approval or a correction only by somebody who accepts it, and is then that person's word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.as_of import ledger_id
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Entry
from loopgrid_collector.otlp.evaluations import request_of
from loopgrid_query import ids, jsontext
from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.evaluation_models import AcceptRequest
from loopgrid_query.judgement import Speaker
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, parsed

PAGE: Final = 200
"""Records of one request that leaves."""

BEGINNING: Final = -1
"""The position before the first."""

_NOW: Final = 2**62
_KEPT: Final = ("evaluation_id", "name", "label", "score", "evaluator_id", "annotator_kind", "judgement_id")


@dataclass(frozen=True, slots=True)
class Leaving:
    """Judgement on its way out.

    Attributes:
        position: go on after it next time.
        requests: what was said up to there, in order.
    """

    position: int
    requests: Iterator[ExportLogsServiceRequest]


class Evaluations:
    """Evaluations of one ledger, out and in. Safe to use from many threads."""

    def __init__(self, ledger: Ledger, reader: Reader, ingest: Ingest, locks: KeyedLocks) -> None:
        """Stand on an open ledger.

        Args:
            ledger: the ledger.
            reader: reads it.
            ingest: the door into it.
            locks: those of everything that appends to the judgement of a decision.
        """
        self._ledger = ledger
        self._reader = reader
        self._ingest = ingest
        self._locks = locks
        self._accepting = threading.Lock()

    def leaving(self, after: int) -> Leaving:
        """What people said after a position, as requests to a backend's ``/v1/logs``.

        Raises:
            StorageTrouble: the ledger cannot be read right now.
        """
        row = self._reader.row("judgement_end")
        end = row["position"] if row is not None else None
        until = max(after, BEGINNING if end is None else end)
        with self._ledger.cursor() as cursor:
            home = ledger_id(cursor)
        return Leaving(until, self._requests(after, until, home))

    def _requests(self, after: int, until: int, home: str) -> Iterator[ExportLogsServiceRequest]:
        while after < until:
            asked = {"after": after, "until": until, "limit": PAGE}
            rows = self._reader.rows("judgements_after", asked)
            if not rows:
                return
            after = rows[-1]["position"]
            yield request_of(rows, home)

    def accept(self, request: AcceptRequest, speaker: Speaker) -> Record:
        """Append what a person makes of evaluations that others sent; each is accepted once, by whomever.

        Returns:
            What was accepted, and how many others fit the request and why they were left.

        Raises:
            Invalid: nobody knows who accepts.
            CollectorError: the door refuses; what the answer would have said may be stored in part, and
                accepting again completes it.
        """
        if speaker.name is None:
            raise Invalid.of([FieldError("said_by", "is missing")])
        jsontext.check(speaker.name, "said_by")
        with self._accepting:
            rows = self._reader.rows(
                "evaluations_to_accept",
                {
                    "name": request.name,
                    "labels": list(request.labels),
                    "until": _NOW if request.up_to_commit is None else request.up_to_commit,
                    "evaluator_id": request.evaluator_id,
                    "annotator_kind": request.annotator_kind,
                },
            )
            left: dict[str, int] = {}
            fit: list[Row] = []
            for row in rows:
                why = _left_because(row, request.labels[row["label"]])
                if why is None and len(fit) == request.limit:
                    why = "beyond_limit"
                if why is None:
                    fit.append(row)
                else:
                    left[why] = left.get(why, 0) + 1
            items = [_item(row, request.labels[row["label"]]) for row in fit]
            if not request.dry_run:
                self._append(fit, items, speaker.name)
        commits = [row["commit_id"] for row in fit]
        return {
            "items": items,
            "left": left,
            "up_to_commit": max(commits) if commits else request.up_to_commit,
            "dry_run": request.dry_run,
        }

    def _append(self, rows: list[Row], items: list[Record], who: str) -> None:
        entries = [
            _entry(row, item, who)
            for row, item in zip(rows, items, strict=True)
            if item["event"] != "correction"
        ]
        if entries:
            self._ingest.entries_blocking(entries)
        for row, item in zip(rows, items, strict=True):
            if item["event"] != "correction":
                continue
            # Looked up and appended by itself, so that it supersedes what stands at that moment.
            with self._locks.holding(row["decision_id"]):
                standing = self._reader.row("decision_ground_truth", decision_id=row["decision_id"])
                said: dict[str, Any] = {"output": parsed(row["output"])}
                if standing is not None:
                    said["supersedes"] = standing["correction_id"]
                self._ingest.entry_blocking(_entry(row, item, who, said))


def _left_because(row: Row, event: str) -> str | None:
    """Why an evaluation that fits the request is not accepted, or None."""
    if row["accepted"]:
        return "accepted_before"
    if row["taken_back"]:
        return "withdrawn_by_sender"
    if not row["known"]:
        return "decision_unknown"
    if event == "correction" and row["output"] is None:
        return "without_output"
    return None


def _item(row: Row, event: str) -> Record:
    decision_id = row["decision_id"]
    make = {"mark": ids.new_mark_id, "correction": ids.new_correction_id}.get(event)
    key = row["evaluation_id"]
    entry_id = make(decision_id, key) if make else ids.new_entry_id(event, decision_id, key)
    return {
        "judgement_id": entry_id,
        "event": event,
        "decision_id": decision_id,
        "evaluation_id": key,
        "name": row["name"],
        "label": row["label"],
        "explanation": row["explanation"],
    }


def _entry(row: Row, item: Record, who: str, said: dict[str, Any] | None = None) -> Entry:
    trace_id, span_id = ids.split_decision_id(row["decision_id"])
    # Its explanation is the evaluator's; where it has none, what it said is all there is to give as reason.
    reason = row["explanation"] or f"{row['name']}: {row['label']}"
    by = {"mark": {"marked_by": who}, "correction": {"corrected_by": who}}.get(item["event"], {})
    body = {**(said or {}), "reason": reason, **by, "evaluation": {name: row[name] for name in _KEPT}}
    return Entry(
        entry_id=item["judgement_id"],
        entry_type=item["event"],
        trace_id=trace_id,
        span_id=span_id,
        subject_id=None,
        actor=who,
        body=body,
    )
