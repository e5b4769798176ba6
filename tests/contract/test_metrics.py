"""`/metrics` on both HTTP ports: what a scraper reads is what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from tests.docs import markdown
from tests.support.server import RunningServer, running_server
from tests.support.spans import chat, log_record, logs, span, traces

pytestmark = pytest.mark.integration


def scraped(base: str) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of the labels' names …) → value."""
    answer = urllib3.request("GET", f"{base}/metrics", timeout=30)
    assert 200 == answer.status
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }


def send(server: RunningServer, body: bytes, path: str = "traces", **headers: str) -> int:
    sent = {"content-type": "application/x-protobuf"} | headers
    url = f"{server.otlp_http}/v1/{path}"
    return urllib3.request("POST", url, body=body, headers=sent, retries=False, timeout=30).status


def test_requests_are_counted_by_signal_and_by_what_became_of_them(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        body = traces(chat(1), chat(2), span(3, trace_id=b"short"))
        assert [200] * 3 == [
            send(server, body),
            send(server, body),
            send(server, logs(log_record(1)), "logs"),
        ]
        assert 200 == send(server, traces(span(1, name="other")))
        assert 400 == send(server, b"\xff\xff")
        assert 415 == send(server, body, **{"content-type": "text/plain"})

        found = scraped(server.otlp_http)

        items = {key[1:]: value for key, value in found.items() if key[0] == "loopgrid_items_total"}
        assert 2 == items["stored", "traces"]
        assert 2 == items["duplicate", "traces"]
        assert 2 == items["quarantined", "traces"]
        assert 1 == items["conflict", "traces"]
        assert 1 == items["stored", "logs"]
        assert 1 == found["loopgrid_requests_refused_total", "undecodable", "traces"]
        assert 1 == found["loopgrid_requests_refused_total", "unsupported_type", "traces"]
        assert 4 == found["loopgrid_requests_received_total", "traces"]
        assert 1 == found["loopgrid_requests_received_total", "logs"]


def test_credentials_that_were_not_stored_are_counted_and_items_that_no_dialect_reads(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        hidden = {"http.request.header.authorization": "Bearer x", "llm.headers": "y"}
        assert 200 == send(server, traces(chat(1, **hidden), chat(2), span(3, attributes=hidden)))
        assert 4 == scraped(server.api)["loopgrid_values_scrubbed_total",]

        assert 200 == send(server, traces(chat(4, **hidden)))
        found = scraped(server.api)

        assert 6 == found["loopgrid_values_scrubbed_total",]
        assert 0 == found["loopgrid_items_unmapped_total",]


def test_items_with_fields_that_nothing_reads_are_counted(tmp_path: Path) -> None:
    strange, record = chat(1), log_record()
    strange.MergeFromString(b"\xc0\x3e\x07")
    record.MergeFromString(b"\xc0\x3e\x07")
    with running_server(tmp_path) as server:
        assert 200 == send(server, traces(strange, chat(2)))
        assert 200 == send(server, logs(record, log_record(2)), "logs")

        assert 2 == scraped(server.api)["loopgrid_items_with_unknown_fields_total",]


def test_the_ledger_tells_its_size_and_its_latency(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        for number in (1, 2, 3):
            assert 200 == send(server, traces(chat(number)))
        found = scraped(server.api)

        assert (1, 3, 3) == tuple(
            found[f"loopgrid_{name}",] for name in ("storage_usable", "ledger_last_commit", "ledger_records")
        )
        assert found["loopgrid_ledger_bytes",] > 0
        assert found["loopgrid_ledger_wal_bytes",] > 0
        assert 0 == found["loopgrid_queue_bytes",]
        assert 3 == found["loopgrid_commit_seconds_count",]
        assert 3 == found["loopgrid_acknowledgement_seconds_bucket", "+Inf"]
        assert found["loopgrid_uptime_seconds",] >= 0


def test_the_guide_names_every_metric_and_only_those(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        answer = urllib3.request("GET", f"{server.api}/metrics", timeout=30)
    served = {family.name for family in text_string_to_metric_families(answer.data.decode())}
    guide = markdown.REPOSITORY / "docs" / "guides" / "operating.md"

    assert sorted(served) == sorted(markdown.table_of_code(guide, "metric | labels | meaning"))


def test_logs_are_json_lines_without_payloads_where_nobody_watches(tmp_path: Path) -> None:
    with running_server(tmp_path, environ={"LOOPGRID_MIN_FREE_BYTES": str(2**60)}) as server:
        assert 503 == send(server, traces(chat(4242)))
        assert 503 == send(server, traces(chat(4242)))
        assert 1 <= scraped(server.api)["loopgrid_storage_events_total", "refused_low_space"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]

    refusal = next(line for line in lines if "bytes are free" in line["message"])
    assert {"time", "level", "logger", "message"} <= refusal.keys()
    assert "4242" not in server.log.read_text()
