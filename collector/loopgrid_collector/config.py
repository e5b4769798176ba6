"""The collector's settings: read once, at the edge, into a frozen object.

Every limit has its unit in its name. ``LOOPGRID_<FIELD>`` environment variables mirror the fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.config import VARIABLES as APPLICATION_VARIABLES
from loopgrid_collector.errors import Misconfigured

ENVIRONMENT_PREFIX = "LOOPGRID_"
_HIGHEST_PORT = 65535
_VECTOR_ROWS: Final = 2048
"""Rows that DuckDB handles at once; a row group holds a whole number of such portions."""
_MOST_ROW_GROUP_ROWS: Final = 2**20
_MEMORY: Final = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_IP_FAMILIES: Final = ("any", "4", "6")
_POSITIVE: Final = frozenset(
    {
        "max_body_bytes",
        "max_json_body_bytes",
        "max_queued_bytes",
        "body_read_timeout_s",
        "header_read_timeout_s",
        "max_connections",
        "max_grpc_requests",
        "max_commit_spans",
        "duckdb_threads",
        "row_group_rows",
        "forward_timeout_s",
        "max_model_calls",
    }
)
"""Numbers with which nothing would work at 0; every other one may be 0."""
_FORMS: Final = {int: "a whole number", float: "a number", bool: "true or false"}
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """Settings of one server process.

    Attributes:
        ledger: path of the DuckDB file.
        host: address that all ports bind to. Loopback unless somebody says otherwise.
        insecure: take requests from other machines although the ledger has no API key yet; without it, such a
            server does not start.
        ip_family: ``4`` or ``6`` to bind only those of the host's addresses; ``any`` for all.
        port: API port; 0 lets the system choose. Likewise the two OTLP ports.
        quack: let other DuckDB processes on this machine attach the live ledger, to read.
        quack_port: where they do.
        otlp_http_socket: path of a Unix socket that takes OTLP/HTTP as well; empty for none.
        otlp_grpc_socket: path of a Unix socket that takes OTLP/gRPC as well; empty for none.
        otlp_path_prefix: what stands before ``/v1/traces`` and the other OTLP/HTTP paths on both ports, as in
            ``/otlp``; empty for nothing.
        max_body_bytes: largest request body, after decompression.
        max_json_body_bytes: largest JSON body, after decompression: the process stands still while one is
            parsed, about 10 ms a MiB.
        max_queued_bytes: bytes of bodies that may be in the house at once, read or waiting to commit.
        body_read_timeout_s: seconds in which a sender must have sent its body.
        header_read_timeout_s: seconds in which a new HTTP connection must have sent its first request's
            head, and an open one the head of a request it began.
        max_connections: open HTTP connections of one port; more are answered 503 and closed.
        max_grpc_requests: gRPC requests under way at once; more are told to come again. Each may hold
            max_body_bytes before it can be counted.
        grpc_min_ping_interval_s: shortest pause between a gRPC client's keep-alive pings; who pings more
            often is disconnected.
        grpc_max_connection_age_s: seconds after which a gRPC connection is asked to reconnect; 0 for never.
        grpc_max_connection_age_grace_s: seconds that its requests under way get then.
        grpc_max_connection_idle_s: seconds after which an unused gRPC connection is closed; 0 for never.
        tls_cert_file: PEM file with the certificate chain of all three ports; empty for no TLS. A replaced
            file is taken up without a restart.
        tls_key_file: PEM file with its key, not encrypted.
        tls_client_ca_file: PEM file with the authorities of client certificates; with it, no client gets in
            without one.
        cors_allowed_origins: origins whose browsers may send OTLP/HTTP, with commas between them, or ``*``;
            empty for none.
        cors_max_age_s: seconds for which a browser may remember that, and what the next line says.
        api_cors_allowed_origins: origins whose pages may use the API, with commas between them; empty
            for none. ``*`` is refused: any page that somebody opens could read a ledger that asks for no key.
        api_requests_per_s: requests to the API that one key may make in a second, on average; where no keys
            are asked for, one address. 0 for no limit. OTLP has limits of its own.
        api_request_burst: requests that it may make at once, before that rate holds; the requests of one
            second, if 0.
        shutdown_grace_s: seconds that requests under way get to finish at a stop.
        decode_processes: processes that decode large requests, started when the first one comes; 0 decodes
            everything in the server's own process, on one core.
        max_commit_spans: spans that share one commit at most; a single request is never split.
        max_commit_wait_s: seconds that a commit of fewer spans than a row group waits, at most, for requests
            that are being decoded when it begins; one that is alone never waits.
        duckdb_memory: DuckDB's memory limit, in its own notation.
        duckdb_threads: DuckDB's worker threads; more than one makes small commits cost more, not less
            (docs/adr/0003).
        checkpoint_wal_bytes: size of the write-ahead log at which it is folded into the file, where its rows
            have not filled a row group before.
        checkpoint_idle_s: seconds without anything to store after which the log is folded, whatever its size.
        min_free_bytes: free space on the ledger's disk below which nothing more is taken, so that what was
            acknowledged can still be folded and attested.
        row_group_rows: rows of one DuckDB row group; commits of at least that many rows bypass the
            write-ahead log (docs/adr/0003).
        reopen_rows: rows written after which the file is closed and opened again, in a moment when nobody
            reads, to give back the memory that DuckDB keeps of what it wrote; 0 for never (docs/adr/0022).
        forward: base URL of an OTLP/HTTP endpoint that gets what was received, after it is stored;
            empty for none.
        forward_headers: headers for that endpoint, ``name=value`` with commas between them and
            percent-encoded values, as in ``OTEL_EXPORTER_OTLP_HEADERS``.
        forward_queue_bytes: bytes that may wait to be passed on; what does not fit is stored and not
            passed on.
        providers: TOML file that says which model providers replays may ask, and where their keys are; empty
            for none.
        max_model_calls: model calls of replays under way at once; more wait.
        forward_timeout_s: seconds in which that endpoint must accept a connection and answer.
    """

    ledger: str = "loopgrid.duckdb"
    host: str = "127.0.0.1"
    insecure: bool = False
    ip_family: str = "any"
    port: int = 8000
    otlp_http_port: int = 4318
    otlp_grpc_port: int = 4317
    quack: bool = False
    quack_port: int = 9494
    otlp_http_socket: str = ""
    otlp_grpc_socket: str = ""
    otlp_path_prefix: str = ""
    max_body_bytes: int = 64 * 2**20
    max_json_body_bytes: int = 32 * 2**20
    max_queued_bytes: int = 256 * 2**20
    body_read_timeout_s: float = 30.0
    header_read_timeout_s: float = 10.0
    max_connections: int = 1024
    max_grpc_requests: int = 128
    grpc_min_ping_interval_s: float = 5.0
    grpc_max_connection_age_s: float = 0.0
    grpc_max_connection_age_grace_s: float = 10.0
    grpc_max_connection_idle_s: float = 0.0
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    cors_allowed_origins: str = ""
    cors_max_age_s: int = 7200
    api_cors_allowed_origins: str = ""
    api_requests_per_s: float = 0.0
    api_request_burst: int = 0
    shutdown_grace_s: float = 10.0
    decode_processes: int = 2
    max_commit_spans: int = 16_384
    max_commit_wait_s: float = 0.1
    duckdb_memory: str = "512MB"
    duckdb_threads: int = 1
    checkpoint_wal_bytes: int = 64 * 2**20
    checkpoint_idle_s: float = 30.0
    min_free_bytes: int = 256 * 2**20
    row_group_rows: int = 2048
    reopen_rows: int = 1_000_000
    forward: str = ""
    forward_headers: str = dataclasses.field(default="", repr=False)
    forward_queue_bytes: int = 64 * 2**20
    forward_timeout_s: float = 10.0
    providers: str = ""
    max_model_calls: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            Misconfigured: the message names the setting and what it may be.
        """
        self._check_ports()
        self._check_paths()
        self._check_numbers()
        self._check_tls()

    def _check_ports(self) -> None:
        for name in ("port", "otlp_http_port", "otlp_grpc_port"):
            port = getattr(self, name)
            if not 0 <= port <= _HIGHEST_PORT:
                raise Misconfigured(f"{name} is {port}; a port is a number from 0 to {_HIGHEST_PORT}.")

    def _check_paths(self) -> None:
        if self.ip_family not in _IP_FAMILIES:
            raise Misconfigured(f"{_variable('ip_family')} is {self.ip_family!r}; write any, 4 or 6.")
        if self.otlp_path_prefix and not _PREFIX.fullmatch(self.otlp_path_prefix):
            raise Misconfigured(
                f"{_variable('otlp_path_prefix')} is {self.otlp_path_prefix!r}; write a path that "
                "begins with a slash and ends without one, as in /otlp."
            )
        if self.otlp_http_socket and self.otlp_http_socket == self.otlp_grpc_socket:
            raise Misconfigured(
                f"{_variable('otlp_http_socket')} and {_variable('otlp_grpc_socket')} are the same path; a "
                "socket takes one of the two."
            )

    def _check_numbers(self) -> None:
        for field in dataclasses.fields(self):
            number = getattr(self, field.name)
            if not isinstance(number, int | float):
                continue
            least = "greater than 0" if field.name in _POSITIVE else "of 0 or more"
            if not math.isfinite(number) or number < 0 or (number == 0 and field.name in _POSITIVE):
                raise Misconfigured(f"{_variable(field.name)} is {number}; write a number {least}.")
        if self.row_group_rows % _VECTOR_ROWS or self.row_group_rows > _MOST_ROW_GROUP_ROWS:
            raise Misconfigured(
                f"{_variable('row_group_rows')} is {self.row_group_rows}; write a multiple of {_VECTOR_ROWS} "
                f"up to {_MOST_ROW_GROUP_ROWS}."
            )
        if not _MEMORY.fullmatch(self.duckdb_memory.strip()):
            raise Misconfigured(
                f"{_variable('duckdb_memory')} is {self.duckdb_memory!r}; write a number with its unit, "
                'as in "1GB".'
            )

    def _check_tls(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            have, lack = ("cert", "key") if self.tls_cert_file else ("key", "cert")
            raise Misconfigured(
                f"tls_{have}_file is set and tls_{lack}_file is not. Set LOOPGRID_TLS_{lack.upper()}_FILE "
                "too, or neither for no TLS."
            )
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise Misconfigured(
                "tls_client_ca_file is set without a certificate for the server itself. Set "
                "LOOPGRID_TLS_CERT_FILE and LOOPGRID_TLS_KEY_FILE too."
            )

    def with_ledger(self, path: str) -> CollectorConfig:
        """The same settings for another ledger."""
        return dataclasses.replace(self, ledger=path)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> CollectorConfig:
        """Settings from ``LOOPGRID_*`` variables, with explicit ones on top.

        Args:
            environ: usually ``os.environ``.
            **overrides: fields by name; ``None`` means "not given".

        Raises:
            Misconfigured: a variable's text is not of the field's type; the message names it.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            variable = _variable(field.name)
            text = environ.get(variable)
            if text is None:
                continue
            convert: type[Any] = type(field.default)
            try:
                values[field.name] = _flag(text) if convert is bool else convert(text)
            except ValueError as error:
                raise Misconfigured(
                    f"{variable} is {text!r}; write {_FORMS.get(convert, 'another value')}."
                ) from error
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """``LOOPGRID_*`` variables that nothing reads, each with the nearest name that something does read.

    Args:
        environ: usually ``os.environ``.
    """
    known = {_variable(field.name) for field in dataclasses.fields(CollectorConfig)} | APPLICATION_VARIABLES
    unknown = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in unknown}


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _variable(field: str) -> str:
    return ENVIRONMENT_PREFIX + field.upper()
