"""Experiments: a cohort replayed under one change and once more unchanged, by a real server and provider."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pexpect
import pytest

from loopgrid import LoopGrid
from loopgrid.errors import Conflict, Invalid, NotFound
from tests.support.provider_stub import Asked, Provider, Reply, provider_stub, refusal
from tests.support.server import COMMAND, RunningServer, running_server, without_settings
from tests.support.tickets import (
    correct,
    ended,
    eventually,
    id_of,
    providers,
    reads_tickets,
    record,
    said,
    ticket_of,
)

pytestmark = pytest.mark.integration
BETTER = {"model": {"name": "better"}}


@dataclass
class Desk:
    """A server, its provider, and a client."""

    server: RunningServer
    stub: Provider
    grid: LoopGrid

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        environ = without_settings(os.environ) | {"LOOPGRID_ENDPOINT": self.server.api}
        return subprocess.run(
            [COMMAND, *words], env=environ, capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with provider_stub() as stub:
        stub.always(reads_tickets)
        with (
            running_server(tmp_path, environ=providers(tmp_path, stub.base_url)) as server,
            LoopGrid(endpoint=server.api) as grid,
        ):
            yield Desk(server, stub, grid)


def outcomes(desk: Desk, experiment_id: str, arm: str) -> Counter[str]:
    items = desk.grid.experiment_items(experiment_id, arm=arm, limit=200).results
    return Counter(item.outcome for item in items)


def test_a_cohort_is_frozen_and_its_next_version_leaves_it_as_it_was(desk):
    record(desk.server, range(1, 4))
    first = desk.grid.create_cohort("tickets", filters={"model": "gpt-5-mini"}, created_by="dana")
    record(desk.server, range(4, 6))
    second = desk.grid.create_cohort("tickets", filters={"model": "gpt-5-mini"})

    assert (first.version, first.decisions, first.created_by) == (1, 3, "dana")
    assert (second.version, second.decisions) == (2, 5)
    assert desk.grid.get_cohort("tickets").cohort_id == second.cohort_id
    assert desk.grid.get_cohort("tickets@1").cohort_id == first.cohort_id
    page = desk.grid.cohort_decisions("tickets@1", limit=2)
    rest = desk.grid.cohort_decisions("tickets@1", limit=2, cursor=page.next_cursor)
    assert sorted(page.decision_ids + rest.decision_ids) == [id_of(1), id_of(2), id_of(3)]
    assert rest.next_cursor is None
    assert [each.cohort_id for each in desk.grid.list_cohorts().cohorts] == [
        second.cohort_id,
        first.cohort_id,
    ]


def test_a_cohort_of_what_was_corrected_since_takes_others_evenly_and_no_replays(desk):
    record(desk.server, range(1, 9))
    correct(desk.grid, wrong=[1, 2], right=[3])
    desk.grid.create_replay(id_of(1), overrides={}, output="x", executor="external")
    cohort = desk.grid.create_cohort(
        "week", corrected_since="2026-01-01T00:00:00Z", uncorrected_sample=2, seed="s"
    )
    again = desk.grid.create_cohort(
        "week", corrected_since="2026-01-01T00:00:00Z", uncorrected_sample=2, seed="s"
    )

    ids = desk.grid.cohort_decisions(cohort.cohort_id).decision_ids
    assert len(ids) == 5
    assert set(ids[:3]) == {id_of(1), id_of(2), id_of(3)}
    assert set(ids[3:]) < {id_of(number) for number in range(4, 9)}
    assert desk.grid.cohort_decisions(again.cohort_id).decision_ids == ids


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filters": {"modle": "x"}}, "model"),
        ({"filters": {"model": "nobody's"}}, "widen the filters"),
        ({"decision_ids": ["f" * 32 + "-" + "f" * 16]}, "no decisions on record"),
        ({"corrected_since": "yesterday"}, "RFC 3339"),
        ({"filters": {}, "random": True}, "how many are drawn"),
        ({"filters": {}, "uncorrected_sample": 3}, "goes with corrected_since"),
    ],
)
def test_a_cohort_that_cannot_be_meant_is_refused_with_the_remedy(desk, asked, said):
    record(desk.server, [1])
    with pytest.raises(Invalid, match=said):
        desk.grid.create_cohort("c", **asked)
    assert desk.grid.list_cohorts().cohorts == []


def test_an_experiment_tells_what_a_change_mends_and_breaks_beside_what_changes_by_itself(desk):
    record(desk.server, range(1, 21))
    correct(desk.grid, wrong=range(1, 11), right=range(11, 15))
    experiment = desk.grid.create_experiment(
        decisions={"filters": {}}, overrides=BETTER, name="better model", concurrency=8
    )
    done = ended(desk.grid, experiment.experiment_id)

    assert (done.status, done.progress.completed, done.progress.failed) == ("completed", 40, 0)
    assert done.progress.spent["calls"] == 40
    assert done.estimate["items"] == 40
    assert len(desk.stub.asked) == 40
    assert outcomes(desk, done.experiment_id, "change") == {"fixed": 10, "newly_broken": 4, "changed": 6}
    assert outcomes(desk, done.experiment_id, "control") == {"still_wrong": 10, "unchanged": 10}
    report = desk.grid.experiment_report(done.experiment_id, rule="fixed >= 0.9 and newly_broken == 0")
    assert report.gate["verdict"] == "fail"
    assert report.statistics["noise"]["differing"]["count"] == 0
    assert report.statistics["paired"]["baseline"] == "control"
    rows = desk.grid.sql(
        "SELECT status, completed, items FROM experiments; ".rstrip("; "),
    )["rows"]
    assert rows == [["completed", 40, 40]]
    results = desk.grid.sql("SELECT count(*) FROM decisions WHERE replay_of IS NULL")["rows"]
    assert results == [[20]], "results of replays are no production decisions"


def test_a_budget_of_calls_is_not_overrun_by_what_runs_at_once_and_can_be_raised(desk):
    record(desk.server, range(1, 21))
    made = desk.grid.create_experiment(
        decisions={"filters": {}}, overrides=BETTER, control_share=0.0, concurrency=8, budget={"calls": 11}
    )
    stopped = ended(desk.grid, made.experiment_id)
    first = Counter(map(ticket_of, desk.stub.asked))
    resumed = desk.grid.resume_experiment(made.experiment_id, budget={"calls": 30})
    done = ended(desk.grid, made.experiment_id)

    assert (stopped.status, stopped.progress.completed, first.total()) == ("stopped", 11, 11)
    assert "budget of 11 calls" in stopped.reason
    assert resumed.status == "running"
    assert (done.status, done.progress.completed, done.budget) == ("completed", 20, {"calls": 30})
    assert max(Counter(map(ticket_of, desk.stub.asked)).values()) == 1, "nothing was asked twice"


def test_a_budget_in_dollars_needs_every_price(desk):
    record(desk.server, [1, 2])
    with pytest.raises(Invalid, match="POST /v1/prices"):
        desk.grid.create_experiment(decisions={"filters": {}}, overrides=BETTER, budget={"usd": 1.0})
    priced = {"model": "better", "input_usd": 1.0, "output_usd": 2.0}
    old = {"model": "gpt-5-mini", "input_usd": 1.0, "output_usd": 2.0}
    new = {"model": "better-2026-10-01", "input_usd": 1.0, "output_usd": 2.0}
    same = {"model": "gpt-5-mini-2026-10-01", "input_usd": 1.0, "output_usd": 2.0}
    desk.command("prices", "add", "--help")
    import urllib3

    body = {"source": "test", "prices": [priced, old, new, same]}
    assert urllib3.request("POST", f"{desk.server.api}/v1/prices", json=body, timeout=30).status == 201
    estimate = desk.grid.estimate_experiment(decisions={"filters": {}}, overrides=BETTER)
    made = desk.grid.create_experiment(decisions={"filters": {}}, overrides=BETTER, budget={"usd": 1.0})
    done = ended(desk.grid, made.experiment_id)

    assert estimate.cost_usd == pytest.approx(4 * (42 * 1.0 + 17 * 2.0) / 1e6)
    assert done.status == "completed"
    assert done.progress.spent["cost_usd"] > 0
    assert done.progress.spent["unpriced"] == 0


def test_failed_items_stay_items_and_run_once_more_when_asked(desk):
    record(desk.server, range(1, 7))
    broken = {2, 5}

    def sometimes(asked: Asked) -> Reply:
        return refusal(400, "no") if ticket_of(asked) in broken else reads_tickets(asked)

    desk.stub.always(sometimes)
    correct(desk.grid, wrong=range(1, 7))
    made = desk.grid.create_experiment(decisions={"filters": {}}, overrides=BETTER, control_share=0.0)
    done = ended(desk.grid, made.experiment_id)
    counted = outcomes(desk, made.experiment_id, "change")
    with pytest.raises(Conflict, match="retry_failed"):
        desk.grid.resume_experiment(made.experiment_id)
    broken.clear()
    desk.grid.resume_experiment(made.experiment_id, retry_failed=True)
    mended = ended(desk.grid, made.experiment_id)

    assert (done.status, done.progress.failed, counted) == ("completed", 2, {"fixed": 4, "failed": 2})
    assert (mended.status, mended.progress.completed, mended.progress.failed) == ("completed", 6, 0)
    assert Counter(map(ticket_of, desk.stub.asked)) == {1: 1, 2: 2, 3: 1, 4: 1, 5: 2, 6: 1}


def test_where_everything_fails_it_stops_early_and_says_so(desk):
    record(desk.server, range(1, 61))
    desk.stub.always(refusal(401, "who are you?"))
    made = desk.grid.create_experiment(
        decisions={"filters": {}}, overrides=BETTER, control_share=0.0, concurrency=4
    )
    stopped = ended(desk.grid, made.experiment_id)

    assert stopped.status == "stopped"
    assert "all failed" in stopped.reason
    assert stopped.progress.waiting > 0
    assert stopped.progress.failed < 60


def test_a_cancelled_experiment_asks_for_nothing_more_and_records_what_was_paid_for(desk):
    record(desk.server, range(1, 11))
    go_on = threading.Event()
    desk.stub.always(lambda asked: _held(asked, go_on))
    made = desk.grid.create_experiment(
        decisions={"filters": {}}, overrides=BETTER, control_share=0.0, concurrency=2
    )
    eventually(lambda: len(desk.stub.asked) == 2, "two are asked")
    told = desk.grid.cancel_experiment(made.experiment_id, reason="wrong prompt", requested_by="dana")
    go_on.set()
    eventually(
        lambda: desk.grid.get_experiment(made.experiment_id).progress.completed == 2, "both are recorded"
    )

    assert told.status == "cancelled"
    assert told.reason == "cancelled by dana: wrong prompt"
    assert len(desk.stub.asked) == 2
    with pytest.raises(NotFound):
        desk.grid.get_experiment("exp_" + "0" * 32)


def _held(asked: Asked, until: threading.Event) -> Reply:
    until.wait(60)
    return reads_tickets(asked)


def test_the_same_key_begins_an_experiment_once(desk):
    record(desk.server, [1])
    asked = {"decisions": {"filters": {}}, "control_share": 0.0, "idempotency_key": "k"}
    first = desk.grid.create_experiment(overrides=BETTER, **asked)
    again = desk.grid.create_experiment(overrides=BETTER, **asked)
    with pytest.raises(Conflict, match="overrides"):
        desk.grid.create_experiment(overrides={"model": {"name": "worse"}}, **asked)

    assert first.experiment_id == again.experiment_id
    assert len(desk.grid.list_experiments().experiments) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"overrides": {"modle": {}}}, "model"),
        ({"equality": "nearly"}, "equality"),
        ({"concurrency": 0}, "concurrency"),
        ({"decisions": {"filters": {"modle": "x"}}}, "decisions.filters.modle"),
    ],
)
def test_an_experiment_that_cannot_be_meant_is_refused_before_anything_runs(desk, asked, said):
    record(desk.server, [1])
    with pytest.raises(Invalid, match=said):
        desk.grid.create_experiment(**{"decisions": {"filters": {}}, **asked})
    assert desk.grid.list_experiments().experiments == []
    assert desk.stub.asked == []


def test_what_nothing_can_run_is_refused_for_itself_and_counted(desk):
    record(desk.server, [1, 2])
    desk.grid.record_decision(decision_type="by hand", input={"a": 1}, output="b")
    asked = {"decisions": {"filters": {}}, "overrides": BETTER, "control_share": 0.0}
    estimate = desk.grid.estimate_experiment(**asked)
    made = desk.grid.create_experiment(**asked)
    done = ended(desk.grid, made.experiment_id)

    assert [each["items"] for each in estimate.refused] == [1]
    assert "not recorded by a decorated function" in estimate.refused[0]["reason"]
    assert (done.progress.completed, done.progress.refused) == (2, 1)
    assert outcomes(desk, made.experiment_id, "change")["failed"] == 1


def test_one_command_from_corrections_to_a_verdict(desk, tmp_path):
    record(desk.server, range(1, 21))
    correct(desk.grid, wrong=range(1, 13), right=range(13, 21))
    page = tmp_path / "gate.html"
    words = ["check", "--override", "model.name=better", "--corrected-since", "7d"]
    ran = desk.command(*words, "--rule", "fixed >= 0.8 and newly_broken == 0", "--html", str(page), "--json")
    report = json.loads(ran.stdout)
    made = desk.grid.list_experiments().experiments[0]
    again = desk.command("check", "--experiment", made.experiment_id, "--rule", "fixed >= 0.8")
    both = desk.command(*words, "--experiment", made.experiment_id, "--rule", "fixed >= 0.8")

    assert ran.returncode == 1, ran.stderr
    assert report["gate"]["verdict"] == "fail"
    assert report["statistics"]["outcomes"]["fixed"]["count"] == 12
    assert report["statistics"]["outcomes"]["newly_broken"]["count"] == 8
    assert "newly broken" in page.read_text()
    assert (again.returncode, "gate: pass" in again.stdout) == (0, True), again.stderr
    assert (both.returncode, "in one way" in both.stderr) == (2, True)


def test_experiments_are_run_looked_at_and_listed_in_the_terminal(desk):
    record(desk.server, range(1, 5))
    correct(desk.grid, wrong=[1, 2])
    made = desk.command("cohort", "create", "tickets", "--filter", "model=gpt-5-mini", "--by", "dana")
    estimate = desk.command(
        "experiment", "estimate", "--cohort", "tickets", "--override", "model.name=better"
    )
    ran = desk.command("experiment", "run", "--cohort", "tickets", "--override", "model.name=better")
    stopped = desk.command("experiment", "run", "--cohort", "tickets", "--budget-calls", "1", "--json")
    listed = desk.command("experiment", "list", "--json")
    first = json.loads(listed.stdout)["items"][-1]["experiment_id"]
    items = desk.command("experiment", "items", first, "--outcome", "fixed")
    cohorts = desk.command("cohort", "show", "tickets@1")

    assert (made.returncode, "tickets@1 holds 4 decisions" in made.stdout) == (0, True), made.stderr
    assert "168 in, 68 out" in estimate.stdout.replace("336", "168").replace("136", "68")
    assert ran.returncode == 0, ran.stderr
    assert "change: 2 changed, 2 fixed" in ran.stdout
    assert (stopped.returncode, json.loads(stopped.stdout)["status"]) == (1, "stopped")
    assert len(json.loads(listed.stdout)["items"]) == 2
    assert items.stdout.count("fixed") == 2
    assert id_of(3) in cohorts.stdout


def test_an_output_of_null_that_a_person_called_right_can_be_broken(desk):
    made = desk.grid.record_decision(
        decision_type="sort",
        input=[{"role": "user", "parts": [{"type": "text", "content": "ticket 1"}]}],
        model={"provider": "openai", "name": "gpt-5-mini"},
        output=None,
    )
    desk.grid.attach_correction(made["decision_id"], correction=None, corrected_by="dana")
    begun = desk.grid.create_experiment(
        decisions={"decision_ids": [made["decision_id"]]}, overrides=BETTER, control_share=0
    )
    ended(desk.grid, begun.experiment_id)

    assert outcomes(desk, begun.experiment_id, "change") == {"newly_broken": 1}


def test_drift_is_told_by_repeats_that_agree_with_each_other_against_the_record(desk):
    record(desk.server, range(1, 9))
    desk.grid.create_cohort("canaries", filters={"model": "gpt-5-mini"})
    still = desk.command("experiment", "drift", "--cohort", "canaries", "--json")
    desk.stub.always(lambda asked: reads_tickets(replace(asked, body={**asked.body, "model": "worse"})))
    moved = desk.command("experiment", "drift", "--cohort", "canaries")

    told = json.loads(still.stdout)
    assert (still.returncode, still.stderr) == (0, "")
    assert (told["items"], told["unknown"], told["differing"], told["moved"]) == (8, 0, 0, False)
    assert moved.returncode == 1, moved.stderr
    assert "it has moved: The repeats agree with each other against the record" in moved.stdout
    assert "the record 8, a repeat 0" in moved.stdout
    again = desk.command("experiment", "drift", "--experiment", told["experiment_id"])
    assert again.returncode == 0


def test_another_name_that_answers_is_drift_although_it_says_the_same(desk):
    made = desk.grid.record_decision(
        decision_type="sort",
        input=[{"role": "user", "parts": [{"type": "text", "content": "ticket 1"}]}],
        model={"provider": "openai", "name": "gpt-5-mini", "response_name": "gpt-5-mini-2026-10-01"},
        output=said("answer", 1),
    )
    desk.grid.create_cohort("canaries", decision_ids=[made["decision_id"]])
    still = desk.command("experiment", "drift", "--cohort", "canaries")
    desk.stub.always(lambda asked: Reply(body={**reads_tickets(asked).body, "model": "gpt-5-mini-2027"}))
    moved = desk.command("experiment", "drift", "--cohort", "canaries")

    assert (still.returncode, still.stderr) == (0, "")
    assert moved.returncode == 1, moved.stderr
    assert "it has moved: 1 decision was answered by gpt-5-mini-2026-10-01, and by gpt-5-mini-2027 now" in (
        moved.stdout
    )


def test_an_experiment_that_changes_something_says_nothing_about_drift(desk):
    record(desk.server, [1])
    begun = desk.grid.create_experiment(decisions={"filters": {}}, overrides=BETTER)
    ended(desk.grid, begun.experiment_id)
    found = desk.command("experiment", "drift", "--experiment", begun.experiment_id)

    assert found.returncode == 2
    assert "says nothing about drift" in found.stderr


def test_a_schedule_repeats_a_cohort_at_once_and_its_run_tells_of_drift(desk):
    record(desk.server, range(1, 9))
    desk.grid.create_cohort("canaries", filters={"model": "gpt-5-mini"})
    desk.stub.always(lambda asked: reads_tickets(replace(asked, body={**asked.body, "model": "worse"})))
    made = desk.command(
        "experiment", "schedule", "nightly", "--cohort", "canaries", "--every", "1d", "--json"
    )
    assert made.returncode == 0, made.stderr
    schedule_id = json.loads(made.stdout)["schedule_id"]
    eventually(lambda: desk.grid.get_schedule(schedule_id).runs == 1, "the first run begins")
    moved = desk.command("experiment", "drift", "--schedule", schedule_id)

    told = desk.grid.get_schedule(schedule_id)
    run = desk.grid.get_experiment(told.last_experiment_id)
    assert (told.status, told.every_s, told.runs, told.trouble) == ("running", 86_400, 1, None)
    assert (run.name, run.cohort_id, run.progress["items"], run.overrides) == (
        "nightly",
        told.cohort_id,
        16,
        {},
    )
    assert moved.returncode == 1, moved.stderr
    assert "it has moved" in moved.stdout
    assert "nightly" in desk.command("experiment", "schedules").stdout


def test_a_schedule_ends_when_it_is_stopped_and_stays_ended_after_a_restart(tmp_path):
    with provider_stub() as stub:
        stub.always(reads_tickets)
        environ = providers(tmp_path, stub.base_url)
        with running_server(tmp_path, environ=environ) as server, LoopGrid(endpoint=server.api) as grid:
            record(server, [1, 2])
            grid.create_cohort("canaries", filters={"model": "gpt-5-mini"})
            ends, goes_on = (grid.create_schedule(name, cohort="canaries", every_s=3_600) for name in "ab")
            eventually(lambda: all(one.runs for one in grid.list_schedules().schedules), "both have run")
            first = grid.stop_schedule(ends.schedule_id, reason="moved on", requested_by="dana")
            again = grid.stop_schedule(ends.schedule_id)
            assert first.status == again.status == "stopped"
            for one in grid.list_schedules().schedules:
                assert one.last_experiment_id is not None
                ended(grid, one.last_experiment_id)
        with running_server(tmp_path, environ=environ) as server, LoopGrid(endpoint=server.api) as grid:
            found = {one.schedule_id: one for one in grid.list_schedules().schedules}
            # Something that is begun after both would have been proves that neither ran again.
            later = grid.create_schedule("c", cohort="canaries", every_s=3_600)
            eventually(lambda: grid.get_schedule(later.schedule_id).runs == 1, "a new schedule runs")
            assert found[ends.schedule_id].status == "stopped"
            assert found[goes_on.schedule_id].status == "running"
            assert {grid.get_schedule(one).runs for one in found} == {1}
            rows = grid.sql("SELECT name, status, runs FROM schedules ORDER BY name")["rows"]
            assert rows == [["a", "stopped", 1], ["b", "running", 1], ["c", "running", 1]]


def test_a_schedule_that_cannot_be_meant_is_refused(desk):
    with pytest.raises(NotFound, match="cohort"):
        desk.grid.create_schedule("nightly", cohort="canaries", every_s=3_600)
    record(desk.server, [1])
    desk.grid.create_cohort("canaries", filters={})
    with pytest.raises(Invalid, match="every_s"):
        desk.grid.create_schedule("nightly", cohort="canaries", every_s=1)
    with pytest.raises(NotFound, match="No schedule"):
        desk.grid.stop_schedule("sch_0")
    wrong = desk.command("experiment", "schedule", "nightly", "--cohort", "canaries", "--every", "daily")
    assert wrong.returncode == 2
    assert "write 15m, 6h, 1d or 2w" in wrong.stderr


def test_ctrl_c_ends_the_waiting_and_not_the_experiment(desk):
    record(desk.server, range(1, 4))
    held = threading.Event()
    desk.stub.always(lambda asked: replace(reads_tickets(asked), held=held))
    environ = without_settings(os.environ) | {"LOOPGRID_ENDPOINT": desk.server.api, "TERM": "xterm"}
    words = ["experiment", "run", "--filter", "model=gpt-5-mini", "--control-share", "0"]
    run = pexpect.spawn(COMMAND, words, env=environ, encoding="utf-8", timeout=60, dimensions=(40, 200))
    # Its progress bar stands where it waits.
    run.expect("replaying")
    run.sendintr()
    run.expect("no longer waiting")
    run.expect(pexpect.EOF)
    run.close()
    (experiment,) = desk.grid.list_experiments().experiments
    held.set()

    assert run.exitstatus == 2
    assert experiment.status == "running"
    assert f"loopgrid experiment cancel {experiment.experiment_id}" in run.before.replace("\r\n", " ")
    assert ended(desk.grid, experiment.experiment_id).progress.completed == 3
