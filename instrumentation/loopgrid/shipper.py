"""From decisions on disk to acknowledged ones: one thread, one request at a time, in order.

Guarantee: a decision leaves the spool when the collector answered 200 for it, when it was refused for good
and stands in `refused`, or when it was counted as dropped; never otherwise. There is no giving up: while the
collector is down everything stays, within `max_spool_bytes`. `flush` is true only after acknowledgement.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.context import attach, set_value

from loopgrid import encode, spool
from loopgrid.config import Config
from loopgrid.encode import Ended, Redact
from loopgrid.health import Count, Health, where
from loopgrid.outcome import Acknowledged, Blocked, Refused, TryAgain
from loopgrid.schema import ReportKey
from loopgrid.spool import Item, Kind, Orphan, Position, Reading, Writing
from loopgrid.writer import Writer

if TYPE_CHECKING:
    from loopgrid.transport import Transport

JITTER: Final = 0.2
"""Share by which a backoff is varied, so that many processes do not return at once."""
ORPHAN_SCAN_S: Final = 60.0
"""Seconds between two looks for what ended processes left."""
REFUSED_SHARE: Final = 1 / 4
"""Share of `max_spool_bytes` that is kept, besides it, of what was refused or damaged."""
TRACES: Final = "/v1/traces"
LOGS: Final = "/v1/logs"
BURST_PAUSE_S: Final = 0.25
COUNTED: Final = frozenset({Kind.SPAN, Kind.VOID})


@dataclass(frozen=True, slots=True)
class Remains:
    """What the end of the process leaves behind.

    Attributes:
        waiting: decisions that wait in the spool for the next start.
        absent: nothing listened at the endpoint.
        folder: where they wait.
    """

    waiting: int
    absent: bool
    folder: Path


def _connect(config: Config) -> Transport:
    # Loaded by the shipping thread, so that neither `import loopgrid` nor the first decision pays for it.
    with encode.imports:
        from loopgrid.transport import Transport  # noqa: PLC0415

    return Transport(config)


class _StoppedError(Exception):
    """The process ends, or the collector is not there while it does."""


class Shipper:
    """Takes ended spans from any thread, through the spool, to the collector."""

    def __init__(
        self, config: Config, health: Health, writing: Writing, group: tuple[bytes, bytes], producer_id: str,
        redact: Redact | None = None, connect: Callable[[Config], Transport] = _connect,
    ) -> None:  # fmt: skip
        self._config = config
        self._limits = config.delivery
        self._max_refused_bytes = config.delivery.max_spool_bytes * REFUSED_SHARE
        self._health = health
        self._connect = connect
        self._writing = writing
        self._root = writing.folder.parent
        self.writer = Writer(config, health, writing, group, producer_id, redact, self._wake)
        # Our own generator: the application's seeded one must not notice us.
        self._dice = random.Random()  # noqa: S311 - spreads load, hides nothing
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._settled = 0
        self._lost = 0
        self._waiting = 0
        self._ending = False
        self._closed = False
        self._absent = False
        self._pausing = False
        self._blocked = 0
        self._set_aside = 0
        self._reading = Reading(writing.folder)
        self._acked = Position(0, 0)
        self._orphans: list[Orphan] = []
        self._next_scan = 0.0
        self._scans = 0

    def put(self, span: Ended, group: tuple[bytes, bytes] | None = None) -> None:
        """Take over an ended span; errors as `Writer.put`."""
        if self._thread is None:
            self._start()
        self.writer.put(span, group)

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None or self._closed:
                return
            self._thread = threading.Thread(target=self._run, name="loopgrid-shipper", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                raise

    def _wake(self) -> None:
        if self._thread is None:
            self._start()
        with self._changed:
            self._changed.notify_all()

    def drain(self, timeout_s: float, *, patient: bool = True) -> bool:
        """Wait until everything handed over before this call is settled; True if that was in time.

        It does not wait for a collector that wants another key or is no collector, nor, where it is not
        patient, for one that was asked in vain and is to be asked again later.
        """
        target = self.writer.accepted
        if self._settled >= target:
            return True
        deadline = time.monotonic() + timeout_s
        if not self.writer.until_written(target, timeout_s):
            return False
        with self._changed:
            self._waiting += 1
            blocked = self._blocked
            self._changed.notify_all()
            try:
                self._changed.wait_for(
                    lambda: (
                        self._settled >= target
                        or self._blocked > blocked
                        or (self._ending and self._absent)
                        or (self._pausing and not patient)
                    ),
                    max(0.0, deadline - time.monotonic()),
                )
                return self._settled >= target
            finally:
                self._waiting -= 1

    def flush(self, timeout_s: float) -> bool:
        """Wait like `drain`; True only if everything ever handed over was acknowledged."""
        in_time = self.drain(timeout_s)
        return in_time and self._lost == 0 and self.writer.lost == 0

    def recover(self, timeout_s: float) -> bool:
        """Look for what ended processes left, send it, and wait; True if nothing is left."""
        self._start()
        with self._changed:
            scans = self._scans
            self._next_scan = 0.0
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._scans > scans and not self._orphans, timeout_s)

    def undelivered(self) -> int:
        """Spans that are still on their way."""
        return self.writer.accepted - self._settled

    def finish(self, timeout_s: float) -> Remains:
        """Wait like `drain`, for a process that ends: a slow collector gets the time, one that refuses the
        connection one more attempt.
        """
        with self._changed:
            self._ending = True
            self._absent = False
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        self.writer.report_now()
        if self.drain(timeout_s):
            with self._changed:
                arrived = self._changed.wait_for(
                    lambda: not self._has_own() or self._absent, max(0.0, deadline - time.monotonic())
                )
            if arrived and not self._has_own():
                self.writer.tidy()
        return Remains(self.undelivered(), self._absent, self._writing.folder)

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, flush, end the threads. What is left stays in the spool."""
        deadline = time.monotonic() + timeout_s
        self.writer.close()
        delivered = self.flush(timeout_s)
        self.writer.join(max(1.0, deadline - time.monotonic()))
        with self._changed:
            if self._settled >= self.writer.accepted:
                # The collector is there, so it gets the last report, too.
                self._changed.wait_for(
                    lambda: not self._has_own() or self._absent, max(0.0, deadline - time.monotonic())
                )
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            # A request under way ends with its own timeout; nobody has to wait for it.
            self._thread.join(
                max(1.0, deadline - time.monotonic()) if self._settled >= self.writer.accepted else 0.0
            )
        return delivered

    def abandon(self) -> None:
        """In a forked child: the parent goes on with the folder, this copy lets go of it."""
        self._writing.abandon()

    def _run(self) -> None:
        # Nobody wants spans about the shipping of spans. OpenTelemetry's instrumentations agree on this key.
        attach(set_value("suppress_instrumentation", value=True))
        transport: Transport | None = None
        try:
            while self._await_work():
                try:
                    transport = transport or self._connect(self._config)
                    self._ship_own(transport)
                    self._ship_orphans(transport)
                except _StoppedError:
                    continue
                except Exception as error:  # noqa: BLE001 - nobody stands above this thread
                    # If the thread died, everything later would wait for the next start.
                    self._health.trouble(Count.DEFECT, f"decisions could not be sent: {where(error)}")
                    # What was read and not acknowledged is read again.
                    self._reading = Reading(
                        self._writing.folder, position=Position(max(1, self._acked.segment), 0)
                    )
                    self._pause_after_defect()
        finally:
            if transport is not None:
                transport.close()
            for orphan in self._orphans:
                orphan.release()
            if self._settled >= self.writer.accepted and self._reading.position >= self._writing.end:
                self._writing.remove()
            else:
                self._writing.abandon()

    def _await_work(self) -> bool:
        """Wait until there is something to send; False when the end has come."""
        with self._changed:

            def due() -> bool:
                return self._closed or self._has_own() or time.monotonic() >= self._next_scan

            wait_s = max(0.0, self._next_scan - time.monotonic())
            self._changed.wait_for(due, 0.5 if self._orphans else wait_s)
            if self._closed:
                return False
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + ORPHAN_SCAN_S
            found = list(
                spool.orphans(
                    self._root, self._config.endpoint, self._writing.folder, self._limits.max_spool_age_s
                )
            )
            with self._changed:
                self._orphans += found
                self._scans += 1
                self._changed.notify_all()
        return True

    def _has_own(self) -> bool:
        return self._reading.position < self._writing.end

    def _ship_own(self, transport: Transport) -> None:
        while self._has_own() and not self._closed:
            end = self._writing.end
            for read in self._batches(self._reading, end):
                batch = [item for item in read if item.after > self._acked]
                path = self._writing.folder / f"{read[-1].after.segment:08d}.seg"
                self._deliver(
                    transport,
                    batch,
                    Count.ACKNOWLEDGED,
                    partial(spool.is_older, path, self._limits.max_spool_age_s),
                )
                self._acknowledge(read[-1].after)
                self._give_way()
                self._settle(sum(item.kind in COUNTED for item in batch))
            self._keep_damaged(self._reading)
            self._acknowledge(self._reading.position)
            self.writer.wake()

    def _give_way(self) -> None:
        """While the application decides in a burst, sending can wait and the interpreter is left to it."""
        if self.writer.is_busy and not self._waiting and not self._ending:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending or self._closed, BURST_PAUSE_S)

    def _acknowledge(self, position: Position) -> None:
        self._acked = max(self._acked, position)
        self._writing.acknowledge(self._acked)

    def _ship_orphans(self, transport: Transport) -> None:
        while self._orphans and not self._has_own() and not self._closed:
            orphan = self._orphans[0]
            expired = partial(spool.is_older, orphan.folder, self._limits.max_spool_age_s)
            for batch in self._batches(orphan.reading, None):
                left = [item for item in batch if item.after > orphan.acked]
                if left:
                    self._deliver(transport, left, Count.RECOVERED, expired)
                    orphan.acknowledge(left[-1].after)
            if not expired():
                self._report_unfinished(transport, orphan)
            self._keep_damaged(orphan.reading)
            orphan.remove()
            with self._changed:
                self._orphans.pop(0)
                self._changed.notify_all()
            self.writer.wake()

    def _report_unfinished(self, transport: Transport, orphan: Orphan) -> None:
        """A decision that started and never ended is said to be that: no end is made up for it."""
        starts = list(orphan.reading.starts.values())
        for begin in range(0, len(starts), self._limits.max_batch_spans):
            part = [_told_started(item) for item in starts[begin : begin + self._limits.max_batch_spans]]
            self._deliver(transport, part, Count.UNFINISHED)
            self._health.count(Count.UNFINISHED, len(part))

    def _batches(self, reading: Reading, end: Position | None) -> _Batches:
        return _Batches(reading, end, self._limits.max_batch_spans, self._limits.max_batch_bytes)

    def _deliver(
        self, transport: Transport, batch: Sequence[Item], counted: Count,
        expired: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Send until the answer is final, or it is too old. Traces first: a log record about a span never
        precedes it.

        Raises:
            _StoppedError: the process ends before the answer came.
        """
        spans = [item for item in batch if item.kind is Kind.SPAN]
        events = [item for item in batch if item.kind is Kind.EVENT]
        if spans:
            self._send(transport, TRACES, spans, counted, expired)
        if events:
            self._send(transport, LOGS, events, None, expired)

    def _send(
        self, transport: Transport, path: str, items: Sequence[Item], counted: Count | None,
        expired: Callable[[], bool],
    ) -> None:  # fmt: skip
        groups: dict[tuple[bytes, bytes], list[bytes]] = {}
        for item in items:
            groups.setdefault(item.group, []).append(item.body)
        body = encode.request(groups)
        backoff_s = self._limits.first_backoff_s
        while True:
            if expired():
                if counted is not None:
                    self._lose(
                        Count.EXPIRED, len(items), "decisions waited longer than max_spool_age_s",
                        own=counted is Count.ACKNOWLEDGED,
                    )  # fmt: skip
                return
            outcome = transport.send(path, body)
            match outcome:
                case Acknowledged(rejected=rejected):
                    if counted is not None:
                        self._health.count(counted, max(0, len(items) - rejected))
                        if rejected:
                            self._lose(
                                Count.REJECTED, rejected,
                                "the collector rejected decisions; they are in its quarantine",
                            )  # fmt: skip
                    return
                case Refused(reason=reason):
                    self._refused(transport, path, items, counted, reason, body, expired)
                    return
                case Blocked(reason=reason):
                    self._block(reason)
                    backoff_s = self._wait(max(backoff_s, self._limits.max_backoff_s), None)
                case TryAgain(after_s=after_s, absent=absent):
                    backoff_s = self._wait(backoff_s, after_s, absent=absent)

    def _refused(
        self, transport: Transport, path: str, items: Sequence[Item], counted: Count | None, reason: str,
        body: bytes, expired: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Halve until the one that is refused stands alone, and keep that one where people can find it."""
        if len(items) > 1:
            half = len(items) // 2
            self._send(transport, path, items[:half], counted, expired)
            self._send(transport, path, items[half:], counted, expired)
            return
        self._set_aside += 1
        name = f"{self._writing.folder.name}-{self._set_aside:06d}-{path.rpartition('/')[2]}.otlp"
        try:
            kept = f"kept as {spool.set_aside(self._root, name, body, self._max_refused_bytes)}"
        except OSError as error:
            kept = f"and could not be kept ({error.strerror})"
        self._lose(
            Count.REFUSED, 1,
            f"the collector at {self._config.endpoint} refused a decision for good ({reason}); it is {kept}",
        )  # fmt: skip

    def _block(self, reason: str) -> None:
        self._health.trouble(
            Count.BLOCKED,
            f"the collector at {self._config.endpoint} takes nothing ({reason}); decisions wait in "
            f"{self._root}; check that the endpoint is a LoopGrid server and the API key is right",
        )
        with self._changed:
            self._blocked += 1
            self._changed.notify_all()

    def _wait(self, backoff_s: float, after_s: float | None, *, absent: bool = False) -> float:
        """Pause before the next attempt; the backoff after that."""
        if absent:
            with self._changed:
                self._absent = True
                self._changed.notify_all()
        self._pause(max(backoff_s * self._dice.uniform(1 - JITTER, 1 + JITTER), after_s or 0.0))
        return min(backoff_s * 2, self._limits.max_backoff_s)

    def _pause(self, wait_s: float) -> None:
        """Wait; who flushes or ends meanwhile makes it short once."""
        with self._changed:
            ending = self._ending
            self._pausing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._ending is not ending, wait_s)
            self._pausing = False
            if self._closed:
                raise _StoppedError

    def _pause_after_defect(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, self._limits.max_backoff_s)

    def _keep_damaged(self, reading: Reading) -> None:
        for path in dict.fromkeys(reading.damaged):
            name = f"{path.parent.name}-{path.stem}.damaged"
            try:
                kept = (
                    f"kept as {spool.set_aside(self._root, name, path.read_bytes(), self._max_refused_bytes)}"
                )
            except OSError as error:
                kept = f"could not be kept ({error.strerror})"
            self._lose(
                Count.DAMAGED, reading.damaged.count(path),
                f"a file of the spool is damaged, what is whole in it is sent, and it is {kept}",
                own=reading is self._reading,
            )  # fmt: skip
        reading.damaged.clear()

    def _lose(self, what: Count, number: int, message: str, *, own: bool = True) -> None:
        """Count a loss; of what an ended process left, `flush` of this one says nothing."""
        with self._changed:
            self._lost += number if own else 0
        self._health.trouble(what, message, number)

    def _settle(self, number: int) -> None:
        with self._changed:
            self._settled += number
            self._changed.notify_all()


def _told_started(item: Item) -> Item:
    body = encode.event_from(item.body, ReportKey.STARTED_EVENT, time.time_ns())
    return Item(Kind.EVENT, item.key, body, item.group, item.after)


class _Batches:
    """Requests' worth of records."""

    def __init__(self, reading: Reading, end: Position | None, max_items: int, max_bytes: int) -> None:
        self._source = reading.items(end)
        self._max_items = max(1, max_items)
        self._max_bytes = max_bytes

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> list[Item]:
        batch: list[Item] = []
        size_bytes = 0
        for item in self._source:
            batch.append(item)
            size_bytes += len(item.body)
            if len(batch) >= self._max_items or size_bytes >= self._max_bytes:
                break
        if not batch:
            raise StopIteration
        return batch
