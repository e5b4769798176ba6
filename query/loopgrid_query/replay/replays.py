"""Replays: requested and looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from loopgrid.schema import is_replay_id, parse_decision_id
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid, Malformed, NotFound
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.nearest import did_you_mean, nearest
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, entry_record, parsed
from loopgrid_query.replay import overrides as grammar
from loopgrid_query.replay.executors import Executor, Plan, Status, plan
from loopgrid_query.replay.lifecycle import SERVER, Attempt, Lease, Lifecycle, Outcome
from loopgrid_query.replay.model_runs import ModelRuns
from loopgrid_query.replay.prompts import SeenPrompts
from loopgrid_query.replay.providers import Providers
from loopgrid_query.replay_models import ReplayRequest


@dataclass(frozen=True, slots=True)
class Requested:
    """What became of a replay request.

    Attributes:
        replay: the replay as it is on record.
        created: false where the idempotency key had brought it forth before.
    """

    replay: Record
    created: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """One of many requests that are recorded at once.

    Attributes:
        replay_id: id that the replay gets.
        original: the decision that is replayed, parsed.
        overrides: what to replace.
        executor: the executor asked for, if any.
        key: idempotency key.
        more: further facts of the request.
    """

    replay_id: str
    original: Record
    overrides: Mapping[str, Any]
    executor: str | None
    key: str
    more: Mapping[str, Any]

    def request(self, overrides: Mapping[str, Any], by: str | None) -> ReplayRequest:
        """The request that it stands for."""
        return ReplayRequest.model_construct(
            decision_id=self.original["decision_id"],
            overrides=dict(overrides),
            executor=self.executor,
            idempotency_key=self.key,
            requested_by=by,
        )


class Replays:
    """The replays of one ledger."""

    def __init__(
        self,
        reader: Reader,
        ingest: Ingest,
        decisions: Decisions,
        providers: Providers | None = None,
        model_calls: int = 1,
    ) -> None:
        """Stand on an open ledger.

        Args:
            reader: reads it.
            ingest: the door into it.
            decisions: its decisions.
            providers: whom replays by model may ask; none if left out.
            model_calls: how many of them at once.
        """
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._prompts = SeenPrompts(reader)
        self._locks = KeyedLocks()
        self.lifecycle = Lifecycle(reader, ingest, decisions)
        self.models = ModelRuns(reader, decisions, self.lifecycle, providers or Providers(), model_calls)

    def get(self, replay_id: str) -> Record:
        """One replay.

        Raises:
            Malformed: it is no replay id.
            NotFound: it is none on record.
        """
        self.lifecycle.end_leases()
        return entry_record(self.row(replay_id))

    def row(self, replay_id: str) -> Row:
        """One replay as a row of the view. Raises as ``get``."""
        row = self._reader.row("replay", replay_id=ids.check_replay_id(replay_id))
        if row is None:
            raise NotFound(f"No replay {replay_id} is on record. POST /v1/replays requests one.")
        return row

    def list(self, status: str | None, decision_id: str | None, limit: int, cursor: str | None) -> Record:
        """A page of replays, newest first.

        Args:
            status: only those that are this.
            decision_id: only those of this decision.
            limit: replays on a page.
            cursor: ``next_cursor`` of the page before.

        Raises:
            Malformed: there is no such status, or no page ended in the cursor.
        """
        if status is not None and status not in set(Status):
            message = f"there is no status {status!r}; {did_you_mean(status, Status)}"
            raise Malformed.of([FieldError("status", message, nearest(status, Status))])
        if decision_id is not None:
            ids.split_decision_id(decision_id)
        if cursor is not None and not is_replay_id(cursor):
            raise Malformed.of([FieldError("cursor", "not a cursor of this list; use one of another page")])
        self.lifecycle.end_leases()
        parameters = {"status": status, "decision_id": decision_id, "limit": limit + 1, "after": cursor}
        rows = self._reader.rows("list_replays", parameters)
        return {
            "items": [entry_record(row) for row in rows[:limit]],
            "next_cursor": rows[limit - 1]["replay_id"] if len(rows) > limit else None,
        }

    def cancel(self, replay_id: str, by: str | None, reason: str | None) -> Record:
        """Keep a replay from running, or on. Raises as ``get``, and as ``Lifecycle.cancel``."""
        jsontext.check(reason, "reason")
        self.lifecycle.end_leases()
        self.lifecycle.cancel(self.row(replay_id), by, reason)
        return self.get(replay_id)

    def retry(self, replay_id: str, by: str | None, attempt: int | None) -> Record:
        """Let a replay run once more. Raises as ``get``, and as ``Lifecycle.retry``."""
        self.lifecycle.end_leases()
        self.lifecycle.retry(self.row(replay_id), by, attempt)
        return self.get(replay_id)

    def heartbeat(self, replay_id: str, worker: str, attempt: int) -> Record:
        """Say that an attempt still runs. Raises as ``get``, and as ``Lifecycle.heartbeat``."""
        ids.check_replay_id(replay_id)
        held = self.lifecycle.heartbeat(replay_id, worker, attempt)
        lease_s = None if held.lease is None else held.lease.length_s
        return {"replay_id": replay_id, "attempt": attempt, "lease_s": lease_s}

    def end(self, replay_id: str, worker: str, attempt: int, outcome: str, reason: str | None) -> Record:
        """Say what became of an attempt. Raises as ``get``, and as ``Lifecycle.end``."""
        jsontext.check(reason, "reason")
        self.row(replay_id)
        self.lifecycle.end(replay_id, worker, attempt, Outcome(outcome), reason)
        return self.get(replay_id)

    async def claimed(self, attempt: Attempt) -> Record:
        """What a worker is told of an attempt that it has been given."""
        # Side by side: somebody waits for both.
        replay, decision = await asyncio.gather(
            asyncio.to_thread(self.row, attempt.replay_id),
            asyncio.to_thread(self._decisions.row, attempt.decision_id),
        )
        return {
            "replay": entry_record(replay),
            "attempt": attempt.number,
            "run_as": attempt.result_id,
            "decision": decision_record(decision),
        }

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

        chosen, overrides = self._planned(
            original, request.overrides, request.executor, self._prompts, has_output=has_output
        )
        if request.worker is not None and chosen.executor is not Executor.FUNCTION:
            raise Invalid.of([FieldError("worker", "belongs to the executor function")])
        request = request.model_copy(update={"overrides": overrides})
        key = request.idempotency_key
        with self._locks.holding(key) if key is not None else nullcontext():
            before = None if key is None else self._reader.row("replay_by_key", idempotency_key=key)
            replay_id = ids.new_replay_id() if before is None else before["replay_id"]
            if before is None:
                self._append(replay_id, request, chosen, original["function"])
            else:
                self._check_same(replay_id, request, chosen)
            if chosen.executor is Executor.EXTERNAL:
                self._append_result(replay_id, request, original)
            elif before is None and chosen.status is Status.PENDING and chosen.executor is not None:
                attempt = Attempt(replay_id, request.decision_id, chosen.executor, original["function"])
                held = None if request.worker is None else Lease(request.worker, request.lease_s, None)
                if chosen.executor is Executor.MODEL:
                    self.models.expect(replay_id, original, request.overrides)
                self.lifecycle.requested(attempt, held)
        return Requested(self.get(replay_id), created=before is None)

    def planned(self, fork: Fork, prompts: SeenPrompts) -> tuple[Plan, dict[str, Any]]:
        """What would be done with a fork, and its overrides with what the ledger adds to them.

        What ``request`` would refuse is a plan here, too: nothing runs, for that reason.
        """
        try:
            grammar.check(fork.overrides, fork.original)
            return self._planned(fork.original, fork.overrides, fork.executor, prompts, has_output=False)
        except Invalid as fault:
            return Plan(None, Status.REFUSED, f"Nothing ran: {fault}"), dict(fork.overrides)

    def _planned(
        self,
        original: Record,
        overrides: Mapping[str, Any],
        executor: str | None,
        prompts: SeenPrompts,
        *,
        has_output: bool,
    ) -> tuple[Plan, dict[str, Any]]:
        def resolved() -> grammar.Overrides:
            return prompts.resolve(overrides, original)

        chosen = plan(
            original,
            executor,
            has_output=has_output,
            why_no_model=lambda: self.models.why_not(original, resolved()),
        )
        if chosen.executor is not Executor.FUNCTION and "steps" in overrides:
            message = "belongs to the executor function: nothing else calls steps"
            raise Invalid.of([FieldError("overrides.steps", message)])
        # The function's process may define a prompt that no decision has used yet, and looks itself.
        return chosen, dict(overrides if chosen.executor is Executor.FUNCTION else resolved())

    def request_many(self, forks: Sequence[Fork], by: str | None, prompts: SeenPrompts) -> Sequence[Plan]:
        """Record many requests in one commit, and let what is pending run.

        Args:
            forks: what is asked for, none of which is on record.
            by: who asks.
            prompts: finds prompts that overrides name.

        Returns:
            What was done with each. What ``request`` would refuse is recorded as refused.

        Raises:
            CollectorError: the door refuses; none is stored.
        """
        plans = [self.planned(fork, prompts) for fork in forks]
        idle = self.models.idle()
        runs_at_once: dict[str, Attempt] = {}
        begins = []
        for fork, (chosen, _) in zip(forks, plans, strict=True):
            if chosen.executor is Executor.MODEL and chosen.status is Status.PENDING and idle > 0:
                idle -= 1
                decision_id = fork.original["decision_id"]
                attempt = Attempt(fork.replay_id, decision_id, Executor.MODEL, None)
                runs_at_once[fork.replay_id], entry = self.lifecycle.begun(attempt, SERVER)
                begins.append(entry)
        self._ingest.entries_blocking(
            [
                self._entry(
                    fork.replay_id, fork.request(overrides, by), chosen, fork.original["function"], fork.more
                )
                for fork, (chosen, overrides) in zip(forks, plans, strict=True)
            ]
            + begins
        )
        for fork, (chosen, overrides) in zip(forks, plans, strict=True):
            if chosen.status is Status.PENDING and chosen.executor is not None:
                if chosen.executor is Executor.MODEL:
                    self.models.expect(fork.replay_id, fork.original, overrides)
                running = runs_at_once.get(fork.replay_id)
                if running is not None:
                    self.lifecycle.requested_running(running)
                    self.models.run_begun(running)
                    continue
                decision_id = fork.original["decision_id"]
                self.lifecycle.requested(
                    Attempt(fork.replay_id, decision_id, chosen.executor, fork.original["function"])
                )
        return [chosen for chosen, _ in plans]

    def _append(self, replay_id: str, request: ReplayRequest, chosen: Plan, function: str | None) -> None:
        self._ingest.entry_blocking(self._entry(replay_id, request, chosen, function, {}))

    def _entry(
        self,
        replay_id: str,
        request: ReplayRequest,
        chosen: Plan,
        function: str | None,
        more: Mapping[str, Any],
    ) -> Entry:
        trace_id, span_id = parse_decision_id(request.decision_id)
        optional = {
            "reason": chosen.reason,
            "requested_by": request.requested_by,
            "idempotency_key": request.idempotency_key,
            "function": function if chosen.executor is Executor.FUNCTION else None,
        }
        body: dict[str, Any] = {
            "replay_id": replay_id,
            "executor": chosen.executor,
            "overrides": request.overrides,
            "status": chosen.status,
            **{name: value for name, value in optional.items() if value is not None},
            **more,
        }
        return Entry(
            entry_id=replay_id,
            entry_type="replay",
            trace_id=trace_id,
            span_id=span_id,
            subject_id=None,
            actor=request.requested_by,
            body=body,
        )

    def _append_result(self, replay_id: str, request: ReplayRequest, original: Record) -> None:
        """Record the output that was got elsewhere, as the decision it is.

        Its id follows from the replay's, so that a request repeated after a lost answer, or after a crash
        between its two appends, ends in the same decision.
        """
        attempt = Attempt(replay_id, request.decision_id, Executor.EXTERNAL, None)
        self.lifecycle.record_result(attempt, original, request.overrides, {"output": request.output})

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
