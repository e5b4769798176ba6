"""`loopgrid compare` as a user runs it: the real command, a real server, a page in a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loopgrid import LoopGrid
from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

HOSTILE = "</script><script>document.title='run'</script><img src=//evil.example/x onerror=alert(1)>\x1b[31m"
EQUALITIES = """
def first_word(one, other):
    return one["text"].split()[0] == other["text"].split()[0]

def broken(one, other):
    raise KeyError("refund")
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """One server for the claims of this file."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def pair(shared: RunningServer) -> tuple[str, str]:
    """Two decisions that say almost the same."""
    with LoopGrid(endpoint=shared.api) as grid:
        made = [
            grid.record_decision(decision_type="reply", input="x", output={"text": text, "long": "l " * 5000})
            for text in ("Refund it. " + HOSTILE, "Refund  them. " + HOSTILE)
        ]
    return made[0]["decision_id"], made[1]["decision_id"]


def compare(server: RunningServer, folder: Path, *words: str, **environ: str):
    return subprocess.run(
        [COMMAND, "compare", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=without_settings(os.environ) | {"LOOPGRID_ENDPOINT": server.api} | environ,
    )


def test_two_decisions_fit_one_screen_without_colour_or_control_characters(shared, pair, tmp_path):
    ended = compare(shared, tmp_path, *pair, COLUMNS="100")

    assert ended.returncode == 0, ended.stderr
    assert "verdict: changed" in ended.stdout
    assert "other decision" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert len(ended.stdout.splitlines()) <= 50


def test_a_rule_and_a_function_of_the_users_decide_what_counts(shared, pair, tmp_path):
    (tmp_path / "equalities.py").write_text(EQUALITIES)
    rule = compare(shared, tmp_path, *pair, "--equality", '{"fields": ["/long"]}', "--json")
    function = compare(shared, tmp_path, *pair, "--equal", "equalities:first_word", "--json")

    assert json.loads(rule.stdout)["verdict"] == "unchanged"
    told = json.loads(function.stdout)
    assert (told["verdict"], told["equality"]) == ("unchanged", {"function": "equalities:first_word"})


def test_the_ground_truth_is_that_of_the_policy_asked_for(shared, pair, tmp_path):
    with LoopGrid(endpoint=shared.api) as grid:
        one = grid.attach_correction(pair[0], correction="one", corrected_by="ana")
        grid.attach_correction(pair[0], correction="two", corrected_by="ben")
        grid.agree(pair[0], one.correction_id, said_by="cleo")

    found = {
        policy: compare(shared, tmp_path, *pair, "--policy", policy, "--json")
        for policy in ("latest", "majority", "adjudicated")
    }

    truths = {policy: json.loads(ended.stdout)["ground_truth"] for policy, ended in found.items()}
    assert truths["adjudicated"] is None
    assert [truths[policy]["output"] for policy in ("latest", "majority")] == ["two", "one"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--equality", "normalized"], "normalised"),
        (["--equal", "first_word"], "MODULE:FUNCTION"),
        (["--equal", "nowhere:first_word"], "no module"),
        (["--equal", "equalities:second_word"], "no function"),
        (["--equal", "equalities:broken"], "raised KeyError"),
        (["--equal", "equalities:first_word", "--equality", "exact"], "either"),
        (["--html", "missing/out.html"], "cannot write"),
        (["--policy", "oldest"], "policy"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(shared, pair, tmp_path, words, said):
    (tmp_path / "equalities.py").write_text(EQUALITIES)
    ended = compare(shared, tmp_path, *pair, *words)

    assert ended.returncode == 2, ended
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert said in ended.stderr


class References(HTMLParser):
    """Everything in a page that would make a browser do or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in {"script", "img", "link", "iframe", "object", "embed", "base", "form", "svg", "a"}:
            self.found.append(tag)
        self.found += [
            name for name, _ in attrs if name in {"src", "href", "srcset"} or name.startswith("on")
        ]


def test_the_page_in_a_file_is_inert_and_needs_nothing_else(shared, pair, tmp_path):
    ended = compare(shared, tmp_path, *pair, "--html", "out.html")
    shown = (tmp_path / "out.html").read_text("utf-8")
    references = References()
    references.feed(shown)

    assert ended.returncode == 0, ended.stderr
    assert references.found == []
    assert "&lt;/script&gt;&lt;script&gt;" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_real_browser_runs_nothing_of_the_page(shared, pair, tmp_path):
    compare(shared, tmp_path, *pair, "--html", "out.html")
    seen = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            f"file://{tmp_path}/out.html",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    ).stdout

    assert "<title>changed: " in seen
    assert "<script" not in seen
    assert "<img" not in seen
