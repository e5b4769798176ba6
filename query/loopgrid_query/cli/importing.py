"""``loopgrid import``: OTLP files through the same door as everything else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from loopgrid_query.cli.connection import Answer, AsJson, Connection, Endpoint
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.otlp_files import (
    PROTOBUF,
    Refusal,
    Request,
    Signal,
    find_files,
    read_requests,
)

_Response = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse

_SERVER_ERROR: Final = 500
_OVERLOADED: Final = 429
_OK: Final = 200
_RESPONSES: Final[Mapping[Signal, tuple[type[_Response], str, str]]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}
_NAMES: Final = {
    Signal.TRACES: "spans stored",
    Signal.LOGS: "log records stored",
    Signal.METRICS: "metrics accepted, which LoopGrid counts and does not store",
}


@dataclass(slots=True)
class Report:
    """What became of the files.

    A record that was stored before counts as stored: it is in the ledger, once.
    """

    requests: int = 0
    stored: Counter[Signal] = field(default_factory=Counter)
    rejected: Counter[Signal] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "requests": self.requests,
            "stored": {signal.value: self.stored[signal] for signal in Signal},
            "rejected": {signal.value: self.rejected[signal] for signal in Signal},
            "refusals": [{"where": item.where, "reason": item.reason} for item in self.refusals],
        }


def import_files(
    paths: Annotated[
        list[Path], typer.Argument(help="Files (.pb, .binpb, .json, .jsonl) or folders of them.")
    ],
    endpoint: Endpoint = None,
    signal: Annotated[
        Signal | None, typer.Option(help="What protobuf files carry, where their names do not say.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send OTLP files to the ledger.

    Protobuf, JSON, and JSON lines as the OTel Collector's file exporter writes them.

    Files can be imported again: a span that is stored already is not stored twice. Goes on after a
    file or line that is refused, names each one, and then exits 1.
    """
    files = find_files(paths)
    if not files:
        raise CliError("these folders hold no .pb, .binpb, .json or .jsonl file; name other paths.")
    with Connection(endpoint) as connection:
        report = send_files(connection, files, signal=signal)
    if as_json:
        print_json(report.as_json())
    else:
        _print_report(report, len(files))
    if report.refusals:
        raise typer.Exit(NEGATIVE)


def send_files(connection: Connection, files: Iterable[Path], *, signal: Signal | None = None) -> Report:
    """Sends every request of the files and keeps count.

    Raises:
        CliError: the server is gone, or keeps saying that it cannot store anything now.
    """
    files = list(files)
    report = Report()
    console = stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
        task = progress.add_task("importing", total=sum(sizes))
        before = 0
        for file, size in zip(files, sizes, strict=True):
            for item in read_requests(file, signal):
                if isinstance(item, Refusal):
                    report.refusals.append(item)
                else:
                    _send(connection, item, report)
                progress.update(task, completed=before + item.file_bytes)
            before += size
            progress.update(task, completed=before)
    return report


def _send(connection: Connection, request: Request, report: Report) -> None:
    answer = connection.post(f"/v1/{request.signal}", request.body, content_type=request.content_type)
    if answer.status >= _SERVER_ERROR or answer.status == _OVERLOADED:
        raise CliError(
            f"the server cannot store now ({answer.status}: {_refused_because(answer)}), stopped at "
            f"{request.where}; run the import again later, nothing is stored twice."
        )
    report.requests += 1
    if answer.status != _OK:
        report.rejected[request.signal] += request.records
        report.refusals.append(Refusal(request.where, _refused_because(answer)))
        return
    rejected, message = _partial_success(request.signal, answer)
    report.rejected[request.signal] += rejected
    report.stored[request.signal] += max(request.records - rejected, 0)
    if rejected:
        report.refusals.append(Refusal(request.where, f"{rejected} of {request.records} refused: {message}"))


def _partial_success(signal: Signal, answer: Answer) -> tuple[int, str]:
    """Records refused, and why, from the body of a 200."""
    message_type, field_name, json_name = _RESPONSES[signal]
    try:
        if answer.content_type == PROTOBUF:
            partial = message_type.FromString(answer.body).partial_success
            return int(getattr(partial, field_name)), partial.error_message
        stated = json.loads(answer.body or b"{}").get("partialSuccess") or {}
        return int(stated.get(json_name, 0)), str(stated.get("errorMessage", ""))
    except (ValueError, DecodeError, AttributeError) as error:
        raise CliError(
            "the server's answer is not an OTLP response; check that the endpoint is LoopGrid's."
        ) from error


def _refused_because(answer: Answer) -> str:
    """The reason in an error's body: `google.rpc.Status`, or a problem document."""
    try:
        if answer.content_type == PROTOBUF:
            return Status.FromString(answer.body).message or f"status {answer.status}"
        stated = json.loads(answer.body)
        return str(stated.get("message") or stated.get("detail") or f"status {answer.status}")
    except (ValueError, DecodeError, AttributeError):
        return f"status {answer.status}"


def _print_report(report: Report, files: int) -> None:
    out = stdout()
    counts = [f"{report.stored[signal]} {_NAMES[signal]}" for signal in Signal if report.stored[signal]]
    out.print(
        f"{files} files, {report.requests} requests: {'; '.join(counts) or 'nothing stored'}; "
        f"{report.rejected.total()} rejected."
    )
    err = stderr()
    for refusal in report.refusals:
        err.print(f"refused {refusal.where}: {plain(refusal.reason, one_line=True)}")
