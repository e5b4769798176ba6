"""The collector's settings: read once, at the edge, into a frozen object.

Every limit has its unit in its name. ``LOOPGRID_<FIELD>`` environment variables mirror the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loopgrid_collector.errors import Misconfigured

ENVIRONMENT_PREFIX = "LOOPGRID_"
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """Settings of one server process.

    Attributes:
        ledger: path of the DuckDB file.
        host: address that all ports bind to. Loopback unless somebody says otherwise.
        port: API port; 0 lets the system choose. Likewise the two OTLP ports.
        max_body_bytes: largest request body, after decompression.
        max_queued_bytes: bytes of bodies that may be in the house at once, read or waiting to commit.
        body_read_timeout_s: seconds in which a sender must have sent its body.
        shutdown_grace_s: seconds that requests under way get to finish at a stop.
        max_commit_spans: spans that share one commit at most; a single request is never split.
        duckdb_memory: DuckDB's memory limit, in its own notation.
        duckdb_threads: DuckDB's worker threads.
        checkpoint_wal_bytes: size of the write-ahead log at which it is folded into the file.
        row_group_rows: rows of one DuckDB row group; commits of at least that many rows bypass the
            write-ahead log (docs/adr/0003).
    """

    ledger: str = "loopgrid.duckdb"
    host: str = "127.0.0.1"
    port: int = 8000
    otlp_http_port: int = 4318
    otlp_grpc_port: int = 4317
    max_body_bytes: int = 64 * 2**20
    max_queued_bytes: int = 256 * 2**20
    body_read_timeout_s: float = 30.0
    shutdown_grace_s: float = 10.0
    max_commit_spans: int = 16_384
    duckdb_memory: str = "1GB"
    duckdb_threads: int = 2
    checkpoint_wal_bytes: int = 64 * 2**20
    row_group_rows: int = 2048

    def __post_init__(self) -> None:
        for name in ("port", "otlp_http_port", "otlp_grpc_port"):
            port = getattr(self, name)
            if not 0 <= port <= _HIGHEST_PORT:
                raise Misconfigured(f"{name} is {port}; a port is a number from 0 to {_HIGHEST_PORT}.")

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
            variable = ENVIRONMENT_PREFIX + field.name.upper()
            text = environ.get(variable)
            if text is None:
                continue
            convert: type[Any] = type(field.default)
            try:
                values[field.name] = convert(text)
            except ValueError as error:
                raise Misconfigured(
                    f"{variable} is {text!r}; it must be of type {convert.__name__}."
                ) from error
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)
