"""From ended decisions to acknowledged ones: a bounded queue and one thread.

Guarantee: a decision handed over is either acknowledged by the collector with 200 or counted as lost, and
`flush` says which. Order is kept, one request is under way at a time.
Hole: the queue is memory. What is in it when the process is killed is lost. The gap in
`loopgrid.producer.seq` shows once a later decision of the process arrives; after a lost tail none does.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry.context import attach, set_value
from opentelemetry.sdk.trace import ReadableSpan

from loopgrid.config import Config
from loopgrid.health import Count, Health, where
from loopgrid.outcome import Acknowledged, Outcome, Refused, TryAgain

if TYPE_CHECKING:
    from loopgrid.transport import Transport

JITTER: Final = 0.2
"""Share by which a backoff is varied, so that many processes do not return at once."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What the end of the process leaves behind.

    Attributes:
        lost: decisions that the collector has not acknowledged.
        absent: nothing listened at the endpoint.
    """

    lost: int
    absent: bool


@dataclass(frozen=True, slots=True)
class _Parcel:
    span: ReadableSpan
    size_bytes: int


def _connect(config: Config) -> Transport:
    # Loaded by the shipping thread, so that neither `import loopgrid` nor the first decision pays for it.
    from loopgrid.transport import Transport  # noqa: PLC0415

    return Transport(config)


class Shipper:
    """Takes ended spans from any thread and delivers them from one of its own."""

    def __init__(
        self, config: Config, health: Health, connect: Callable[[Config], Transport] = _connect
    ) -> None:
        self._config = config
        self._limits = config.delivery
        self._health = health
        self._connect = connect
        # Our own generator: the application's seeded one must not notice us.
        self._dice = random.Random()  # noqa: S311 - spreads load, hides nothing
        self._thread: threading.Thread | None = None
        # The condition guards everything below. Its lock is re-entrant: a signal handler may hand over a
        # decision while this very thread is inside `put`.
        self._changed = threading.Condition()
        self._queue: deque[_Parcel] = deque()
        self._held_bytes = 0
        self._accepted = 0
        self._settled = 0
        self._lost = 0
        self._waiting = 0
        self._failing = False
        self._closed = False
        self._abandoned = False
        self._ending = False
        self._lost_at_end = 0
        self._absent_at_end = False

    def put(self, span: ReadableSpan) -> None:
        """Take over an ended span; a full queue blocks for `queue_wait_s`, then the span is dropped and
        counted.

        Raises:
            RuntimeError: the interpreter is shutting down and starts no thread any more.
        """
        parcel = _Parcel(span, _estimate(span))
        with self._changed:
            if self._closed:
                self._drop(Count.CLOSED, "a decision ended after loopgrid.shutdown() and is lost")
                return
            if not self._room(parcel) and not self._failing:
                self._changed.wait_for(lambda: self._room(parcel), self._limits.queue_wait_s)
            if not self._room(parcel):
                self._drop(
                    Count.QUEUE_FULL,
                    f"decisions are lost: {self._limits.max_queue_bytes} bytes wait for "
                    f"{self._config.endpoint}",
                )
                return
            self._queue.append(parcel)
            self._held_bytes += parcel.size_bytes
            self._accepted += 1
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything handed over before this call is settled; True if that was in time."""
        with self._changed:
            target = self._accepted
            self._waiting += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._settled >= target, timeout_s)
            finally:
                self._waiting -= 1

    def flush(self, timeout_s: float) -> bool:
        """Wait like `drain`; True only if everything ever handed over was acknowledged."""
        in_time = self.drain(timeout_s)
        with self._changed:
            return in_time and self._lost == 0

    def undelivered(self) -> int:
        """Spans that are still on their way."""
        with self._changed:
            return self._accepted - self._settled

    def finish(self, timeout_s: float) -> Remains:
        """Wait like `drain`, for a process that ends: a slow collector gets the time, one that refuses the
        connection one more attempt.
        """
        with self._changed:
            self._ending = True
        self.drain(timeout_s)
        with self._changed:
            return Remains(self.undelivered() + self._lost_at_end, self._absent_at_end)

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, flush, give up what is left, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        delivered = self.flush(timeout_s)
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            # A request under way ends with its own timeout; nobody has to wait for it.
            self._thread.join(timeout=1.0 if delivered else 0.0)
        return delivered

    def _start(self) -> None:
        # Kept before it is started: a signal handler may come in between.
        self._thread = threading.Thread(target=self._run, name="loopgrid-shipper", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            raise

    def _room(self, parcel: _Parcel) -> bool:
        return self._held_bytes == 0 or self._held_bytes + parcel.size_bytes <= self._limits.max_queue_bytes

    def _drop(self, what: Count, message: str) -> None:
        self._lost += 1
        self._health.trouble(what, message)

    def _run(self) -> None:
        # Nobody wants spans about the shipping of spans. OpenTelemetry's instrumentations agree on this key.
        attach(set_value("suppress_instrumentation", value=True))
        transport: Transport | None = None
        while batch := self._take():
            try:
                transport = transport or self._connect(self._config)
                self._deliver(transport, batch)
            except Exception as error:  # noqa: BLE001 - nobody stands above this thread
                # If the thread died, all later decisions would be lost in silence.
                self._lose(Count.DEFECT, len(batch), f"decisions could not be sent: {where(error)}")
            self._settle(batch)
        if transport is not None:
            transport.close()

    def _take(self) -> list[_Parcel]:
        """The next batch, as soon as it is due; empty when there is nothing more to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(self._due, self._limits.linger_s)
            batch: list[_Parcel] = []
            size_bytes = 0
            while self._queue and len(batch) < max(1, self._limits.max_batch_spans):
                size_bytes += self._queue[0].size_bytes
                if batch and size_bytes > self._limits.max_batch_bytes:
                    break
                batch.append(self._queue.popleft())
            return batch

    def _due(self) -> bool:
        return bool(self._waiting or self._closed) or (
            len(self._queue) >= self._limits.max_batch_spans
            or self._held_bytes > self._limits.max_batch_bytes
        )

    def _deliver(self, transport: Transport, batch: Sequence[_Parcel]) -> None:
        """Send until the answer is final; one span that cannot be encoded does not cost its neighbours."""
        try:
            outcome = self._send(transport, [parcel.span for parcel in batch])
        except (ValueError, TypeError) as error:
            if len(batch) == 1:
                self._lose(Count.DEFECT, 1, f"a decision could not be encoded: {where(error)}")
                return
            for parcel in batch:
                self._deliver(transport, [parcel])
            return
        self._account(outcome, len(batch))

    def _send(self, transport: Transport, spans: Sequence[ReadableSpan]) -> Outcome:
        give_up_at = time.monotonic() + self._limits.max_retry_s
        backoff_s = self._limits.first_backoff_s
        while isinstance(outcome := transport.send(spans), TryAgain):
            self._failing = True
            if self._ending and outcome.absent:
                return outcome
            wait_s = backoff_s * self._dice.uniform(1 - JITTER, 1 + JITTER)
            wait_s = max(wait_s, outcome.after_s or 0.0)
            backoff_s = min(backoff_s * 2, self._limits.max_backoff_s)
            if time.monotonic() + wait_s > give_up_at or not self._pause(wait_s, absent=outcome.absent):
                return outcome
        self._failing = False
        return outcome

    def _pause(self, wait_s: float, *, absent: bool) -> bool:
        """Wait before the next attempt; False if there is to be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or (absent and self._ending), wait_s)
            return not self._abandoned

    def _account(self, outcome: Outcome, number: int) -> None:
        endpoint = self._config.endpoint
        match outcome:
            case Acknowledged(rejected=0):
                self._health.count(Count.ACKNOWLEDGED, number)
            case Acknowledged(rejected=rejected):
                self._health.count(Count.ACKNOWLEDGED, max(0, number - rejected))
                self._lose(
                    Count.REJECTED,
                    rejected,
                    f"the collector at {endpoint} rejected decisions; they are in its quarantine",
                )
            case Refused(reason=reason):
                self._lose(
                    Count.REFUSED,
                    number,
                    f"the collector at {endpoint} refused decisions for good ({reason}); "
                    "check that the endpoint is a LoopGrid server and the API key is right",
                )
            case TryAgain(absent=absent) if self._ending:
                # Counted here, said once by whoever ends the process.
                with self._changed:
                    self._lost += number
                    self._lost_at_end += number
                    self._absent_at_end |= absent
                self._health.count(Count.GIVEN_UP, number)
            case TryAgain(reason=reason):
                self._lose(
                    Count.GIVEN_UP,
                    number,
                    f"decisions could not be delivered to {endpoint} ({reason}); "
                    "start a server with `loopgrid serve`, or set LOOPGRID_ENDPOINT",
                )

    def _lose(self, what: Count, number: int, message: str) -> None:
        with self._changed:
            self._lost += number
        self._health.trouble(what, message, number)

    def _settle(self, batch: Sequence[_Parcel]) -> None:
        with self._changed:
            self._settled += len(batch)
            self._held_bytes -= sum(parcel.size_bytes for parcel in batch)
            self._changed.notify_all()


SPAN_OVERHEAD_BYTES: Final = 512
"""Ids, times, names and keys of one span, roughly."""


def _estimate(span: ReadableSpan) -> int:
    """Roughly how many bytes a span holds: its text counts, the rest is an overhead."""
    texts = (value for value in (span.attributes or {}).values() if isinstance(value, str))
    return SPAN_OVERHEAD_BYTES + sum(len(text) for text in texts)
