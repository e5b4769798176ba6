"""What a replay's life writes into the ledger, and the one thing that it looks up there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopgrid.schema import Key, parse_decision_id
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids
from loopgrid_query.decisions import Decisions
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record
from loopgrid_query.replay import overrides as grammar
from loopgrid_query.replay.attempts import Attempt
from loopgrid_query.replay.executors import Status
from loopgrid_query.replay.finishing import Finisher
from loopgrid_query.spans import decision_attributes


class Transitions:
    """Entries about replays, and the decisions that attempts led to."""

    def __init__(self, reader: Reader, ingest: Ingest, decisions: Decisions) -> None:
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self.finisher = Finisher(ingest)

    def append(
        self,
        attempt: Attempt,
        status: Status,
        worker: str | None,
        reason: str | None = None,
        *,
        by: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a transition.

        Args:
            attempt: the attempt that it is about.
            status: what the replay is now.
            worker: who runs it, or ran it.
            reason: why, where there is a reason.
            by: who said so, where that was no worker.
            more: further facts.

        Raises:
            CollectorError: the door refuses; nothing is stored.
        """
        self._ingest.entry_blocking(self.entry(attempt, status, worker, reason, by=by, more=more))

    @staticmethod
    def entry(
        attempt: Attempt,
        status: Status,
        worker: str | None,
        reason: str | None = None,
        *,
        by: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Entry:
        """The entry that ``append`` appends; arguments are the same."""
        trace_id, span_id = parse_decision_id(attempt.decision_id)
        # A pending attempt has none yet; a cancelled one may still come to one, which is shown then.
        expected = None if status is Status.PENDING else attempt.result_id
        facts = {"worker": worker, "reason": reason, "result_decision_id": expected, **(more or {})}
        body = {"status": status, "attempt": attempt.number}
        return Entry(
            entry_id=ids.new_replay_event_id(),
            entry_type="replay",
            trace_id=trace_id,
            span_id=span_id,
            subject_id=attempt.replay_id,
            actor=by or worker,
            body=body | {name: value for name, value in facts.items() if value is not None},
        )

    def result(self, attempt: Attempt) -> Row | None:
        """What the decision that an attempt led to says of its end; None where it is not on record."""
        trace_id, span_id = parse_decision_id(attempt.result_id)
        return self._reader.row(
            "replay_result", trace_id=f"{trace_id:032x}", span_id=span_id, replay_id=attempt.replay_id
        )

    def record_result(self, attempt: Attempt, original: Record, overrides: Record, fields: Record) -> None:
        """Record what an attempt led to. Arguments and errors are those of ``Lifecycle.record_result``."""
        found, attributes = self._result(attempt, original, overrides, fields)
        self._decisions.append(
            attempt.result_id,
            found,
            attributes=attributes,
            known_before=True,
            replay_of=parse_decision_id(attempt.decision_id),
        )

    def finish(
        self, attempt: Attempt, original: Record, overrides: Record, fields: Record, entry: Entry
    ) -> None:
        """Record what an attempt led to, and its end, in one. Other arguments as of ``record_result``.

        Raises:
            Invalid: the result cannot be stored; nothing is.
            CollectorError: the door refuses; nothing is stored.
        """
        found, attributes = self._result(attempt, original, overrides, fields)
        replay_of = parse_decision_id(attempt.decision_id)
        span = self._decisions.as_request(
            attempt.result_id, found, attributes=attributes, replay_of=replay_of
        )
        self.finisher.finish(span, entry)

    @staticmethod
    def _result(
        attempt: Attempt, original: Record, overrides: Record, fields: Record
    ) -> tuple[Record, Mapping[str, Any]]:
        """The decision that an attempt led to, and its attributes."""
        asked = grammar.merge(original, overrides)
        found: Record = {name: original[name] for name in ("decision_type", "service_name") if original[name]}
        for name, value in {**asked, **fields}.items():
            known = asked.get(name)
            # What was asked is an object of ours; an output or an input is whatever it is.
            merges = name in {"model", "prompt"} and isinstance(known, dict) and isinstance(value, dict)
            found[name] = {**known, **value} if merges else value  # type: ignore[dict-item]
        attributes = decision_attributes(found) | {
            Key.REPLAY_ID: attempt.replay_id,
            Key.REPLAY_OF: attempt.decision_id,
        }
        return found, attributes
