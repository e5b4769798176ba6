"""``/metrics``: the server's own counters in the text format of Prometheus.

They are read at the moment of the request from where they are counted; nothing is counted here, and
nothing is kept in the library's global registry. Metrics describe one process and start at zero with it;
what is in the ledger is asked with SQL.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from loopgrid_collector.audit import Access
from loopgrid_collector.auth import Scope
from loopgrid_collector.errors import Permanent
from loopgrid_collector.guard import CHALLENGE, Guard
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.measures import Latency
from loopgrid_collector.ledger.oddities import Oddities
from loopgrid_collector.receivers.limits import Budget
from loopgrid_collector.receivers.status import verdict

_OUTCOMES: Final = {
    "stored": "stored",
    "duplicates": "duplicate",
    "conflicts": "conflict",
    "rejected": "quarantined",
}


def metrics_route(
    ledger: Ledger,
    ingest: Ingest,
    budget: Budget,
    guard: Guard,
    clock: Callable[[], float] = time.monotonic,
) -> BaseRoute:
    """The route that answers a scrape.

    Args:
        ledger: its sizes and its latencies.
        ingest: its counters.
        budget: of the doors, with what they refused.
        guard: who may scrape: keys with the scope read, where there are keys.
        clock: seconds that only ever grow.
    """
    registry = CollectorRegistry()
    registry.register(_ServerCollector(ledger, ingest, budget, clock))

    async def scrape(request: Request) -> Response:
        address = request.client.host if request.client else None
        try:
            guard.admit(
                request.headers.get, Scope.READ, Access("rest", "GET", "/metrics", None, address=address)
            )
        except Permanent as error:
            headers = {"WWW-Authenticate": CHALLENGE}
            return Response(f"{error}\n", verdict(error).http, headers, media_type="text/plain")
        # In a thread: part of it is read from the ledger.
        told = await asyncio.to_thread(generate_latest, registry)
        return Response(told, media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", scrape, methods=["GET"], include_in_schema=False)


class _ServerCollector(Collector):
    def __init__(self, ledger: Ledger, ingest: Ingest, budget: Budget, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._ingest = ingest
        self._budget = budget
        self._clock = clock
        self._started_s = clock()
        self._oddities = Oddities(ledger)

    def collect(self) -> Iterator[Metric]:
        yield _gauge("uptime_seconds", "Seconds since the start.", self._clock() - self._started_s)
        yield from self._requests()
        yield from self._storage()
        yield from self._ingest.scraped()

    def _requests(self) -> Iterator[Metric]:
        received = _counter("requests_received", "Requests admitted to ingest.", "signal")
        items = _counter(
            "items", "Spans, log records and entries by what became of them.", "signal", "outcome"
        )
        others = _counter("ingest_events", "What else ingest counts, by its name.", "name")
        counts = dict(self._ingest.counters())
        queued = counts.pop("queued_bytes", 0)
        to_forward = counts.pop("forward.queued_bytes", None)
        for name, count in sorted(counts.items()):
            signal, _, what = name.partition(".")
            if what == "requests":
                received.add_metric([signal], count)
            elif what in _OUTCOMES:
                items.add_metric([signal, _OUTCOMES[what]], count)
            else:
                others.add_metric([name], count)
        refused = _counter("requests_refused", "Requests that the doors refused.", "signal", "reason")
        for (signal, reason), count in sorted(self._budget.refusals.read().items()):
            refused.add_metric([signal, reason], count)
        oddities = self._oddities.read()
        yield from (received, items, refused, others)
        yield CounterMetricFamily(
            "loopgrid_items_unmapped",
            "Spans and log records that no dialect could read; they are stored.",
            value=oddities["unmapped"],
        )
        yield CounterMetricFamily(
            "loopgrid_values_scrubbed",
            "Attribute values that were credentials and were not stored.",
            value=oddities["scrubbed"],
        )
        yield CounterMetricFamily(
            "loopgrid_items_with_unknown_fields",
            "Spans and log records with fields that this release does not know; they are kept.",
            value=oddities["unknown_fields"],
        )
        yield _gauge("queue_bytes", "Bytes of bodies between admission and answer.", queued)
        if to_forward is not None:
            yield _gauge("forward_queue_bytes", "Bytes of bodies that wait to be passed on.", to_forward)
        yield _gauge("admitted_bytes", "Bytes that the doors hold.", self._budget.in_use_bytes)

    def _storage(self) -> Iterator[Metric]:
        now, measures = self._ledger.standing(), self._ledger.measures
        yield _gauge("storage_usable", "1 while the storage works, as far as known.", int(now.usable))
        yield _gauge("ledger_last_commit", "Id of the newest commit.", now.commit_id)
        yield _gauge("ledger_records", "Records in the ledger.", now.records)
        yield _gauge("ledger_bytes", "Size of the ledger's file.", now.file_bytes)
        yield _gauge("ledger_wal_bytes", "Size of its write-ahead log.", now.wal_bytes)
        yield _gauge("ledger_disk_free_bytes", "Free space on its disk.", now.free_bytes)
        yield _gauge("queue_appends", "Appends that wait for the writer.", now.waiting)
        events = _counter("storage_events", "Failed commits, reopened ledgers, refusals, put-offs.", "event")
        for event, count in sorted(measures.counts().items()):
            events.add_metric([event], count)
        yield events
        yield _histogram("commit_seconds", "One group commit, head included.", measures.commit)
        yield _histogram("acknowledgement_seconds", "From append to answer.", measures.acknowledgement)
        yield _histogram("checkpoint_seconds", "Folding the log into the file.", measures.checkpoint)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"loopgrid_{name}", meaning, value=value)


def _counter(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"loopgrid_{name}", meaning, labels=labels)


def _histogram(name: str, meaning: str, latency: Latency) -> Metric:
    counts, sum_s = latency.read()
    buckets = [("+Inf" if bound == float("inf") else str(bound), float(count)) for bound, count in counts]
    return HistogramMetricFamily(f"loopgrid_{name}", meaning, buckets=buckets, sum_value=sum_s)
