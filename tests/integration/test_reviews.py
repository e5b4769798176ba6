"""Review queues on a real server: who gets what, who sees what, and what an answer leaves on record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from loopgrid import AsyncLoopGrid, LoopGrid
from loopgrid.errors import Conflict
from loopgrid_collector.auth import Scope
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.keyring import Keyring
from loopgrid_collector.ledger.ledger import Ledger
from tests.contract.rest import running_api
from tests.support.server import RunningServer, running_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("reviews")) as running:
        yield running


def ask(
    server: RunningServer, method: str, path: str, body: Any = None, key: str | None = None
) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.request(method, server.api + path, json=body, headers=headers, trust_env=False, timeout=60)


def told(answer: httpx.Response) -> Any:
    assert answer.status_code < 300, answer.text
    return answer.json()


def decided(server: RunningServer, kind: str, count: int, key: str | None = None, **fields: Any) -> list[str]:
    grid = LoopGrid(service_name="shop", endpoint=server.api, api_key=key)
    return [
        grid.record_decision(
            decision_type=kind, input={"n": number}, output={"n": number, "ok": True}, **fields
        )["decision_id"]
        for number in range(count)
    ]


def queued(server: RunningServer, kind: str, **fields: Any) -> str:
    body = {"name": kind, "filters": {"decision_type": kind}, **fields}
    return f"/v1/reviews/{told(ask(server, 'POST', '/v1/reviews', body))['review_id']}"


def claim(server: RunningServer, queue: str, who: str) -> Any:
    return told(ask(server, "POST", f"{queue}/claim", {"reviewer": who}))


def items_of(server: RunningServer, queue: str) -> list[str]:
    return [item["decision_id"] for item in told(ask(server, "GET", f"{queue}/items"))["items"]]


def test_the_chosen_decisions_are_frozen_and_recorded(server):
    before = decided(server, "frozen", 3)
    queue = queued(server, "frozen")
    decided(server, "frozen", 1)

    assert sorted(items_of(server, queue)) == sorted(before)
    selection = told(ask(server, "GET", queue))["selection"]
    assert selection == {"filters": {"decision_type": "frozen"}, "method": "newest", "size": 50, "found": 3}


def test_the_recorded_seed_draws_the_same_sample_again(server):
    decided(server, "seeded", 12)
    first = queued(server, "seeded", sample={"method": "random", "size": 5})
    seed = told(ask(server, "GET", first))["selection"]["seed"]

    def again(name: str, seed: str) -> list[str]:
        return items_of(
            server, queued(server, "seeded", name=name, sample={"method": "random", "size": 5, "seed": seed})
        )

    assert again("same", seed) == items_of(server, first)
    assert len({tuple(again(f"other {number}", f"seed {number}")) for number in range(3)}) > 1


def test_a_stratified_sample_takes_as_many_from_each_group(server):
    few = decided(server, "strata", 2, metadata={"tier": "gold"})
    decided(server, "strata", 9, metadata={"tier": "lead"})
    queue = queued(server, "strata", sample={"method": "stratified", "by": "metadata.tier", "size": 4})

    assert set(few) < set(items_of(server, queue))
    assert len(items_of(server, queue)) == 4


def test_low_confidence_goes_from_the_least_sure_up_and_leaves_out_who_does_not_say(server):
    sure, unsure = (decided(server, "sure", 1, metadata={"confidence": sure})[0] for sure in (0.7, 0.2))
    decided(server, "sure", 1, metadata={"confidence": 0.95})
    decided(server, "sure", 1)
    queue = queued(server, "sure", sample={"method": "low_confidence", "below": 0.9})

    assert items_of(server, queue) == [unsure, sure]


def test_disagreement_finds_what_people_see_differently_and_nothing_else(server):
    ids = decided(server, "split", 4)
    for who, verb, decision, said in (
        ("ann", "incorrect", 0, {"reason": "no", "marked_by": "ann"}),
        ("bob", "correct", 0, {"said_by": "bob"}),
        ("ann", "correction", 1, {"correction": 1, "corrected_by": "ann"}),
        ("bob", "correction", 1, {"correction": 2, "corrected_by": "bob"}),
        ("ann", "incorrect", 2, {"reason": "no", "marked_by": "ann"}),
        ("ann", "correction", 2, {"correction": 1, "corrected_by": "ann"}),
    ):
        assert told(ask(server, "POST", f"/v1/decisions/{ids[decision]}/{verb}", said)), who

    assert sorted(items_of(server, queued(server, "split", sample={"method": "disagreement"}))) == sorted(
        ids[:2]
    )


def test_of_many_who_claim_one_decision_at_once_exactly_one_gets_it(server):
    decided(server, "rush", 1)
    queue = queued(server, "rush")
    ready = threading.Barrier(6)
    got: list[Any] = []

    def grab(who: str) -> None:
        ready.wait(timeout=30)
        got.append(claim(server, queue, who)["decision_id"])

    threads = [threading.Thread(target=grab, args=(f"r{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(got) == 6
    assert sum(one is not None for one in got) == 1


def test_answers_are_ordinary_judgements_that_the_queue_links_to(server):
    decided(server, "linked", 3)
    queue = queued(server, "linked")
    for said in (
        {"verdict": "correct"},
        {"verdict": "incorrect", "reason": "too much", "category": "amount", "severity": "high"},
        {
            "verdict": "corrected",
            "patch": [{"op": "replace", "path": "/ok", "value": False}],
            "category": "policy",
            "severity": "low",
        },
    ):
        item = claim(server, queue, "ann")["decision_id"]
        told(ask(server, "POST", f"{queue}/answers", {"decision_id": item, "reviewer": "ann", **said}))

    rows = told(
        ask(
            server,
            "POST",
            "/v1/sql",
            {
                "query": "SELECT a.verdict, j.event, j.said_by, j.reason, j.category, j.severity, "
                "j.output->>'ok' FROM review_answers a JOIN judgements j USING (judgement_id) "
                "WHERE a.review_id = $1 ORDER BY a.position",
                "parameters": [queue.rpartition("/")[2]],
            },
        )
    )["rows"]
    assert rows == [
        ["correct", "approval", "ann", None, None, None, None],
        ["incorrect", "mark", "ann", "too much", "amount", "high", None],
        ["corrected", "correction", "ann", None, "policy", "low", "false"],
    ]
    items = told(ask(server, "GET", f"{queue}/items?reviewer=ann"))["items"]
    assert {one["category"] for item in items for one in item["said"]} == {None, "amount", "policy"}
    progress = told(ask(server, "GET", queue))["progress"]
    assert (progress["answers"], progress["complete"], progress["remaining"]) == (3, 3, 0)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"verdict": "incorrect"}, "reason"),
        ({"verdict": "corrected"}, "output"),
        ({"verdict": "correct", "output": 1}, "output"),
        ({"verdict": "corrected", "output": 1, "patch": [{"op": "remove", "path": "/n"}]}, "output"),
        ({"verdict": "wrong"}, "verdict"),
    ],
)
def test_an_answer_that_lacks_what_its_verdict_needs_is_refused_by_its_field(server, said, field):
    body = {"decision_id": f"{'1' * 32}-{'1' * 16}", "reviewer": "ann", **said}
    answer = ask(server, "POST", "/v1/reviews/rev_0/answers", body)

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]


def test_nobody_answers_unclaimed_twice_nameless_or_in_a_closed_queue(server):
    (item,) = decided(server, "order", 1)
    queue = queued(server, "order", reviewers_per_item=2)
    said = {"decision_id": item, "verdict": "correct"}

    assert ask(server, "POST", f"{queue}/claim", {}).status_code == 422
    assert ask(server, "POST", f"{queue}/answers", {**said, "reviewer": "ann"}).status_code == 409
    claim(server, queue, "ann")
    told(ask(server, "POST", f"{queue}/answers", {**said, "reviewer": "ann"}))
    assert ask(server, "POST", f"{queue}/answers", {**said, "reviewer": "ann"}).status_code == 409
    claim(server, queue, "bob")
    assert told(ask(server, "POST", f"{queue}/close", {}))["status"] == "closed"
    assert ask(server, "POST", f"{queue}/answers", {**said, "reviewer": "bob"}).status_code == 409
    assert claim(server, queue, "bob")["decision_id"] is None
    assert ask(server, "GET", "/v1/reviews/rev_0").status_code == 404


def test_a_lapsed_claim_is_taken_over_and_its_first_holder_is_told_so(tmp_path, monkeypatch):
    with running_api(tmp_path) as api:
        now = datetime(2026, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None)
        monkeypatch.setattr(api.services.reviews, "_clock", lambda: now)
        item = api.record(output=1)["decision_id"]
        made = api.client.post("/v1/reviews", json={"name": "week 9", "lease_s": 60}).json()
        queue = f"/v1/reviews/{made['review_id']}"

        def asks(step: str, who: str, **more: Any) -> httpx.Response:
            return api.client.post(f"{queue}/{step}", json={"reviewer": who, **more})

        first = asks("claim", "ann").json()
        assert (first["decision_id"], first["expires_at"]) == (item, "2026-03-01T12:01:00Z")
        now += timedelta(seconds=59)
        waiting = asks("claim", "bob").json()
        assert (waiting["decision_id"], waiting["waiting"]) == (None, 1)
        now += timedelta(seconds=1)
        taken = asks("claim", "bob").json()
        assert (taken["decision_id"], taken["claim_id"] != first["claim_id"]) == (item, True)

        said = {"decision_id": item, "verdict": "correct"}
        late = asks("answers", "ann", **said)
        assert late.status_code == 409
        assert "has expired and others have taken it" in late.json()["detail"]
        assert asks("claim", "ann").json()["decision_id"] is None
        assert asks("answers", "bob", **said).status_code == 201
        assert api.sql("SELECT said_by FROM judgements").json()["rows"] == [["bob"]]


def test_a_lapsed_claim_that_nobody_took_over_may_still_be_answered(tmp_path, monkeypatch):
    with running_api(tmp_path) as api:
        now = datetime(2026, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None)
        monkeypatch.setattr(api.services.reviews, "_clock", lambda: now)
        item = api.record(output=1)["decision_id"]
        made = api.client.post("/v1/reviews", json={"name": "week 9", "lease_s": 60}).json()
        queue = f"/v1/reviews/{made['review_id']}"
        api.client.post(f"{queue}/claim", json={"reviewer": "ann"})

        now += timedelta(hours=3)
        said = {"decision_id": item, "verdict": "correct", "reviewer": "ann"}
        assert api.client.post(f"{queue}/answers", json=said).status_code == 201


def test_a_queue_of_nothing_an_unknown_filter_and_a_taken_name_are_refused(server):
    decided(server, "taken", 1)
    queued(server, "taken")

    assert (
        ask(server, "POST", "/v1/reviews", {"name": "x", "filters": {"decision_type": "no"}}).status_code
        == 422
    )
    wrong = ask(server, "POST", "/v1/reviews", {"name": "x", "filters": {"decisiontype": "no"}})
    assert (wrong.status_code, wrong.json()["errors"][0]["suggestion"]) == (422, "decision_type")
    assert ask(server, "POST", "/v1/reviews", {"name": "taken"}).status_code == 409


def test_agreement_counts_complete_items_of_an_open_queue_and_forgets_what_was_withdrawn(server):
    decided(server, "measured", 4)
    queue = queued(server, "measured", reviewers_per_item=2)
    wrong = {"verdict": "incorrect", "reason": "no"}
    # Item by item: both correct, both wrong, ann against bob, and one that waits for bob.
    for who, verdicts in (("ann", "cici"), ("bob", "cii")):
        for letter in verdicts:
            item = claim(server, queue, who)["decision_id"]
            said = {"verdict": "correct"} if letter == "c" else wrong
            told(ask(server, "POST", f"{queue}/answers", {"decision_id": item, "reviewer": who, **said}))

    found = told(ask(server, "GET", f"{queue}/agreement"))["verdict"]

    assert (found["items"], found["raters"]) == (3, 2)
    assert found["raw_agreement"]["value"] == pytest.approx(2 / 3)
    assert found["cohens_kappa"][0]["value"] == pytest.approx(0.4)
    split = next(
        item
        for item in told(ask(server, "GET", f"{queue}/items"))["items"]
        if {one["verdict"] for one in item["said"]} == {"correct", "incorrect"}
    )
    bobs = next(one["judgement_id"] for one in split["said"] if one["reviewer"] == "bob")
    withdrawal = {"subject_id": bobs, "reason": "mistaken", "said_by": "bob"}
    told(ask(server, "POST", f"/v1/decisions/{split['decision_id']}/withdraw", withdrawal))
    assert told(ask(server, "GET", f"{queue}/agreement"))["verdict"]["raw_agreement"]["value"] == 1.0


def test_a_claim_survives_a_kill(tmp_path):
    with running_server(tmp_path) as server:
        decided(server, "kept", 2)
        queue = queued(server, "kept")
        mine = claim(server, queue, "ann")
        server.kill()

    with running_server(tmp_path) as server:
        assert claim(server, queue, "bob")["decision_id"] != mine["decision_id"]
        assert claim(server, queue, "ann")["decision_id"] == mine["decision_id"]


@contextmanager
def house_with_keys(folder: Path) -> Iterator[tuple[RunningServer, dict[str, str]]]:
    """A server with keys: two reviewers who may also read, one who may review only, and a boss."""
    file = folder / "ledger.duckdb"
    ledger = Ledger.open(str(file), CollectorConfig())
    try:
        ring = Keyring(ledger)
        keys = {
            "boss": ring.create("boss", [Scope.ADMIN])[1],
            "read": ring.create("read", [Scope.READ])[1],
            "cid": ring.create("cid's", [Scope.REVIEW], person="cid")[1],
        }
        for person in ("ann", "bob"):
            keys[person] = ring.create(f"{person}'s", [Scope.REVIEW, Scope.READ], person=person)[1]
    finally:
        ledger.close()
    with running_server(folder, ledger=file) as server:
        yield server, keys


def test_reviewers_do_not_see_each_others_answers_before_they_gave_their_own(tmp_path):
    with house_with_keys(tmp_path) as (server, keys):
        (item,) = decided(server, "blind", 1, keys["boss"])
        body = {"name": "blind", "reviewers_per_item": 2}
        queue = f"/v1/reviews/{told(ask(server, 'POST', '/v1/reviews', body, keys['boss']))['review_id']}"

        def get(path: str, who: str) -> Any:
            return told(ask(server, "GET", path, key=keys[who]))

        def answer(who: str, said: dict[str, Any]) -> httpx.Response:
            told(ask(server, "POST", f"{queue}/claim", {}, keys[who]))
            return ask(server, "POST", f"{queue}/answers", {"decision_id": item, **said}, keys[who])

        told(answer("ann", {"verdict": "corrected", "output": {"n": 7}}))

        for path in (f"/v1/decisions/{item}", f"/v1/decisions/{item}/history"):
            assert get(path, "bob")["withheld_for_review"] is True
            assert '"n":7' not in ask(server, "GET", path, key=keys["bob"]).text
            assert '"n":7' in ask(server, "GET", path, key=keys["ann"]).text
            assert '"n":7' in ask(server, "GET", path, key=keys["boss"]).text
        assert ask(server, "GET", f"/v1/decisions/{item}/ground_truth", key=keys["bob"]).status_code == 404
        assert get(f"{queue}/items", "bob")["items"][0]["said"] == []
        assert len(get(f"{queue}/items", "ann")["items"][0]["said"]) == 1
        claimed = told(ask(server, "POST", f"{queue}/claim", {}, keys["bob"]))
        assert claimed["reviewer"] == "bob"
        assert not {"marks", "corrections", "ground_truth", "incorrect", "corrected"} & set(
            claimed["decision"]
        )

        told(answer("bob", {"verdict": "correct"}))

        assert "withheld_for_review" not in get(f"/v1/decisions/{item}", "bob")
        assert len(get(f"{queue}/items", "bob")["items"][0]["said"]) == 2


def test_a_key_that_only_reviews_sees_decisions_through_queues_and_no_other_way(tmp_path):
    with house_with_keys(tmp_path) as (server, keys):
        (item,) = decided(server, "only", 1, keys["boss"])
        made = told(ask(server, "POST", "/v1/reviews", {"name": "only"}, keys["boss"]))
        queue = f"/v1/reviews/{made['review_id']}"

        assert told(ask(server, "POST", f"{queue}/claim", {}, keys["cid"]))["decision_id"] == item
        assert ask(server, "GET", f"/v1/decisions/{item}", key=keys["cid"]).status_code == 403
        assert ask(server, "POST", "/v1/sql", {"query": "FROM marks"}, keys["cid"]).status_code == 403
        assert ask(server, "POST", f"{queue}/claim", {"reviewer": "ann"}, keys["cid"]).status_code == 403
        assert ask(server, "GET", queue, key=keys["read"]).status_code == 403
        assert ask(server, "GET", queue).status_code == 401


def test_a_queue_is_worked_through_in_python(server):
    (item, other, last) = sorted(decided(server, "python", 3))
    with LoopGrid(endpoint=server.api) as grid:
        queue = grid.create_review("python", filters={"decision_type": "python"}, created_by="boss").review_id
        said = {}
        for reviewer_says in (
            {"verdict": "corrected", "patch": [{"op": "replace", "path": "/ok", "value": False}]},
            {"verdict": "incorrect", "reason": "Wrong tier", "severity": "high"},
        ):
            claimed = grid.claim_review(queue, reviewer="dana")
            assert claimed.decision is not None
            assert claimed.decision_id is not None
            assert claimed.decision.decision_id == claimed.decision_id
            done = grid.answer_review(queue, claimed.decision_id, reviewer="dana", **reviewer_says)
            said[done.verdict] = done
        held = grid.claim_review(queue, reviewer="dana").decision_id
        assert held is not None
        assert {said["corrected"].decision_id, said["incorrect"].decision_id, held} == {item, other, last}
        with pytest.raises(Conflict):
            grid.answer_review(queue, said["incorrect"].decision_id, "correct", reviewer="dana")
        grid.release_review(queue, held, reviewer="dana")
        grid.claim_review(queue, reviewer="dana")
        grid.skip_review(queue, held, reason="Not my field", reviewer="dana")
        nothing = grid.claim_review(queue, reviewer="dana")
        assert (nothing.decision_id, nothing.progress.answered, nothing.progress.skipped) == (None, 2, 1)

        truth = grid.get_decision(said["corrected"].decision_id).ground_truth
        assert truth is not None
        assert truth.output["ok"] is False
        (mark,) = grid.get_decision(said["incorrect"].decision_id).marks
        assert (mark.mark_id, mark.severity) == (said["incorrect"].judgement_id, "high")
        answered = {each.decision_id: each.said for each in grid.review_items(queue).decisions if each.said}
        assert answered[mark.decision_id][0].reason == "Wrong tier"
        assert grid.close_review(queue, reviewer="boss").status == "closed"
        assert grid.close_review(queue, reviewer="boss").closed_by == "boss"
        assert queue in [each.review_id for each in grid.list_reviews().reviews]
        assert grid.review_agreement(queue).review_id == queue


def test_a_queue_is_worked_through_by_coroutines(server):
    decided(server, "coroutines", 1)

    async def work() -> Any:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            made = await grid.create_review("coroutines", filters={"decision_type": "coroutines"})
            claimed = await grid.claim_review(made.review_id, reviewer="dana")
            assert claimed.decision_id is not None
            await grid.answer_review(made.review_id, claimed.decision_id, "correct", reviewer="dana")
            return (await grid.get_review(made.review_id)).progress

    progress = asyncio.run(work())
    assert (progress.complete, progress.remaining) == (1, 0)
