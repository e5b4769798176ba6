"""The span of a decision while it is open: OpenTelemetry's interface, none of the SDK's cost.

The SDK cleans every attribute, copies the span when it ends and keeps locks and bounded lists; that is most
of what a decision would cost its caller. What capture hands over is clean already, so this span is a dict
and two times. Other code may find it with `opentelemetry.trace.get_current_span()`, so every method of the
interface does what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

MAX_ATTRIBUTES: Final = 1024
"""Attributes of one span; wider than `CaptureLimits` can fill. What foreign code adds past it is counted."""
MAX_EVENTS: Final = 1024
UNSET: Final = Status()


class LiveEvent:
    """One event on a span."""

    __slots__ = ("attributes", "dropped_attributes", "name", "timestamp")

    def __init__(self, name: str, attributes: Mapping[str, Any] | None, timestamp: int) -> None:
        self.name = name
        self.attributes = attributes
        self.timestamp = timestamp
        self.dropped_attributes = 0


class LiveSpan(Span):
    """A span of ours. Not thread-safe beyond what single dict operations are; neither is a decision."""

    kind = SpanKind.INTERNAL

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, AnyValue],
        links: Sequence[Link],
        on_end: Callable[[LiveSpan], None],
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        self.attributes: dict[str, Any] = attributes
        self.links = list(links)
        self.events: list[LiveEvent] = []
        self.status = UNSET
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0
        self.end_time: int | None = None
        self._on_end = on_end
        self.start_time = time.time_ns()

    def get_span_context(self) -> SpanContext:
        """Ids and flags."""
        return self.context

    def is_recording(self) -> bool:
        """Whether it is still open."""
        return self.end_time is None

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one attribute; ignored once the span has ended."""
        if self.end_time is None:
            if len(self.attributes) >= MAX_ATTRIBUTES and key not in self.attributes:
                self.dropped_attributes += 1
            else:
                self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Mapping[str, AnyValue] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event."""
        if self.end_time is not None:
            return
        if len(self.events) >= MAX_EVENTS:
            self.dropped_events += 1
            return
        self.events.append(LiveEvent(name, dict(attributes or {}), timestamp or time.time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, AnyValue] | None = None) -> None:
        """Add a link."""
        if self.end_time is None:
            self.links.append(Link(context, dict(attributes or {})))

    def update_name(self, name: str) -> None:
        """Rename the span."""
        if self.end_time is None:
            self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; OK is final, as OpenTelemetry has it."""
        if isinstance(status, StatusCode):
            status = Status(status, description)
        if self.end_time is None and self.status.status_code is not StatusCode.OK:
            self.status = status

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, AnyValue] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - OpenTelemetry's signature
    ) -> None:
        """Add an exception as an event, with its type and message."""
        facts: dict[str, AnyValue] = {
            "exception.type": f"{type(exception).__module__}.{type(exception).__qualname__}",
            "exception.message": str(exception),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**facts, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span and hand it over, once."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self._on_end(self)

    def __enter__(self) -> Self:
        """The span itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the span; an exception that passes is recorded."""
        if error is not None and self.end_time is None:
            self.record_exception(error)
            self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self.end()
