"""The examples as users run them: every decision arrives, complete and with its steps inside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from loopgrid import LoopGrid
from loopgrid.results import DecisionRecord
from tests.support.server import RunningServer, without_settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "frameworks"
TIMEOUT_S = 90


@pytest.fixture
def grid(server: RunningServer) -> Iterator[LoopGrid]:
    with LoopGrid(endpoint=server.api) as client:
        yield client


def environment(server: RunningServer, **more: str) -> dict[str, str]:
    return without_settings(os.environ) | {"LOOPGRID_ENDPOINT": server.api} | more


def run(server: RunningServer, *command: str, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env=environment(server, **more),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "loopgrid" not in done.stderr, done.stderr
    return done.stdout


@contextmanager
def running(server: RunningServer, folder: Path, *command: str, **more: str) -> Iterator[None]:
    """A program that runs until it is told to stop."""
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=EXAMPLES,
            env=environment(server, **more),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            output.seek(0)
            text = output.read()
    assert "Traceback" not in text, text


def decisions(grid: LoopGrid, service: str) -> list[DecisionRecord]:
    return list(reversed(grid.list_decisions(service_name=service, limit=100).decisions))


def steps(grid: LoopGrid) -> Counter[tuple[str, str]]:
    """How many steps of each name each type of decision has, over the whole ledger."""
    rows = grid.sql(
        "SELECT d.decision_type, s.name, count(*) FROM steps s "
        "JOIN decisions d ON d.decision_id = s.owner_decision_id GROUP BY ALL"
    ).rows
    return Counter({(owner, name): number for owner, name, number in rows})


def missing(grid: LoopGrid) -> list[list[Any]]:
    return grid.sql("SELECT producer_id, missing FROM producers WHERE missing > 0").rows


def test_a_plain_script_leaves_all_it_decided_when_it_ends(server, grid):
    assert "'refund': True" in run(server, "script.py")

    refund, close = decisions(grid, "script")
    assert (refund.decision_type, refund.status, refund.function) == ("refund", "ok", "script.refund")
    assert (refund.metadata["order"], close.output) == ("4711", {"close": False})
    assert steps(grid) == {("refund", "execute_tool find_order"): 1, ("refund", "compare charges"): 1}
    assert missing(grid) == []


def test_asyncio_decisions_keep_apart_and_a_cancelled_one_says_so(server, grid):
    assert "escalate took too long" in run(server, "cancelled.py")

    found = decisions(grid, "cancelled")
    kinds = Counter((one.decision_type, one.status) for one in found)
    assert kinds == {("route", "ok"): 10, ("escalate", "error"): 1, ("draft", None): 1, ("draft", "ok"): 1}
    (escalate,) = (one for one in found if one.decision_type == "escalate")
    assert escalate.error.type == "asyncio.exceptions.CancelledError"
    left, whole = (one for one in found if one.decision_type == "draft")
    assert (left.output, left.lossiness) == ("Dear", ["output:incomplete:closed"])
    assert whole.output == "Dear customer 2"
    assert steps(grid) == {("route", "look up"): 10, ("escalate", "look up"): 1}
    assert missing(grid) == []


def test_steps_in_a_thread_pool_belong_to_the_decision_that_started_them(server, grid):
    run(server, "threads.py")

    found = decisions(grid, "threads")
    assert [one.output for one in found] == [["a", "to", "three"]] * 8
    assert len({one.trace_id for one in found}) == 8
    assert steps(grid) == {("rank", "score"): 24}
    assert missing(grid) == []


def test_a_notebook_cell_run_twice_is_two_decisions_of_the_function_as_it_is_now(server, grid):
    program = (
        "from pathlib import Path\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "cell = Path('notebook.py').read_text()\n"
        "for text in (cell, cell.replace('\"statement\"', '\"remark\"')):\n"
        "    shell.run_cell(text).raise_error()\n"
        "shell.run_cell('print(classify(\"No.\"), loopgrid.flush())').raise_error()\n"
    )
    output = run(server, "-c", program, IPYTHONDIR=str(server.ledger.parent / "ipython"))

    assert output.split() == ["question", "True", "question", "True", "remark", "True"]
    found = decisions(grid, "notebook")
    assert [one.output for one in found] == ["question", "question", "remark"]
    assert {one.function for one in found} == {"__main__.classify"}
    assert missing(grid) == []


def test_fastapi_with_two_workers_streams_and_records_every_reply(server, grid, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("uvicorn", "web:app", "--workers", "2", "--port", str(port), "--log-level", "warning")
    with running(server, tmp_path, *command):
        # Each request on a connection of its own, so that both workers get some.
        retries = urllib3.Retry(total=None, connect=200, backoff_factor=0.05, backoff_max=0.2)
        url = f"http://127.0.0.1:{port}"
        headers = {"Connection": "close"}
        for number in range(20):
            answer = urllib3.request(
                "GET", f"{url}/reply/Ada{number}?message=charged", retries=retries, headers=headers
            )
            assert answer.data.decode() == f"Dear Ada{number}, your billing team will write."
        urllib3.request("GET", f"{url}/route?message=hello", retries=retries)

    found = decisions(grid, "web")
    replies = [one for one in found if one.decision_type == "reply"]
    assert {one.input["name"] for one in replies} == {f"Ada{number}" for number in range(20)}
    assert all(one.output == f"Dear {one.input['name']}, your billing team will write." for one in replies)
    assert {one.status for one in found} == {"ok"}
    assert Counter(one.decision_type for one in found) == {"reply": 20, "route": 21}
    inside = {one.parent_span_id for one in found if one.decision_type == "route"}
    assert inside == {one.span_id for one in replies} | {None}
    assert steps(grid) == {("reply", "execute_tool find_customer"): 20}
    assert missing(grid) == []


def test_celery_workers_that_fork_record_each_task_once(server, grid, tmp_path):
    queue = {"QUEUE_FOLDER": str(tmp_path / "queue")}
    command = (
        "celery",
        "--app",
        "tasks",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
        "--without-mingle",
    )
    with running(server, tmp_path, *command, **queue):
        assert run(server, "tasks.py", **queue).count("{'urgent': True}") == 8

    found = decisions(grid, "tasks")
    assert [one.output for one in found] == [{"urgent": True}] * 8
    assert {one.input["message"] for one in found} == {f"ticket {n}: please help now" for n in range(8)}
    assert len({one.producer.id for one in found}) == len({one.metadata["worker"] for one in found})
    assert steps(grid) == {("triage", "read"): 8}
    assert missing(grid) == []
