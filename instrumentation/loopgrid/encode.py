"""From a span to OTLP bytes: the one place that every span passes, ours and other instrumentations'.

The bytes are written here by hand. The generic encoder builds an object per attribute first and costs three
times as much, on a thread that shares the interpreter with the application; what comes out is the same (a
test compares them). Redaction happens here and nowhere else, so no span can leave without it.

Law: redaction fails closed. Where the rules raise, the content of that span stays out, its ids, times and
names go, and the failure is counted. A batch is never dropped for one span.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, SpanKind, Status

from loopgrid.health import Count, Health, where
from loopgrid.schema import Key

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan


Redact = Callable[[Any], int]
"""Changes an OTLP `Span` message in place and says how many values it redacted."""


class Ended(Protocol):
    """What is needed of a span: the SDK's `ReadableSpan` has it, and so have our own."""

    # Read-only members, because that is what the SDK's properties are.
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def parent(self) -> SpanContext | None: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def links(self) -> Sequence[Link]: ...
    @property
    def status(self) -> Status: ...
    @property
    def dropped_attributes(self) -> int: ...
    @property
    def dropped_events(self) -> int: ...
    @property
    def dropped_links(self) -> int: ...
    def get_span_context(self) -> SpanContext | None: ...


imports: Final = threading.RLock()
"""Held by our threads while they import, and by whoever forks: a module whose import was under way in another
thread can never be imported in the child."""
MAX_NESTING: Final = 32
"""Levels of lists and maps in an attribute; a collector refuses a request that nests past its own limit."""
_MASK: Final = 2**64 - 1
_SEVEN_BITS: Final = 0x7F
_HAS_REMOTE_FLAG: Final = 0x100
_IS_REMOTE_FLAG: Final = 0x200
_KEPT_WHEN_REDACTION_FAILS: Final = frozenset(
    {
        Key.RECORD_VERSION,
        Key.DECISION_TYPE,
        Key.PRODUCER_ID,
        Key.PRODUCER_SEQ,
        Key.REPLAY_ID,
        Key.REPLAY_OF,
        Key.FUNCTION_NAME,
    }
)
WITHHELD: Final = "content:withheld:redaction_failed"
"""Entry in the record's lossiness where the redaction rules raised."""


def varint(number: int) -> bytes:
    """A protobuf varint."""
    if number <= _SEVEN_BITS:
        return bytes((number,))
    written = bytearray()
    while number > _SEVEN_BITS:
        written.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


_SMALL: Final = 2**11
_LENGTHS: Final = [varint(number) for number in range(_SMALL)]


def field(tag: bytes, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size = len(body)
    return tag + (_LENGTHS[size] if size < _SMALL else varint(size)) + body


def utf8(text: str) -> bytes:
    """UTF-8; a lone surrogate, which protobuf refuses, becomes `?`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _text(value: str) -> bytes:
    return field(b"\x0a", utf8(value))


def _integer(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return b"\x18" + varint(value & _MASK)
    return _text(str(value))


_SCALARS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: _text,
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    int: _integer,
    float: lambda value: b"\x21" + struct.pack("<d", value),
    bytes: lambda value: field(b"\x3a", value),
    type(None): lambda _: b"",
}


def any_value(value: object, depth: int = 0) -> bytes:
    """An OTLP AnyValue. What has no form there is written as the name of its type."""
    form = _SCALARS.get(type(value))
    if form is None:
        form = next((found for kind, found in _SCALARS.items() if isinstance(value, kind)), None)
    if form is not None:
        return form(value)
    if depth >= MAX_NESTING:
        return _text("$nested_too_deeply")
    if isinstance(value, Mapping):
        entries = b"".join(field(b"\x0a", _entry(str(key), item, depth + 1)) for key, item in value.items())
        return field(b"\x32", entries)
    if isinstance(value, Sequence):
        return field(b"\x2a", b"".join(field(b"\x0a", any_value(item, depth + 1)) for item in value))
    return _text(type(value).__qualname__)


def _entry(key: str, value: object, depth: int = 0) -> bytes:
    return field(b"\x0a", utf8(key)) + field(b"\x12", any_value(value, depth))


_heads: Final[dict[str, bytes]] = {}
_MAX_HEADS: Final = 4096


def _head(key: str) -> bytes:
    """A key as it stands in front of its value; our own keys are few and come again."""
    head = _heads.get(key)
    if head is None:
        head = field(b"\x0a", utf8(key)) + b"\x12"
        if len(_heads) < _MAX_HEADS:
            _heads[key] = head
    return head


def attributes(tag: bytes, pairs: Mapping[str, Any] | None) -> bytes:
    """Repeated KeyValue fields. Most values are text, which is written here without a call for each part."""
    if not pairs:
        return b""
    parts: list[bytes] = []
    for key, value in dict(pairs).items():
        if type(value) is str:
            data = utf8(value)
            size = len(data)
            body = b"\x0a" + (_LENGTHS[size] if size < _SMALL else varint(size)) + data
        else:
            body = any_value(value)
        head = _heads.get(key) or _head(key)
        size = len(body)
        length = _LENGTHS[size] if size < _SMALL else varint(size)
        size += len(head) + len(length)
        parts += (tag, _LENGTHS[size] if size < _SMALL else varint(size), head, length, body)
    return b"".join(parts)


def encode(span: Ended) -> bytes:
    """An OTLP Span."""
    context = span.get_span_context() or INVALID_SPAN_CONTEXT
    parent = span.parent
    # The bits that the stock exporter writes, so that a span exported by both is one and the same.
    flags = _HAS_REMOTE_FLAG
    parts = [
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"),
        b"\x12\x08", context.span_id.to_bytes(8, "big"),
    ]  # fmt: skip
    if context.trace_state:
        parts.append(
            field(b"\x1a", utf8(",".join(f"{key}={value}" for key, value in context.trace_state.items())))
        )
    if parent is not None:
        parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        flags |= _IS_REMOTE_FLAG if parent.is_remote else 0
    parts += [
        field(b"\x2a", utf8(span.name)),
        bytes((0x30, span.kind.value + 1)),
        b"\x39" + struct.pack("<Q", span.start_time or 0),
        b"\x41" + struct.pack("<Q", span.end_time or 0),
        attributes(b"\x4a", span.attributes),
    ]
    if span.events:
        parts += [field(b"\x5a", _event(event)) for event in span.events]
    if span.links:
        parts += [field(b"\x6a", _link(link)) for link in span.links]
    for tag, dropped in (
        (b"\x50", span.dropped_attributes),
        (b"\x60", span.dropped_events),
        (b"\x70", span.dropped_links),
    ):
        if dropped:
            parts.append(tag + varint(dropped))
    status = span.status
    body = field(b"\x12", utf8(status.description)) if status.description else b""
    if status.status_code.value:
        body += bytes((0x18, status.status_code.value))
    parts.append(field(b"\x7a", body))
    parts.append(b"\x85\x01" + struct.pack("<I", flags))
    return b"".join(parts)


def _event(event: Any) -> bytes:
    body = b"\x09" + struct.pack("<Q", event.timestamp or 0) + field(b"\x12", utf8(event.name))
    body += attributes(b"\x1a", event.attributes)
    return body + (b"\x20" + varint(event.dropped_attributes) if event.dropped_attributes else b"")


def _link(link: Any) -> bytes:
    context = link.context
    flags = _HAS_REMOTE_FLAG | (_IS_REMOTE_FLAG if context.is_remote else 0)
    body: bytes = (
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    )
    body += attributes(b"\x22", link.attributes)
    if link.dropped_attributes:
        body += b"\x28" + varint(link.dropped_attributes)
    return body + b"\x35" + struct.pack("<I", flags)


def outgoing(span: Ended, redact: Redact | None, health: Health) -> bytes:
    """An OTLP Span with the redaction rules applied: what may leave the process."""
    written = encode(span)
    if redact is None:
        return written
    with imports:
        from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan  # noqa: PLC0415 - only who redacts

    message = ProtoSpan.FromString(written)
    try:
        health.count(Count.REDACTED, int(redact(message)))
    except Exception as error:  # noqa: BLE001 - rules are the user's code; failing closed is the law above
        health.trouble(
            Count.REDACTION_FAILED,
            f"the redaction rules failed, so the content of spans is withheld: {where(error)}",
        )
        message = ProtoSpan.FromString(written)
        _withhold(message)
    return bytes(message.SerializeToString())


def _withhold(message: ProtoSpan) -> None:
    kept = [entry for entry in message.attributes if entry.key in _KEPT_WHEN_REDACTION_FAILS]
    del message.attributes[:]
    message.attributes.extend(kept)
    del message.events[:]
    del message.links[:]
    message.status.message = ""
    lossiness = message.attributes.add()
    lossiness.key = Key.LOSSINESS
    lossiness.value.array_value.values.add().string_value = WITHHELD


def event_from(span: bytes, event_name: str, observed_ns: int) -> bytes:
    """An OTLP LogRecord about a span: its ids, start and attributes, taken from the span's bytes.

    Taken from what redaction has already seen, so that nothing leaves this way that may not leave the other.
    """
    with imports:
        from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord  # noqa: PLC0415 - rare
        from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan  # noqa: PLC0415 - rare

    source = ProtoSpan.FromString(span)
    record = LogRecord(
        time_unix_nano=source.start_time_unix_nano,
        observed_time_unix_nano=observed_ns,
        trace_id=source.trace_id,
        span_id=source.span_id,
        event_name=event_name,
        attributes=source.attributes,
    )
    return bytes(record.SerializeToString())


def log_record(event_name: str, time_ns: int, pairs: Mapping[str, Any]) -> bytes:
    """An OTLP LogRecord that speaks of no span."""
    stamp = struct.pack("<Q", time_ns)
    return b"\x09" + stamp + attributes(b"\x32", pairs) + b"\x59" + stamp + field(b"\x62", utf8(event_name))


def resource_bytes(pairs: Mapping[str, Any]) -> bytes:
    """An OTLP Resource."""
    return attributes(b"\x0a", pairs)


def scope_bytes(name: str, version: str | None, pairs: Mapping[str, Any] | None = None) -> bytes:
    """An OTLP InstrumentationScope."""
    body = field(b"\x0a", utf8(name)) + (field(b"\x12", utf8(version)) if version else b"")
    return body + attributes(b"\x1a", pairs)


class Redacting(Protocol):
    """Redaction rules at work (`loopgrid.redact.Redactor`)."""

    def span(self, span: Any, /) -> int:
        """Redact an OTLP `Span` message in place."""

    def attributes(self, attributes: Any, /) -> int:
        """Redact OTLP attributes in place."""


def surroundings(
    resource: Mapping[str, Any],
    scope: tuple[str, str | None, Mapping[str, Any] | None] | None,
    redactor: Redacting | None,
    health: Health,
) -> tuple[bytes, bytes]:
    """An OTLP Resource and InstrumentationScope with the redaction rules applied: what spans leave in."""
    written = resource_bytes(resource), b"" if scope is None else scope_bytes(*scope)
    if redactor is None:
        return written
    with imports:
        from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope  # noqa: PLC0415 - rare
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource  # noqa: PLC0415 - rare

    around = (Resource.FromString(written[0]), InstrumentationScope.FromString(written[1]))
    for message in around:
        health.count(Count.REDACTED, redactor.attributes(message.attributes))
    return around[0].SerializeToString(), around[1].SerializeToString()


def request(groups: Mapping[tuple[bytes, bytes], Sequence[bytes]]) -> bytes:
    """An export request of spans or log records (they are framed alike), by (resource, scope)."""
    written = []
    for (resource, scope), items in groups.items():
        inner = field(b"\x0a", scope) + b"".join(field(b"\x12", item) for item in items)
        written.append(field(b"\x0a", field(b"\x0a", resource) + field(b"\x12", inner)))
    return b"".join(written)
