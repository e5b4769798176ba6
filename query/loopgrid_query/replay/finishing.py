"""Ends of replays that run in this process: the decision and the entry that says so, in one commit for many.

Laws:

* A result and its end are stored together, or neither.
* What the decoder refuses costs no other end anything: it is told to whoever handed it in.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final

from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.errors import CollectorError, Undecodable
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry, Receipt, sealed_entries
from loopgrid_query.errors import Invalid

COMPANY_S: Final = 0.01
"""Seconds that an end waits for others, where the one before had company: a commit costs as much for one."""
MAX_TOGETHER: Final = 64

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _End:
    span: bytes
    entry: Entry
    done: Future[None] = field(default_factory=Future)


class Finisher:
    """Stores ends. Threads may share it."""

    def __init__(self, ingest: Ingest) -> None:
        """Nothing is stored yet.

        Args:
            ingest: the door.
        """
        self._ingest = ingest
        self._ends: queue.SimpleQueue[_End | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._had_company = False

    def finish(self, span: bytes, entry: Entry) -> None:
        """Store a decision and the end that it is; both are durable when this returns.

        Args:
            span: the decision, as an ``ExportTraceServiceRequest``.
            entry: the end.

        Raises:
            Invalid: the decision cannot be stored; nothing is.
            CollectorError: the door refuses; nothing is stored.
        """
        end = _End(span, entry)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="replay-ends", daemon=True)
                self._thread.start()
            self._ends.put(end)
        end.done.result()

    def close(self) -> None:
        """Store what was handed in, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._ends.put(None)
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while (first := self._ends.get()) is not None:
            ends, goes_on = self._company(first)
            self._store(ends)
            if not goes_on:
                return

    def _company(self, first: _End) -> tuple[list[_End], bool]:
        """What is stored with an end; False once the last was seen."""
        ends = [first]
        until = time.monotonic() + (COMPANY_S if self._had_company else 0.0)
        while len(ends) < MAX_TOGETHER:
            patience_s = until - time.monotonic()
            try:
                more = self._ends.get(timeout=patience_s) if patience_s > 0 else self._ends.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return ends, False
            ends.append(more)
        self._had_company = len(ends) > 1
        return ends, True

    def _store(self, ends: Sequence[_End]) -> None:
        try:
            receipts = self._stored(ends)
        except (Invalid, CollectorError) as error:
            if len(ends) > 1 and isinstance(error, Invalid):
                for end in ends:
                    self._store([end])
                return
            for end in ends:
                end.done.set_exception(error)
            return
        for end, receipt in zip(ends, receipts, strict=True):
            if receipt.conflicts:
                # Somebody recorded another decision under the id of this attempt: it is the result then.
                _log.error(
                    "the result of %s is on record with other content, which stands", end.entry.subject_id
                )
            end.done.set_result(None)

    def _stored(self, ends: Sequence[_End]) -> Sequence[Receipt]:
        try:
            append = append_of(Kind.TRACES, *(end.span for end in ends))
        except Undecodable as error:
            raise Invalid(f"The decision cannot be stored: {error}") from error
        except Exception as error:
            _log.exception("A result could not be decoded because of a mistake in LoopGrid.")
            raise Invalid("The decision cannot be stored: a mistake here, it is logged.") from error
        if append.refused:
            raise Invalid(f"The decision cannot be stored: {append.refused[0].reason}")
        receipt = self._ingest.append_blocking(
            replace(append, entries=sealed_entries([end.entry for end in ends]))
        )
        return receipt.parts or (receipt,)
