"""Decisions shown in the application's own OpenTelemetry provider, beside the ledger.

The mirrored span has the ids of the decision, so both places speak of the same one. The provider's sampling
holds there: a trace it does not sample is not exported by it, and is in the ledger all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import TracerProvider

from loopgrid.errors import Misconfigured
from loopgrid.health import Count, health, where

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

    from loopgrid.live import LiveSpan


class Mirror:
    """Hands ended decisions to the processors of a provider."""

    def __init__(self, processor: SpanProcessor, resource: Resource) -> None:
        self._processor = processor
        self._resource = resource

    def show(self, span: LiveSpan) -> None:
        """Hand over one that has ended. Never raises: the decision is recorded already."""
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - only who mirrors pays
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - likewise

        try:
            self._processor.on_end(
                ReadableSpan(
                    name=span.name,
                    context=span.context,
                    parent=span.parent,
                    resource=self._resource,
                    attributes=dict(span.attributes),
                    events=[Event(event.name, event.attributes, event.timestamp) for event in span.events],
                    links=span.links,
                    kind=span.kind,
                    status=span.status,
                    start_time=span.start_time,
                    end_time=span.end_time,
                    instrumentation_scope=InstrumentationScope("loopgrid"),
                )
            )
        except Exception as error:  # noqa: BLE001 - the application's processors; their failure is not ours
            health.trouble(
                Count.MIRROR_FAILED, f"a decision could not be shown in the provider: {where(error)}"
            )


def mirror_of(provider: TracerProvider) -> Mirror:
    """A mirror into the provider.

    Raises:
        Misconfigured: it is no provider of OpenTelemetry's SDK.
    """
    # The SDK has no public way to hand over a span that was made elsewhere.
    processor = getattr(provider, "_active_span_processor", None)
    resource = getattr(provider, "resource", None)
    if processor is None or resource is None:
        raise Misconfigured(
            f"mirror is a {type(provider).__name__}: give a TracerProvider of opentelemetry.sdk.trace, "
            "set up before loopgrid.configure(mirror=…)"
        )
    return Mirror(processor, resource)
