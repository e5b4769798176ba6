"""A process killed in the middle of a decision: the ledger shows that it began, and makes up no end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import urllib3

from loopgrid_collector.ledger.verify import Verification
from tests.support.server import RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

PROGRAM = """
import os, signal, loopgrid
from loopgrid import tracing

@loopgrid.decision("quick")
def quick(number):
    return number

@loopgrid.decision("stuck")
def stuck(message):
    # Its start is on disk once a decision is that ended after it was taken up: they are written in order.
    writer = tracing.active().shipper.writer
    taken_up = False
    while not taken_up:
        taken_up = bool(writer._open)
        quick(0)
        assert writer.until_written(writer.accepted, 30)
    os.kill(os.getpid(), signal.SIGKILL)

quick(1)
stuck("where is my order?")
"""

NEXT = """
import loopgrid
assert loopgrid.recover(60)
"""


def run(program: str, server: RunningServer, spool: Path) -> int:
    own = {
        "LOOPGRID_ENDPOINT": server.api,
        "LOOPGRID_SPOOL_DIR": str(spool),
        "LOOPGRID_SERVICE_NAME": "fragile",
    }
    environ = {**without_settings(os.environ), **own}
    return subprocess.run([sys.executable, "-c", program], env=environ, check=False, timeout=110).returncode


def rows(server: RunningServer, query: str) -> list[list[Any]]:
    answer = urllib3.request("POST", f"{server.api}/v1/sql", json={"query": query}, timeout=30)
    assert answer.status == 200, answer.data
    found: list[list[Any]] = answer.json()["rows"]
    return found


def test_a_decision_whose_process_was_killed_is_unfinished_and_not_missing(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with running_server(tmp_path) as server:
        assert run(PROGRAM, server, spool) < 0
        assert run(NEXT, server, spool) == 0

        ((kind, message, service, started),) = rows(
            server,
            "SELECT decision_type, input ->> 'message', service_name, started_at IS NOT NULL FROM unfinished",
        )
        assert (kind, message, service, started) == ("stuck", "where is my order?", "fragile", True)
        assert rows(server, "SELECT count(*) FROM decisions WHERE decision_type = 'stuck'") == [[0]]
        ((missing, unfinished, dropped),) = rows(
            server,
            "SELECT missing, unfinished, dropped FROM producers WHERE unfinished > 0",
        )
        assert (missing, unfinished, dropped) == (0, 1, 0)
        ledger = server.ledger
    with Verification(ledger) as verification:
        assert verification.gaps()[1] == []
