"""The running server, seen from a command: LoopGrid's public client, and plain HTTP for the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Annotated, Any, Final, Self

import typer
import urllib3

from loopgrid import LoopGrid
from loopgrid.config import DEFAULT_ENDPOINT
from loopgrid_query.cli import profiles
from loopgrid_query.cli.errors import CliError

EXAMPLE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
"""A decision id for the examples in the help."""


def example(*lines: str) -> str:
    """The end of a command's help: an example that no narrow terminal wraps, so that it can be pasted.

    Args:
        *lines: the command, in portions that fit a line of 80 characters.
    """
    return "\b\nExample: " + " \\\n  ".join(lines)


Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help=f"The running server.  [env: LOOPGRID_ENDPOINT; default: {DEFAULT_ENDPOINT}]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the API gives it.")]

_OVERLOADED: Final = frozenset({429, 503})
_RETRIES: Final = 5
_TIMEOUT_S: Final = 60.0

MAX_CONNECTIONS: Final = 4
"""Requests that a command may have under way at once."""


def client(endpoint: str | None) -> LoopGrid:
    """The public client of the server at `endpoint`, or where profile or environment say.

    Raises:
        CliError: it cannot be told which server is meant.
        Misconfigured: its address is no URL.
    """
    server = profiles.server(endpoint, os.environ)
    # An empty key is none: None would let the client look for one in the environment.
    return LoopGrid(
        service_name="loopgrid-cli",
        endpoint=server.endpoint,
        api_key=server.api_key or "",
        timeout_s=_TIMEOUT_S,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


class Away(CliError):
    """Nothing answers at the endpoint."""


class Connection:
    """Plain HTTP to one server, for what the public client does not do (OTLP, CSV).

    Threads may share one.
    """

    def __init__(self, endpoint: str | None, *, timeout_s: float = _TIMEOUT_S) -> None:
        """Connect to `endpoint`, or where profile or environment say.

        Raises:
            CliError: it cannot be told which server is meant.
            Misconfigured: the endpoint is no URL.
        """
        server = profiles.server(endpoint, os.environ)
        self._endpoint, self._source = server.endpoint, server.source
        self._headers = {"authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        # An overloaded server says when to come back; a connection that fails is said at once.
        self._pool = urllib3.PoolManager(
            maxsize=MAX_CONNECTIONS,
            timeout=timeout_s,
            retries=urllib3.Retry(
                total=_RETRIES,
                connect=0,
                read=0,
                redirect=0,
                status_forcelist=_OVERLOADED,
                allowed_methods=None,
                backoff_factor=0.2,
                raise_on_status=False,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.clear()

    def post(self, path: str, body: bytes, *, content_type: str, accept: str | None = None) -> Answer:
        """Posts a body; waits and repeats while the server says that it is overloaded.

        Raises:
            Away: nothing answers at the endpoint.
        """
        return self.request("POST", path, body, content_type=content_type, accept=accept)

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers to a request with a JSON body, or without one.

        Raises:
            CliError: nothing answers, or the API refuses; its own words.
        """
        sent = None if body is None else json.dumps(body).encode()
        answer = self.request(method, path, sent)
        try:
            read = json.loads(answer.body)
            if answer.status < HTTPStatus.BAD_REQUEST:
                return read
            refusal = CliError(str(read["detail"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CliError(
                f"the server answered HTTP {answer.status}: is that the API port, by default 8000?"
            ) from error
        raise refusal

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        accept: str | None = None,
    ) -> Answer:
        """Any request; waits and repeats as `post` does.

        Raises:
            Away: nothing answers at the endpoint.
        """
        headers = self._headers | {"accept": accept or content_type}
        if body is not None:
            headers["content-type"] = content_type
        try:
            answer = self._pool.request(method, self._endpoint + path, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise self._away(error) from error
        kind = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Answer(answer.status, kind, answer.data, answer.headers)

    def stream(self, path: str, *, accept: str) -> urllib3.BaseHTTPResponse:
        """Gets an answer whose body is read as it comes; its caller releases it.

        Raises:
            Away: nothing answers at the endpoint.
        """
        try:
            return self._pool.request(
                "GET",
                self._endpoint + path,
                headers=self._headers | {"accept": accept},
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._away(error) from error

    def _away(self, error: urllib3.exceptions.HTTPError) -> Away:
        cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return Away(f"{self._endpoint} did not answer in time; ask for less, or try again.")
        return Away(
            f"no LoopGrid server answers at {self._endpoint} (named by {self._source}): start one with "
            "loopgrid serve, or name another with --endpoint or --profile."
        )
