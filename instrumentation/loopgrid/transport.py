"""One OTLP/HTTP request and what its answer means.

Only 200 is an acknowledgement. 400, 413 and 422 speak of the content, which no retry changes. A failing or
busy server (408, 429, 5xx) may be asked again. Everything else (a key, a path, a proxy) needs a person; until
then the decisions stay where they are. Imported when the first decision is sent: urllib3 and protobuf are not
needed to decide.
"""

from __future__ import annotations

# Connecting encodes the host's name with this codec. Loaded by the first connection it would be loaded
# outside of `encode.imports`, and a process forked at that moment could never connect.
import encodings.idna  # noqa: F401
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import urllib3
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from loopgrid.config import Config
from loopgrid.headers import USER_AGENT, retry_after_s
from loopgrid.outcome import Acknowledged, Blocked, Outcome, Refused, TryAgain

RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
"""What the OTLP specification lets a client try again."""
PATIENT_STATUS: Final = frozenset({408, *range(500, 600)}) | RETRYABLE_STATUS
"""What is tried again where everything waits on disk anyway."""
CONTENT_STATUS: Final = frozenset({400, 413, 422})
MAX_ANSWER_BYTES: Final = 64 * 2**10


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Acknowledged | TryAgain | Refused:
    """What an answer to an export means by the OTLP specification."""
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


def judge_patiently(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What an answer means for a spool, which need not give up."""
    if status in PATIENT_STATUS:
        return TryAgain(f"HTTP {status}", retry_after_s(headers))
    outcome = judge(status, headers, body)
    if isinstance(outcome, Refused) and status not in CONTENT_STATUS:
        return Blocked(outcome.reason)
    return outcome


class Transport:
    """Posts spans to one collector over kept-alive connections."""

    def __init__(self, config: Config) -> None:
        self._endpoint = config.endpoint
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(total=config.delivery.request_timeout_s)
        )
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": USER_AGENT}
        if config.api_key is not None:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    def send(self, path: str, body: bytes) -> Outcome:
        """Post an export request once and judge the answer."""
        try:
            answer = self._pool.request(
                "POST",
                self._endpoint + path,
                body=body,
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
            try:
                content = answer.read(MAX_ANSWER_BYTES)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            refused = isinstance(error.__cause__, ConnectionRefusedError)
            return TryAgain("connection refused" if refused else type(error).__name__, absent=refused)
        return judge_patiently(answer.status, answer.headers, content)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
