"""`loopgrid check` as a pipeline runs it: the real command, a real server, files, a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from loopgrid import LoopGrid
from loopgrid_query import schemas
from tests.docs import markdown
from tests.support.server import COMMAND, RunningServer, running_server, without_settings

pytestmark = pytest.mark.integration

RULE = "fixed >= 0.8 and newly_broken == 0"
CHANGE = {"prompt": {"name": "p", "version": "2", "template": "Look twice"}}
HOSTILE = "</script><script>document.title='run'</script><img src=//evil.example/x onerror=alert(1)>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BEFORE = "1999-01-01T00:00:00Z"


def furnish(
    grid: LoopGrid, *, fixed: int, still_wrong: int, kept: int, broken: int = 0, control: bool = True
):
    """Corrected decisions with their replays, and the ids of both arms."""
    arm, repeats = [], []
    outcomes = [("wait", "refund")] * fixed + [("wait", "wait")] * still_wrong
    outcomes += [("refund", "refund")] * kept + [("refund", "wait")] * broken
    for before, after in outcomes:
        made = grid.record_decision(decision_type="refund", input={"message": HOSTILE}, output={"do": before})
        decision_id = made["decision_id"]
        grid.attach_correction(decision_id, correction={"do": "refund"}, corrected_by="dana")
        replay = grid.create_replay(decision_id, executor="external", overrides=CHANGE, output={"do": after})
        arm.append(replay["replay_id"])
        if control:
            repeat = grid.create_replay(decision_id, executor="external", overrides={}, output={"do": before})
            repeats.append(repeat["replay_id"])
    return arm, repeats


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    """One server for the claims of this file."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def lists(shared: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.txt and its repeats.txt, and bad.txt, of which most are still wrong."""
    folder = tmp_path_factory.mktemp("lists")
    with LoopGrid(endpoint=shared.api) as grid:
        arm, repeats = furnish(grid, fixed=9, still_wrong=1, kept=5)
        bad, _ = furnish(grid, fixed=2, still_wrong=3, kept=1, broken=1, control=False)
    (folder / "good.txt").write_text("# the arm\n" + "\n".join(arm) + "\n\n")
    (folder / "repeats.txt").write_text("\n".join(repeats))
    (folder / "bad.txt").write_text("\n".join(bad))
    return folder


def check(server: RunningServer, folder: Path, *words: str, given: str | None = None):
    return subprocess.run(
        [COMMAND, "check", *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=folder,
        input=given,
        env=without_settings(os.environ) | {"LOOPGRID_ENDPOINT": server.api},
    )


def test_a_rule_that_holds_ends_with_0_and_four_reports_say_the_same(shared, lists):
    files = ("--junit", "gate.xml", "--markdown", "gate.md", "--html", "gate.html")
    ended = check(
        shared,
        lists,
        "--replay-ids",
        "good.txt",
        "--control-ids",
        "repeats.txt",
        "--rule",
        RULE,
        "--json",
        *files,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    jsonschema.validate(told, dict(schemas.documents()["gate_report"]))
    assert told["gate"]["verdict"] == "pass"
    assert told["overrides"] == CHANGE
    assert told["statistics"]["paired"] | {"p_value": None, "gain": None} == {
        "baseline": "control",
        "pairs": 15,
        "open": 0,
        "both_right": 5,
        "gained": 9,
        "lost": 0,
        "both_wrong": 1,
        "p_value": None,
        "gain": None,
    }
    assert told["statistics"]["noise"]["differing"]["count"] == 0
    assert (len(told["items"]), len(told["control"])) == (15, 15)
    suites = ET.parse(lists / "gate.xml").getroot()  # noqa: S314 - our own output
    assert suites.get("failures") == "0"
    assert (lists / "gate.md").read_text().startswith("### LoopGrid gate: pass\n")
    assert "Gate: " in (lists / "gate.html").read_text()


def test_a_rule_that_does_not_hold_ends_with_1_and_says_which_clause(shared, lists):
    ended = check(shared, lists, "--replay-ids", "-", "--rule", RULE, given=(lists / "bad.txt").read_text())

    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    assert lines[0] == "fail    fixed >= 0.8: it is 40% (2 of 5 that were wrong)"
    assert lines[1] == "fail    newly_broken == 0: it is 1 of 2 that were right"
    assert lines[2] == "7 decisions: 2 fixed, 3 still wrong, 1 newly broken, 1 unchanged"
    assert re.match(
        r"not enough data: 7 corrected decisions: \d+ more needed to see a difference of ", lines[3]
    )
    assert lines[-1] == "gate: fail"
    assert "\x1b" not in ended.stdout


def test_each_outcome_is_the_verdict_of_loopgrid_compare(shared, lists):
    told = json.loads(check(shared, lists, "--replay-ids", "bad.txt", "--rule", RULE, "--json").stdout)

    with LoopGrid(endpoint=shared.api) as grid:
        for item in told["items"]:
            found = grid.compare(item["replay_id"])
            assert (item["outcome"], item["why"]) == (found["verdict"], found["why"])
            assert (item["before"], item["after"], item["same"]) == tuple(
                found["agreement"][side] for side in ("left", "right", "outputs")
            )


def test_the_ground_truth_is_that_of_the_policy_asked_for(shared, tmp_path):
    with LoopGrid(endpoint=shared.api) as grid:
        arm, _ = furnish(grid, fixed=1, still_wrong=0, kept=0, control=False)
        grid.attach_correction(
            grid.get_replay(arm[0])["decision_id"], correction={"do": "ask"}, corrected_by="ben"
        )
    words = ("--replay-ids", "-", "--rule", "fixed == 1", "--json")
    found = {
        policy: json.loads(check(shared, tmp_path, *words, "--policy", policy, given=arm[0]).stdout)
        for policy in ("latest", "adjudicated")
    }

    assert found["latest"]["items"][0]["outcome"] == "still_wrong"
    assert found["adjudicated"]["items"][0]["truth"] is False


def test_unknown_is_no_pass(shared, lists):
    ended = check(shared, lists, "--replay-ids", "good.txt", "--rule", "noise <= 5%")

    assert ended.returncode == 1
    assert "unknown noise <= 5%: it is not known; there is no control arm" in ended.stdout
    assert ended.stdout.endswith("gate: unknown\n")


def test_a_replay_that_nothing_ran_stays_in_the_denominator(shared, tmp_path):
    with LoopGrid(endpoint=shared.api) as grid:
        arm, _ = furnish(grid, fixed=3, still_wrong=0, kept=0, control=False)
        made = grid.record_decision(decision_type="refund", input="x", output={"do": "wait"})
        grid.attach_correction(made["decision_id"], correction={"do": "refund"}, corrected_by="dana")
        arm.append(grid.create_replay(made["decision_id"], overrides=CHANGE)["replay_id"])
    (tmp_path / "arm.txt").write_text("\n".join(arm))
    ended = check(shared, tmp_path, "--replay-ids", "arm.txt", "--rule", "fixed >= 0.8", "--json")

    told = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert told["gate"]["verdict"] == "unknown"
    assert (
        told["statistics"]["outcomes"]["fixed"]["count"],
        told["statistics"]["outcomes"]["fixed"]["of"],
    ) == (3, 4)
    assert told["items"][3]["outcome"] in {"failed", "not_comparable"}


def test_the_equality_asked_for_decides(shared, tmp_path):
    with LoopGrid(endpoint=shared.api) as grid:
        made = grid.record_decision(decision_type="t", input="x", output="no")
        grid.attach_correction(made["decision_id"], correction="Yes,  please", corrected_by="dana")
        replay = grid.create_replay(
            made["decision_id"], executor="external", overrides=CHANGE, output="yes, please"
        )
    words = ("--replay-ids", "-", "--rule", "fixed == 1")
    rule = '{"text": "normalised", "ignore_case": true}'

    assert check(shared, tmp_path, *words, given=replay["replay_id"]).returncode == 1
    assert check(shared, tmp_path, *words, "--equality", rule, given=replay["replay_id"]).returncode == 0


def test_since_a_moment_the_newest_replays_are_the_arm_and_those_without_overrides_the_control(tmp_path):
    with running_server(tmp_path) as running:
        with LoopGrid(endpoint=running.api) as grid:
            arm, _ = furnish(grid, fixed=2, still_wrong=1, kept=1)
            again = grid.get_replay(arm[2])["decision_id"]
            grid.create_replay(again, executor="external", overrides=CHANGE, output={"do": "refund"})
        found = check(running, tmp_path, "--replays-since", BEFORE, "--rule", "fixed == 1", "--json")
        later = check(running, tmp_path, "--replays-since", "2200-01-01T00:00:00Z", "--rule", "fixed == 1")
        with LoopGrid(endpoint=running.api) as grid:
            grid.create_replay(
                again, executor="external", overrides={"model": {"name": "other"}}, output={"do": "wait"}
            )
        mixed = check(running, tmp_path, "--replays-since", BEFORE, "--rule", "fixed == 1")

    told = json.loads(found.stdout)
    assert found.returncode == 0, found.stderr
    assert told["statistics"]["counted"]["items"] == 4
    assert len(told["control"]) == 4
    assert "1 older replays of the same decisions are left out." in told["statistics"]["notes"]
    assert (later.returncode, mixed.returncode) == (2, 2)
    assert "no replay with overrides" in later.stderr
    assert "change different things" in mixed.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rule", "fixd >= 0.8"], "column 1: there is no name 'fixd'; did you mean 'fixed'?"),
        (["--rule", "fixed >= 8"], "column 10"),
        (["--rule", RULE, "--replays-since", BEFORE], "in one way"),
        (["--rule", RULE, "--replay-ids", "missing.txt"], "cannot read missing.txt"),
        (["--rule", RULE, "--replay-ids", "empty.txt"], "names no replay"),
        (["--rule", RULE, "--replay-ids", "unknown.txt"], "rpl_"),
        (["--rule", RULE, "--equality", "normalized"], "normalised"),
        (["--rule", RULE, "--policy", "oldest"], "policy"),
        (["--rule", RULE, "--html", "missing/gate.html"], "cannot write"),
        (["--rule", RULE, "--replay-ids", "-", "--control-ids", "-"], "standard input holds one list"),
        ([], "rule"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_ends_with_2(shared, lists, words, said):
    (lists / "empty.txt").write_text("# none\n")
    (lists / "unknown.txt").write_text("rpl_00000000000000000000000000000000\n")
    named = [] if "--replay-ids" in words else ["--replay-ids", "good.txt"]
    ended = check(shared, lists, *named, *words)

    assert ended.returncode == 2, ended
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert said in ended.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_real_browser_draws_the_charts_without_a_network_and_runs_nothing(shared, lists, tmp_path):
    check(shared, lists, "--replay-ids", "bad.txt", "--rule", RULE, "--title", HOSTILE, "--html", "bad.html")
    common = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    picture = tmp_path / "page.png"
    environ = {**os.environ, "HOME": str(tmp_path)}
    address = f"file://{lists}/bad.html"
    seen = subprocess.run(
        [*common, "--dump-dom", address], capture_output=True, text=True, timeout=60, check=True, env=environ
    ).stdout
    subprocess.run(
        [*common, "--window-size=1000,1600", f"--screenshot={picture}", address],
        capture_output=True,
        timeout=60,
        check=True,
        env=environ,
    )

    assert "<title>fail: &lt;/script&gt;" in seen
    assert seen.count("<svg ") == 2
    assert "<script" not in seen
    assert "<img" not in seen
    assert {"good", "bad"} <= drawn_colours(picture)


def drawn_colours(picture: Path) -> set[str]:
    """Which of the bars' colours a screenshot has, in either scheme."""
    from PIL import Image

    named = {
        (0x1A, 0x7F, 0x37): "good",
        (0x3F, 0xB9, 0x50): "good",
        (0xCF, 0x22, 0x2E): "bad",
        (0xF8, 0x51, 0x49): "bad",
    }
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(maxcolors=2**24) or []
    return {named[colour] for count, colour in colours if colour in named and count > 500}


def test_the_workflow_of_the_guide_runs_what_the_guide_runs():
    blocks = markdown.blocks(markdown.REPOSITORY / "docs" / "guides" / "gating.md")
    (shell,) = (block.code for block in blocks if block.language == "sh")
    (workflow,) = (block.code for block in blocks if block.language == "yaml")

    def flat(text: str) -> str:
        return " ".join(text.replace("\\\n", " ").split())

    for command in shell.replace("\\\n", " ").splitlines():
        assert flat(command) in flat(workflow)


def test_an_output_of_null_is_an_output_and_none_on_record_is_not(shared, tmp_path):
    answers = {"do": "refund"}
    told: list[tuple[dict[str, Any], Any, Any, str]] = [
        # What was recorded, what is right, what the replay said.
        ({"output": None}, answers, answers, "fixed"),
        ({"output": None}, None, None, "unchanged"),
        ({"output": answers}, answers, None, "newly_broken"),
        ({"output": None}, None, answers, "newly_broken"),
        ({}, answers, answers, "not_comparable"),
    ]
    replays = []
    with LoopGrid(endpoint=shared.api) as grid:
        for recorded, right, said, _ in told:
            made = grid.record_decision(decision_type="nothing", input={"a": 1}, **recorded)
            grid.attach_correction(made["decision_id"], correction=right, corrected_by="dana")
            replay = grid.create_replay(
                made["decision_id"], executor="external", overrides=CHANGE, output=said
            )
            replays.append(replay["replay_id"])
    (tmp_path / "ids").write_text("\n".join(replays))

    ended = check(shared, tmp_path, "--replay-ids", "ids", "--rule", "fixed >= 0", "--json")

    items = {each["replay_id"]: each["outcome"] for each in json.loads(ended.stdout)["items"]}
    assert [items[each] for each in replays] == [outcome for *_, outcome in told]
