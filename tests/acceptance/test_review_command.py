"""`loopgrid review` in a real pseudo-terminal: a person's keys, and what they leave on record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from loopgrid import LoopGrid
from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

WAIT_S = 60
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("desk")) as running:
        yield running


def queued(server: RunningServer, name: str, *outputs: Any, reviewers: int = 1) -> list[str]:
    """A queue of decisions with these outputs, in this order; their ids."""
    grid = LoopGrid(service_name="shop", endpoint=server.api)
    ids = [
        grid.record_decision(
            decision_type=name,
            input={"message": f"question {number}"},
            prompt={"name": "support", "version": "1", "template": "Answer kindly: {message}"},
            output=output,
            started_at=f"2026-03-01T12:00:{59 - number:02}Z",
        )["decision_id"]
        for number, output in enumerate(outputs)
    ]
    words = ("reviews", "create", name, "--filter", f"decision_type={name}", "--reviewers", str(reviewers))
    done = subprocess.run(
        [COMMAND, *words, "--endpoint", server.api], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ids


class Desk:
    """A person at a terminal."""

    def __init__(self, server: RunningServer, queue: str, who: str = "dana", **environ: str) -> None:
        environment = without_settings(os.environ) | {"TERM": "xterm-256color", **environ}
        self.child = pexpect.spawn(
            COMMAND,
            ["review", queue, "--as", who, "--endpoint", server.api],
            env=environment,
            dimensions=(50, 90),
            encoding="utf-8",
            timeout=WAIT_S,
        )
        self.child.delaybeforesend = None

    def sees(self, text: str) -> str:
        """Wait for a text; all that was written up to it, escape sequences included."""
        self.child.expect_exact(text)
        return str(self.child.before)

    def types(self, keys: str) -> None:
        self.child.send(keys)

    def leaves(self) -> int:
        """Wait for the end; the exit code."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)


def judged(server: RunningServer, decision_id: str) -> list[tuple[str, str, Any]]:
    """What people said about a decision."""
    answer = LoopGrid(endpoint=server.api).sql(
        "SELECT event, said_by, coalesce(reason, CAST(output AS VARCHAR)) "
        "FROM judgements WHERE decision_id = $1 ORDER BY position",
        [decision_id],
    )
    return [tuple(row) for row in answer["rows"]]


def editor(folder: Path, program: str) -> str:
    """An editor that a program stands for: it changes the file it is given as a person would."""
    file = folder / "editor.py"
    file.write_text(f"import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n{program}\n")
    return f"{sys.executable} {file}"


def test_each_key_leads_to_its_judgement_and_the_last_one_to_exit_code_zero(server, tmp_path):
    ids = queued(server, "keys", *({"response": f"answer {number}"} for number in range(5)))
    edits = editor(tmp_path, "file.write_text(file.read_text().replace('answer 2', 'better'))")
    desk = Desk(server, "keys", EDITOR=edits)

    shown = desk.sees("[q]uit")
    for text in ("0 answered, 5 to go", "Answer kindly", "question 0", "answer 0"):
        assert text in shown
    desk.types("c")
    desk.sees("[u]ndo")
    desk.types("\r")
    desk.sees("1 answered")
    desk.sees("[q]uit")
    desk.types("i")
    desk.sees("reason: ")
    desk.types("made up\r")
    desk.sees("category")
    desk.types("\r")
    desk.sees("severity")
    desk.types("\r")
    desk.sees("[u]ndo")
    desk.types("\r")
    desk.sees("2 answered")
    desk.sees("[q]uit")
    desk.types("e")
    change = desk.sees("[u]ndo")
    assert '-  "response": "answer 2"' in change
    assert '+  "response": "better"' in change
    desk.types("\r")
    desk.sees("3 answered")
    desk.sees("[q]uit")
    desk.types("s")
    desk.sees("reason: ")
    desk.types("not my field\r")
    desk.sees("[u]ndo")
    desk.types("\r")
    desk.sees("3 answered, 1 to go")
    desk.sees("[q]uit")
    desk.types("o")
    desk.sees("answer 4")
    desk.types("\b\b, in line" + '"' + "}\r")
    desk.sees("[u]ndo")
    desk.types("\r")
    desk.sees("4 answered, 1 skipped")

    assert desk.leaves() == 1, "the skipped decision still waits for somebody"
    assert [judged(server, one) for one in ids] == [
        [("approval", "dana", None)],
        [("mark", "dana", "made up")],
        [("correction", "dana", '{"response":"better"}')],
        [],
        [("correction", "dana", '{"response":"answer 4, in line"}')],
    ]


def test_nothing_is_said_before_enter_and_undo_and_quit_take_it_back(server):
    (item,) = queued(server, "undone", "fine")
    desk = Desk(server, "undone")
    desk.sees("[q]uit")
    desk.types("c")
    desk.sees("[u]ndo")
    desk.types("u")
    desk.sees("[q]uit")
    desk.types("i")
    desk.sees("reason: ")
    desk.types("\r")
    desk.sees("[q]uit")
    desk.types("q")
    desk.sees("You have answered 0")

    assert desk.leaves() == 1
    assert judged(server, item) == []
    again = Desk(server, "undone", who="eve")
    again.sees("fine")
    again.sees("[q]uit")
    again.types("c")
    again.sees("[u]ndo")
    again.types("\r")
    again.sees("Nothing is left for eve")
    assert again.leaves() == 0
    assert judged(server, item) == [("approval", "eve", None)]


def test_a_session_goes_on_where_a_killed_one_left_off(server):
    queued(server, "resumed", "one", "two")
    desk = Desk(server, "resumed")
    desk.sees("[q]uit")
    desk.types("c")
    desk.sees("[u]ndo")
    desk.types("\r")
    desk.sees("1 answered, 1 to go")
    desk.sees("two")
    desk.child.close(force=True)

    again = Desk(server, "resumed")
    again.sees("1 answered, 1 to go")
    again.sees("two")
    again.child.close(force=True)


def test_recorded_content_cannot_steer_the_terminal(server):
    queued(server, "hostile", {"response": HOSTILE, "\x1b[31mred": HOSTILE}, HOSTILE)
    desk = Desk(server, "hostile")
    shown = desk.sees("[q]uit")
    desk.types("o")
    shown += desk.sees("output (JSON): ")
    desk.types("\x15\r")
    desk.sees("[q]uit")
    desk.types("s")
    desk.sees("reason: ")
    desk.types("odd\r")
    desk.sees("[u]ndo")
    desk.types("\r")
    shown += desk.sees("[q]uit")
    desk.types("m")
    shown += desk.sees("[q]uit")
    desk.child.close(force=True)

    assert "owned" in shown
    assert not re.search("\x1b\\]|\x07|\u202e", shown)


def test_an_edit_that_is_not_json_any_more_is_not_sent(server, tmp_path):
    (item,) = queued(server, "broken", {"a": 1})
    desk = Desk(server, "broken", EDITOR=editor(tmp_path, "file.write_text('{')"))
    desk.sees("[q]uit")
    desk.types("e")
    desk.sees("not JSON")
    desk.sees("[u]ndo")
    desk.types("u")
    desk.sees("[q]uit")
    desk.types("q")

    assert desk.leaves() == 1
    assert judged(server, item) == []


def test_without_a_terminal_it_says_what_to_use(server):
    done = subprocess.run(
        [COMMAND, "review", "x", "--endpoint", server.api],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert done.returncode == 2
    assert "needs a terminal" in done.stderr


def test_queues_are_listed_shown_measured_and_closed(server):
    queued(server, "counted", "x", reviewers=2)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "reviews", *words, "--endpoint", server.api],
            capture_output=True,
            text=True,
            check=False,
        )

    assert "counted" in run("list").stdout
    assert json.loads(run("show", "counted", "--json").stdout)["reviewers_per_item"] == 2
    assert "0 of 2" in run("show", "counted").stdout
    assert "verdict" in run("agreement", "counted").stdout
    assert "0 of 2 answers" in run("close", "counted").stdout
    assert run("show", "no such queue").returncode == 2
