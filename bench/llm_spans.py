"""Encoded OTLP requests of LLM spans, as many different ones as a benchmark wants.

A few requests are encoded in full beforehand. Each further one is a copy in which the ids and times of
its spans are overwritten in place, which costs microseconds, so that the sender does not compete with
the server for the processor.
"""

from __future__ import annotations

import json
import os
import random
import struct
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt
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
_ID_BYTES: Final = 24
_LITTLE_ENDIAN_U64: Final = struct.Struct("<Q")


class Bodies:
    """An endless supply of requests, no two with the same span.

    Args:
        spans: spans of one request.
        templates: how many requests are encoded in full; their texts come round again after that many.
        seed: makes the texts the same in every run.
    """

    def __init__(self, spans: int, templates: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._corpus = self._make_corpus(4_000_000)
        self._spans = spans
        self._numbers = count()
        self._templates = [self._make_template() for _ in range(templates)]

    @property
    def bytes_per_span(self) -> float:
        """Encoded size of a span, envelope included."""
        return sum(len(body) for body, _, _ in self._templates) / (len(self._templates) * self._spans)

    def next(self) -> bytes:
        """A request that was not handed out before. Safe to call from several threads."""
        number = next(self._numbers)
        template, ids, times = self._templates[number % len(self._templates)]
        body = template.copy()
        body[ids] = np.frombuffer(os.urandom(ids.size), np.uint8).reshape(ids.shape)
        starts = _FIRST_START_NS + (number * self._spans + np.arange(self._spans, dtype=np.uint64)) * 1000
        both = np.stack([starts, starts + np.uint64(1_000_000_000)], axis=1).astype("<u8")
        body[times] = both.view(np.uint8).reshape(times.shape)
        return body.tobytes()

    def _make_template(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """An encoded request, and where in it ids and times of each span stand."""
        spans = [self._span(number) for number in range(self._spans)]
        request = ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(
                    resource=Resource(attributes=[_attribute("service.name", "bench")]),
                    scope_spans=[ScopeSpans(spans=spans)],
                )
            ]
        )
        encoded = request.SerializeToString()
        id_places, time_places = [], []
        for span in spans:
            at = encoded.index(span.trace_id)
            # trace_id is field 1 and span_id field 2: tag and length stand between them.
            id_places.append([*range(at, at + 16), *range(at + 18, at + _ID_BYTES + 2)])
            start = encoded.index(_LITTLE_ENDIAN_U64.pack(span.start_time_unix_nano), at)
            # Fields 7 and 8, fixed64: one tag byte between them.
            time_places.append([*range(start, start + 8), *range(start + 9, start + 17)])
        return np.frombuffer(encoded, np.uint8).copy(), np.array(id_places), np.array(time_places)

    def _span(self, number: int) -> Span:
        start_ns = _FIRST_START_NS + number * 1000
        span = Span(
            trace_id=self._random.randbytes(16),
            span_id=self._random.randbytes(8),
            name="chat gpt-5-mini",
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + 1_000_000_000,
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


def _attribute(key: str, value: str | float | list[str]) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    values = [AnyValue(string_value=text) for text in value]
    return KeyValue(key=key, value=AnyValue(array_value=ArrayValue(values=values)))
