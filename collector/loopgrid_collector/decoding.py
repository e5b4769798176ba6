"""Request bodies to what the ledger takes: decode, apply the dialects, seal. No file, no database."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger.records import Append, sealed
from loopgrid_collector.mapping import log_columns, span_columns
from loopgrid_collector.otlp.decode import decode_logs, decode_traces

__all__ = ["Kind", "append_of", "logs_append", "traces_append"]


class Kind(StrEnum):
    """What request bodies are."""

    TRACES = "traces"
    LOGS = "logs"


def append_of(kind: Kind, *bodies: bytes) -> Append:
    """Export requests of one kind, in protobuf, as rows for the ledger.

    Raises:
        Undecodable: at least one of them is not one; it is not said which.
    """
    return _APPENDS[kind](*bodies)


def traces_append(*bodies: bytes) -> Append:
    """``ExportTraceServiceRequest`` bodies as rows for the ledger.

    Raises:
        Undecodable: at least one of them is not one; it is not said which.
    """
    batch = decode_traces(*bodies)
    held = Append(refused=batch.refused, refused_request=batch.refused_request, requests=len(bodies))
    if not batch.rows:
        return held
    columns = {**batch.columns, **span_columns(batch)}
    return replace(
        held,
        spans=sealed(digests.SPANS, columns),
        span_payloads=lambda: batch.payloads,
        span_request=batch.request,
    )


def logs_append(*bodies: bytes) -> Append:
    """``ExportLogsServiceRequest`` bodies as rows for the ledger.

    Raises:
        Undecodable: at least one of them is not one; it is not said which.
    """
    batch = decode_logs(*bodies)
    held = Append(refused=batch.refused, refused_request=batch.refused_request, requests=len(bodies))
    if not batch.rows:
        return held
    columns = {**batch.columns, **log_columns(batch)}
    return replace(held, logs=sealed(digests.LOGS, columns), log_request=batch.request)


_APPENDS = {Kind.TRACES: traces_append, Kind.LOGS: logs_append}
