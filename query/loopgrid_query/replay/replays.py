"""Replays: requested and looked up."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.schema import Key, format_decision_id, parse_decision_id
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, NotFound
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import ReplayRequest
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, entry_record, parsed
from loopgrid_query.replay import overrides as grammar
from loopgrid_query.replay.executors import Executor, Plan, plan
from loopgrid_query.replay.prompts import SeenPrompts
from loopgrid_query.spans import decision_attributes

_RESULT_ID_SEED: Final = b"loopgrid.replay.result:"
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Requested:
    """What became of a replay request.

    Attributes:
        replay: the replay as it is on record.
        created: false where the idempotency key had brought it forth before.
    """

    replay: Record
    created: bool


class Replays:
    """The replays of one ledger."""

    def __init__(self, reader: Reader, ingest: Ingest, decisions: Decisions) -> None:
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._prompts = SeenPrompts(reader)
        self._locks = KeyedLocks()

    def get(self, replay_id: str) -> Record:
        """One replay.

        Raises:
            Malformed: it is no replay id.
            NotFound: it is none on record.
        """
        return entry_record(self.row(replay_id))

    def row(self, replay_id: str) -> Row:
        """One replay as a row of the view. Raises as ``get``."""
        row = self._reader.row("replay", replay_id=ids.check_replay_id(replay_id))
        if row is None:
            raise NotFound(f"No replay {replay_id} is on record. POST /v1/replays requests one.")
        return row

    def request(self, request: ReplayRequest) -> Requested:
        """Record a replay request and do what can be done at once.

        Raises:
            NotFound: there is no such decision.
            Invalid: the overrides or the executor cannot be; nothing is recorded.
            Conflict: the idempotency key stands for another request.
            CollectorError: the door refuses; the request may be sent again.
        """
        original = decision_record(self._decisions.row(request.decision_id), parsed)
        grammar.check(request.overrides, original)
        has_output = "output" in request.model_fields_set
        jsontext.check(request.output, "output")
        for name in ("idempotency_key", "requested_by"):
            jsontext.check(getattr(request, name), name)
        chosen = plan(original, request.executor, has_output=has_output)
        if chosen.executor is not Executor.FUNCTION:
            # The function's process may define a prompt that no decision has used yet, and looks itself.
            overrides = self._prompts.resolve(request.overrides, original)
            request = request.model_copy(update={"overrides": overrides})
        key = request.idempotency_key
        with self._locks.holding(key) if key is not None else nullcontext():
            before = None if key is None else self._reader.row("replay_by_key", idempotency_key=key)
            replay_id = ids.new_replay_id() if before is None else before["replay_id"]
            if before is None:
                self._append(replay_id, request, chosen)
            else:
                self._check_same(replay_id, request, chosen)
            if chosen.executor is Executor.EXTERNAL:
                self._append_result(replay_id, request, original)
        return Requested(self.get(replay_id), created=before is None)

    def _append(self, replay_id: str, request: ReplayRequest, chosen: Plan) -> None:
        trace_id, span_id = parse_decision_id(request.decision_id)
        optional = {
            "reason": chosen.reason,
            "requested_by": request.requested_by,
            "idempotency_key": request.idempotency_key,
        }
        body: dict[str, Any] = {
            "replay_id": replay_id,
            "executor": chosen.executor,
            "overrides": request.overrides,
            "status": chosen.status,
            **{name: value for name, value in optional.items() if value is not None},
        }
        self._ingest.entry_blocking(
            Entry(
                entry_id=replay_id,
                entry_type="replay",
                trace_id=trace_id,
                span_id=span_id,
                subject_id=None,
                actor=request.requested_by,
                body=body,
            )
        )

    def _append_result(self, replay_id: str, request: ReplayRequest, original: Record) -> None:
        """Record the output that was got elsewhere, as the decision it is.

        Its id follows from the replay's, so that a request repeated after a lost answer, or after a crash
        between its two appends, ends in the same decision.
        """
        fields: dict[str, Any] = {
            **grammar.merge(original, request.overrides),
            "output": request.output,
        }
        for name in ("decision_type", "service_name"):
            if original[name] is not None:
                fields[name] = original[name]
        attributes = decision_attributes(fields) | {
            Key.REPLAY_ID: replay_id,
            Key.REPLAY_OF: request.decision_id,
        }
        self._decisions.append(
            result_id(replay_id),
            fields,
            attributes=attributes,
            known_before=True,
            replay_of=parse_decision_id(request.decision_id),
        )

    def _check_same(self, replay_id: str, request: ReplayRequest, chosen: Plan) -> None:
        """The key was used before; was it for the same request?"""
        replay = entry_record(self.row(replay_id), parsed)
        asked = {
            "decision_id": request.decision_id,
            "overrides": request.overrides,
            "executor": chosen.executor,
            "requested_by": request.requested_by,
        }
        unlike = [name for name, value in asked.items() if not compare.same(replay[name], value)]
        if not unlike and chosen.executor is Executor.EXTERNAL and replay["result_decision_id"] is not None:
            result = parsed(self._decisions.row(replay["result_decision_id"])["output"])
            unlike = [] if compare.same(result, request.output) else ["output"]
        if unlike:
            raise Conflict(
                f"The idempotency key stands for replay {replay_id}, which has another {', '.join(unlike)}. "
                "Send the same request again, or choose another key."
            )


def result_id(replay_id: str) -> str:
    """The id of the decision that an external replay's output is recorded as."""
    digest = hashlib.sha256(_RESULT_ID_SEED + replay_id.encode()).digest()
    trace_id = int.from_bytes(digest[:_TRACE_ID_BYTES]) or 1
    span_id = int.from_bytes(digest[_TRACE_ID_BYTES : _TRACE_ID_BYTES + _SPAN_ID_BYTES]) or 1
    return format_decision_id(trace_id, span_id)
