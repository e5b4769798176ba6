"""``loopgrid import``: OTLP files through the same door as everything else.

Several requests are under way at once; their answers are settled in the order of the files, so that what
is settled is always a beginning of each file.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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

from loopgrid_query.cli.connection import MAX_CONNECTIONS, Answer, AsJson, Connection, Endpoint
from loopgrid_query.cli.console import print_json, stderr, stdout
from loopgrid_query.cli.errors import NEGATIVE, CliError
from loopgrid_query.cli.gist import plain
from loopgrid_query.cli.import_state import ImportState
from loopgrid_query.cli.otlp_files import (
    BEGINNING,
    PROTOBUF,
    Place,
    Refusal,
    Request,
    Signal,
    find_files,
    read_requests,
)
from loopgrid_query.cli.otlp_groups import Group, grouped

_Response = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse

_SERVER_ERROR: Final = 500
_OVERLOADED: Final = 429
_OK: Final = 200
_RESPONSES: Final[Mapping[Signal, tuple[type[_Response], str, str]]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}
_NAMES: Final = {Signal.TRACES: "spans", Signal.LOGS: "log records"}
_RECEIPT: Final = re.compile(r"stored=(\d+), duplicates=(\d+), conflicts=(\d+), rejected=(\d+)")


@dataclass(slots=True)
class Report:
    """What became of the files.

    Attributes:
        requests: requests that got a final answer.
        stored: records that the ledger did not hold before; of a server that is not LoopGrid, and of
            metrics, which are counted and not kept: records it accepted.
        duplicates: records that it held already.
        conflicts: spans kept apart, because it holds other content under their ids.
        rejected: records in requests that were refused, and records refused one by one.
        refusals: each with its place and reason.
    """

    requests: int = 0
    stored: Counter[Signal] = field(default_factory=Counter)
    duplicates: Counter[Signal] = field(default_factory=Counter)
    conflicts: Counter[Signal] = field(default_factory=Counter)
    rejected: Counter[Signal] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Report:
        """The report that ``as_json`` gave; an empty one of an empty mapping."""
        report = cls(requests=told.get("requests", 0))
        for name, counter in report._counters().items():
            counter.update({signal: told.get(name, {}).get(signal.value, 0) for signal in Signal})
        report.refusals.extend(Refusal(item["where"], item["reason"]) for item in told.get("refusals", ()))
        return report

    def as_json(self, *, lasting: bool = False) -> dict[str, Any]:
        """The report as a JSON object.

        Args:
            lasting: leave out refusals that the next run may not find.
        """
        refusals = [item for item in self.refusals if not (lasting and item.passing)]
        return {
            "requests": self.requests,
            **{
                name: {signal.value: counter[signal] for signal in Signal}
                for name, counter in self._counters().items()
            },
            "refusals": [{"where": item.where, "reason": item.reason} for item in refusals],
        }

    def add(self, other: Report) -> None:
        """Count another report in."""
        self.requests += other.requests
        for mine, theirs in zip(self._counters().values(), other._counters().values(), strict=True):
            mine.update(theirs)
        self.refusals.extend(other.refusals)

    def _counters(self) -> dict[str, Counter[Signal]]:
        return {
            "stored": self.stored,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "rejected": self.rejected,
        }


def import_files(
    paths: Annotated[
        list[Path], typer.Argument(help="Files (.pb, .binpb, .json, .jsonl) or folders of them.")
    ],
    endpoint: Endpoint = None,
    signal: Annotated[
        Signal | None, typer.Option(help="What protobuf files carry, where their names do not say.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the progress in this file, and go on from it after an interruption."
        ),
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
        report = send_files(connection, files, signal=signal, resume=resume)
    if as_json:
        print_json(report.as_json())
    else:
        _print_report(report, len(files))
    if report.refusals:
        raise typer.Exit(NEGATIVE)


def send_files(
    connection: Connection,
    files: Iterable[Path],
    *,
    signal: Signal | None = None,
    resume: Path | None = None,
) -> Report:
    """Sends every request of the files and keeps count.

    Args:
        connection: to the server; several threads use it.
        files: what to send.
        signal: what protobuf files carry, where their names do not say.
        resume: file that keeps the progress; the report then counts earlier runs, too.

    Raises:
        CliError: the server is gone, or keeps saying that it cannot store anything now.
    """
    files = list(files)
    state = ImportState(resume) if resume else None
    report = Report.from_json(state.report if state else {})
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
        sizes = {file: file.stat().st_size if file.is_file() else 0 for file in files}
        task = progress.add_task("importing", total=sum(sizes.values()))
        before = dict(zip(files, _sums_before(sizes.values()), strict=True))
        try:
            for file, place, settled in _settled(connection, _groups(files, signal, state)):
                report.add(settled)
                if state:
                    state.settle(file, place, report.as_json(lasting=True))
                progress.update(task, completed=before[file] + place.file_bytes)
        finally:
            if state:
                state.write()
    return report


def _sums_before(sizes: Iterable[int]) -> Iterator[int]:
    total = 0
    for size in sizes:
        yield total
        total += size


def _groups(
    files: Iterable[Path], signal: Signal | None, state: ImportState | None
) -> Iterator[tuple[Path, Group]]:
    for file in files:
        start = BEGINNING
        if state:
            try:
                start = state.place(file)
            except OSError as error:
                yield file, Group(refusal=Refusal(str(file), error.strerror or str(error), passing=True))
                continue
            if state.knows(file) and start == BEGINNING:
                stderr().print(f"{file} is not the file it was; importing it from its beginning.")
            elif start != BEGINNING:
                stderr().print(f"{file}: going on after byte {start.file_bytes}.")
        for group in grouped(read_requests(file, signal, start)):
            yield file, group


def _settled(
    connection: Connection, groups: Iterable[tuple[Path, Group]]
) -> Iterator[tuple[Path, Place, Report]]:
    """File, place and what became of it, in the order of the groups, with a few of them under way.

    Raises:
        CliError: from sending; what was sent after that group is not reported.
    """
    under_way: deque[tuple[Path, Place, Future[Report]]] = deque()
    with ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="import") as senders:
        try:
            for file, group in groups:
                place = Place(group.last.file_bytes, group.last.line)
                under_way.append((file, place, senders.submit(_sent, connection, group)))
                if len(under_way) > MAX_CONNECTIONS:
                    yield _result(*under_way.popleft())
            while under_way:
                yield _result(*under_way.popleft())
        finally:
            senders.shutdown(wait=False, cancel_futures=True)


def _result(file: Path, place: Place, sent: Future[Report]) -> tuple[Path, Place, Report]:
    return file, place, sent.result()


def _sent(connection: Connection, group: Group) -> Report:
    """Sends a group and counts what became of it."""
    if group.refusal is not None:
        return Report(refusals=[group.refusal])
    first = group.requests[0]
    answer = _answer(connection, group, first)
    if answer.status == _OK:
        return _accepted(group, first.signal, answer)
    if len(group.requests) > 1:
        # Refused as a whole. Sent one by one, each line gets the answer it deserves.
        report = Report()
        for request in group.requests:
            report.add(_sent(connection, Group([request])))
        return report
    report = Report(requests=1, refusals=[Refusal(group.where, _refused_because(answer))])
    report.rejected[first.signal] = group.records
    return report


def _answer(connection: Connection, group: Group, first: Request) -> Answer:
    answer = connection.post(f"/v1/{first.signal}", group.body, content_type=first.content_type)
    if answer.status >= _SERVER_ERROR or answer.status == _OVERLOADED:
        raise CliError(
            f"the server cannot store now ({answer.status}: {_refused_because(answer)}), stopped at "
            f"{group.where}; run the import again later, nothing is stored twice."
        )
    return answer


def _accepted(group: Group, signal: Signal, answer: Answer) -> Report:
    report = Report(requests=1)
    rejected, message = _partial_success(signal, answer)
    receipt = _RECEIPT.fullmatch(answer.headers.get("loopgrid-receipt", ""))
    if receipt and signal is not Signal.METRICS:
        counts = report.stored, report.duplicates, report.conflicts, report.rejected
        for counter, count in zip(counts, receipt.groups(), strict=True):
            counter[signal] = int(count)
    else:
        report.stored[signal] = max(group.records - rejected, 0)
        report.rejected[signal] = rejected
    if rejected:
        reason = f"{rejected} of {group.records} refused: {message}"
        report.refusals.append(Refusal(group.where, reason))
    return report


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
    counts = []
    for signal, name in _NAMES.items():
        of = report.stored[signal], report.duplicates[signal], report.conflicts[signal]
        if any(of):
            there = f", {of[1]} were there before" if of[1] else ""
            apart = f", {of[2]} kept as conflicts with what was there" if of[2] else ""
            counts.append(f"{of[0]} {name} stored{there}{apart}")
    if metrics := report.stored[Signal.METRICS]:
        counts.append(f"{metrics} metrics accepted, which LoopGrid counts and does not store")
    refused = f"{_counted(report.rejected.total(), 'record')} rejected"
    if report.refusals:
        refused += f", {_counted(len(report.refusals), 'refusal')}"
    out.print(
        f"{_counted(files, 'file')}, {_counted(report.requests, 'request')}: "
        f"{'; '.join(counts) or 'nothing stored'}; {refused}.",
        soft_wrap=True,
    )
    err = stderr()
    for refusal in report.refusals:
        err.print(f"refused {refusal.where}: {plain(refusal.reason, one_line=True)}")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
