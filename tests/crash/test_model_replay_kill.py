"""A server killed while a provider is asked: nothing is lost, nothing is paid for twice by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.provider_stub import Reply, answered, provider_stub
from tests.support.server import RunningServer, running_server, start_server
from tests.support.spans import chat, traces

pytestmark = pytest.mark.crash

KEY = "sk-very-secret"
ENDED = {"completed", "failed", "refused", "cancelled"}


def ask(server: RunningServer, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = urllib3.request(method, server.api + path, json=body, timeout=30, retries=False)
    assert answer.status < 300, answer.data
    return dict(answer.json())


def export(server: RunningServer, number: int) -> str:
    body = traces(chat(number))
    headers = {"Content-Type": "application/x-protobuf"}
    answer = urllib3.request("POST", f"{server.otlp_http}/v1/traces", body=body, headers=headers, timeout=30)
    assert answer.status == 200
    return f"{number:032x}-{number:016x}"


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until it does; how long is the machine's business, up to a minute."""
    tick = threading.Event()
    for _ in range(1_200):
        if holds():
            return
        tick.wait(0.05)
    raise AssertionError(f"never came true: {what}")


def ended(server: RunningServer, replay_id: str) -> dict[str, Any]:
    eventually(lambda: ask(server, "GET", f"/v1/replays/{replay_id}")["status"] in ENDED, "it ends")
    return ask(server, "GET", f"/v1/replays/{replay_id}")


def settings(folder: Path, base_url: str) -> dict[str, str]:
    path = folder / "providers.toml"
    path.write_text(f'[openai]\nbase_url = "{base_url}"\napi_key_env = "THE_KEY"\n')
    return {"LOOPGRID_PROVIDERS": str(path), "LOOPGRID_MAX_MODEL_CALLS": "1", "THE_KEY": KEY}


def test_what_was_asked_when_the_server_was_killed_has_failed_and_what_waited_runs(tmp_path: Path) -> None:
    held = threading.Event()
    with provider_stub() as stub:
        stub.then(Reply(held=held))
        environ = settings(tmp_path, stub.base_url)
        server = start_server(tmp_path, environ=environ)
        decisions = [export(server, number) for number in (1, 2)]
        asked, waits = (
            ask(server, "POST", "/v1/replays", {"decision_id": one})["replay_id"] for one in decisions
        )
        eventually(lambda: len(stub.asked) == 1, "the first is asked")
        server.kill()
        held.set()

        with running_server(tmp_path, environ=environ) as again:
            killed, later = ended(again, asked), ended(again, waits)
            assert len(stub.asked) == 2
            retried = ask(again, "POST", f"/v1/replays/{asked}/retry", {})
            assert ended(again, retried["replay_id"])["status"] == "completed"

    assert killed["status"] == "failed"
    assert "may have been charged" in killed["reason"]
    assert later["status"] == "completed"
    assert len(stub.asked) == 3
    assert KEY not in server.log.read_text()


def test_a_call_ends_with_the_process_that_makes_it(tmp_path: Path) -> None:
    held = threading.Event()
    with provider_stub() as stub:
        stub.always(lambda asked: Reply(body=answered(asked).body, held=held))
        try:
            with running_server(tmp_path, environ=settings(tmp_path, stub.base_url)) as server:
                ask(server, "POST", "/v1/replays", {"decision_id": export(server, 1)})
                eventually(lambda: len(stub.asked) == 1, "it is asked")
        finally:
            held.set()


def test_a_server_does_not_start_with_a_file_that_it_cannot_mean(tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text(f'[openai]\napi_key = "{KEY}"\n')

    with pytest.raises(AssertionError) as ended_early:
        start_server(tmp_path, environ={"LOOPGRID_PROVIDERS": str(path)})

    assert "code 2" in str(ended_early.value)
    assert "api_key_env" in str(ended_early.value)
    assert KEY not in str(ended_early.value)


def test_a_call_that_a_kill_interrupted_has_failed_on_record_though_nobody_asks(tmp_path: Path) -> None:
    held = threading.Event()
    with provider_stub() as stub:
        stub.then(Reply(held=held))
        environ = settings(tmp_path, stub.base_url)
        server = start_server(tmp_path, environ=environ)
        asked = ask(server, "POST", "/v1/replays", {"decision_id": export(server, 1)})["replay_id"]
        eventually(lambda: len(stub.asked) == 1, "it is asked")
        server.kill()
        held.set()

        query = {"query": "SELECT status FROM replays WHERE replay_id = $id", "parameters": {"id": asked}}
        with running_server(tmp_path, environ=environ) as again:
            # SQL only looks: it ends no lease by itself.
            eventually(lambda: ask(again, "POST", "/v1/sql", query)["rows"] == [["failed"]], "it has failed")
