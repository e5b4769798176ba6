"""Decoding in another process: the same result, and its end costs nobody a record."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopgrid_collector import stage
from loopgrid_collector.decode_process import DecodeProcess, Lost
from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.errors import Retryable, Undecodable
from loopgrid_collector.ledger.records import Append, Receipt, plain
from tests.support.ledgers import house
from tests.support.spans import chat, log_record, logs, span, traces

LARGE_TEXT = "x" * stage.LARGE_BYTES


@pytest.fixture
def process() -> Iterator[DecodeProcess]:
    started = DecodeProcess()
    select.select([started._channel], [], [], 60)
    assert started.ready()
    yield started
    started.close()


def rows(append: Append) -> list[dict[str, object]]:
    table = append.spans if append.spans is not None else append.logs
    assert table is not None
    names = [name for name in table.column_names if name not in {"salt", "digest"}]
    columns = [plain(table.column(name)) for name in names]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def test_spans_decoded_elsewhere_are_those_decoded_here(process):
    bodies = [
        traces(chat(1), span(2, attributes=[("k", {"a": [1, ..., b"x", float("nan")]})])),
        b"",
        traces(span(3, trace_id=b"short"), span(4)),
    ]
    here = append_of(Kind.TRACES, *bodies)

    there = process.append_of(Kind.TRACES, bodies)

    assert rows(there) == rows(here)
    assert there.requests == here.requests
    assert there.span_request is not None
    assert here.span_request is not None
    assert there.span_request.tolist() == here.span_request.tolist()
    assert list(there.refused) == list(here.refused)
    assert list(there.refused_request or ()) == list(here.refused_request or ())
    assert there.span_payloads is not None
    assert here.span_payloads is not None
    assert there.span_payloads() == here.span_payloads()


def test_log_records_too(process):
    bodies = [logs(log_record(1), log_record(2)), logs(log_record(3))]

    there = process.append_of(Kind.LOGS, bodies)

    assert rows(there) == rows(append_of(Kind.LOGS, *bodies))


def test_what_holds_nothing_and_what_is_refused_whole_come_back_as_such(process):
    nothing = process.append_of(Kind.TRACES, [b""])
    refused = process.append_of(Kind.TRACES, [traces(span(1, trace_id=b"short"))])

    assert nothing.rows == 0
    assert refused.spans is None
    assert len(refused.refused) == 1
    with pytest.raises(Undecodable, match="not an OTLP protobuf"):
        process.append_of(Kind.TRACES, [b"no request"])
    assert len(rows(process.append_of(Kind.TRACES, [traces(chat(1))]))) == 1


def test_a_process_that_is_gone_says_so(process):
    os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(Lost):
        process.append_of(Kind.TRACES, [traces(chat(1))])


def test_the_process_ends_when_the_server_is_gone(process):
    process._channel.close()

    assert process._process.wait(timeout=60) == 0


def test_a_conflict_is_kept_with_its_bytes_wherever_it_was_decoded(tmp_path: Path, process):
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(span(1, name="first")))
        other = traces(span(1, name="second"))

        receipt = it.ledger.append(process.append_of(Kind.TRACES, [other])).result()

        assert receipt.conflicts == 1
        ((payload,),) = it.rows("FROM conflicts SELECT payload")
        assert payload in other


def test_a_decoding_process_that_is_killed_costs_no_request(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stage, "WORTH_A_PROCESS_S", 0.0)
    bodies = [traces(chat(number, attributes=[("pad", LARGE_TEXT)])) for number in range(1, 13)]

    async def sent(ingest, killing: bool) -> list[Any]:
        tasks = [asyncio.create_task(ingest.traces(body)) for body in bodies]
        if killing:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for pid in children_of(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        return await asyncio.gather(*tasks, return_exceptions=True)

    with house(tmp_path, decode_processes=2) as it:
        outcomes = asyncio.run(sent(it.ingest, killing=True))
        outcomes += asyncio.run(sent(it.ingest, killing=False))

        assert all(isinstance(outcome, Receipt | Retryable) for outcome in outcomes)
        assert it.count("spans") == len(bodies)
        assert it.broken_evidence() == []


def children_of(process_id: int) -> list[int]:
    """Child processes, where the system lists them; none elsewhere."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == process_id:
            found.append(int(entry.parent.name))
    return found
