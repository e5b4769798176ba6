"""From ended decisions to decisions on disk: a bounded hand-over in memory and one thread.

Guarantee: what was handed over is in the spool within 100 ms (`async`) or before the hand-over returns
(`sync`), or it is counted as lost. Many callers share one fsync. Where decisions come faster than they can be
written, the hand-over waits for what is before it, so that the 100 ms hold in a burst, too.

Hole: native code of the application that keeps the interpreter to itself, or a machine that gives the process
no time, keeps the writing thread from its work as well; so does a disk that does not answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from opentelemetry.trace import INVALID_SPAN_CONTEXT

from loopgrid import encode, spool
from loopgrid.config import Config
from loopgrid.encode import Ended, Redact
from loopgrid.errors import SpoolFull
from loopgrid.health import Count, Health, where
from loopgrid.live import LiveSpan
from loopgrid.schema import Key, ReportKey

START_AFTER_S: Final = 0.05
"""How long a decision is open before its start is written down: most end sooner and need no start."""
SYNC_INTERVAL_S: Final = 0.05
RETRY_S: Final = 0.25
"""Pause after the disk refused a write."""
LOSS_REPORT_S: Final = 1.0
"""Shortest time between two reports of losses."""
MAX_BEHIND_S: Final = 0.04
"""Age of the oldest span not written yet at which whoever hands over another one waits."""
CAUGHT_UP_S: Final = 0.02
"""Age of the oldest span not written yet below which those who wait go on."""
GATHER: Final = 128
"""Spans that are company enough to write at once."""
ROUND: Final = 256
"""Spans of one write at most: some milliseconds of encoding."""
BUSY: Final = 64
"""Spans waiting to be written at which the application is in a burst."""
SPAN_OVERHEAD_BYTES: Final = 512
MEASURE_S: Final = 1.0
"""Seconds between two looks at what other processes have in the spool folder."""
UNLOSSY: Final = frozenset(
    {
        Count.STARTED,
        Count.ACKNOWLEDGED,
        Count.REDACTED,
        Count.RECOVERED,
        Count.UNFINISHED,
        Count.ATTACHED,
        Count.TURNED_AWAY,
    }
)
"""Counters that speak of no loss: that they moved is reported with the next report only."""

Record = tuple[spool.Kind, tuple[bytes, bytes], bytes, bytes]
Group = tuple[bytes, bytes]


class _Parcel(NamedTuple):
    span: Ended
    group: Group
    size_bytes: int
    at_s: float


class Writer:
    """Takes ended spans from any thread and appends them to the spool from one of its own."""

    def __init__(
        self, config: Config, health: Health, writing: spool.Writing, group: Group, producer_id: str,
        redact: Redact | None = None, on_written: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._limits = config.delivery
        self._is_sync = config.durability == "sync"
        self._when_full = config.when_full
        self._health = health
        self._writing = writing
        self._group = group
        self._producer_id = producer_id
        self._redact = redact
        self._on_written = on_written
        self._thread: threading.Thread | None = None
        # Guards everything below. Re-entrant: a signal handler may decide while this very thread hands over.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        # Who waits because the writing is behind waits here and is woken once it has caught up: at every
        # write, sixteen threads would take more of the interpreter than the writing does.
        self._caught_up = threading.Condition(lock)
        self._pending: deque[_Parcel] = deque()
        self._held_bytes = 0
        self._oldest_s: float | None = None
        self._idle = False
        self._hurry = 0
        self._closed = False
        self._exhausted = False
        self._broken = False
        self.accepted = 0
        self.written = 0
        self.synced = 0
        self.lost = 0
        # Touched by the writing thread only, but for `started`.
        self._fresh: deque[LiveSpan] = deque()
        self._open: list[tuple[LiveSpan, bool]] = []
        self._next_sync = 0.0
        self._next_measure = 0.0
        self._urgent = False
        self._last_report = time.monotonic()
        self._reported: tuple[object, object] = ({}, 0)

    def started(self, span: LiveSpan) -> None:
        """Remember an open decision, so that its start is on disk if the process is killed."""
        self._fresh.append(span)
        if self._idle or self._thread is None:
            with self._changed:
                self._begin()
                self._changed.notify_all()

    def put(self, span: Ended, group: Group | None = None) -> None:
        """Take over an ended span.

        Raises:
            SpoolFull: there is no room and the policy is to raise.
            RuntimeError: the interpreter is shutting down and starts no thread any more.
        """
        parcel = _Parcel(span, group or self._group, estimate(span), time.monotonic())
        with self._changed:
            if self._closed:
                self._drop(Count.CLOSED, "a decision ended after loopgrid.shutdown() and is lost")
                return
            if not self._room(parcel.size_bytes) and not self._wait_for_room(parcel.size_bytes):
                self._refuse()
                return
            self._exhausted = False
            self._pending.append(parcel)
            if self._oldest_s is None:
                self._oldest_s = parcel.at_s
            self._held_bytes += parcel.size_bytes
            self.accepted += 1
            number = self.accepted
            self._begin()
            if self._is_sync:
                self._hurry += 1
                self._changed.notify_all()
                try:
                    durable = (
                        self._changed.wait_for(
                            lambda: self.synced >= number or self._broken, self._limits.full_wait_s + RETRY_S
                        )
                        and self.synced >= number
                    )
                finally:
                    self._hurry -= 1
                if not durable:
                    self._not_durable()
            elif self._is_behind():
                self._changed.notify_all()
                self._caught_up.wait_for(
                    lambda: self._broken or self._closed or not self._is_behind(), self._limits.full_wait_s
                )
            elif self._idle:
                self._changed.notify_all()

    def _is_behind(self) -> bool:
        return self._oldest_s is not None and time.monotonic() - self._oldest_s > MAX_BEHIND_S

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="loopgrid-spool", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                raise

    def _room(self, size_bytes: int) -> bool:
        in_memory = not self._held_bytes or self._held_bytes + size_bytes <= self._limits.max_queue_bytes
        used_bytes = self._writing.waiting_bytes + self._writing.others_bytes + self._held_bytes
        return in_memory and used_bytes + size_bytes <= self._limits.max_spool_bytes

    def refuses(self) -> bool:
        """Whether the policy is to raise and it is known that a decision could not be kept."""
        if self._when_full != "raise" or self._closed:
            return False
        with self._changed:
            return self._broken or not (
                self._room(SPAN_OVERHEAD_BYTES) or self._wait_for_room(SPAN_OVERHEAD_BYTES)
            )

    def full(self) -> SpoolFull:
        """What is raised where there is no room."""
        return SpoolFull(
            f"no room for another decision in {self._writing.folder}: is the collector up, the disk full?"
        )

    def _measure(self) -> None:
        now = time.monotonic()
        if now >= self._next_measure:
            self._next_measure = now + MEASURE_S
            self._writing.measure_others()

    def _wait_for_room(self, size_bytes: int) -> bool:
        self._measure()
        if self._room(size_bytes):
            return True
        if self._when_full == "drop" or self._exhausted:
            return False
        self._changed.notify_all()
        if self._changed.wait_for(lambda: self._room(size_bytes), self._limits.full_wait_s):
            return True
        self._exhausted = True
        return False

    def _refuse(self) -> None:
        self._drop(
            Count.SPOOL_FULL,
            f"decisions are lost: {self._limits.max_spool_bytes} bytes wait in "
            f"{self._writing.folder.parent}, or its disk takes no more; look at the disk and the collector",
        )
        if self._when_full == "raise":
            raise self.full()

    def _not_durable(self) -> None:
        self._health.trouble(
            Count.NOT_DURABLE, f"the disk of {self._writing.folder} did not confirm a decision in time"
        )
        if self._when_full == "raise":
            raise SpoolFull(f"the disk of {self._writing.folder} did not confirm the decision in time")

    def _drop(self, what: Count, message: str) -> None:
        self.lost += 1
        self._health.trouble(what, message)
        self._changed.notify_all()

    def wake(self) -> None:
        """There is room, or something to report: by a process, too, that only sends what others left."""
        with self._changed:
            if self._losses() != self._reported[0]:
                # A process that ends starts no thread any more; what it counted is in its log.
                with contextlib.suppress(RuntimeError):
                    self._begin()
            self._changed.notify_all()

    def until_written(self, number: int, timeout_s: float) -> bool:
        """Wait until that many spans are durable; True if that was in time."""
        with self._changed:
            self._hurry += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self.synced >= number, timeout_s)
            finally:
                self._hurry -= 1

    @property
    def is_busy(self) -> bool:
        """Whether decisions come faster than one by one."""
        return len(self._pending) >= BUSY

    def report_now(self) -> None:
        """Let losses not reported yet be reported without delay."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def tidy(self) -> None:
        """Remove the folder if everything in it has arrived and nobody is writing."""
        with self._changed:
            if self._idle and not self._pending:
                self._writing.remove()

    def close(self) -> None:
        """Take nothing more; what was taken is still written."""
        with self._changed:
            self._closed = True
            self._caught_up.notify_all()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end after `close`."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        records: list[Record] = []
        taken: list[_Parcel] = []
        while True:
            if not records and not taken:
                parcels = self._take()
                taken = parcels
                records = [record for parcel in parcels for record in self._encoded(parcel)]
                records += self._starts()
                records += self._report()
            self._measure()
            wrote = bool(records)
            try:
                if records:
                    self._append(records)
                    self._wrote(taken)
                    records, taken = [], []
                self._maybe_sync()
            except OSError as error:
                if self._trouble(error, len(taken)):
                    return
                continue
            with self._changed:
                self._broken = False
                if not self._writing.dirty:
                    self.synced = self.written
                self._changed.notify_all()
                done = self._closed and not self._pending and not self._writing.dirty
            if wrote:
                self._on_written()
            if done:
                return

    def _wrote(self, taken: Sequence[_Parcel]) -> None:
        """Let go on who waits for the writing: a kill loses nothing of it now, and a disk takes time."""
        with self._changed:
            self._oldest_s = self._pending[0].at_s if self._pending else None
            if self._oldest_s is None or time.monotonic() - self._oldest_s < CAUGHT_UP_S:
                self._caught_up.notify_all()
            self._held_bytes -= sum(parcel.size_bytes for parcel in taken)
            self.written += len(taken)
            self._changed.notify_all()

    def _append(self, records: Sequence[Record]) -> None:
        if self._writing.append(records):
            # A new file stands alone once the older ones are removed: it names what is open.
            self._open = [(span, told) for span, told in self._open if span.end_time is None]
            again = [record for span, _ in self._open for record in self._start(span, spool.Kind.START)]
            if again:
                self._writing.append(again)

    def _trouble(self, error: OSError, taken: int) -> bool:
        """Wait before the next attempt; true where there is to be none, and what is left is lost."""
        self._health.trouble(
            Count.NOT_DURABLE,
            f"the spool {self._writing.folder} cannot be written ({error.strerror}); decisions wait in "
            "memory",
        )
        with self._changed:
            self._broken = True
            self._caught_up.notify_all()
            self._changed.notify_all()
            self._changed.wait_for(lambda: False, RETRY_S)
            if not self._closed:
                return False
            left = taken + len(self._pending)
            self._pending.clear()
            self.lost += left
        if left:
            self._health.trouble(
                Count.SPOOL_FULL,
                f"decisions are lost: the process ends, and its spool {self._writing.folder} takes nothing",
                left,
            )
        return True

    def _take(self) -> list[_Parcel]:
        with self._changed:
            self._idle = True
            while not (self._pending or self._closed or self._hurry):
                timeout_s = self._timeout()
                if timeout_s == 0.0:
                    break
                self._changed.wait(timeout_s)
            self._idle = False
            if not self._hurry and not self._closed and 0 < len(self._pending) < GATHER:
                # Company for one write. Nobody notifies for it: the time passes, or somebody is in a hurry.
                self._changed.wait_for(
                    lambda: self._hurry or self._closed or len(self._pending) >= GATHER, self._limits.linger_s
                )
            return [self._pending.popleft() for _ in range(min(ROUND, len(self._pending)))]

    def _timeout(self) -> float | None:
        """Seconds until something is due although nobody hands anything over; None for never."""
        waits = []
        now = time.monotonic()
        if self._writing.dirty:
            waits.append(self._next_sync - now)
        if self._fresh:
            waits.append(START_AFTER_S - _age_s(self._fresh[0]))
        waits += [self._limits.open_report_s - _age_s(span) for span, told in self._open if not told]
        if self._losses() != self._reported[0]:
            waits.append(0.0 if self._urgent else self._last_report + LOSS_REPORT_S - now)
        elif self._health.started != self._reported[1]:
            waits.append(self._last_report + self._limits.report_interval_s - now)
        return max(0.0, min(waits)) if waits else None

    def _maybe_sync(self) -> None:
        now = time.monotonic()
        if self._writing.dirty and (self._hurry or self._closed or now >= self._next_sync):
            self._writing.sync()
            self._next_sync = now + SYNC_INTERVAL_S

    def _encoded(self, parcel: _Parcel) -> Iterator[Record]:
        context = parcel.span.get_span_context() or INVALID_SPAN_CONTEXT
        key = spool.key_of(context.trace_id, context.span_id)
        try:
            yield spool.Kind.SPAN, parcel.group, key, encode.outgoing(parcel.span, self._redact, self._health)
        except Exception as error:  # noqa: BLE001 - one span that cannot be encoded must not cost its neighbours
            with self._changed:
                self.lost += 1
            self._health.trouble(Count.DEFECT, f"a decision could not be encoded: {where(error)}")
            yield spool.Kind.VOID, parcel.group, key, b""

    def _starts(self) -> Iterator[Record]:
        before = time.time_ns() - int(START_AFTER_S * 1e9)
        while self._fresh and (self._fresh[0].end_time is not None or self._fresh[0].start_time <= before):
            span = self._fresh.popleft()
            if span.end_time is None:
                self._open.append((span, False))
                yield from self._start(span, spool.Kind.START)
        if not self._open:
            return
        long_ago = time.time_ns() - int(self._limits.open_report_s * 1e9)
        still = []
        for span, told in self._open:
            if span.end_time is not None:
                continue
            report = not told and span.start_time <= long_ago
            if report:
                yield from self._start(span, spool.Kind.EVENT)
            still.append((span, told or report))
        self._open = still

    def _start(self, span: LiveSpan, kind: spool.Kind) -> Iterator[Record]:
        key = spool.key_of(span.context.trace_id, span.context.span_id)
        try:
            body = encode.outgoing(span, self._redact, self._health)
            if kind is spool.Kind.EVENT:
                body = encode.event_from(body, ReportKey.STARTED_EVENT, time.time_ns())
        except Exception as error:  # noqa: BLE001 - its end is still to come and counts; the start is an extra
            self._health.trouble(Count.END_FAILED, f"a start could not be written down: {where(error)}")
            return
        yield kind, self._group, key, body

    def _losses(self) -> dict[str, int]:
        return {name: number for name, number in self._health.counters().items() if name not in UNLOSSY}

    def _report(self) -> Iterator[Record]:
        losses, started = self._losses(), self._health.started
        changed = losses != self._reported[0]
        due_s = LOSS_REPORT_S if changed else self._limits.report_interval_s
        if not changed and started == self._reported[1]:
            return
        now = time.monotonic()
        if now < self._last_report + due_s and not (changed and (self._closed or self._urgent)):
            return
        self._urgent = False
        self._last_report, self._reported = now, (losses, started)
        facts: dict[str, object] = {Key.PRODUCER_ID: self._producer_id, ReportKey.LAST_SEQ: started}
        for name, number in self._health.counters().items():
            facts[ReportKey.COUNT_PREFIX + name] = number
        body = encode.log_record(ReportKey.REPORT_EVENT, time.time_ns(), facts)
        yield spool.Kind.EVENT, self._group, bytes(24), body


def _age_s(span: LiveSpan) -> float:
    return (time.time_ns() - span.start_time) / 1e9


def estimate(span: Ended) -> int:
    """Roughly how many bytes a span holds: its text counts, the rest is an overhead."""
    size = SPAN_OVERHEAD_BYTES
    for value in (span.attributes or {}).values():
        if isinstance(value, str):
            size += len(value)
    return size
