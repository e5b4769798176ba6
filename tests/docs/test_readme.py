"""What the README promises exists, and what exists it names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from loopgrid.config import Config
from loopgrid_collector.config import CollectorConfig
from loopgrid_query.cli import profiles
from tests.docs import markdown
from tests.support.server import RunningServer, without_settings

README = markdown.REPOSITORY / "README.md"

QUICKSTART = """\
from loopgrid import LoopGrid

grid = LoopGrid(service_name="support-agent")
decision = grid.record_decision(
    decision_type="customer_support_reply",
    input={"message": "I was charged twice"},
    model={"provider": "openai", "name": "gpt-4"},
    prompt={"template": "support_v1"},
    output={"response": "Your account looks fine."},
)
grid.mark_incorrect(decision["decision_id"], reason="Missed billing issue")
replay = grid.create_replay(decision_id=decision["decision_id"],
                            overrides={"prompt": {"template": "support_v2"}})
grid.attach_correction(decision_id=decision["decision_id"],
                       correction={"response": "I see the duplicate charge. Refund initiated."},
                       corrected_by="agent_42")
grid.compare(decision["decision_id"], replay["replay_id"])
"""
"""A promise: these lines work as they stand. Changing them is a breaking change."""

COMMAND = str(Path(sys.executable).with_name("loopgrid"))


def test_the_quickstart_stands_in_the_readme_word_for_word():
    assert QUICKSTART in [block.code for block in markdown.blocks(README)]


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile():
    makefile = (markdown.REPOSITORY / "Makefile").read_text("utf-8")

    assert "\ndemo:" in makefile
    assert "\ntest:" in makefile


def test_continuous_integration_runs_the_test_command_of_the_readme():
    assert (markdown.REPOSITORY / ".ci" / "run").read_text("utf-8").rstrip().endswith("\nmake test")


def test_the_readme_names_every_command_and_only_those():
    documented = sorted(name.removeprefix("loopgrid ") for name in markdown.table_of_code(README, "command"))

    assert documented == sorted(" ".join(words) for words in _commands())


def test_the_readme_names_the_commands_without_json():
    without = [" ".join(command) for command in _commands() if "--json" not in _help_of(*command)]

    assert sorted(without) == ["completion", "demo", "review"]
    assert "all but `demo`, `review` and `completion` have `--json`" in README.read_text("utf-8")


def test_the_help_of_sql_names_every_view():
    page = (markdown.REPOSITORY / "docs" / "spec" / "ledger.md").read_text("utf-8")
    views = re.findall(r"^\| `(\w+)` \|", page.partition("## Views")[2].partition("##")[0], re.MULTILINE)
    help_of_sql = _help_of("sql")

    assert "decisions" in views
    assert [view for view in views if not re.search(rf"\b{view}\b", help_of_sql)] == []


def test_nobody_is_sent_to_the_package_index_for_loopgrid():
    """The package of that name there is somebody else's."""
    folders = ("collector", "docs", "examples", "instrumentation", "query")
    paths = [path for folder in folders for path in (markdown.REPOSITORY / folder).rglob("*")]
    files = [path for path in paths if path.suffix in {".md", ".py"}]
    asking = re.compile(r"pip install ['\"]?loopgrid|loopgrid\[")

    assert [str(path) for path in [README, *files] if asking.search(path.read_text("utf-8"))] == []


@pytest.mark.integration
def test_the_block_below_the_quickstart_prints_that_nothing_ran_and_why(server: RunningServer):
    codes = [block.code for block in markdown.blocks(README)]
    program = QUICKSTART + codes[codes.index(QUICKSTART) + 1]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=without_settings(os.environ) | {"LOOPGRID_ENDPOINT": server.api},
        capture_output=True,
        text=True,
        check=True,
    )

    refused, compared = ran.stdout.splitlines()
    assert refused.startswith("refused ")
    assert "function" in refused
    assert compared.startswith("not_comparable ")


def test_every_command_has_help_with_an_example():
    without = [" ".join(command) for command in _commands() if "Example: loopgrid " not in _help_of(*command)]

    assert without == []


@pytest.mark.integration
def test_the_readme_names_every_route_and_only_those(server: RunningServer):
    with urllib.request.urlopen(f"{server.api}/openapi.json", timeout=30) as answer:
        paths = json.load(answer)["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    assert sorted(markdown.table_of_code(README, "request")) == sorted(served)


def _commands(*group: str) -> Iterator[tuple[str, ...]]:
    """Every command, as the help of its group lists them."""
    listed = _help_of(*group).partition("Commands:\n")[2]
    for line in listed.splitlines():
        if not line.startswith("  ") or line.startswith("   "):
            if not line.strip():
                break
            continue
        name = line.split()[0]
        below = list(_commands(*group, name))
        yield from below or [(*group, name)]


@cache
def _help_of(*words: str) -> str:
    return subprocess.run([COMMAND, *words, "--help"], capture_output=True, text=True, check=True).stdout


def test_the_settings_page_names_every_variable_that_is_read_and_only_those():
    """The server's rows are generated; those of the library are compared with what it asks for."""
    asked: list[str] = []

    class Asked(dict[str, str]):
        def get(self, name, default=None):
            asked.append(name)
            return default

    Config.from_env(Asked())
    CollectorConfig.from_env(Asked())
    ours = {name for name in asked if name.startswith("LOOPGRID_")} | {profiles.VARIABLE}
    page = (markdown.REPOSITORY / "docs" / "settings.md").read_text("utf-8")

    assert set(re.findall(r"`(LOOPGRID_[A-Z]\w+)`", page)) == ours
