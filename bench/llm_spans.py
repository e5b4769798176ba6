"""Encoded OTLP requests of LLM spans, as many different ones as a benchmark wants.

A few requests are encoded in full beforehand. Each further one is the same buffer with the ids and times
of its spans overwritten in place, which costs a fraction of a microsecond a span, so that the sender does
not compete with the server for the processor.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import struct
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

ATTRIBUTES_PER_SPAN: Final = 20

_WORDS: Final = (
    "refund order blender arrived broken customer charge twice billing account support please agent policy "
    "delivery late card duplicate invoice email address subscription cancel upgrade plan month"
).split()
_FIRST_START_NS: Final = 1_760_000_000_000_000_000
_DURATION_NS: Final = 1_000_000_000
_CALL_SPACING_NS: Final = 1_000_000
_CORPUS_CHARACTERS: Final = 4_000_000
_LITTLE_ENDIAN_U64: Final = struct.Struct("<Q")

Places = npt.NDArray[np.int64]


class Template:
    """An encoded request whose ids and times can be made new.

    Attributes:
        body: the encoded request; ``renew`` writes into it.
    """

    def __init__(self, body: bytes, ids: list[list[int]], times: list[list[int]], *, text: bool) -> None:
        """A request, and where in it the bytes of each span's ids and times stand.

        Args:
            body: the request.
            ids: for each span, the places of its trace id and span id.
            times: for each span, the places of its start and end.
            text: whether they are written as JSON has them, in hexadecimal and decimal digits.
        """
        self.body = bytearray(body)
        self._bytes = np.frombuffer(self.body, np.uint8)
        self._ids: Places = np.array(ids).ravel()
        self._times: Places = np.array(times).ravel()
        self._spans = len(ids)
        self._text = text

    def moved(self, offset: int, into: bytearray) -> Template:
        """The same request as part of a larger buffer, which has it at ``offset``."""
        template = object.__new__(Template)
        template.body = into
        template._bytes = np.frombuffer(into, np.uint8)
        template._ids, template._times = self._ids + offset, self._times + offset
        template._spans, template._text = self._spans, self._text
        return template

    def renew(self, number: int, spacing_ns: int = 1000) -> None:
        """Give every span new random ids, and times that follow from the request's number.

        Args:
            number: of the request.
            spacing_ns: from the start of one span to the next.
        """
        first = _FIRST_START_NS + number * self._spans * spacing_ns
        starts = first + np.arange(self._spans, dtype=np.uint64) * np.uint64(spacing_ns)
        times = np.stack([starts, starts + np.uint64(_DURATION_NS)], axis=1).ravel()
        if self._text:
            ids = os.urandom(len(self._ids) // 2).hex().encode("ascii")
            digits = "".join(map(str, times.tolist())).encode("ascii")
        else:
            ids, digits = os.urandom(len(self._ids)), times.astype("<u8").tobytes()
        self._bytes[self._ids] = np.frombuffer(ids, np.uint8)
        self._bytes[self._times] = np.frombuffer(digits, np.uint8)


class Templates:
    """Makes templates with texts of their own.

    Args:
        spans: spans of one request.
        seed: makes the texts the same in every run.
    """

    def __init__(self, spans: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._corpus = self._make_corpus(_CORPUS_CHARACTERS)
        self._spans = spans

    def protobuf(self) -> Template:
        """A request in OTLP protobuf."""
        request = self._request()
        body = request.SerializeToString()
        ids, times = [], []
        for span in request.resource_spans[0].scope_spans[0].spans:
            at = body.index(span.trace_id)
            # trace_id is field 1 and span_id field 2: tag and length stand between them.
            ids.append([*range(at, at + 16), *range(at + 18, at + 26)])
            start = body.index(_LITTLE_ENDIAN_U64.pack(span.start_time_unix_nano), at)
            # Fields 7 and 8, fixed64: one tag byte between them.
            times.append([*range(start, start + 8), *range(start + 9, start + 17)])
        return Template(body, ids, times, text=False)

    def json(self) -> Template:
        """A request in OTLP/JSON: ids in hexadecimal, 64-bit numbers as text."""
        tree = MessageToDict(self._request(), use_integers_for_enums=True)
        spans = tree["resourceSpans"][0]["scopeSpans"][0]["spans"]
        for span in spans:
            for name in ("traceId", "spanId"):
                span[name] = base64.b64decode(span[name]).hex()
        body = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
        ids, times, at = [], [], 0
        for span in spans:
            trace, at = _digits(body, span["traceId"], at)
            own, at = _digits(body, span["spanId"], at)
            start, at = _digits(body, span["startTimeUnixNano"], at)
            end, at = _digits(body, span["endTimeUnixNano"], at)
            ids.append(trace + own)
            times.append(start + end)
        return Template(body, ids, times, text=True)

    def _request(self) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(
                    resource=Resource(attributes=[_attribute("service.name", "bench")]),
                    scope_spans=[ScopeSpans(spans=[self._span(number) for number in range(self._spans)])],
                )
            ]
        )

    def _span(self, number: int) -> Span:
        start_ns = _FIRST_START_NS + number * 1000
        span = Span(
            trace_id=self._random.randbytes(16),
            span_id=self._random.randbytes(8),
            name="chat gpt-5-mini",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + _DURATION_NS,
        )
        values: dict[str, str | int | float | list[str]] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.response.model": "gpt-5-mini-2025-08-07",
            "gen_ai.response.id": f"resp_{self._random.getrandbits(96):024x}",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 500,
            "gen_ai.usage.input_tokens": self._random.randrange(900),
            "gen_ai.usage.output_tokens": self._random.randrange(300),
            "gen_ai.usage.cache_read.input_tokens": 16,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.conversation.id": f"conv-{self._random.randrange(10**6)}",
            "user.id": f"u-{self._random.randrange(10**5)}",
            "server.address": "api.openai.com",
            "server.port": 443,
            "gen_ai.agent.name": "support",
            "app.tenant": "acme",
            "gen_ai.system_instructions": json.dumps([self._part(600)]),
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [self._part(1100)]}]),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [self._part(600)]}]),
        }
        span.attributes.extend(_attribute(key, value) for key, value in values.items())
        return span

    def _part(self, length: int) -> dict[str, str]:
        start = self._random.randrange(len(self._corpus) - length)
        return {"type": "text", "content": self._corpus[start : start + length]}

    def _make_corpus(self, length: int) -> str:
        words = self._random.choices(_WORDS, k=length // 7)
        numbered = (
            f"{word}{number}" if number < 1000 else word
            for word, number in zip(words, self._random.choices(range(5000), k=len(words)), strict=True)
        )
        return " ".join(numbered)


class Calls:
    """An endless supply of protobuf requests of model calls as they come to a ledger that lives for long.

    Each call has its own response id, and they begin one after the other, a thousand in a second.

    Args:
        spans: spans of one request.
        templates: how many requests are encoded in full; their texts come round again after that many.
        before: calls that the ledger holds already; these begin after them.
    """

    def __init__(self, spans: int, templates: int, before: int = 0) -> None:
        make = Templates(spans)
        self._templates = [make.protobuf() for _ in range(templates)]
        self._responses = [_responses(template.body) for template in self._templates]
        self._numbers = count(-(-before // spans))

    def next(self) -> bytes:
        """A request that was not handed out before."""
        number = next(self._numbers)
        template = self._templates[number % len(self._templates)]
        template.renew(number, _CALL_SPACING_NS)
        places = self._responses[number % len(self._templates)]
        digits = os.urandom(len(places) // 2).hex().encode("ascii")
        np.frombuffer(template.body, np.uint8)[places] = np.frombuffer(digits, np.uint8)
        return bytes(template.body)


def _responses(body: bytearray) -> Places:
    """Where the digits of the response ids stand."""
    starts = np.array([found.end() for found in re.finditer(rb"resp_(?=[0-9a-f]{24})", body)])
    return np.asarray((starts[:, None] + np.arange(24)).ravel(), np.int64)


class Bodies:
    """An endless supply of protobuf requests as ``bytes``, no two with the same span.

    Args:
        spans: spans of one request.
        templates: how many requests are encoded in full; their texts come round again after that many.
    """

    def __init__(self, spans: int, templates: int) -> None:
        make = Templates(spans)
        self._templates = [make.protobuf() for _ in range(templates)]
        self._numbers = count()

    def next(self) -> bytes:
        """A request that was not handed out before."""
        number = next(self._numbers)
        template = self._templates[number % len(self._templates)]
        template.renew(number)
        return bytes(template.body)


def _digits(body: bytes, text: str, after: int) -> tuple[list[int], int]:
    """Where that text stands in quotes, and where it ends."""
    at = body.index(f'"{text}"'.encode("ascii"), after) + 1
    return [*range(at, at + len(text))], at + len(text)


def _attribute(key: str, value: str | float | list[str]) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    values = [AnyValue(string_value=text) for text in value]
    return KeyValue(key=key, value=AnyValue(array_value=ArrayValue(values=values)))
