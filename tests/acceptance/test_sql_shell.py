"""`loopgrid sql` in a real pseudo-terminal: statements of several lines, completion, errors, history."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from loopgrid import LoopGrid
from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

WAIT_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("shell")) as running:
        LoopGrid(service_name="shop", endpoint=running.api).record_decision(
            decision_type="reply", input={"message": "hello"}, output={"text": "hi"}
        )
        yield running


@pytest.fixture
def terminal(server: RunningServer, tmp_path: Path) -> Iterator[pexpect.spawn]:
    environment = without_settings(os.environ) | {
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        "XDG_STATE_HOME": str(tmp_path),
    }
    child = pexpect.spawn(
        COMMAND,
        ["sql", "--endpoint", server.api],
        env=environment,
        dimensions=(40, 120),
        encoding="utf-8",
        timeout=WAIT_S,
    )
    child.expect("loopgrid>")
    yield child
    child.close(force=True)


def test_a_statement_ends_with_its_semicolon_and_not_with_its_line(terminal):
    terminal.send("SELECT 20 + 1 AS answer\r")
    terminal.expect(r"\.\.\.>")
    terminal.send("FROM decisions;\r")
    terminal.expect("21")
    terminal.expect("1 row, ")


def test_an_error_is_said_and_the_session_goes_on(terminal):
    terminal.send("SELECT nothing FROM decisions;\r")
    terminal.expect("nothing")
    terminal.expect("loopgrid>")
    terminal.send("\\d no_such_view\r")
    terminal.expect("there is no view 'no_such_view'")
    terminal.send("DROP TABLE decisions;\r")
    terminal.expect("[Rr]ead-only|SELECT")
    terminal.send("SELECT count(*) AS n FROM decisions;\r")
    terminal.expect("1 row, ")


def test_views_and_columns_are_told_and_completed(terminal):
    terminal.send("\\d marks\r")
    terminal.expect("marked_by")
    terminal.expect("loopgrid>")
    terminal.send("SELECT count(*) AS n FROM ground_truth_adj\t")
    terminal.expect("udicated")
    terminal.send(";\r")
    terminal.expect("1 row, ")


def test_rows_stand_below_each_other_on_request(terminal):
    terminal.send("\\x\r")
    terminal.expect("below the other: on")
    terminal.send("SELECT decision_type FROM decisions;\r")
    terminal.expect("row 1")
    terminal.expect("reply")


def test_ctrl_c_leaves_a_statement_and_ctrl_d_the_session(terminal, tmp_path):
    terminal.send("SELECT 'half\x03")
    terminal.expect("loopgrid>")
    terminal.send("SELECT 1 AS whole;\r")
    terminal.expect("1 row, ")
    terminal.expect("loopgrid>")
    terminal.send("\x04")
    terminal.expect(pexpect.EOF)
    terminal.close()
    history = tmp_path / "loopgrid" / "sql_history"

    assert terminal.exitstatus == 0
    assert "SELECT 1 AS whole" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_without_a_terminal_a_query_is_asked_for(server):
    done = subprocess.run(
        [COMMAND, "sql", "--endpoint", server.api],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "give a query" in done.stderr
