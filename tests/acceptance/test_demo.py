"""`loopgrid demo` shows the whole loop for real, and cleans up after itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from tests.support.server import COMMAND, running_server, without_settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def environ(tmp_path: Path, **further: str) -> dict[str, str]:
    return without_settings(os.environ) | {"TMPDIR": str(tmp_path), "COLUMNS": "120", **further}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo printed, and the ledger that it left."""
    folder = tmp_path_factory.mktemp("demo")
    ended = subprocess.run(
        [COMMAND, "demo"],
        cwd=folder,
        env=environ(folder),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (ledger,) = folder.rglob("*.duckdb")
    return ended.stdout, ledger


def test_the_demo_numbers_its_steps_and_ends_with_what_to_do_next(demo):
    told, ledger = demo
    steps = [int(number) for number in re.findall(r"^(\d)  \w", told, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    after = told.partition("Done in ")[2]
    assert f"loopgrid serve --ledger {ledger}" in after
    assert "loopgrid decisions show" in after


def test_the_demo_shows_the_loop(demo):
    told, _ = demo
    for word in (
        "Your account looks fine.",
        "not an LLM",
        "verdict: fixed",
        "support v1",
        "support v2",
        "mrk_",
        "cor_",
        "rpl_",
        "completed",
    ):
        assert word in told


def test_the_rows_of_the_demos_query_add_up_to_the_decisions_and_the_replay(demo):
    told, _ = demo
    (answered,) = re.findall(r"(\d+) decisions recorded and acknowledged", told)
    table = told.partition("ORDER BY incorrect DESC")[2].partition("─\n")[2].partition("\n\n")[0]
    rows = [line.split() for line in table.splitlines()]
    counts = [int(cells[1]) for cells in rows if len(cells) == 5 and cells[1].isdigit()]

    assert sum(counts) == int(answered) + 1


@pytest.mark.parametrize(
    "instrumentation",
    ["OTel GenAI (openai)", "OTel openai-v2", "OpenInference", "Traceloop", "anthropic SDK"],
)
def test_the_demo_shows_what_an_existing_pipeline_gives(demo, instrumentation):
    told, _ = demo
    (line,) = [line for line in told.splitlines() if instrumentation in line]
    assert "42→17" in line
    assert "gpt-5-mini" in line or "claude-sonnet-5" in line
    assert "Ticket 4711" in line
    assert '"label"' in line


def test_the_demos_server_is_gone_and_its_ledger_says_what_was_shown(demo, tmp_path):
    told, ledger = demo
    decision_id = re.findall(r"loopgrid decisions show (\S+)", told)[-1]
    with running_server(tmp_path, ledger=ledger) as server:
        shown = subprocess.run(
            [COMMAND, "decisions", "show", decision_id, "--json", "--endpoint", server.api],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    decision = json.loads(shown.stdout)
    assert decision["output"]["response"] == "Your account looks fine."
    assert decision["ground_truth"]["output"]["action"] == "refund_duplicate"
    assert [replay["status"] for replay in decision["replays"]] == ["completed"]
    assert len(decision["marks"]) == 1


def run_example(cwd: Path, repository: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", repository / "examples" / "support_agent" / "run.py"],
        cwd=cwd,
        env=environ(cwd, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_example_runs_alone_against_a_running_server(server, repository, tmp_path):
    ran = run_example(tmp_path, repository, LOOPGRID_ENDPOINT=server.api)
    assert ran.returncode == 0, ran.stderr
    query = {"query": "SELECT count(*), any_value(model_provider), any_value(model_name) FROM decisions"}
    (row,) = urllib3.request("POST", f"{server.api}/v1/sql", json=query).json()["rows"]
    assert row == [len(re.findall(r"^T-\d+ ", ran.stdout, re.MULTILINE)), "example", "policy-matcher"]


def test_the_example_without_a_server_says_that_nothing_arrived(repository, tmp_path):
    ran = run_example(tmp_path, repository, LOOPGRID_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 2
    assert "loopgrid serve" in ran.stderr


def test_an_example_that_fails_ends_the_demo_with_its_reason(tmp_path):
    ended = subprocess.run(
        [COMMAND, "demo"],
        cwd=tmp_path,
        env=environ(tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9/v1"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 2
    assert "OPENAI_BASE_URL" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.fixture
def installed(repository: Path, tmp_path: Path) -> Path:
    """A folder that holds the three packages alone, as a wheel does."""
    folder = tmp_path / "site" / "packages"
    for package in ("instrumentation/loopgrid", "collector/loopgrid_collector", "query/loopgrid_query"):
        source = repository / package
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def demo_of(installed: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopgrid_query.cli", "demo"],
        cwd=cwd,
        env=environ(cwd, PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_outside_a_checkout_the_demo_says_where_to_run_it(installed, tmp_path):
    ended = demo_of(installed, tmp_path)
    assert ended.returncode == 2
    assert "run it from there" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_demo_that_fails_says_so_and_leaves_no_server(installed, repository, tmp_path):
    """With the last lines of the server's log, and an exit code that is not 0."""
    shutil.copytree(repository / "examples", tmp_path / "examples")
    (tmp_path / "tests" / "data" / "otlp-samples").mkdir(parents=True)
    ended = demo_of(installed, tmp_path)
    assert ended.returncode == 2
    assert "last log lines" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("loopgrid: not every instrumentation")
    (ledger,) = tmp_path.rglob("*.duckdb")
    with running_server(tmp_path, ledger=ledger):
        pass
