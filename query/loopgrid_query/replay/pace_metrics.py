"""What is counted of the providers, as ``/metrics`` tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from loopgrid_query.replay.pacing import Pace


def of(paces: Mapping[str, Pace]) -> Iterator[Metric]:
    """Metrics of each provider.

    Args:
        paces: of the providers that were asked so far, by name.
    """
    requests = CounterMetricFamily(
        "loopgrid_model_requests",
        "Requests to model providers: sent; of those answered and held_back; and withheld ones, not sent.",
        labels=["provider", "outcome"],
    )
    now = GaugeMetricFamily(
        "loopgrid_model_calls", "Model calls at this moment.", labels=["provider", "state"]
    )
    paused = GaugeMetricFamily(
        "loopgrid_model_pause_seconds",
        "Seconds until the provider is asked again, as it asked for.",
        labels=["provider"],
    )
    for name, pace in sorted(paces.items()):
        counts = pace.counts
        for outcome in ("sent", "answered", "held_back", "withheld"):
            requests.add_metric([name, outcome], getattr(counts, outcome))
        now.add_metric([name, "waiting"], counts.waiting)
        now.add_metric([name, "under_way"], counts.under_way)
        paused.add_metric([name], pace.paused_s)
    yield from (requests, now, paused)
