"""Judgement leaves and arrives as OpenTelemetry evaluations; nobody's word is made of them unasked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from loopgrid_query.cli.app import run
from tests.contract.doors import PROTOBUF
from tests.contract.rest import Api, running_api
from tests.support.spans import START_NS, attributes, log_record, logs

RESULT = "gen_ai.evaluation.result"
LABELS = {"incorrect": "mark", "correct": "approval", "corrected": "correction"}
_names = (f"evaluator {number}" for number in itertools.count())
"""Each test's evaluations have a name of their own, as all share one ledger."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("evaluations")) as found:
        yield found


@pytest.fixture
def decision(api) -> str:
    return str(api.record(output={"action": "deny"})["decision_id"])


@pytest.fixture
def name() -> str:
    return next(_names)


def said(api: Api, decision: str, verb: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post(f"/v1/decisions/{decision}/{verb}", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def left(api: Api, decision: str) -> list[dict[str, Any]]:
    """Records about a decision that left, as (record, attributes) in one mapping."""
    answer = api.client.get("/v1/evaluations")
    assert answer.headers["content-type"] == "application/x-ndjson"
    records = [
        record
        for line in answer.text.splitlines()
        for record in json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]
    flat = [
        {**record, **{pair["key"]: next(iter(pair["value"].values())) for pair in record["attributes"]}}
        for record in records
    ]
    return [record for record in flat if record["loopgrid.decision.id"] == decision]


def send(api: Api, decision: str, name: str, label: str, **more: Any) -> None:
    """An evaluator's log record about a decision."""
    trace_id, _, span_id = decision.partition("-")
    told = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.label": label, **more}
    record = log_record(
        event_name=RESULT,
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        attributes=told,
    )
    posted(api, logs(record))


def posted(api: Api, body: bytes) -> None:
    answer = api.client.post("/v1/logs", content=body, headers={"content-type": PROTOBUF})
    assert answer.status_code == 200, answer.text


def accepted(api: Api, name: str, **more: Any) -> dict[str, Any]:
    body = {"name": name, "labels": LABELS, "said_by": "dana", **more}
    answer = api.client.post("/v1/evaluations/accept", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(api: Api, decision: str) -> dict[str, Any]:
    return dict(api.client.get(f"/v1/decisions/{decision}").json())


# Out


def test_a_mark_leaves_as_an_evaluation_of_its_span_by_a_human(api, decision):
    mark = said(api, decision, "incorrect", reason="Missed it", severity="high", marked_by="dana")

    (record,) = left(api, decision)
    assert f"{record['traceId']}-{record['spanId']}" == decision
    assert record["eventName"] == RESULT
    assert {key: value for key, value in record.items() if key.startswith("gen_ai.")} == {
        "gen_ai.evaluation.name": "human_review",
        "gen_ai.evaluation.score.label": "incorrect",
        "gen_ai.evaluation.score.value": 0.0,
        "gen_ai.evaluation.explanation": "Missed it",
    }
    assert record["loopgrid.judgement.id"] == mark["mark_id"]
    assert (record["loopgrid.evaluator.type"], record["loopgrid.evaluator.id"]) == ("human", "dana")
    assert record["loopgrid.judgement.severity"] == "high"


def test_what_people_say_leaves_in_order_and_only_a_stance_on_the_decision_has_a_score(api, decision):
    said(api, decision, "correct", said_by="ana")
    right = said(api, decision, "correction", correction={"action": "refund"}, corrected_by="bea")
    subject = right["correction_id"]
    said(api, decision, "agree", subject_id=subject, said_by="ana")
    said(api, decision, "dispute", subject_id=subject, said_by="eli")
    said(api, decision, "adjudicate", correction_id=subject, reason="Policy", said_by="zoe")
    said(api, decision, "withdraw", subject_id=subject, reason="Mistaken", said_by="bea")

    records = left(api, decision)
    keys = ("gen_ai.evaluation.name", "gen_ai.evaluation.score.label", "gen_ai.evaluation.score.value")
    assert [tuple(record.get(key) for key in keys) for record in records] == [
        ("human_review", "correct", 1.0),
        ("human_review", "corrected", None),
        ("human_review.agreement", "agreed", None),
        ("human_review.dispute", "disputed", None),
        ("human_review.adjudication", "adjudicated", None),
        ("human_review.withdrawal", "withdrawn", None),
    ]
    assert json.loads(records[1]["loopgrid.correction.output"]) == {"action": "refund"}
    assert {record.get("loopgrid.judgement.subject_id") for record in records[2:]} == {subject}


def test_as_protobuf_all_of_it_is_one_request_and_it_goes_on_after_a_position(api, decision):
    said(api, decision, "incorrect", reason="One", marked_by="dana")
    until = api.client.get("/v1/evaluations").headers["loopgrid-position"]
    said(api, decision, "incorrect", reason="Two", marked_by="dana")

    answer = api.client.get("/v1/evaluations", params={"after": until}, headers={"accept": PROTOBUF})
    request = ExportLogsServiceRequest.FromString(answer.content)
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert attributes({"gen_ai.evaluation.explanation": "Two"})[0] in list(record.attributes)
    position = answer.headers["loopgrid-position"]
    assert int(position) > int(until)
    assert api.client.get("/v1/evaluations", params={"after": position}).content == b""


def test_the_command_goes_on_after_what_its_file_holds_also_after_a_cut(api, decision, tmp_path, capfd):
    said(api, decision, "incorrect", reason="One", marked_by="dana")
    file = tmp_path / "judgement.jsonl"
    export = ["evaluations", "export", "--output", str(file), "--endpoint", str(api.client.base_url)]
    assert run(export) == 0
    assert run(export) == 0
    before = file.read_bytes()
    said(api, decision, "incorrect", reason="Two", marked_by="dana")
    file.write_bytes(before + b'{"resourceLogs": [')

    assert run([*export, "--json"]) == 0
    lines = file.read_bytes()
    assert lines.startswith(before)
    whole = [record for line in lines.splitlines() for record in records_of(line)]
    assert whole == [
        record
        for line in api.client.get("/v1/evaluations").content.splitlines()
        for record in records_of(line)
    ]
    told = json.loads(capfd.readouterr().out)
    assert told["position"] == int(api.client.get("/v1/evaluations").headers["loopgrid-position"])


def records_of(line: bytes) -> list[Any]:
    return list(json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"])


def test_a_file_that_holds_something_else_is_left_alone(api, tmp_path, capfd):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"my notes\nmore notes")

    assert run(["evaluations", "export", "-o", str(file), "--endpoint", str(api.client.base_url)]) == 2
    assert file.read_bytes() == b"my notes\nmore notes"
    assert "holds something else" in capfd.readouterr().err


def test_what_one_ledger_exports_another_one_imports_once_as_evaluations(api, decision, tmp_path):
    mark = said(api, decision, "incorrect", reason="Missed it", marked_by="dana")
    file = tmp_path / "judgement.jsonl"
    assert run(["evaluations", "export", "-o", str(file), "--endpoint", str(api.client.base_url)]) == 0
    (tmp_path / "other").mkdir()
    with running_api(tmp_path / "other") as other:
        for _ in range(2):
            assert run(["import", str(file), "--endpoint", str(other.client.base_url)]) == 0
        query = "SELECT label, evaluator_id, explanation FROM evaluations WHERE judgement_id = ?"
        rows = other.sql(query, [mark["mark_id"]]).json()["rows"]
        judgements = other.sql("SELECT count(*) FROM judgements").json()["rows"]

    assert rows == [["incorrect", "dana", "Missed it"]]
    assert judgements == [[0]]


# Back home


def test_what_was_said_here_and_comes_back_is_no_evaluation_and_changes_nothing(api, decision):
    said(api, decision, "incorrect", reason="Missed it", marked_by="dana")
    before = shown(api, decision)
    whole = api.client.get("/v1/evaluations", headers={"accept": PROTOBUF}).content
    posted(api, whole)
    posted(api, whole)

    assert shown(api, decision) == before
    assert api.sql("SELECT count(*) FROM evaluations WHERE decision_id = ?", [decision]).json()["rows"] == [
        [0]
    ]
    assert accepted(api, "human_review")["items"] == []


# In


def test_an_evaluation_becomes_the_word_of_whoever_accepts_it_once(api, decision, name):
    more = {"gen_ai.evaluation.explanation": "No refund", "loopgrid.evaluator.id": "judge-7"}
    send(api, decision, name, "incorrect", **more)
    assert shown(api, decision)["incorrect"] is False

    first = accepted(api, name)
    again = accepted(api, name, said_by="erik")

    (mark,) = shown(api, decision)["marks"]
    assert [(item["event"], item["judgement_id"]) for item in first["items"]] == [("mark", mark["mark_id"])]
    assert (mark["marked_by"], mark["reason"]) == ("dana", "No refund")
    assert (again["items"], again["left"]) == ([], {"accepted_before": 1})
    rows = api.sql("SELECT evaluation FROM judgements WHERE judgement_id = ?", [mark["mark_id"]]).json()[
        "rows"
    ]
    evaluation = json.loads(rows[0][0]) if isinstance(rows[0][0], str) else rows[0][0]
    assert (evaluation["evaluator_id"], evaluation["label"]) == ("judge-7", "incorrect")


def test_the_same_evaluation_sent_twice_makes_one_mark(api, decision, name):
    send(api, decision, name, "incorrect")
    trace_id, _, span_id = decision.partition("-")
    told = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.label": "incorrect"}
    ids: dict[str, Any] = {"trace_id": bytes.fromhex(trace_id), "span_id": bytes.fromhex(span_id)}
    posted(api, logs(log_record(event_name=RESULT, time_unix_nano=START_NS, attributes=told, **ids)))

    assert len(accepted(api, name)["items"]) == 1
    assert [mark["reason"] for mark in shown(api, decision)["marks"]] == [f"{name}: incorrect"]


def test_a_correction_takes_its_output_from_the_evaluation_and_supersedes_what_stood(api, decision, name):
    stood = said(api, decision, "correction", correction={"action": "ask"}, corrected_by="ana")
    output = {"loopgrid.correction.output": '{"action": "refund", "cents": 12345678901234567890}'}
    send(api, decision, name, "corrected", **output)
    send(api, decision, name, "corrected")

    answer = accepted(api, name)

    whole = shown(api, decision)
    assert whole["ground_truth"]["output"] == {"action": "refund", "cents": 12345678901234567890}
    assert whole["ground_truth"]["corrected_by"] == "dana"
    assert whole["corrections"][-1]["supersedes"] == stood["correction_id"]
    assert answer["left"] == {"without_output": 1}


def test_only_what_the_request_names_is_accepted(api, decision, name):
    send(api, decision, name, "incorrect", **{"loopgrid.evaluator.id": "a"})
    send(api, decision, name, "incorrect", **{"loopgrid.evaluator.id": "b"})
    send(api, decision, name, "unsure")

    assert len(accepted(api, name, evaluator_id="a")["items"]) == 1
    assert len(accepted(api, name, annotator_kind="human")["items"]) == 0
    assert len(accepted(api, name, limit=1)["items"]) == 1
    assert accepted(api, name)["left"] == {"accepted_before": 2}


def test_a_dry_run_appends_nothing_and_names_the_commit_that_bounds_the_acceptance(api, decision, name):
    send(api, decision, name, "incorrect", **{"loopgrid.evaluator.id": "a"})
    tried = accepted(api, name, dry_run=True)
    send(api, decision, name, "incorrect", **{"loopgrid.evaluator.id": "slipped in"})
    assert shown(api, decision)["marks"] == []

    made = accepted(api, name, up_to_commit=tried["up_to_commit"])

    assert made["items"] == tried["items"]
    assert len(shown(api, decision)["marks"]) == 1


def test_what_its_sender_took_back_and_what_is_about_no_decision_here_is_left(api, decision, name):
    unknown = "7" * 32 + "-" + "7" * 16
    send(api, unknown, name, "incorrect")
    elsewhere = "mrk_" + "a" * 32
    send(api, decision, name, "incorrect", **{"loopgrid.judgement.id": elsewhere})
    send(api, decision, "taken back", "withdrawn", **{"loopgrid.judgement.subject_id": elsewhere})

    answer = accepted(api, name)

    assert answer["items"] == []
    assert answer["left"] == {"decision_unknown": 1, "withdrawn_by_sender": 1}


def test_without_keys_whoever_accepts_is_named(api, name):
    answer = api.client.post("/v1/evaluations/accept", json={"name": name, "labels": LABELS})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "said_by"


def test_the_command_shows_what_it_would_accept_and_accepts_it(api, decision, name, capfd):
    send(api, decision, name, "incorrect", **{"gen_ai.evaluation.explanation": "No refund"})
    words = ["evaluations", "accept", name, "--label", "incorrect=mark", "--by", "dana"]
    words += ["--endpoint", str(api.client.base_url)]

    assert run([*words, "--dry-run"]) == 0
    tried = capfd.readouterr()
    assert f"{decision} incorrect → mark" in tried.out
    assert "1 would be accepted" in tried.err
    assert run(words) == 0
    assert run([*words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out.partition("\n")[2])["left"] == {"accepted_before": 1}
    assert len(shown(api, decision)["marks"]) == 1


# Outcomes


def test_an_outcome_in_a_log_record_is_shown_at_its_decision_as_a_senders(api):
    decision = api.record(output="paid", metadata={"invoice": "77-1"})["decision_id"]
    told = {"loopgrid.outcome.key": "invoice", "loopgrid.outcome.value": "77-1"}
    result = {"loopgrid.outcome.result": '{"dispute": true}'}
    record = log_record(
        event_name="loopgrid.outcome", trace_id=b"", span_id=b"", attributes={**told, **result}
    )
    posted(api, logs(record))
    posted(api, logs(record))

    (outcome,) = shown(api, decision)["outcomes"]
    assert outcome["outcome"] == {"dispute": True}
    assert (outcome["source"], outcome["reported_by"], outcome["key"]) == ("sender", None, "invoice")
    history = api.client.get(f"/v1/decisions/{decision}/history").json()["items"]
    assert [each["event"] for each in history] == ["recorded", "outcome"]


def test_an_outcome_that_names_no_key_or_has_no_json_breaks_no_view(api):
    decision = api.record(output="paid", metadata={"invoice": "77-2"})["decision_id"]
    told = {"loopgrid.outcome.key": "invoice", "loopgrid.outcome.value": "77-2"}
    posted(
        api,
        logs(
            log_record(1, event_name="loopgrid.outcome", attributes={"loopgrid.outcome.value": "77-2"}),
            log_record(2, event_name="loopgrid.outcome", attributes=told, time_unix_nano=2**64 - 1),
            log_record(
                3, event_name="loopgrid.outcome", attributes={**told, "loopgrid.outcome.result": "fine {"}
            ),
        ),
    )

    assert [each["outcome"] for each in shown(api, decision)["outcomes"]] == [None, "fine {"]
