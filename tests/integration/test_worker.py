"""`loopgrid worker`: whatever the user's function does, its replay ends in a status that says what it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from loopgrid import LoopGrid
from loopgrid_query.cli.errors import FAILURE
from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

APP = """
import os, signal, sys, time
from dataclasses import dataclass
import loopgrid

PROMPT = loopgrid.Prompt("p", version="1", template="{x}")

@dataclass
class Ticket:
    subject: str

@loopgrid.decision("reply")
def reply(ticket: Ticket, how: str, *, prompt: loopgrid.Prompt = PROMPT) -> str:
    if how == "prints":
        print("noise on standard output", flush=True)
    if how == "exits":
        os._exit(3)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "asks to exit":
        sys.exit("no more")
    if how == "raises":
        raise KeyError("refund")
    if how == "is interrupted":
        raise KeyboardInterrupt
    if how == "is odd":
        raise type("Odd", (BaseException,), {})("very")
    if how == "hangs" or how.startswith("waits for "):
        while how == "hangs" or not os.path.exists(how.removeprefix("waits for ")):
            time.sleep(0.01)
    if how == "forks":
        if os.fork() == 0:
            return "the copy"
    if how == "forks and leaves":
        if os.fork() == 0:
            time.sleep(600)
    if how == "reads":
        return input()
    return prompt.render(x=ticket.subject)

@loopgrid.decision("later")
async def later(number: int) -> int:
    return number + 1
"""
OLD = """
import loopgrid

@loopgrid.decision("gone")
def gone(x: int) -> int:
    return x

@loopgrid.decision("changed")
def changed(x: int) -> int:
    return x
"""
NEW = OLD.replace('@loopgrid.decision("gone")\ndef gone', "def other").replace(
    "def changed(x: int)", "def changed(y: int)"
)


SHOP = """
import threading
import loopgrid

@loopgrid.tool(effect="read")
def price(number: int) -> int:
    return number * 100

@loopgrid.tool(effect="irreversible")
def pay(number: int, cents: int) -> str:
    with open("paid", "a") as file:
        print(number, file=file)
    return f"paid {cents}"

@loopgrid.decision("order")
def order(number: int) -> list[str]:
    said = [str(price(number))]
    said.append(pay(number, 5))
    return said
"""


@dataclass
class Place:
    """A folder with the user's program, and a server."""

    folder: Path
    server: RunningServer
    grid: LoopGrid

    @property
    def environ(self) -> dict[str, str]:
        return without_settings(os.environ) | {
            "LOOPGRID_ENDPOINT": self.server.api,
            "LOOPGRID_SPOOL_DIR": str(self.folder / "spool"),
        }

    def decided(self, code: str, module: str = "app") -> str:
        """The id of the decision that running some code of the program made."""
        program = f"import loopgrid\nfrom {module} import *\n{code}\nloopgrid.flush()"
        subprocess.run(
            [str(Path(COMMAND).with_name("python")), "-c", program],
            cwd=self.folder,
            env=self.environ,
            check=True,
        )
        return str(self.grid.list_decisions(limit=1).decisions[0].decision_id)

    def asked(self, how: str) -> dict[str, Any]:
        """A replay of a function that will behave in some way."""
        return self.grid.create_replay(self.reply, overrides={"input": {"how": how}})

    @cached_property
    def reply(self) -> str:
        """The id of a decision."""
        return self.decided("reply(Ticket('a'), 'answers')")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("program")
    (folder / "app.py").write_text(APP)
    with running_server(folder) as server, LoopGrid(endpoint=server.api) as grid:
        yield Place(folder, server, grid)


@dataclass
class Working:
    """A worker that is ready."""

    process: subprocess.Popen[str]
    lines: IO[str]

    def next(self, event: str) -> dict[str, Any]:
        """The next event of a kind."""
        for line in self.lines:
            told = json.loads(line)
            if told["event"] == event:
                return dict(told)
        raise AssertionError(f"it ended without {event}")

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def working(place: Place, *words: str, module: str = "app") -> Iterator[Working]:
    with subprocess.Popen(
        [COMMAND, "worker", module, "--json", *words],
        cwd=place.folder,
        env=place.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            started = Working(process, process.stdout)
            started.next("ready")
            yield started
            if process.poll() is None:
                assert started.stop() == 0
        finally:
            process.kill()


def test_a_replay_that_is_asked_for_is_run_with_its_overrides_and_recorded(place):
    with working(place) as worker:
        overrides = {"prompt": {"template": "Dear {x}"}, "input": {"ticket": {"subject": "b"}}}
        asked = place.grid.create_replay(place.reply, overrides=overrides)
        ended = worker.next("ended")

    replay = place.grid.get_replay(asked["replay_id"])
    assert (ended["replay_id"], ended["status"]) == (asked["replay_id"], "completed")
    result = place.grid.get_decision(replay["result_decision_id"])
    assert result["output"] == "Dear b"
    assert (result["replay_of"], result["replay_id"]) == (place.reply, asked["replay_id"])
    assert [event["status"] for event in replay["history"]] == ["pending", "running", "completed"]


def test_a_worker_answers_tools_from_the_record_in_every_thread_and_runs_none_that_must_not(place):
    (place.folder / "shop.py").write_text(SHOP)
    original = place.decided("order(7)", module="shop")
    changed = {"input": {"number": 8}}
    with working(place, module="shop") as worker:
        asked = [
            place.grid.create_replay(original, overrides=overrides)["replay_id"]
            for overrides in ({}, changed, {**changed, "steps": {"default": "live"}})
        ]
        for _ in asked:
            worker.next("ended")
    same, other, live = (place.grid.get_replay(each) for each in asked)

    assert (same["status"], other["status"], live["status"]) == ("completed", "failed", "failed")
    assert "number is 8, recorded is 7" in other["reason"]
    assert "pay" in live["reason"]
    assert "declared irreversible" in live["reason"]
    assert (place.folder / "paid").read_text() == "7\n", "once, when it was decided"
    result = place.grid.get_decision(same["result_decision_id"])
    assert result["output"] == place.grid.get_decision(original)["output"]


def test_who_asks_can_wait_for_what_becomes_of_a_replay(place):
    with working(place):
        words = [COMMAND, "replay", place.reply, "--override", "input.how=prints", "--wait", "60", "--json"]
        ran = subprocess.run(words, env=place.environ, capture_output=True, text=True, check=False)
    never = place.grid.create_replay(place.reply, overrides={})
    place.grid.cancel_replay(never["replay_id"], reason="no worker")

    assert json.loads(ran.stdout)["status"] == "completed"
    assert place.grid.wait_for_replay(never["replay_id"], timeout_s=60)["status"] == "cancelled"
    assert never["replay_id"] in {
        one.replay_id for one in place.grid.list_replays(status="cancelled").replays
    }


def test_replays_are_cancelled_tried_again_and_listed_from_the_command_line(place):
    replay_id = place.asked("answers")["replay_id"]

    def said(*words: str) -> dict[str, Any]:
        command = [COMMAND, "replays", *words, "--json"]
        ran = subprocess.run(command, env=place.environ, capture_output=True, text=True, check=True)
        return dict(json.loads(ran.stdout))

    assert said("cancel", replay_id, "--reason", "why not")["status"] == "cancelled"
    shown = subprocess.run(
        [COMMAND, "replays", "list"], env=place.environ, capture_output=True, text=True, check=True
    )
    assert replay_id in shown.stdout
    assert said("list", "--status", "cancelled")["items"][0]["replay_id"] == replay_id
    assert said("retry", replay_id)["status"] == "pending"
    assert said("cancel", replay_id)["attempts"] == 0


def test_a_coroutine_function_runs_too(place):
    with working(place) as worker:
        decision_id = place.decided("import asyncio; asyncio.run(later(1))")
        replay = place.grid.create_replay(decision_id, overrides={"input": {"number": 41}})
        worker.next("ended")

    result = place.grid.get_replay(replay["replay_id"])["result_decision_id"]
    assert place.grid.get_decision(result)["output"] == 42


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("prints", "completed", None),
        ("forks", "completed", None),
        ("forks and leaves", "completed", None),
        ("raises", "failed", "KeyError: 'refund'"),
        ("asks to exit", "failed", "SystemExit: no more"),
        ("is interrupted", "failed", "KeyboardInterrupt"),
        ("is odd", "failed", "app.Odd: very"),
        ("reads", "failed", "EOFError: EOF when reading a line"),
        ("exits", "failed", "the function ended its process (exit code 3)"),
        ("is killed", "failed", "the function ended its process (SIGKILL)"),
        ("hangs", "failed", "it ran for 3 s, the time limit, and was ended"),
    ],
)
def test_however_a_function_behaves_its_replay_says_so_and_the_worker_goes_on(place, how, status, reason):
    with working(place, "--time-limit", "3") as worker:
        replay, after = place.asked(how), place.asked("answers")
        worker.next("ended")
        assert worker.next("ended")["status"] == "completed"

    shown = place.grid.get_replay(replay["replay_id"])
    assert (shown["status"], shown["reason"]) == (status, reason)
    assert place.grid.get_replay(after["replay_id"])["status"] == "completed"
    if status == "completed":
        assert place.grid.get_decision(shown["result_decision_id"])["output"] == "a"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("gone(1)", "Nothing ran: function aging.gone is not defined in this process"),
        ("changed(1)", "Nothing ran: the record has an argument 'x' that changed() does not take"),
    ],
)
def test_a_function_that_is_gone_or_has_changed_refuses_the_replay(place, code, reason):
    (place.folder / "aging.py").write_text(OLD)
    decision_id = place.decided(code, "aging")
    (place.folder / "aging.py").write_text(NEW)
    with working(place, module="aging") as worker:
        replay = place.grid.create_replay(decision_id, overrides={})
        worker.next("ended")

    shown = place.grid.get_replay(replay["replay_id"])
    assert (shown["status"], shown["result_decision_id"]) == ("refused", None)
    assert shown["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "'broken' fails on import: ZeroDivisionError: division by zero."),
        ("import os; os._exit(5)", "'broken' ended the process that imported it (exit code 5)."),
        ("x = 1", "'broken' defines no decorated function: there is nothing to run again."),
        (
            "import loopgrid; loopgrid.configure(endpoint='http://127.0.0.1:9')",
            "this process records to http://127.0.0.1:9",
        ),
    ],
)
def test_a_module_that_cannot_be_used_ends_the_worker_with_the_reason(place, text, said):
    (place.folder / "broken.py").write_text(text)
    ended = subprocess.run(
        [COMMAND, "worker", "broken"],
        cwd=place.folder,
        env=place.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == FAILURE
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_that_shall_stop_finishes_what_runs(place, tmp_path):
    go_on = tmp_path / "go-on"
    with working(place, "--grace", "60") as worker:
        replay = place.asked(f"waits for {go_on}")
        worker.next("running")
        worker.process.send_signal(signal.SIGTERM)
        go_on.touch()
        assert worker.next("ended")["status"] == "completed"
        worker.next("stopped")
        assert worker.process.wait(60) == 0

    assert place.grid.get_replay(replay["replay_id"])["status"] == "completed"


def test_what_a_worker_cannot_finish_in_time_it_gives_back_and_another_runs_it(place, tmp_path):
    go_on = tmp_path / "go-on"
    with working(place, "--grace", "0") as worker:
        replay = place.asked(f"waits for {go_on}")
        worker.next("running")
        assert worker.stop(signal.SIGINT) == 0
    shown = place.grid.get_replay(replay["replay_id"])
    go_on.touch()
    with working(place) as worker:
        worker.next("ended")

    assert (shown["status"], shown["attempts"]) == ("pending", 1)
    assert "stopped while it ran" in shown["reason"]
    done = place.grid.get_replay(replay["replay_id"])
    assert (done["status"], done["attempts"]) == ("completed", 2)


def test_what_a_dead_worker_held_is_run_by_another(place):
    claim = {"worker": "dead", "functions": ["app.reply"], "lease_s": 1}
    replay = place.asked("answers")
    held = httpx.post(f"{place.server.api}/v1/replays/claim", json=claim, trust_env=False).json()
    with working(place) as worker:
        worker.next("ended")

    done = place.grid.get_replay(replay["replay_id"])
    assert held["replay"]["replay_id"] == replay["replay_id"]
    assert (done["status"], done["attempts"]) == ("completed", 2)
    assert "dead went silent" in done["history"][2]["reason"]


def test_what_a_killed_worker_had_begun_may_still_end_and_is_recorded_once(place, tmp_path):
    go_on = tmp_path / "go-on"
    with working(place) as worker:
        replay = place.asked(f"waits for {go_on}")
        worker.next("running")
        worker.process.kill()
        worker.process.wait(60)
        go_on.touch()
        done = place.grid.wait_for_replay(replay["replay_id"], timeout_s=60)

    assert (done["status"], done["attempts"]) == ("completed", 1)


def test_a_run_that_hangs_does_not_outlive_its_worker_for_ever():
    ours, theirs = socket.socketpair()
    program = (
        "import socket, sys, threading; from loopgrid.runner import end_when_alone; "
        "line = socket.socket(fileno=int(sys.argv[1])); "
        "threading.Thread(target=end_when_alone, args=(line, 0.0), daemon=True).start(); "
        "line.send(b'!'); threading.Event().wait()"
    )
    with (
        theirs,
        subprocess.Popen(
            [sys.executable, "-c", program, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        ) as hanging,
    ):
        assert ours.recv(1) == b"!"
        assert hanging.poll() is None
        ours.close()
        assert hanging.wait(60) == -signal.SIGKILL


def test_a_key_that_may_not_run_replays_ends_the_worker_with_the_reason(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    with running_server(tmp_path) as server, LoopGrid(endpoint=server.api) as grid:
        keys = f"{server.api}/v1/keys"
        admin = httpx.post(keys, json={"name": "a", "scopes": ["admin"]}, trust_env=False).json()["key"]
        bearer = {"authorization": f"Bearer {admin}"}
        wanted = {"name": "reader", "scopes": ["read"]}
        key = httpx.post(keys, json=wanted, headers=bearer, trust_env=False).json()["key"]
        environ = Place(tmp_path, server, grid).environ | {"LOOPGRID_API_KEY": key}
        ended = subprocess.run(
            [COMMAND, "worker", "app"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    assert ended.returncode == FAILURE
    assert "replay" in ended.stderr


def test_several_run_at_once_each_in_a_process_of_its_own(place, tmp_path):
    go_on = tmp_path / "go-on"
    with working(place, "--concurrency", "2") as worker:
        worker.next("ready")
        for _ in range(2):
            place.asked(f"waits for {go_on}")
        for _ in range(2):
            worker.next("running")
        go_on.touch()
        assert [worker.next("ended")["status"] for _ in range(2)] == ["completed"] * 2


def test_a_replay_in_the_calling_process_is_not_given_to_a_worker(place):
    with working(place) as worker:
        words = [COMMAND, "replay", place.reply, "--app", "app", "--json"]
        ran = subprocess.run(
            words, cwd=place.folder, env=place.environ, capture_output=True, text=True, check=False
        )
        worker.process.send_signal(signal.SIGTERM)
        events = [json.loads(line)["event"] for line in worker.lines]

    replay = json.loads(ran.stdout)
    assert (replay["status"], replay["attempts"]) == ("completed", 1)
    assert "running" not in events
