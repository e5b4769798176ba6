"""``loopgrid import``: idempotent, honest about what was there, and it goes on where it was killed."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import COMMAND, RunningServer

pytestmark = pytest.mark.integration

SPANS_A_LINE = 300
"""Too many for two lines to share a request."""


def line(number: int, spans: int = 1) -> str:
    made = [
        {
            "traceId": f"{number:032x}",
            "spanId": f"{place:016x}",
            "name": f"span {number}.{place}",
            "startTimeUnixNano": "1790000000000000000",
            "endTimeUnixNano": "1790000001000000000",
        }
        for place in range(1, spans + 1)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}) + "\n"


def command(endpoint: str, *words: str | Path) -> list[str]:
    return [COMMAND, "import", *map(str, words), "--endpoint", endpoint, "--json"]


def imported(server: RunningServer, *words: str | Path, code: int = 0) -> tuple[dict[str, Any], str]:
    """The report, and what was said beside it."""
    ended = subprocess.run(command(server.api, *words), capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report, ended.stderr


def spans_in(server: RunningServer) -> list[int]:
    """How many spans, and how many different ones, the ledger holds."""
    body = json.dumps({"query": "SELECT count(*), count(DISTINCT name) FROM spans"}).encode()
    request = urllib.request.Request(f"{server.api}/v1/sql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        (row,) = json.load(answer)["rows"]
    return list(row)


@contextmanager
def gate(server: RunningServer, lets_through: int) -> Iterator[tuple[str, threading.Semaphore]]:
    """A way to the server that stops to answer after some requests; its URL, and one release a held one."""
    held, over, turns = threading.Semaphore(0), threading.Event(), threading.Semaphore(lets_through)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not turns.acquire(blocking=False):
                held.release()
                over.wait(60)
                return
            kind = {"content-type": self.headers["content-type"]}
            request = urllib.request.Request(server.otlp_http + self.path, body, kind)
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
                self.send_response(answer.status)
                for name in ("content-type", "content-length", "loopgrid-receipt"):
                    self.send_header(name, answer.headers[name])
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", held
        finally:
            over.set()
            proxy.shutdown()


def test_lines_share_requests_and_a_second_import_says_that_all_was_there(server, tmp_path):
    file = tmp_path / "export.jsonl"
    file.write_text("".join(line(number) for number in range(1, 1_001)))
    first, _ = imported(server, file)
    again, _ = imported(server, file)

    assert (first["requests"], first["stored"]["traces"], first["duplicates"]["traces"]) == (2, 1_000, 0)
    assert (again["requests"], again["stored"]["traces"], again["duplicates"]["traces"]) == (2, 0, 1_000)
    assert spans_in(server) == [1_000, 1_000]


def test_other_content_under_known_ids_is_reported_as_conflict(server, tmp_path):
    file = tmp_path / "export.jsonl"
    file.write_text(line(1))
    imported(server, file)
    file.write_text(line(1).replace("span 1.1", "another name"))
    report, _ = imported(server, file)

    assert (report["stored"]["traces"], report["conflicts"]["traces"]) == (0, 1)


@pytest.mark.crash
def test_an_import_killed_midway_goes_on_where_it_was(server, tmp_path):
    file, state = tmp_path / "export.jsonl", tmp_path / "state.json"
    file.write_text("".join(line(number, SPANS_A_LINE) for number in range(1, 21)))
    with gate(server, lets_through=8) as (url, held):
        process = subprocess.Popen(
            command(url, file, "--resume", state), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(4):
            assert held.acquire(timeout=60)
        process.kill()
        process.wait()
    settled = next(iter(json.loads(state.read_text())["files"].values()))["line"]
    report, said = imported(server, file, "--resume", state)

    assert 1 <= settled <= 8
    assert "going on after byte" in said
    assert report["requests"] == 20
    assert report["stored"]["traces"] + report["duplicates"]["traces"] == 20 * SPANS_A_LINE
    assert report["duplicates"]["traces"] == (8 - settled) * SPANS_A_LINE
    assert spans_in(server) == [20 * SPANS_A_LINE, 20 * SPANS_A_LINE]


def test_a_finished_import_has_nothing_left_to_do_until_the_file_grows(server, tmp_path):
    """The exporter was in the middle of a line; once that is whole, it is taken and no refusal remains."""
    file, state = tmp_path / "export.jsonl", tmp_path / "state.json"
    file.write_text(line(1) + line(2)[:40])
    first, _ = imported(server, file, "--resume", state, code=1)
    file.write_text(line(1) + line(2) + line(3))
    grown, _ = imported(server, file, "--resume", state)
    done, _ = imported(server, file, "--resume", state)

    assert [refusal["where"] for refusal in first["refusals"]] == [f"{file}:2"]
    assert done == grown
    assert (grown["requests"], grown["stored"]["traces"], grown["duplicates"]["traces"]) == (2, 3, 0)


def test_a_file_that_is_not_the_file_it_was_is_imported_from_its_beginning(server, tmp_path):
    file, state = tmp_path / "export.jsonl", tmp_path / "state.json"
    file.write_text(line(1) + line(2))
    imported(server, file, "--resume", state)
    file.write_text(line(3) + line(2) + line(4))
    _, said = imported(server, file, "--resume", state)

    assert "not the file it was" in said
    assert spans_in(server) == [4, 4]


def test_a_line_that_the_server_refuses_is_named_and_costs_its_neighbours_nothing(server, tmp_path):
    file = tmp_path / "export.jsonl"
    file.write_text(line(1) + '{"resourceSpans": [7]}\n' + line(2))
    report, _ = imported(server, file, code=1)

    assert [refusal["where"] for refusal in report["refusals"]] == [f"{file}:2"]
    assert spans_in(server) == [2, 2]


def test_a_state_file_that_is_none_is_left_alone(server, tmp_path):
    file, state = tmp_path / "export.jsonl", tmp_path / "notes.json"
    file.write_text(line(1))
    state.write_text('{"mine": true}')
    ended = subprocess.run(
        command(server.api, file, "--resume", state), capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "--resume" in ended.stderr
    assert state.read_text() == '{"mine": true}'
