"""A killed server: what it acknowledged is there, nothing is there twice, nothing is invented."""

from __future__ import annotations

import json
import random
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import urllib3

from tests.support.ledgers import House, house
from tests.support.server import RunningServer, start_server
from tests.support.spans import chat, traces

pytestmark = pytest.mark.crash

SENDERS = 4
SPANS_PER_REQUEST = 20


def send(server: RunningServer, body: bytes) -> bool:
    """Whether the server acknowledged the request."""
    try:
        answer = urllib3.request(
            "POST",
            f"{server.otlp_http}/v1/traces",
            body=body,
            headers={"Content-Type": "application/x-protobuf"},
            retries=False,
            timeout=30,
        )
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200


def request(first: int) -> bytes:
    return traces(*(chat(number) for number in range(first, first + SPANS_PER_REQUEST)))


def test_kill_9_right_after_an_acknowledgement_loses_nothing(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    assert send(server, request(1))
    server.kill()

    with house_of(server) as it:
        assert SPANS_PER_REQUEST == it.count("decisions")
        assert [] == it.broken_evidence()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_under_load_keeps_every_acknowledged_span_exactly_once(tmp_path: Path, seed: int) -> None:
    """Several senders, a kill after a random number of acknowledgements, a restart, everything sent again."""
    kill_after = random.Random(seed).randrange(3, 40)
    server = start_server(tmp_path)
    acknowledged: set[int] = set()
    sent: set[int] = set()
    progress = threading.Condition()

    def sender(which: int) -> None:
        first = which * 1_000_000 + 1
        while True:
            with progress:
                sent.add(first)
            if not send(server, request(first)):
                return
            with progress:
                acknowledged.add(first)
                progress.notify_all()
            first += SPANS_PER_REQUEST

    threads = [threading.Thread(target=sender, args=(which,), daemon=True) for which in range(SENDERS)]
    for thread in threads:
        thread.start()
    with progress:
        assert progress.wait_for(lambda: len(acknowledged) >= kill_after, timeout=60)
    server.kill()
    for thread in threads:
        thread.join()

    with house_of(server) as it:
        stored = {int(span_id, 16) for (span_id,) in it.rows("SELECT span_id FROM spans")}
        promised = {number for first in acknowledged for number in range(first, first + SPANS_PER_REQUEST)}
        possible = {number for first in sent for number in range(first, first + SPANS_PER_REQUEST)}
        assert promised <= stored <= possible
        assert [] == it.broken_evidence()

    again = start_server(tmp_path)
    try:
        assert all(send(again, request(first)) for first in sorted(sent))
        answer = urllib3.request(
            "POST",
            f"{again.api}/v1/sql",
            json={
                "query": "SELECT count(*), count(DISTINCT span_id), "
                "(SELECT count(*) FROM conflicts) FROM spans"
            },
        )
        assert [[len(possible), len(possible), 0]] == json.loads(answer.data)["rows"]
    finally:
        assert 0 == again.stop()


def house_of(server: RunningServer) -> AbstractContextManager[House]:
    """The dead server's ledger, opened here."""
    return house(server.ledger.parent, file=server.ledger.name)
