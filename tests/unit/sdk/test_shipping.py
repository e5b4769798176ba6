"""From an ended decision to an acknowledged one, or to a counted loss."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest

import loopgrid
from loopgrid import tracing
from loopgrid.headers import retry_after_s
from loopgrid.outcome import Acknowledged, Blocked, Refused, TryAgain
from loopgrid.transport import judge, judge_patiently
from tests.support.otlp_receiver import Answer, OtlpReceiver, partial_success, spans_of
from tests.unit.sdk.conftest import QUICK


@loopgrid.decision("number")
def number(value: object) -> object:
    return value


def inputs(receiver: OtlpReceiver) -> list[object]:
    return [span.input["value"] for span in receiver.spans]


def written(decisions: int) -> None:
    """Return once that many decisions are on disk."""
    pipeline = tracing.active()
    assert pipeline is not None
    assert pipeline.shipper.writer.until_written(decisions, 10)


def configured(receiver: OtlpReceiver, **limits: float) -> None:
    loopgrid.configure(endpoint=receiver.url, delivery=dataclasses.replace(QUICK, **limits))  # type: ignore[arg-type]


def test_requests_are_protobuf_to_the_traces_path_with_the_key(receiver):
    loopgrid.configure(endpoint=receiver.url + "/", api_key="lg-secret", delivery=QUICK)
    number(1)

    assert loopgrid.flush()
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/v1/traces")
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["Authorization"] == "Bearer lg-secret"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_refusal_that_may_pass_is_tried_again_until_it_does(recording, status):
    recording.script(Answer(status), Answer(status, {"Retry-After": "0"}))
    number(1)

    assert loopgrid.flush()
    assert len(recording.requests) == 3
    assert inputs(recording) == [1]
    assert loopgrid.counters() == {"started": 1, "acknowledged": 1}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_for_good_is_kept_where_people_find_it_and_costs_no_neighbour(
    recording, own_spool, caplog, status
):
    hold = threading.Event()
    recording.script(Answer(200, release=hold), Answer(status), Answer(200), Answer(status))
    number(0)
    assert recording.arrived.acquire(timeout=10)
    number(1)
    number(2)
    written(3)
    hold.set()

    assert not loopgrid.flush()
    assert inputs(recording) == [0, 1]
    assert loopgrid.counters() == {"started": 3, "refused": 1, "acknowledged": 2}
    assert f"HTTP {status}" in caplog.text
    (kept,) = (own_spool / "refused").iterdir()
    assert str(kept) in caplog.text
    (span,) = spans_of(kept.read_bytes())
    assert span.input == {"value": 2}
    number(3)
    assert not loopgrid.flush(), "one decision is still not in the ledger"
    assert inputs(recording) == [0, 1, 3]


@pytest.mark.parametrize("status", [201, 204, 301, 401, 403, 404])
def test_what_a_person_must_set_right_makes_flush_false_at_once_and_loses_nothing(recording, caplog, status):
    recording.script(*[Answer(status)] * 10_000)
    number(1)

    assert not loopgrid.flush(60)
    assert f"HTTP {status}" in caplog.text
    recording.forget_script()
    assert loopgrid.flush()
    assert inputs(recording) == [1]
    assert loopgrid.counters()["acknowledged"] == 1


def test_what_the_collector_rejects_is_counted_as_lost(recording, caplog):
    recording.script(partial_success(1))
    number(1)

    assert not loopgrid.flush()
    assert loopgrid.counters() == {"started": 1, "rejected": 1}
    assert "quarantine" in caplog.text


def test_flush_is_false_while_an_answer_is_outstanding_and_true_after_it(recording):
    release = threading.Event()
    recording.script(Answer(200, release=release))
    number(1)
    assert recording.arrived.acquire(timeout=10)

    assert not loopgrid.flush(0.01)
    release.set()
    assert loopgrid.flush()


def test_flush_is_true_where_nothing_was_decided():
    assert loopgrid.flush()
    assert loopgrid.shutdown()


def test_a_connection_that_breaks_is_tried_again(receiver):
    configured(receiver, request_timeout_s=0.05)
    release = threading.Event()
    receiver.script(Answer(200, release=release), Answer(200))
    number(1)

    assert loopgrid.flush()
    release.set()
    assert len(receiver.requests) >= 2


def test_decisions_made_before_the_collector_runs_arrive_when_it_does(receiver):
    with OtlpReceiver() as gone:
        endpoint = gone.url
    loopgrid.configure(endpoint=endpoint, delivery=QUICK)
    number(1)
    assert not loopgrid.flush(0.05)
    pipeline = tracing.active()
    assert pipeline is not None
    assert pipeline.shipper.undelivered() == 1
    assert loopgrid.counters() == {"started": 1}


def test_many_decisions_travel_together(receiver):
    configured(receiver, max_batch_spans=10)
    release = threading.Event()
    receiver.script(Answer(200, release=release))
    number(0)
    assert receiver.arrived.acquire(timeout=10)
    for value in range(1, 21):
        number(value)
    written(21)
    release.set()

    assert loopgrid.flush()
    assert inputs(receiver) == list(range(21))
    assert len(receiver.requests) == 3


def test_a_request_stays_within_its_bytes(receiver):
    configured(receiver, max_batch_bytes=3000)
    release = threading.Event()
    receiver.script(Answer(200, release=release))
    number(0)
    assert receiver.arrived.acquire(timeout=10)
    for _ in range(4):
        number("x" * 1500)
    written(5)
    release.set()

    assert loopgrid.flush()
    assert len(receiver.requests) == 5


def test_a_full_queue_drops_counts_and_leaves_a_gap_in_the_sequence(receiver, caplog):
    configured(receiver, max_spool_bytes=9000, full_wait_s=0.01)
    release = threading.Event()
    receiver.script(Answer(200, release=release))
    number("x" * 3000)
    assert receiver.arrived.acquire(timeout=10)
    for _ in range(3):
        number("x" * 3000)
    release.set()
    loopgrid.flush()
    number("after")

    assert not loopgrid.flush()
    dropped = loopgrid.counters()["spool_full"]
    assert dropped >= 1
    numbers = [span.attributes["loopgrid.producer.seq"] for span in receiver.spans]
    assert numbers[-1] - len(numbers) == dropped
    assert len([line for line in caplog.messages if "decisions are lost" in line]) == 1


def test_a_full_queue_waits_for_room_before_it_drops(receiver):
    configured(receiver, max_spool_bytes=9000, full_wait_s=10.0)
    release = threading.Event()
    receiver.script(Answer(200, release=release))
    number("x" * 3000)
    assert receiver.arrived.acquire(timeout=10)
    blocked = threading.Thread(target=lambda: [number("x" * 3000) for _ in range(3)])
    blocked.start()
    release.set()
    blocked.join(10)

    assert loopgrid.flush()
    assert len(receiver.spans) == 4


def test_one_decision_that_cannot_be_encoded_does_not_cost_its_neighbours(receiver, monkeypatch):
    configured(receiver)
    pipeline = tracing.active()
    assert pipeline is not None
    release = threading.Event()
    receiver.script(Answer(200, release=release))
    number(0)
    assert receiver.arrived.acquire(timeout=10)
    hand_over: Callable[..., None] = pipeline.shipper.put

    def spoil(span):
        # An id no span can have: stands for any defect in encoding.
        span.parent = object()
        hand_over(span)

    number(1)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.shipper, "put", spoil)
        number(2)
    number(3)
    release.set()

    assert not loopgrid.flush()
    assert inputs(receiver) == [0, 1, 3]
    assert loopgrid.counters()["defect"] == 1


def test_after_shutdown_decisions_are_counted_as_lost_and_calls_go_on(recording, caplog):
    assert loopgrid.shutdown()

    assert number(1) == 1
    assert loopgrid.counters() == {"started": 1, "closed": 1}
    assert not loopgrid.flush()


def test_configuring_again_delivers_what_was_recorded_before(receiver):
    configured(receiver, linger_s=60.0)
    number(1)
    with OtlpReceiver() as other:
        loopgrid.configure(endpoint=other.url, delivery=QUICK)
        number(2)
        assert loopgrid.flush()
        loopgrid.shutdown()

        assert (inputs(receiver), inputs(other)) == ([1], [2])
        assert (
            receiver.spans[0].attributes["loopgrid.producer.id"]
            != other.spans[0].attributes["loopgrid.producer.id"]
        )


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Acknowledged()),
        (503, {}, TryAgain("HTTP 503")),
        (429, {"Retry-After": "2"}, TryAgain("HTTP 429", 2.0)),
        (500, {}, TryAgain("HTTP 500")),
        (413, {}, Refused("HTTP 413")),
        (307, {"Location": "/"}, Blocked("HTTP 307")),
    ],
)
def test_each_status_means_one_thing(status, headers, outcome):
    assert judge_patiently(status, headers, b"") == outcome


def test_a_forwarder_which_must_give_up_follows_the_specification():
    assert judge(500, {}, b"") == Refused("HTTP 500")
    assert judge(401, {}, b"") == Refused("HTTP 401")


def test_an_answer_that_is_200_and_not_protobuf_is_still_an_acknowledgement():
    assert judge(200, {}, b"\xff\xff\xff") == Acknowledged()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text, seconds):
    assert retry_after_s({"Retry-After": text}) == seconds
