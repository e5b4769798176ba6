"""One request to the API: what is sent, what is tried again, which error an answer becomes."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import urllib3

from loopgrid.config import DEFAULT_ENDPOINT
from loopgrid.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LoopGridError,
    NotFound,
    Permanent,
    Retryable,
    ServerDefect,
    Unavailable,
    Unreachable,
)
from loopgrid.headers import USER_AGENT, retry_after_s
from loopgrid.request import Call
from loopgrid.results import Result

T = TypeVar("T", bound=Result)

PERMANENT: Final[Mapping[int, type[Permanent]]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404
DEFAULT_PORT: Final = urlsplit(DEFAULT_ENDPOINT).port
JITTER: Final = 0.2
"""Share by which a backoff is varied, so that many clients do not return at once."""
MAX_CONNECTIONS: Final = 32
"""Connections kept open, and attempts of an `AsyncLoopGrid` under way at once."""
RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
MAX_TRIES: Final = 4
FIRST_BACKOFF_S: Final = 0.1
SUCCESS: Final = range(200, 300)


class Attempts:
    """How often, and when, one call may be sent again.

    A call that may be sent twice is tried again wherever it may have failed on the way; any other only where
    the server says that it did nothing and when to come back.
    """

    def __init__(self, call: Call[Any], timeout_s: float) -> None:
        self._safe = call.safe
        self._left = MAX_TRIES
        self._backoff_s = FIRST_BACKOFF_S
        self._deadline = time.monotonic() + timeout_s
        # Its own generator: the application's seeded one must not notice.
        self._dice = random.Random()  # noqa: S311 - spreads load, hides nothing

    def left_s(self) -> float:
        """Seconds that the next attempt may take."""
        return max(0.001, self._deadline - time.monotonic())

    def wait_s(self, error: LoopGridError) -> float | None:
        """Seconds to wait after this failure before the next attempt, or None where there is none."""
        self._left -= 1
        asked_s = error.retry_after_s if isinstance(error, Retryable) else None
        told_to_wait = isinstance(error, Unavailable) and asked_s is not None
        if not isinstance(error, Retryable) or not (self._safe or told_to_wait) or self._left <= 0:
            return None
        wait_s = max(self._backoff_s * self._dice.uniform(1 - JITTER, 1 + JITTER), asked_s or 0.0)
        self._backoff_s *= 2
        return None if time.monotonic() + wait_s >= self._deadline else wait_s


class Rest:
    """The HTTP side of the client: one connection pool, one endpoint. Thread-safe."""

    def __init__(self, endpoint: str, api_key: str | None, timeout_s: float) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(retries=False, maxsize=MAX_CONNECTIONS)
        self._headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def attempt(self, call: Call[T], timeout_s: float) -> T | LoopGridError:
        """Send it once; the answer, or what is wrong with it."""
        answer = self._sent(call, timeout_s, {})
        if isinstance(answer, LoopGridError):
            return answer
        judged = self._judge(answer.status, answer.headers, answer.data)
        if isinstance(judged, LoopGridError):
            return judged
        if not isinstance(judged.value, dict):
            return Invalid(
                f"the server answered {type(judged.value).__name__} where a JSON object was expected: check "
                "the endpoint"
            )
        return call.result(judged.value)

    def attempt_bytes(self, call: Call[Any], media_type: str, timeout_s: float) -> bytes | LoopGridError:
        """Send it once and ask for another form of answer; its bytes, or what is wrong with it."""
        answer = self._sent(call, timeout_s, {"Accept": media_type})
        if isinstance(answer, LoopGridError):
            return answer
        if answer.status in SUCCESS and answer.headers.get("content-type") == media_type:
            return answer.data
        judged = self._judge(answer.status, answer.headers, answer.data)
        if isinstance(judged, LoopGridError):
            return judged
        return ServerDefect(
            f"{self.endpoint} answered in another form than {media_type}: it is an older LoopGrid server; "
            "upgrade it",
            status=answer.status,
        )

    def _sent(
        self, call: Call[Any], timeout_s: float, more: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse | Unreachable:
        headers = {**self._headers, **more}
        body = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(call.body, allow_nan=False).encode()
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        target = f"{call.path}?{urlencode(call.query)}" if call.query else call.path
        try:
            return self._pool.request(
                call.method,
                self.endpoint + target,
                body=body,
                headers=headers,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout_s),
            )
        except urllib3.exceptions.HTTPError as error:
            return self._unreachable(error)

    def _judge(self, status: int, headers: Mapping[str, str], data: bytes) -> _Answer | LoopGridError:
        try:
            content = json.loads(data) if data else None
        except ValueError:
            content = None
            if status in SUCCESS:
                return ServerDefect(
                    f"{self.endpoint} answered {status} with something that is not JSON: it is probably no "
                    "LoopGrid "
                    "server; check the endpoint",
                    status=status,
                )
        if status in SUCCESS:
            return _Answer(content)
        problem = content if isinstance(content, dict) else {}
        detail = _detail(problem) or f"{self.endpoint} answered HTTP {status}"
        if status in RETRYABLE_STATUS:
            wait_s = retry_after_s(headers)
            return Unavailable(
                f"{detail.rstrip('.')}; try again", retry_after_s=wait_s, status=status, problem=problem
            )
        kind = PERMANENT.get(status, ServerDefect)
        if status == NOT_FOUND and not _detail(problem):
            detail = f"{detail}: is that the API port, by default {DEFAULT_PORT}?"
        elif status == UNAUTHORIZED:
            detail = f"{detail.rstrip('.')}: set LOOPGRID_API_KEY or pass api_key="
        elif kind is ServerDefect:
            detail = f"{detail.rstrip('.')}; look at the server's log"
        return kind(detail, status=status, problem=problem)

    def _unreachable(self, error: urllib3.exceptions.HTTPError) -> Unreachable:
        if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
            error, urllib3.exceptions.ConnectTimeoutError
        ):
            return Unreachable(
                f"{self.endpoint} did not answer within {self._timeout_s:g} s; try again, or raise timeout_s"
            )
        return Unreachable(
            f"no LoopGrid server answers at {self.endpoint} ({type(error).__name__}): start one with "
            "`loopgrid serve`, "
            "or set LOOPGRID_ENDPOINT (or endpoint=) to where one runs"
        )


class _Answer:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _detail(problem: Mapping[str, Any]) -> str:
    """What a problem document tells its reader: its detail and the fields it names."""
    detail = str(problem.get("detail") or problem.get("title") or "")
    errors = problem.get("errors")
    if isinstance(errors, list):
        # The detail usually names the faults already.
        named = "; ".join(text for error in errors if (text := _one(error)) not in detail)
        if named:
            detail = f"{detail} ({named})" if detail else named
    return detail


def _one(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    place = error.get("field") or error.get("pointer") or error.get("loc")
    message = error.get("detail") or error.get("message") or error.get("msg") or ""
    return f"{place}: {message}" if place else str(message)
