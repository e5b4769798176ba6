"""The life of a replay: pending → running → completed, failed, refused or cancelled, and a new attempt.

Laws:

* Every transition is an entry of the ledger, with its attempt, who runs it, and a reason where there is one.
* Who holds an attempt is decided here, once: of two that begin at once one is told no.
* Completed is said only of an attempt whose decision is on record.
* Heartbeats move a lease in memory alone; a restart gives every lease its full length again (docs/adr/0014).

Threads may share it. What one server process does is in order; it is the only writer of its ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, parsed
from loopgrid_query.replay.attempts import Attempt, Lease, Outcome
from loopgrid_query.replay.executors import OPEN, Status
from loopgrid_query.replay.transitions import Transitions

__all__ = ["Attempt", "Lease", "Lifecycle", "Outcome"]

MAX_LOST_LEASES: Final = 3
"""Attempts that may end by silence, one after the other, before a replay has failed: it may be what kills."""
PERHAPS_CHARGED: Final = (
    "It may have been charged, so it was not asked again; try the replay again if that does not matter."
)
INTERRUPTED: Final = f"The server ended while the provider was being asked. {PERHAPS_CHARGED}"
SERVER: Final = "server"
"""Who runs what runs inside the server."""


class Lifecycle:
    """The replays of one ledger that may still run, and the transitions of all."""

    def __init__(
        self,
        reader: Reader,
        ingest: Ingest,
        decisions: Decisions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stand on an open ledger.

        Args:
            reader: reads it.
            ingest: the door into it.
            decisions: its decisions.
            clock: seconds, never set back, by which leases run out.
        """
        self._reader = reader
        self._transitions = Transitions(reader, ingest, decisions)
        self._clock = clock
        self._locks = KeyedLocks()
        self._memory = threading.Lock()
        self._known: dict[str, Attempt] | None = None
        self._listeners: list[Callable[[Attempt], None]] = []
        self._end_listeners: list[Callable[[Attempt, Status], None]] = []

    def when_pending(self, listener: Callable[[Attempt], None]) -> None:
        """Have a function called with every attempt that begins to wait, by the thread that does it.

        It must only take note: a replay's lock may be held.
        """
        self._listeners.append(listener)

    def when_settled(self, listener: Callable[[Attempt, Status], None]) -> None:
        """Have a function called with every attempt that ended a replay, and how. As ``when_pending``."""
        self._end_listeners.append(listener)

    def waiting(self) -> list[Attempt]:
        """Attempts that wait for somebody, oldest first."""
        return [attempt for attempt in self._all() if attempt.lease is None]

    def next_end_s(self) -> float | None:
        """Seconds until the next lease ends; None where none is held."""
        ends = [
            one.lease.until for one in self._all() if one.lease is not None and one.lease.until is not None
        ]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def begun(self, attempt: Attempt, worker: str) -> tuple[Attempt, Entry]:
        """An attempt as it is when it runs from its request on, and the entry that says so.

        The entry is to be committed with the request; then ``requested_running`` takes note.
        """
        running = replace(attempt, lease=Lease(worker, None, None))
        return running, self._transitions.entry(running, Status.RUNNING, worker)

    def requested_running(self, attempt: Attempt) -> None:
        """Take note of a replay whose request has just been recorded together with its beginning."""
        self._remember(attempt)

    def requested(self, attempt: Attempt, held: Lease | None = None) -> None:
        """Take note of a replay whose request has just been recorded as pending.

        Args:
            attempt: its first attempt.
            held: who runs it at once, where that is who asked; ``until`` is left out.

        Raises:
            CollectorError: the door refuses to record that it runs; it is pending.
        """
        if held is None:
            self._remember(attempt)
            self._tell(attempt)
            return
        with self._locks.holding(attempt.replay_id):
            self._begin(attempt, held.worker, held.length_s)

    def begin(self, replay_id: str, worker: str, lease_s: float | None = None) -> Attempt:
        """Pending → running.

        Args:
            replay_id: a pending replay.
            worker: who runs it.
            lease_s: seconds without a heartbeat after which somebody else may; None where nobody could.

        Raises:
            Conflict: it is not pending: somebody else runs it, or it has ended.
            CollectorError: the door refuses; it is still pending.
        """
        with self._locks.holding(replay_id):
            waiting = self._find(replay_id)
            if waiting is None or waiting.lease is not None:
                raise self._not("be begun", replay_id)
            return self._begin(waiting, worker, lease_s)

    def _begin(self, waiting: Attempt, worker: str, lease_s: float | None) -> Attempt:
        until = None if lease_s is None else self._clock() + lease_s
        running = replace(waiting, lease=Lease(worker, lease_s, until), silent=None)
        lease = {} if lease_s is None else {"lease_s": lease_s}
        self._transitions.append(running, Status.RUNNING, worker, more=lease)
        self._remember(running)
        return running

    def heartbeat(self, replay_id: str, worker: str, number: int) -> Attempt:
        """Renew the lease of a running attempt.

        Raises:
            Conflict: the worker does not hold it: it was cancelled, or the lease ended.
        """
        self.end_leases()
        with self._locks.holding(replay_id):
            held = self._held(replay_id, worker, number)
            if held is None or held.lease is None:
                raise self._not("be renewed", replay_id)
            if held.lease.length_s is not None:
                lease = replace(held.lease, until=self._clock() + held.lease.length_s)
                held = replace(held, lease=lease)
                self._remember(held)
            return held

    def end(
        self, replay_id: str, worker: str, number: int, outcome: Outcome, reason: str | None = None
    ) -> None:
        """Running → what became of it. Said twice by the same worker, it is said once.

        Args:
            replay_id: the replay.
            worker: who ran the attempt.
            number: which attempt it was.
            outcome: what became of it.
            reason: why, where it did not run to its end.

        Raises:
            Invalid: the outcome needs a reason.
            Conflict: the worker does not hold it, or it ran and its decision is not on record.
            CollectorError: the door refuses; it is still running.
        """
        if outcome in {Outcome.FAILED, Outcome.REFUSED} and not reason:
            raise Invalid.of([FieldError("reason", f"is missing: an attempt that {outcome} says why")])
        with self._locks.holding(replay_id):
            held = self._held(replay_id, worker, number) or self._late(replay_id, worker, number, outcome)
            if held is None:
                if not self._said_before(replay_id, worker, number):
                    raise self._not("be ended by this attempt", replay_id)
                return
            if outcome is Outcome.RAN:
                self._end_by_result(held, worker)
            elif outcome is Outcome.GIVEN_BACK:
                self._wait_again(held.again(), worker, reason or f"{worker} gave it back")
            else:
                self._settle(held, Status(outcome), worker, reason)

    def record_result(self, attempt: Attempt, original: Record, overrides: Record, fields: Record) -> None:
        """Record what an attempt led to as the decision it is: recorded twice, it is one decision.

        Args:
            attempt: a running attempt, or an external one.
            original: the decision that is replayed, parsed.
            overrides: what was replaced, checked.
            fields: what was found, in the API's shape: ``output``, ``usage``, ``error``, ``duration_ms``…
                Members of objects (``model.response_name``) are added to what was asked for.

        Raises:
            Conflict: the attempt has another result on record.
            CollectorError: the door refuses; it may be recorded again.
        """
        self._transitions.record_result(attempt, original, overrides, fields)

    def finish(
        self, attempt: Attempt, original: Record, overrides: Record, fields: Record, failure: str | None
    ) -> None:
        """Running → completed or failed, together with the decision that the attempt led to.

        Args:
            attempt: a running attempt of this server.
            original: the decision that is replayed, parsed.
            overrides: what was replaced, checked.
            fields: what was found, as of ``record_result``, and when it began.
            failure: the error among these; None where it ran to its end.

        Raises:
            Conflict: it is not held any more: it was cancelled meanwhile. Nothing is recorded.
            Invalid: what was found cannot be stored; it is still running.
            CollectorError: the door refuses; it is still running.
        """
        with self._locks.holding(attempt.replay_id):
            held = self._held(attempt.replay_id, SERVER, attempt.number)
            if held is None:
                raise self._not("be ended by this attempt", attempt.replay_id)
            status = Status.COMPLETED if failure is None else Status.FAILED
            entry = self._transitions.entry(held, status, SERVER, failure)
            self._transitions.finish(held, original, overrides, fields, entry)
            self._forget(attempt.replay_id)
            self._tell_end(held, status)

    def close(self) -> None:
        """Store what is being finished, and nothing after it."""
        self._transitions.finisher.close()

    def cancel(self, replay: Row, by: str | None, reason: str | None) -> None:
        """Pending or running → cancelled. Cancelled again, nothing changes.

        Args:
            replay: the replay as it is on record.
            by: who cancels it.
            reason: why, if anybody says so.

        Raises:
            Conflict: it has ended otherwise.
        """
        replay_id = replay["replay_id"]
        with self._locks.holding(replay_id):
            known = self._find(replay_id)
            if replay["status"] == Status.CANCELLED:
                return
            if known is None or replay["status"] not in OPEN:
                raise self._not("be cancelled", replay_id)
            said = f"cancelled by {by}" if by else "cancelled"
            self._transitions.append(
                known, Status.CANCELLED, None, f"{said}: {reason}" if reason else said, by=by
            )
            self._forget(replay_id)
            self._tell_end(known, Status.CANCELLED)

    def retry(self, replay: Row, by: str | None, repeats: int | None) -> None:
        """Failed, refused or cancelled → pending, as a new attempt. What is pending or running stays so.

        Args:
            replay: the replay as it is on record.
            by: who asks.
            repeats: the attempt that is to be repeated: where a later one has begun, nothing happens.

        Raises:
            Conflict: it has completed, or nothing can run it.
        """
        replay_id, executor = replay["replay_id"], replay["executor"]
        with self._locks.holding(replay_id):
            # Under the lock, what memory knows is newer than the row.
            if self._find(replay_id) is not None or (repeats is not None and replay["attempts"] > repeats):
                return
            status = replay["status"]
            if status not in {Status.FAILED, Status.REFUSED, Status.CANCELLED} or executor in {
                None,
                "external",
            }:
                raise self._not("be tried again", replay_id)
            number = _last_attempt(replay["history"]) + 1
            again = Attempt(replay_id, replay["decision_id"], executor, replay["function"], number)
            if again.function is None and executor == "function":
                raise self._not("be tried again", replay_id)
            self._transitions.append(
                again, Status.PENDING, None, f"tried again by {by}" if by else "tried again", by=by
            )
            self._remember(again)
        self._tell(again)

    def end_leases(self) -> None:
        """Let go of attempts whose workers went silent: they wait again, or have come to an end."""
        attempts = self._all()
        # Looked at after they were read: what a server left running that is gone has ended when it is read.
        now = self._clock()
        for attempt in attempts:
            lease = attempt.lease
            if lease is not None and lease.until is not None and lease.until <= now:
                self._end_lease(attempt.replay_id, now)

    def settle(self, attempt: Attempt) -> bool:
        """Whether an attempt need not be run: the silent one before it, or somebody unasked, has run."""
        if attempt.silent is None:
            # Once an attempt has begun, only decisions of attempts count.
            if attempt.number > 1 or self._reader.row("replay_results", replay_id=attempt.replay_id) is None:
                return False
            self._forget(attempt.replay_id)
            row = self._reader.row("replay", replay_id=attempt.replay_id)
            self._tell_end(attempt, Status.COMPLETED if row is None else Status(row["status"]))
            return True
        with self._locks.holding(attempt.replay_id):
            known = self._find(attempt.replay_id)
            if known is None or known.lease is not None:
                return True
            before = replace(known, number=known.number - 1)
            if self._transitions.result(before) is None:
                return False
            self._end_by_result(before, attempt.silent)
            return True

    def _end_lease(self, replay_id: str, now: float) -> None:
        with self._locks.holding(replay_id):
            held = self._find(replay_id)
            if held is None or held.lease is None or held.lease.until is None or held.lease.until > now:
                return
            worker, length_s = held.lease.worker, held.lease.length_s
            if self._transitions.result(held) is not None:
                self._end_by_result(held, worker)
                return
            if length_s is None:
                # In one entry: a kill between two of them would let it be asked again.
                self._settle(held, Status.FAILED, worker, INTERRUPTED)
                return
            reason = f"{worker} went silent: no heartbeat for {length_s:g} s"
            again = held.again(silent=worker)
            if again.lost >= MAX_LOST_LEASES:
                reason += f", as did those before: {again.lost} attempts ended so, and there will be no other"
                self._settle(held, Status.FAILED, worker, reason)
                return
            self._wait_again(again, worker, reason)

    def _end_by_result(self, attempt: Attempt, worker: str) -> None:
        result = self._transitions.result(attempt)
        if result is None:
            raise Conflict(
                f"Attempt {attempt.number} of replay {attempt.replay_id} ran, but its decision "
                f"{attempt.result_id} is not on record; send it first, then say that it ran."
            )
        failed = result["status_code"] == _ERROR
        self._settle(
            attempt,
            Status.FAILED if failed else Status.COMPLETED,
            worker,
            result["failure"] if failed else None,
        )

    def _settle(self, attempt: Attempt, status: Status, worker: str | None, reason: str | None) -> None:
        self._transitions.append(attempt, status, worker, reason)
        self._forget(attempt.replay_id)
        self._tell_end(attempt, status)

    def _wait_again(self, again: Attempt, worker: str, reason: str) -> None:
        self._transitions.append(again, Status.PENDING, worker, reason)
        self._remember(again)
        self._tell(again)

    def _held(self, replay_id: str, worker: str, number: int) -> Attempt | None:
        known = self._find(replay_id)
        if known is None or known.lease is None:
            return None
        return known if (known.lease.worker, known.number) == (worker, number) else None

    def _late(self, replay_id: str, worker: str, number: int, outcome: Outcome) -> Attempt | None:
        """The attempt of a worker that was taken for dead, ran it, and nobody has taken its place yet."""
        known = self._find(replay_id)
        if known is None or known.lease is not None or outcome is not Outcome.RAN:
            return None
        return replace(known, number=number) if (known.silent, known.number - 1) == (worker, number) else None

    def _said_before(self, replay_id: str, worker: str, number: int) -> bool:
        row = self._reader.row("replay", replay_id=replay_id)
        if row is None or row["status"] in {Status.RUNNING, Status.CANCELLED}:
            return False
        return (row["worker"], row["attempts"]) == (worker, number)

    def _not(self, what: str, replay_id: str) -> Conflict:
        row = self._reader.row("replay", replay_id=replay_id)
        if row is None:
            return Conflict(f"No replay {replay_id} is on record.")
        by = f" by {row['worker']}, attempt {row['attempts']}" if row["status"] == Status.RUNNING else ""
        why = f" ({row['reason']})" if row["reason"] and row["status"] != Status.PENDING else ""
        return Conflict(f"Replay {replay_id} is {row['status']}{by}{why}, so it cannot {what}.")

    def _tell(self, attempt: Attempt) -> None:
        for listener in self._listeners:
            listener(attempt)

    def _tell_end(self, attempt: Attempt, status: Status) -> None:
        for listener in self._end_listeners:
            listener(attempt, status)

    def _all(self) -> list[Attempt]:
        with self._memory:
            return list(self._loaded().values())

    def _find(self, replay_id: str) -> Attempt | None:
        with self._memory:
            return self._loaded().get(replay_id)

    def _remember(self, attempt: Attempt) -> None:
        with self._memory:
            self._loaded()[attempt.replay_id] = attempt

    def _forget(self, replay_id: str) -> None:
        with self._memory:
            self._loaded().pop(replay_id, None)

    def _loaded(self) -> dict[str, Attempt]:
        """What memory holds, read from the ledger the first time. The memory lock is held."""
        if self._known is None:
            rows = self._reader.rows("open_replays", {})
            self._known = {row["replay_id"]: self._recovered(row) for row in rows}
        return self._known

    def _recovered(self, row: Row) -> Attempt:
        attempt = Attempt(
            row["replay_id"], row["decision_id"], row["executor"], row["function"], row["attempt"]
        )
        if row["status"] != Status.RUNNING:
            return attempt
        # Nobody knows when its last heartbeat was. What ran in a server that is gone ends now.
        length_s = row["lease_s"]
        return replace(attempt, lease=Lease(row["worker"], length_s, self._clock() + (length_s or 0.0)))


_ERROR: Final = 2
"""Status code of a span that failed."""


def _last_attempt(history: str | None) -> int:
    return max((int(event["attempt"]) for event in parsed(history) or ()), default=0)
