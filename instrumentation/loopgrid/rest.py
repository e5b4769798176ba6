"""One request to the API: what is sent, what is tried again, which error an answer becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final
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
    ServerDefect,
    Unavailable,
    Unreachable,
)
from loopgrid.headers import USER_AGENT, retry_after_s

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
RETRYABLE_STATUS: Final = frozenset({429, 502, 503, 504})
MAX_TRIES: Final = 4
FIRST_BACKOFF_S: Final = 0.1
SUCCESS: Final = range(200, 300)


class Rest:
    """The HTTP side of the client: one connection pool, one endpoint."""

    def __init__(self, endpoint: str, api_key: str | None, timeout_s: float) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(retries=False)
        self._headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Read; connection errors and refusals that may pass are tried again."""
        return self._answer("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Write; tried again only where the server says that it did nothing and when to come back."""
        return self._answer("POST", path, json.dumps(body, allow_nan=False).encode())

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _answer(self, method: str, target: str, body: bytes | None) -> Any:
        """The answer's JSON.

        Raises:
            LoopGridError: the answer is none, or not a success.
        """
        deadline = time.monotonic() + self._timeout_s
        backoff_s = FIRST_BACKOFF_S
        for tries_left in reversed(range(MAX_TRIES)):
            error = self._try(method, target, body, deadline)
            if not isinstance(error, LoopGridError):
                return error.value
            wait_s = self._wait_s(method, error, backoff_s)
            if wait_s is None or not tries_left or time.monotonic() + wait_s >= deadline:
                raise error
            time.sleep(wait_s)
            backoff_s *= 2
        raise AssertionError("the last try returns or raises")

    def _wait_s(self, method: str, error: LoopGridError, backoff_s: float) -> float | None:
        """Seconds until the request may be sent again, or None where it may not."""
        if isinstance(error, Unreachable):
            return backoff_s if method == "GET" else None
        if not isinstance(error, Unavailable):
            return None
        if error.retry_after_s is not None:
            return max(error.retry_after_s, backoff_s)
        return backoff_s if method == "GET" else None

    def _try(self, method: str, target: str, body: bytes | None, deadline: float) -> _Answer | LoopGridError:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        timeout = urllib3.Timeout(total=max(0.001, deadline - time.monotonic()))
        try:
            answer = self._pool.request(
                method, self.endpoint + target, body=body, headers=headers, redirect=False, timeout=timeout
            )
        except urllib3.exceptions.HTTPError as error:
            return self._unreachable(error)
        return self._judge(answer.status, answer.headers, answer.data)

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
