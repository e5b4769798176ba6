"""One OTLP/HTTP request and what its answer means.

Only 200 is an acknowledgement. What may be tried again is the table of the OTLP specification; everything
else is final. Imported when the first decision is sent: urllib3 and protobuf are not needed to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import urllib3
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan

from loopgrid.config import Config
from loopgrid.headers import USER_AGENT, retry_after_s
from loopgrid.health import Count, health
from loopgrid.outcome import Acknowledged, Outcome, Refused, TryAgain
from loopgrid.redact import Redactor

RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
MAX_ANSWER_BYTES: Final = 64 * 2**10


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What an answer to an export means."""
    if status == HTTPStatus.OK:
        try:
            partial = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:
            # The status line is the acknowledgement; the body only adds rejected items.
            return Acknowledged()
        return Acknowledged(partial.rejected_spans, partial.error_message)
    if status in RETRYABLE_STATUS:
        return TryAgain(f"HTTP {status}", retry_after_s(headers))
    return Refused(f"HTTP {status}")


class Transport:
    """Posts spans to one collector over kept-alive connections."""

    def __init__(self, config: Config) -> None:
        self._url = f"{config.endpoint}/v1/traces"
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(total=config.delivery.request_timeout_s)
        )
        self._redactor = None if config.redact is None else Redactor(config.redact)
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": USER_AGENT}
        if config.api_key is not None:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    def send(self, spans: Sequence[ReadableSpan]) -> Outcome:
        """Post the spans once and judge the answer."""
        request = encode_spans(spans)
        redacted = 0 if self._redactor is None else self._redactor.request(request)
        body = request.SerializeToString()
        try:
            answer = self._pool.request(
                "POST", self._url, body=body, headers=self._headers, redirect=False, preload_content=False
            )
            try:
                content = answer.read(MAX_ANSWER_BYTES)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            refused = isinstance(error.__cause__, ConnectionRefusedError)
            return TryAgain("connection refused" if refused else type(error).__name__, absent=refused)
        outcome = judge(answer.status, answer.headers, content)
        if redacted and isinstance(outcome, Acknowledged):
            # Counted once, however often it was tried.
            health.count(Count.REDACTED, redacted)
        return outcome

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
