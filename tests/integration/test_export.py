"""``loopgrid export`` over a real server: traceable rows, the same bytes after any interruption."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
import yaml  # type: ignore[import-untyped]

from loopgrid import LoopGrid
from tests.support.server import COMMAND, RunningServer, running_server

pytestmark = pytest.mark.integration

SPANS = 10_000
"""More than two pages of an export."""
HOSTILE = 'quote " \\ \x00 \u2028 \x85 😀 \n </s> {} \r'
FORMATS = "jsonl parquet openai-chat preference preference-trl inspect promptfoo hf".split()


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Iterator[RunningServer]:
    """A server with many model calls."""
    with running_server(tmp_path_factory.mktemp("filled")) as server:
        for first in range(0, SPANS, 1000):
            send(server, range(first, first + 1000))
        yield server


@pytest.fixture
def server(tmp_path) -> Iterator[RunningServer]:
    with running_server(tmp_path) as running:
        yield running


def send(server: RunningServer, numbers: range) -> None:
    spans = [
        {
            "traceId": f"{number + 1:032x}",
            "spanId": f"{number + 1:016x}",
            "name": "chat",
            "startTimeUnixNano": str(1_790_000_000_000_000_000 + number),
            "endTimeUnixNano": str(1_790_000_001_000_000_000 + number),
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.conversation.id", "value": {"stringValue": f"c{number % 37}"}},
                {"key": "gen_ai.input.messages", "value": {"stringValue": said("user", number)}},
                {"key": "gen_ai.output.messages", "value": {"stringValue": said("assistant", number)}},
            ],
        }
        for number in numbers
    ]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    request = urllib.request.Request(
        f"{server.otlp_http}/v1/traces", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def said(role: str, number: int) -> str:
    return json.dumps(
        [{"role": role, "parts": [{"type": "text", "content": f"{role} {number} " + "x" * 200}]}]
    )


def exported(*words: object, code: int = 0) -> dict[str, Any]:
    ended = subprocess.run([COMMAND, *map(str, words), "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    return dict(json.loads(ended.stdout)) if ended.stdout else {"refusal": ended.stderr}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@contextmanager
def relay(api: str, until_bytes: int, *, hangs: bool) -> Iterator[str]:
    """A way to the server that ends in the middle of an answer: it goes silent, or breaks off."""
    place = urlsplit(api)
    over = threading.Event()

    def carry(client: socket.socket) -> None:
        with client, socket.create_connection((place.hostname, place.port)) as server:
            server.sendall(client.recv(65536))
            left = until_bytes
            while left > 0 and (piece := server.recv(min(65536, left))):
                client.sendall(piece)
                left -= len(piece)
            if hangs:
                over.wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            # A client that was killed does not say goodbye.
            with suppress(OSError):
                carry(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        thread.join()


def stream_bytes(api: str) -> int:
    request = urllib.request.Request(
        f"{api}/v1/export", headers={"accept": "application/vnd.apache.arrow.stream"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(answer.read())


@pytest.mark.parametrize("hangs", [True, False], ids=["killed", "broken off"])
@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(filled, tmp_path, name, hangs):
    words = ("export", "--format", name, "--test-share", 0.3)
    exported(*words, "--output", tmp_path / "whole", "--endpoint", filled.api)
    cut, state = tmp_path / "cut", tmp_path / "cut" / "export.state"

    with relay(filled.api, stream_bytes(filled.api) * 2 // 3, hangs=hangs) as way:
        process = subprocess.Popen(
            [COMMAND, *map(str, words), "--output", cut, "--endpoint", way], stderr=subprocess.PIPE, text=True
        )
        if hangs:
            give_up = time.monotonic() + 60
            while not state.exists() and time.monotonic() < give_up:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
            process.kill()
        _, told = process.communicate(timeout=60)
    assert hangs or "the same command goes on" in told
    after = json.loads(state.read_text())
    assert 0 < after["decisions"] < SPANS

    # What comes in meanwhile is none of its business.
    later = 20_000_000 + hash((name, hangs)) % 1000
    send(filled, range(later, later + 1))
    exported(*words, "--output", cut, "--endpoint", filled.api)

    assert files_of(cut) == files_of(tmp_path / "whole")


def test_another_command_does_not_go_on_with_a_begun_export(filled, tmp_path):
    cut = tmp_path / "cut"
    with relay(filled.api, stream_bytes(filled.api) * 2 // 3, hangs=False) as way:
        exported("export", "--output", cut, "--endpoint", way, code=2)

    refused = exported("export", "--output", cut, "--corrected", "--endpoint", filled.api, code=2)

    assert "asked for otherwise" in refused["refusal"]


def test_no_conversation_stands_on_both_sides(filled, tmp_path):
    exported("export", "--output", tmp_path / "out", "--test-share", 0.3, "--endpoint", filled.api)
    sides = [
        {line["session_id"] for line in lines_of(tmp_path / "out" / f"decisions-{side}.jsonl")}
        for side in ("train", "test")
    ]

    assert all(sides)
    assert not sides[0] & sides[1]


def seeded(server: RunningServer) -> LoopGrid:
    grid = LoopGrid(service_name="support", endpoint=server.api)
    for number in range(12):
        decision = grid.record_decision(
            decision_type="reply",
            input={"message": f"{number} {HOSTILE}"},
            output={"response": HOSTILE},
            session_id=f"s{number % 5}",
        )
        if number % 3:
            grid.attach_correction(
                decision_id=decision["decision_id"],
                correction={"response": f"right {HOSTILE}"},
                corrected_by=f"person {number % 2} {HOSTILE}",
            )
    return grid


@pytest.mark.parametrize("name", FORMATS)
def test_every_row_leads_to_a_decision_a_correction_and_a_person(server, tmp_path, name):
    grid, folder = seeded(server), tmp_path / "out"
    manifest = exported("export", "-f", name, "-o", folder, "--corrected", "--endpoint", server.api)

    lineage = lines_of(folder / "lineage.jsonl")
    assert len(lineage) == manifest["rows"] == 8
    assert manifest["left_out"] == {}
    (file,) = manifest["files"]
    rows = _rows(folder / file["name"])
    for number, (line, row) in enumerate(zip(lineage, rows, strict=True), 1):
        decision = grid.get_decision(line["decision_id"])
        (correction,) = decision["corrections"]
        assert (line["file"], line["row"]) == (file["name"], number)
        assert line["decision_digest"] == decision["digest"]
        assert line["correction_id"] == correction["correction_id"]
        assert line["correction_digest"] == correction["digest"]
        assert line["corrected_by"] == correction["corrected_by"]
        # Whatever the shape: the input and what should have been said are in it, to the letter.
        assert decision["input"]["message"] in _texts(row)
        assert correction["output"]["response"] in _texts(row)


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".yaml":
        return list(yaml.safe_load(path.read_text("utf-8")))
    return lines_of(path)


def _texts(value) -> set[str]:
    """All texts in a value, and in the JSON that a text may be."""
    if isinstance(value, str):
        try:
            return {value} | (_texts(json.loads(value)) if value[:1] in {"{", "["} else set())
        except ValueError:
            return {value}
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_texts, members))


def test_a_ledger_file_gives_the_same_files_as_its_server(server, tmp_path):
    seeded(server)
    words = ("export", "-f", "preference", "--as-of", 20)
    exported(*words, "-o", tmp_path / "server", "--endpoint", server.api)
    busy = exported(*words, "-o", tmp_path / "busy", "--ledger", server.ledger, code=2)
    assert "open in another process" in busy["refusal"]
    server.stop()
    exported(*words, "-o", tmp_path / "file", "--ledger", server.ledger)

    assert files_of(tmp_path / "server") == files_of(tmp_path / "file")


def test_a_newer_correction_and_a_mark_affect_the_rows_that_rest_on_the_decision(server, tmp_path):
    grid, folder = seeded(server), tmp_path / "out"
    exported("export", "-f", "openai-chat", "-o", folder, "--endpoint", server.api)
    assert exported("exports", "affected", folder, "--endpoint", server.api) == {"affected": []}
    first, second, *_ = lines_of(folder / "lineage.jsonl")

    made = grid.attach_correction(
        decision_id=first["decision_id"], correction={"response": "righter"}, corrected_by="erin"
    )
    grid.mark_incorrect(second["decision_id"], reason="that, too")
    found = exported("exports", "affected", folder, "--endpoint", server.api, code=1)["affected"]

    assert [(each["row"], each["reasons"], each["now"]) for each in found] == [
        (1, ["correction_superseded"], made["correction_id"]),
        (2, ["marked_since"], second["correction_id"]),
    ]


def test_an_export_of_another_ledger_is_not_judged_by_this_one(filled, server, tmp_path):
    seeded(server)
    exported("export", "-o", tmp_path / "out", "--endpoint", server.api)

    refused = exported("exports", "affected", tmp_path / "out", "--endpoint", filled.api, code=2)

    assert "another ledger" in refused["refusal"]


def test_a_past_state_is_exported_as_it_was(server, tmp_path):
    grid = seeded(server)
    before = exported("export", "-o", tmp_path / "before", "--endpoint", server.api)
    (decision,) = grid.list_decisions(limit=1)["items"]
    grid.mark_incorrect(decision["decision_id"], reason="later")
    grid.attach_correction(decision_id=decision["decision_id"], correction=1, corrected_by="erin")
    exported(
        "export", "-o", tmp_path / "again", "--as-of", before["ledger"]["commit_id"], "--endpoint", server.api
    )

    assert (tmp_path / "again" / "decisions.jsonl").read_bytes() == (
        tmp_path / "before" / "decisions.jsonl"
    ).read_bytes()


def test_the_route_streams_the_rows_of_the_files_with_their_lineage(server, tmp_path):
    seeded(server)
    exported("export", "-f", "openai-chat", "-o", tmp_path / "out", "--endpoint", server.api)

    with urllib.request.urlopen(f"{server.api}/v1/export?format=openai-chat", timeout=60) as answer:
        lines = [json.loads(line) for line in answer.read().split(b"\n") if line]
        assert int(answer.headers["LoopGrid-Commit"]) == 20
    assert [line["row"] for line in lines if "row" in line] == lines_of(tmp_path / "out" / "chat.jsonl")
    assert [line["left_out"] for line in lines if "row" not in line] == ["no_ground_truth"] * 4
    assert all(line["lineage"]["decision_digest"] for line in lines)


@pytest.mark.parametrize(
    "words", ["fromat=jsonl", "format=csv", "limit=5", "after=1", "as_of=never", "policy=x"]
)
def test_a_word_that_an_export_does_not_know_is_refused(filled, words):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{filled.api}/v1/export?{words}", timeout=60)

    with refused.value as answer:
        assert answer.code == 400
        assert json.load(answer)["errors"]
