"""Replays that the server runs by asking a model's provider, beside everything else that it does.

Laws:

* At most so many calls are under way as the setting allows; more wait as pending replays. A call that was
  answered makes room for the next while its answer is being recorded.
* What was asked and may have been charged is not asked again by itself: a server that ends in the middle
  leaves a failed replay that says so, and who asked may try again.
* An answer that was paid for is recorded, however often the ledger has to be asked.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from prometheus_client.core import Metric

from loopgrid_collector.errors import CollectorError, Retryable
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, Invalid, QueryError
from loopgrid_query.instants import format_instant
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, decision_record, parsed
from loopgrid_query.replay import calling, pace_metrics
from loopgrid_query.replay.calling import Answer, Caller, CallFailed
from loopgrid_query.replay.executors import Executor
from loopgrid_query.replay.lifecycle import PERHAPS_CHARGED, SERVER, Attempt, Lifecycle, Outcome
from loopgrid_query.replay.providers import VARIABLE, Provider, Providers, protocol_of
from loopgrid_query.replay.request import ModelRequest, provider_of, request_of
from loopgrid_query.replay.unsendable import Unsendable
from loopgrid_query.spans import decision_attributes

_LOOK_S: Final = 0.5
"""Seconds between two looks whether a call under way was cancelled."""
_LEDGER_PAUSE_S: Final = 1.0
_MAX_REMEMBERED: Final = 256
"""Replays whose originals are kept in memory until they run; of more, the originals are read again."""
_NS_PER_S: Final = 10**9

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)


class _Stopped(Exception):
    """The server stops.

    Attributes:
        sent: whether the provider was being asked.
    """

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__()
        self.sent = sent

    def reason(self, provider: Provider) -> str:
        """Why an attempt has failed by it."""
        if not self.sent:
            return f"The server stopped before it was the turn to ask {provider.name}."
        return f"The server stopped while {provider.name} was asked. {PERHAPS_CHARGED}"


@dataclass(frozen=True, slots=True)
class _Found:
    """What a call led to: its answer, or why there is none.

    Attributes:
        provider: who was asked.
        original: the decision that is replayed.
        overrides: what was replaced.
        fields: of the decision that it led to.
    """

    provider: Provider
    original: Record
    overrides: Record
    fields: Record


@dataclass(frozen=True, slots=True)
class _NotFound:
    """An attempt that led to no decision, and why."""

    outcome: Outcome
    reason: str


class ModelRuns:
    """Model calls of the replays of one ledger. Threads may share it.

    Attributes:
        providers: whom it may ask, by name.
    """

    def __init__(
        self,
        reader: Reader,
        decisions: Decisions,
        lifecycle: Lifecycle,
        providers: Providers,
        limit: int,
    ) -> None:
        """Nothing is asked yet.

        Args:
            reader: reads the ledger.
            decisions: its decisions.
            lifecycle: of its replays.
            providers: whom it may ask.
            limit: calls under way at once.
        """
        self._reader = reader
        self._decisions = decisions
        self._lifecycle = lifecycle
        self.providers: Final = providers
        self._stopping = threading.Event()
        # Half of them may record while the others ask.
        self._pool = ThreadPoolExecutor(2 * limit, thread_name_prefix="model-replay")
        self._places = threading.BoundedSemaphore(limit)
        self._limit = limit
        self._busy = 0
        self._answer_listeners: list[Callable[[str], None]] = []
        self._calls: set[Future[Answer]] = set()
        self._remembered: dict[str, tuple[Record, Record]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._caller: Caller | None = None

    def why_not(self, decision: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        """Why a decision cannot be replayed by asking a model; None where it can.

        Args:
            decision: the original, parsed.
            overrides: checked.
        """
        try:
            self._request(decision, overrides)
        except Unsendable as reason:
            return str(reason)
        return None

    def expect(self, replay_id: str, original: Record, overrides: Record) -> None:
        """Remember what a replay is about to be run with, so that it need not be read again."""
        with self._lock:
            if len(self._remembered) < _MAX_REMEMBERED:
                self._remembered[replay_id] = (original, overrides)

    def when_answered(self, listener: Callable[[str], None]) -> None:
        """Have a function called with every replay whose call is over and whose end is still to be recorded.

        It must only take note.
        """
        self._answer_listeners.append(listener)

    def start(self) -> None:
        """Take up what waits. The library is loaded where there is somebody to ask."""
        if self.providers and calling.installed():
            self._caller = Caller()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="model-calls", daemon=True)
            self._thread.start()
        self._lifecycle.when_pending(self._arrived)
        self._pool.submit(self._recover).add_done_callback(_tell)

    def under_way(self) -> int:
        """Calls that are being made."""
        with self._lock:
            return len(self._calls)

    def metrics(self) -> Iterable[Metric]:
        """What is counted of each provider that was asked so far."""
        return pace_metrics.of(self._caller.paces if self._caller is not None else {})

    def stop(self) -> None:
        """Ask nobody any more. What is under way ends as failed, what waits stays pending."""
        self._stopping.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def close(self) -> None:
        """Wait until what was under way is on record, and let go of the connections."""
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lifecycle.close()
        if self._loop is not None and self._thread is not None and self._caller is not None:
            asyncio.run_coroutine_threadsafe(self._caller.close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def _request(
        self, decision: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> tuple[ModelRequest, Provider]:
        """What would be sent, and to whom.

        Raises:
            Unsendable: nothing would.
        """
        name = provider_of(decision, overrides)
        provider = self.providers.get(name)
        request = request_of(decision, overrides, provider.protocol if provider else protocol_of(name))
        if provider is None:
            there = ", ".join(sorted(self.providers)) or "none"
            raise Unsendable(
                f"The server has no provider {name!r} (it has {there}): put [{name}] into the file that "
                f"{VARIABLE} names."
            )
        if not calling.installed():
            raise Unsendable(
                "The server is installed without what asks models; install LoopGrid with its extra "
                f"`{calling.EXTRA}` there."
            )
        return request, provider

    def idle(self) -> int:
        """How many more calls could begin at once."""
        with self._lock:
            return max(0, self._limit - self._busy)

    def run_begun(self, attempt: Attempt) -> None:
        """Run an attempt that is on record as running; there was room for it."""
        self._submit(self._run_begun, attempt)

    def _arrived(self, attempt: Attempt) -> None:
        if attempt.executor == Executor.MODEL:
            self._submit(self._run, attempt)

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        if self._stopping.is_set():
            return
        with self._lock:
            self._busy += 1
        try:
            self._pool.submit(work, *arguments).add_done_callback(_tell)
        except RuntimeError:
            # The pool closed between the two: it stays pending, and the next start takes it up.
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._busy -= 1

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for calls; what was submitted is under way no more after it."""
        try:
            with self._places:
                yield
        finally:
            self._leave()

    def _recover(self) -> None:
        self._lifecycle.end_leases()
        for attempt in self._lifecycle.waiting():
            self._arrived(attempt)

    def _run(self, attempt: Attempt) -> None:
        """Take one attempt to its end."""
        with self._lock:
            remembered = self._remembered.pop(attempt.replay_id, None)
        with self._place():
            if self._stopping.is_set():
                return
            try:
                begun = self._durably(lambda: self._lifecycle.begin(attempt.replay_id, SERVER))
            except (Conflict, _Stopped):
                # Cancelled before it began, or left for the next start.
                return
            asked = self._ask(begun, remembered)
        self._end(begun, asked)

    def _run_begun(self, attempt: Attempt) -> None:
        """Take one attempt to its end that is on record as running."""
        with self._lock:
            remembered = self._remembered.pop(attempt.replay_id, None)
        with self._place():
            asked = self._ask(attempt, remembered)
        self._end(attempt, asked)

    def _ask(self, attempt: Attempt, remembered: tuple[Record, Record] | None) -> _Found | _NotFound | None:
        """What came of asking; None where the replay was cancelled."""
        try:
            original, overrides = remembered or self._what(attempt)
            request, provider = self._request(original, overrides)
        except (QueryError, Unsendable) as refusal:
            return _NotFound(Outcome.REFUSED, f"Nothing ran: {refusal}")
        try:
            found = self._asked(request, provider, attempt, original)
        except _Stopped as stopped:
            return _NotFound(Outcome.FAILED, stopped.reason(provider))
        except Conflict as cancelled:
            _log.info("a replay was cancelled: %s", cancelled)
            return None
        return _Found(provider, original, overrides, found)

    def _end(self, attempt: Attempt, asked: _Found | _NotFound | None) -> None:
        """Record what came of an attempt."""
        for listener in self._answer_listeners:
            listener(attempt.replay_id)
        life, replay_id, number = self._lifecycle, attempt.replay_id, attempt.number
        if asked is None:
            return
        try:
            if isinstance(asked, _Found):
                asked = self._recorded(attempt, asked)
            if asked is not None:
                outcome, reason = asked.outcome, asked.reason
                self._durably(lambda: life.end(replay_id, SERVER, number, outcome, reason))
        except Conflict as cancelled:
            _log.info("a replay was cancelled: %s", cancelled)

    def _recorded(self, attempt: Attempt, asked: _Found) -> _NotFound | None:
        """Record what was found, with the end that it is; why that cannot be, if so."""
        try:
            self._record(attempt, asked.original, asked.overrides, asked.fields)
        except _Stopped as stopped:
            return _NotFound(Outcome.FAILED, stopped.reason(asked.provider))
        except Invalid as fault:
            reason = f"What {asked.provider.name} answered cannot be recorded: {fault}"
            return _NotFound(Outcome.FAILED, reason)
        return None

    def _record(self, attempt: Attempt, original: Record, overrides: Record, found: Record) -> None:
        """Record what was found, and the end that it is.

        Raises:
            Invalid: it cannot be recorded.
            Conflict: the replay was cancelled; what was found is on record all the same.
            _Stopped: the ledger still refuses, and the server stops.
        """
        life, error = self._lifecycle, found.get("error")
        failure = None if error is None else f"{error['type']}: {error['message']}"
        try:
            self._durably(lambda: life.finish(attempt, original, overrides, found, failure))
        except Conflict:
            # It was paid for.
            self._durably(lambda: life.record_result(attempt, original, overrides, found))
            raise

    def _what(self, attempt: Attempt) -> tuple[Record, Record]:
        """The decision that is replayed, and what to replace.

        Raises:
            QueryError: it cannot be read.
        """
        row = self._reader.row("replay", replay_id=attempt.replay_id)
        original = decision_record(self._decisions.row(attempt.decision_id), parsed)
        return original, parsed(row["overrides"]) if row is not None else {}

    def _asked(self, request: ModelRequest, provider: Provider, attempt: Attempt, original: Record) -> Record:
        """The fields of the decision that a call leads to: its answer, or why there is none.

        Raises:
            Conflict: the replay was cancelled.
            _Stopped: the server stops.
        """
        started_ns = time.time_ns()
        told: Record = {"input": request.told}
        if original["tools"] is not None:
            told["tools"] = original["tools"]
        try:
            answer = self._answered(request, provider, attempt)
        except CallFailed as failure:
            return told | _failed(failure.kind, str(failure), started_ns)
        found = told | _fields(answer)
        try:
            decision_attributes(found)
        except Invalid as fault:
            reason = f"What {provider.name} answered cannot be recorded: {fault}"
            return told | _failed("no_completion", reason, started_ns)
        return found

    def _answered(self, request: ModelRequest, provider: Provider, attempt: Attempt) -> Answer:
        if self._loop is None or self._caller is None:
            raise AssertionError("started with a provider")
        sent = threading.Event()

        def sending() -> None:
            if self._stopping.is_set():
                # Its turn came because another call was ended.
                raise asyncio.CancelledError
            sent.set()

        asked = self._caller.call(request, provider, sending)
        call = asyncio.run_coroutine_threadsafe(asked, self._loop)
        with self._lock:
            self._calls.add(call)
        if self._stopping.is_set():
            call.cancel()
        try:
            while True:
                try:
                    return call.result(_LOOK_S)
                except TimeoutError:
                    # Says no where it was cancelled.
                    self._lifecycle.heartbeat(attempt.replay_id, SERVER, attempt.number)
        except CancelledError as cancelled:
            raise _Stopped(sent=sent.is_set()) from cancelled
        finally:
            call.cancel()
            with self._lock:
                self._calls.discard(call)

    def _durably(self, record: Callable[[], T]) -> T:
        """Record something, as often as the ledger refuses for now.

        Raises:
            _Stopped: it still refuses, and the server stops.
        """
        while True:
            try:
                return record()
            except Retryable as refusal:
                if self._stopping.wait(_LEDGER_PAUSE_S):
                    raise _Stopped from refusal


def _fields(answer: Answer) -> Record:
    found: Record = {
        "output": answer.messages,
        "usage": dict(answer.usage),
        "finish_reasons": answer.finish_reasons,
        "response_id": answer.response_id,
        "model": {} if answer.model is None else {"response_name": answer.model},
        "started_at": _instant(answer.started_ns),
        "duration_ms": answer.duration_ms,
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def _failed(kind: str, reason: str, started_ns: int) -> Record:
    return {
        "error": {"type": kind, "message": reason},
        "started_at": _instant(started_ns),
        "duration_ms": (time.time_ns() - started_ns) / 1e6,
    }


def _instant(moment_ns: int) -> str:
    return format_instant(datetime.fromtimestamp(moment_ns / _NS_PER_S, UTC))


def _tell(done: Future[None]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if isinstance(error, CollectorError | _Stopped):
        _log.error("a replay could not be recorded: %s", error)
    elif error is not None:
        _log.error("a replay by model broke", exc_info=error)
