"""The pytest plugin as a user's project runs it: a real server, pytest in its own process, their function."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopgrid import LoopGrid
from tests.support.server import RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

PROJECT = """
import asyncio
import datetime as dt
from dataclasses import dataclass

import loopgrid

@dataclass
class Order:
    number: str
    opened: dt.date

@dataclass
class Answer:
    action: str
    year: int

PROMPT = loopgrid.Prompt("p", version="2", template="T")

@loopgrid.tool(effect="read")
def look_up(number: str) -> str:
    return "found " + number

@loopgrid.tool(effect="irreversible")
def pay(number: str) -> str:
    with open("paid", "a") as file:
        print(number, file=file)
    return "paid"

@loopgrid.decision("refund")
def paying(order: Order, limit: int = 10):
    try:
        pay(order.number)
    except Exception:
        pass
    return {"action": "refund", "year": order.opened.year}

@loopgrid.decision("refund")
def decorated(order: Order, limit: int = 10, *, prompt: loopgrid.Prompt = PROMPT):
    assert prompt.version == "2"
    look_up(order.number)
    return Answer("refund" if order.number != "3" else "wait", order.opened.year)

def plain(order: Order, limit: int = 10):
    decorated(order)
    return {"action": "refund", "year": order.opened.year}

async def later(order: Order, limit: int = 10):
    await asyncio.sleep(0)
    return plain(order)

@loopgrid.decision("refund", reduce="".join)
def stream(order: Order, limit: int = 10):
    yield "a"
    yield "b"
"""
CONFTEST = 'pytest_plugins = ["loopgrid_query.pytest_plugin"]\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """One server for the claims of this file, with four corrected refunds and one nobody corrected."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        with LoopGrid(endpoint=running.api) as grid:
            for number in "12345":
                made = grid.record_decision(
                    decision_type="refund",
                    input={"order": {"number": number, "opened": "2026-03-01"}, "limit": 5},
                    prompt={"name": "p", "version": "1", "template": "Old"},
                    output={"action": "wait", "year": 2026},
                    decision_id=f"{int(number):032x}-{int(number):016x}",
                )
                if number != "5":
                    grid.attach_correction(
                        made["decision_id"],
                        correction={"action": "refund", "year": 2026},
                        corrected_by="dana",
                    )
            streamed = grid.record_decision(
                decision_type="text", input={"order": {"number": "1", "opened": "2026-03-01"}}, output="b"
            )
            grid.attach_correction(streamed["decision_id"], correction=" AB ", corrected_by="dana")
        yield running


def run_pytest(server: RunningServer | None, folder: Path, body: str, *words: str):
    (folder / "project.py").write_text(PROJECT)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(
        "import pytest, project\nfrom loopgrid_query.ground_truth import *\n" + body
    )
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-W",
            "error",
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=folder,
        env=without_settings(os.environ)
        | {
            "COLUMNS": "200",
            "LOOPGRID_ENDPOINT": server.api if server else "http://127.0.0.1:9",
            "LOOPGRID_SPOOL_DIR": str(folder / "spool"),
        },
    )


def test_each_correction_is_a_test_named_by_its_decision_and_a_failure_names_the_place(shared, tmp_path):
    ended = run_pytest(
        shared,
        tmp_path,
        """
@pytest.mark.loopgrid_ground_truth("refund")
def test_refund(ground_truth_case):
    ground_truth_case.check(project.decorated)
""",
        "-vv",
    )

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 3 passed" in ended.stdout
    assert f"test_refund[{1:032x}-{1:016x}] PASSED" in ended.stdout
    assert f"test_refund[{3:032x}-{3:016x}] FAILED" in ended.stdout
    assert "not the output that dana says is right" in ended.stdout
    assert "$.action: got 'wait', right is 'refund'" in ended.stdout
    assert "ground_truth.py:" not in ended.stdout, "the failure is told where the test is"


def test_nothing_that_a_test_decides_is_sent(shared, tmp_path):
    with LoopGrid(endpoint=shared.api) as grid:
        before = grid.sql("SELECT count(*) FROM spans")["rows"]
    ended = run_pytest(
        shared,
        tmp_path,
        """
@pytest.mark.loopgrid_ground_truth("refund")
def test_refund(ground_truth_case):
    ground_truth_case.run(project.plain)
    assert ground_truth_case.made is None
    ground_truth_case.run(project.decorated)
    assert [step.name for step in ground_truth_case.made.steps] == ["look_up"]
""",
    )

    assert ended.returncode == 0, ended.stdout
    assert not (tmp_path / "spool").exists()
    with LoopGrid(endpoint=shared.api) as grid:
        assert grid.sql("SELECT count(*) FROM spans")["rows"] == before


def test_functions_of_every_kind_are_run_and_arguments_can_be_given(shared, tmp_path):
    ended = run_pytest(
        shared,
        tmp_path,
        """
import datetime as dt

@pytest.mark.loopgrid_ground_truth("refund", limit=1)
def test_kinds(ground_truth_case):
    case = ground_truth_case
    assert case.decision_id == case.decision.decision_id
    assert case.expected == {"action": "refund", "year": 2026}
    case.check(project.plain)
    case.check(project.later)
    assert case.matches(project.Answer("refund", 2026))
    call = case.call(project.plain, limit=3)
    assert (call.args, call.kwargs) == ((project.Order("4", dt.date(2026, 3, 1)), 3), {})
    other = project.Order("9", dt.date(2020, 1, 1))
    assert case.run(project.plain, order=other) == {"action": "refund", "year": 2020}

@pytest.mark.loopgrid_ground_truth("text", equality={"text": "normalised", "ignore_case": True})
def test_streams(ground_truth_case):
    ground_truth_case.check(project.stream)
""",
    )

    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


def test_a_tool_that_cannot_be_undone_is_not_run_by_a_test_unless_it_says_so(shared, tmp_path):
    ended = run_pytest(
        shared,
        tmp_path,
        """
@pytest.mark.loopgrid_ground_truth("refund", limit=1)
def test_refused(ground_truth_case):
    ground_truth_case.check(project.paying)

@pytest.mark.loopgrid_ground_truth("refund", limit=1)
def test_allowed(ground_truth_case):
    ground_truth_case.allow = ["pay"]
    ground_truth_case.check(project.paying)
""",
    )

    assert "1 failed, 1 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "declared irreversible" in ended.stdout
    assert len((tmp_path / "paid").read_text().split()) == 1


def test_the_processes_of_a_distributed_run_find_the_same_tests(shared, tmp_path):
    ended = run_pytest(
        shared,
        tmp_path,
        """
@pytest.mark.loopgrid_ground_truth("refund")
def test_refund(ground_truth_case):
    ground_truth_case.check(project.plain)
""",
        "-n",
        "2",
    )

    assert ended.returncode == 0, ended.stdout
    assert "4 passed" in ended.stdout


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ('("refnd")', "no corrected decision matches decision_type='refnd'"),
        ('("refund", servce_name="x")', "servce_name"),
        ('("refund", equality="normalized")', "normalised"),
        ('("refund", limit=0)', "give 1 or more"),
        ('("refund", "x")', "one argument without a name"),
    ],
)
def test_a_mark_that_cannot_be_meant_stops_the_collection_with_a_sentence(shared, tmp_path, mark, said):
    ended = run_pytest(
        shared,
        tmp_path,
        f"""
@pytest.mark.loopgrid_ground_truth{mark}
def test_refund(ground_truth_case):
    pass
""",
    )

    assert ended.returncode not in {0, 1}, ended.stdout
    assert said in ended.stdout + ended.stderr


def test_without_a_server_the_run_fails_and_says_so(tmp_path):
    ended = run_pytest(
        None,
        tmp_path,
        """
@pytest.mark.loopgrid_ground_truth("refund")
def test_refund(ground_truth_case):
    pass
""",
    )

    assert ended.returncode not in {0, 1}
    assert "127.0.0.1:9" in ended.stdout + ended.stderr


def test_a_test_without_the_mark_is_told_that_it_needs_one(shared, tmp_path):
    ended = run_pytest(shared, tmp_path, "def test_it(ground_truth_case):\n    pass\n")

    assert ended.returncode != 0
    assert "needs a mark that says which decisions" in ended.stdout


def test_what_cannot_be_restored_or_judged_fails_with_the_reason(shared, tmp_path):
    ended = run_pytest(
        shared,
        tmp_path,
        """
from loopgrid.errors import Invalid, NotReplayable

@pytest.mark.loopgrid_ground_truth("refund", limit=1)
def test_it(ground_truth_case):
    def other(order: project.Order, limit: int, ticket: str): ...
    with pytest.raises(NotReplayable, match="ticket=…"):
        ground_truth_case.run(other)
    with pytest.raises(Invalid, match="'order'"):
        ground_truth_case.run(project.plain, ordr=1)
    def wrong(order: int, limit: int): ...
    with pytest.raises(NotReplayable, match="its hint says int"):
        ground_truth_case.run(wrong)
    with pytest.raises(NotReplayable, match="no exact form"):
        ground_truth_case.matches(object())
    with pytest.raises(ZeroDivisionError):
        ground_truth_case.check(lambda order, limit: 1 / 0)

@pytest.mark.loopgrid_ground_truth("nothing", allow_empty=True)
def test_empty(ground_truth_case):
    raise AssertionError
""",
    )

    assert ended.returncode == 0, ended.stdout
    assert "1 passed, 1 skipped" in ended.stdout


def test_the_plugin_needs_none_of_the_servers_packages():
    program = (
        "import sys\n"
        "for name in 'duckdb fastapi pydantic typer numpy orjson'.split(): sys.modules[name] = None\n"
        "import loopgrid_query.pytest_plugin"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
