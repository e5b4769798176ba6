"""Ends statements that take too long, or during which the process grows too much.

DuckDB does not count every vector against its memory limit, so the growth of the whole process is watched as
well. Whose it is cannot be told: all statements that run are ended then, and ingestion goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import duckdb

CHECK_S: Final = 0.05
"""Seconds between two looks at the process."""

_STATM: Final = Path("/proc/self/statm")


class Why(Enum):
    """Why a statement was ended."""

    TIME = "time"
    MEMORY = "memory"


@dataclass(eq=False, slots=True)
class Watched:
    """One statement that runs.

    Attributes:
        cursor: what runs it.
        until_s: by the monotonic clock, when it is ended.
        start_bytes: resident memory of the process when it began.
        ended: why it was ended; None while it was not.
    """

    cursor: duckdb.DuckDBPyConnection
    until_s: float
    start_bytes: int
    ended: Why | None = field(default=None)


class Watch:
    """The watch over all statements of one server. Safe to use from any thread."""

    def __init__(self, growth_bytes: int) -> None:
        """Begin.

        Args:
            growth_bytes: how much the process may grow while a statement runs.
        """
        self._growth_bytes = growth_bytes
        self._running: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> int:
        """Statements that run now."""
        with self._changed:
            return len(self._running)

    @contextmanager
    def over(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[Watched]:
        """Watch what a cursor runs within the block; interrupted, it raises there."""
        watched = Watched(cursor, time.monotonic() + seconds, resident_bytes())
        with self._changed:
            self._running.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="sql-watch", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            # Under the lock: after it the cursor may be closed, and nobody interrupts it any more.
            with self._changed:
                self._running.discard(watched)

    def _look(self) -> None:
        while True:
            with self._changed:
                if not self._running:
                    self._thread = None
                    return
                self._end_what_must(time.monotonic(), resident_bytes())
            time.sleep(CHECK_S)

    def _end_what_must(self, now_s: float, bytes_now: int) -> None:
        grown = any(bytes_now - each.start_bytes > self._growth_bytes for each in self._running)
        for each in self._running:
            if each.ended is None and (grown or now_s >= each.until_s):
                each.ended = Why.MEMORY if grown else Why.TIME
            if each.ended is not None:
                # Again at every look: an interrupt that comes between two steps of a statement is forgotten.
                with suppress(duckdb.ConnectionException):
                    each.cursor.interrupt()


def resident_bytes() -> int:
    """Memory of this process that stands in RAM; 0 where the system does not say."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
