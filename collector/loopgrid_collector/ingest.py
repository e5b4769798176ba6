"""The one door that acknowledges: decode → normalise → append → answer.

Laws:

* Returning a receipt means committed, durable and visible. Nothing else in the house may say so.
* Every item of a request is stored, known already, kept as a conflict, or in quarantine with its
  reason; the four counts add up to what was sent.
* The bytes in the house are bounded by ``max_queued_bytes``; beyond it a request is refused before any
  work is done on it, and may be sent again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.core import Metric

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import Kind
from loopgrid_collector.errors import Overloaded, Undecodable
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append, Entry, Receipt, sealed_entries
from loopgrid_collector.stage import Stage

__all__ = ["Entry", "Ingest", "Receipt"]


def _metrics_checked(body: bytes) -> None:
    try:
        ExportMetricsServiceRequest.FromString(body)
    except DecodeError as error:
        raise Undecodable("The body is not an OTLP metrics request in protobuf.") from error


class Ingest:
    """Takes requests in, in any number at once."""

    def __init__(self, ledger: Ledger, config: CollectorConfig) -> None:
        """A door into ``ledger``."""
        self._ledger = ledger
        self._limit = config.max_queued_bytes
        self._queued_bytes = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stage = Stage(ledger, config.decode_processes)
        self._at_stop: list[Callable[[], None]] = []
        self._at_close: list[Callable[[], None]] = []
        self._at_scrape: list[Callable[[], Iterable[Metric]]] = []

    async def traces(self, body: bytes) -> Receipt:
        """Store an ``ExportTraceServiceRequest`` (protobuf, not compressed).

        Raises:
            Undecodable: the body is not one; nothing is stored.
            Retryable: nothing is stored; the same request may succeed later.
        """
        return await self._taken(Kind.TRACES, body)

    async def logs(self, body: bytes) -> Receipt:
        """Store an ``ExportLogsServiceRequest``. Errors as for :meth:`traces`."""
        return await self._taken(Kind.LOGS, body)

    async def metrics(self, body: bytes) -> Receipt:
        """Accept an ``ExportMetricsServiceRequest``; it is counted and dropped.

        Raises:
            Undecodable: the body is not one.
        """
        with self._admitted("metrics", len(body)):
            await asyncio.to_thread(_metrics_checked, body)
            self._count("metrics.requests_dropped", 1)
            return Receipt()

    async def entry(self, entry: Entry) -> int:
        """Store something said about a decision; the id of the commit that holds it.

        Raises:
            Retryable: nothing is stored.
        """
        receipt = await asyncio.wrap_future(self._ledger.append(Append(entries=sealed_entries([entry]))))
        return self._entry_stored(receipt)

    def traces_blocking(self, body: bytes) -> Receipt:
        """:meth:`traces`, for threads without an event loop."""
        return self._taken_blocking(Kind.TRACES, body)

    def logs_blocking(self, body: bytes) -> Receipt:
        """:meth:`logs`, for threads without an event loop."""
        return self._taken_blocking(Kind.LOGS, body)

    def entry_blocking(self, entry: Entry) -> int:
        """:meth:`entry`, for threads without an event loop."""
        return self._entry_stored(self._ledger.append(Append(entries=sealed_entries([entry]))).result())

    def entries_blocking(self, entries: Sequence[Entry]) -> int:
        """Store several things said about a decision in one commit; its id. All are stored, or none.

        Raises:
            Retryable: nothing is stored.
        """
        return self._entry_stored(self._ledger.append(Append(entries=sealed_entries(entries))).result())

    def append_blocking(self, append: Append) -> Receipt:
        """Store decoded spans of our own with what is said about them: all of it, or nothing.

        Raises:
            Retryable: nothing is stored.
        """
        self._count("traces.requests", append.requests)
        receipt = self._ledger.append(append).result()
        said = 0 if append.entries is None else len(append.entries)
        self._count("entries.stored", said)
        return self._counted("traces", replace(receipt, stored=receipt.stored - said))

    def counters(self) -> Mapping[str, int]:
        """Counts since the start, by dotted name; ``queued_bytes`` is the present value."""
        with self._lock:
            counts = {**self._counts, "queued_bytes": self._queued_bytes}
        return {**counts, "decoding.processes_lost": self._stage.processes_lost}

    def when_stopping(self, callback: Callable[[], None]) -> None:
        """Have a function called when the server begins to stop, so that nobody waits for it."""
        self._at_stop.append(callback)

    def when_scraped(self, callback: Callable[[], Iterable[Metric]]) -> None:
        """Have what somebody else counts told at ``/metrics`` too."""
        self._at_scrape.append(callback)

    def scraped(self) -> Iterator[Metric]:
        """What others count at this moment."""
        for callback in self._at_scrape:
            yield from callback()

    def tell_stop(self) -> None:
        """The server begins to stop; requests under way may still store something."""
        for callback in self._at_stop:
            callback()

    def when_closing(self, callback: Callable[[], None]) -> None:
        """Have a function called before the door closes, for the last things that are to be stored."""
        self._at_close.append(callback)

    def close(self) -> None:
        """Let the decoder threads end. Requests under way are finished first."""
        for callback in self._at_close:
            callback()
        self._stage.close()

    async def _taken(self, kind: Kind, body: bytes) -> Receipt:
        with self._admitted(kind, len(body)):
            return self._counted(kind, await asyncio.wrap_future(self._stage.put(kind, body)))

    def _taken_blocking(self, kind: Kind, body: bytes) -> Receipt:
        with self._admitted(kind, len(body)):
            return self._counted(kind, self._stage.put(kind, body).result())

    @contextmanager
    def _admitted(self, signal: str, size: int) -> Iterator[None]:
        with self._lock:
            if self._queued_bytes + size > self._limit:
                self._counts[f"{signal}.requests_overloaded"] += 1
                raise Overloaded("More is arriving than can be stored right now; send again in a moment.")
            self._queued_bytes += size
            self._counts[f"{signal}.requests"] += 1
        try:
            yield
        finally:
            with self._lock:
                self._queued_bytes -= size

    def _counted(self, signal: str, receipt: Receipt) -> Receipt:
        with self._lock:
            self._counts[f"{signal}.stored"] += receipt.stored
            self._counts[f"{signal}.duplicates"] += receipt.duplicates
            self._counts[f"{signal}.conflicts"] += receipt.conflicts
            self._counts[f"{signal}.rejected"] += receipt.rejected
        return receipt

    def _count(self, name: str, by: int) -> None:
        with self._lock:
            self._counts[name] += by

    def _entry_stored(self, receipt: Receipt) -> int:
        self._count("entries.stored", receipt.stored)
        if receipt.commit_id is None:
            raise AssertionError("an entry is always new, so its commit has an id")
        return receipt.commit_id
