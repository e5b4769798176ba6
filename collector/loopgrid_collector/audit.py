"""Who saw what: accesses, appended to the same ledger in the background.

Laws:

* A request never waits for its own access to be stored.
* What is noted is stored, or counted: where the queue is full, or attempts come faster than they are
  recorded singly, one entry says how many are missing.

Hole: accesses of the last quarter of a second are lost when the process is killed.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from loopgrid_collector.errors import CollectorError
from loopgrid_collector.keyring import utc_now
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append, Entry, sealed_entries

MAX_WAITING: Final = 10_000
"""Accesses that may wait to be stored."""

MAX_BATCH: Final = 1_000
"""Accesses of one commit."""

GATHER_S: Final = 0.25
"""Seconds for which accesses gather before they share a commit."""

RETRY_S: Final = 2.0
"""Seconds between two attempts while the storage does not work."""

REFUSED_PER_S: Final = 10
"""Refused attempts a second that are recorded singly; the rest is counted."""

MAX_DECISION_IDS: Final = 1_000
"""Decision ids of one access; ``decisions`` says how many there were."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """One request, granted or refused.

    Attributes:
        door: ``rest``, ``otlp_http``, ``otlp_grpc`` or ``quack``.
        method: HTTP method, or the gRPC method's name.
        route: path with its parameters in braces, or the gRPC service.
        status: HTTP status, also over gRPC; None where the client left first.
        key_id: whose request it was; None where no good key came.
        decision_ids: decisions that the answer showed or that the request spoke of.
        decisions: how many they are; more than ``decision_ids`` where the list was cut.
        statement_sha256: digest of the SQL text.
        request_id: as in the answer's ``X-Request-Id``.
        reason: why it was refused.
        address: where a refused request came from.
        attempts: how many requests this stands for.
    """

    door: str
    method: str
    route: str
    status: int | None
    key_id: str | None = None
    decision_ids: tuple[str, ...] = ()
    decisions: int = 0
    statement_sha256: str | None = None
    request_id: str | None = None
    reason: str | None = None
    address: str | None = None
    attempts: int = 1


class Audit:
    """Takes accesses from any thread and stores them from one of its own, begun at the first."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing waits yet.

        Args:
            ledger: where accesses go.
            clock: seconds that only ever grow.
        """
        self._ledger = ledger
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[tuple[datetime, Access]] = deque()
        self._uncounted: dict[str, int] = {}
        self._second = -1
        self._refused_this_second = 0
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None

    def note(self, access: Access) -> None:
        """Record an access, soon."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                self._leave_out("queue_full")
            else:
                self._waiting.append((utc_now(), access))
            self._wake()

    def refused(self, access: Access) -> None:
        """Record a refused attempt, or count it where there are too many of them."""
        with self._changed:
            second = int(self._clock())
            if second != self._second:
                self._second, self._refused_this_second = second, 0
            self._refused_this_second += 1
            if self._refused_this_second > REFUSED_PER_S:
                self._leave_out("too_many_refused")
                self._wake()
                return
        self.note(access)

    def close(self) -> None:
        """Store what waits. What cannot be stored now is lost, and the log says how much."""
        self._closing.set()
        with self._changed:
            writer = self._writer
            self._changed.notify_all()
        if writer is not None:
            writer.join()

    def _leave_out(self, why: str) -> None:
        self._uncounted[why] = self._uncounted.get(why, 0) + 1

    def _wake(self) -> None:
        if self._writer is None and not self._closing.is_set():
            self._writer = threading.Thread(target=self._work, name="audit-writer", daemon=True)
            self._writer.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._uncounted or self._closing.is_set())
            self._closing.wait(GATHER_S)
            taken = self._take()
            if not taken:
                if self._closing.is_set():
                    return
                continue
            if self._stored(taken):
                continue
            with self._changed:
                self._waiting.extendleft(reversed(taken))
            if self._closing.is_set():
                _log.error("%d accesses could not be recorded before the end.", len(self._waiting))
                return
            # At a close, once more at once.
            self._closing.wait(RETRY_S)

    def _take(self) -> list[tuple[datetime, Access]]:
        with self._changed:
            taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            for why, attempts in self._uncounted.items():
                left_out = Access("", "", "", None, reason=why, attempts=attempts)
                taken.append((utc_now(), left_out))
            self._uncounted.clear()
        return taken

    def _stored(self, taken: list[tuple[datetime, Access]]) -> bool:
        entries = [_entry(at, access) for at, access in taken]
        try:
            self._ledger.append(Append(entries=sealed_entries(entries))).result()
        except CollectorError:
            return False
        return True


def _entry(at: datetime, access: Access) -> Entry:
    said = {name: value for name, value in asdict(access).items() if value not in (None, "", ())}
    return Entry(
        entry_id=f"acc_{uuid.uuid4().hex}",
        entry_type="access",
        trace_id=0,
        span_id=0,
        subject_id=None,
        actor=access.key_id,
        body={"at": at.isoformat(timespec="microseconds"), **said},
    )
