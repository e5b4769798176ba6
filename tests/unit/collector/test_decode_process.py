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


def test_decoding_processes_that_are_killed_cost_no_request(tmp_path: Path):
    bodies = [traces(chat(number, attributes=[("pad", LARGE_TEXT)])) for number in range(1, 13)]

    async def sent(ingest, killed: list[DecodeProcess]) -> list[Any]:
        for process in killed:
            # Stopped first, so that it is killed with a request in its hands.
            os.kill(process.pid, signal.SIGSTOP)
        tasks = [asyncio.create_task(ingest.traces(body)) for body in bodies]
        await asyncio.sleep(0)
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        return await asyncio.gather(*tasks, return_exceptions=True)

    with house(tmp_path, decode_processes=2) as it:
        started = [begin(decoder) for decoder in it.ingest._stage._decoders]
        outcomes = asyncio.run(sent(it.ingest, started))
        outcomes += asyncio.run(sent(it.ingest, []))

        assert all(isinstance(outcome, Receipt | Retryable) for outcome in outcomes)
        assert it.ingest.counters()["decoding.processes_lost"] == 2
        assert it.count("spans") == len(bodies)
        assert it.broken_evidence() == []


def test_where_no_process_can_be_had_the_server_decodes_itself(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stage, "WORTH_A_PROCESS_S", 0.0)
    monkeypatch.setattr("loopgrid_collector.decode_process.WORKER", "loopgrid_collector.there_is_none")

    with house(tmp_path, decode_processes=2) as it:
        for decoder in it.ingest._stage._decoders:
            decoder._spent_s = 1.0
            assert decoder.append_of(Kind.TRACES, [traces(chat(1))], here=False).rows == 1
            started = decoder._process
            if started is not None:
                select.select([started._channel], [], [], 60)
                assert decoder.append_of(Kind.TRACES, [traces(chat(1))], here=False).rows == 1
            assert decoder._process is None
            assert decoder.append_of(Kind.TRACES, [traces(chat(2))], here=False).rows == 1
        assert it.ingest.traces_blocking(traces(chat(3))).stored == 1


def begin(decoder: stage._Decoder) -> DecodeProcess:
    """Give a decoder a process that is ready."""
    decoder._process = started = DecodeProcess()
    select.select([started._channel], [], [], 60)
    assert started.ready()
    return started
