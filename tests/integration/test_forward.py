"""Passing on: what was received goes to another OTLP endpoint, and that endpoint can do no harm."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.forward import Forwarder, ForwardingIngest
from loopgrid_collector.forward_target import target
from loopgrid_collector.ledger.ledger import Ledger
from tests.contract.doors import Doors, running
from tests.support.otlp_receiver import Answer, OtlpReceiver
from tests.support.server import RunningServer, running_server, start_server
from tests.support.spans import chat, log_record, logs, span, traces

pytestmark = pytest.mark.integration

EVERYWHERE = "0.0.0.0"  # noqa: S104 - bound for the length of a test

NEVER_S = 3_600
"""A timeout that no test outlives: whoever waits for it fails."""


@pytest.fixture
def backend() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds; how long is the machine's business, up to a minute."""
    tick = threading.Event()
    for _ in range(1_200):
        if condition():
            return
        tick.wait(0.05)
    raise AssertionError(f"never came true: {what}")


def counted(doors: Doors, name: str) -> int:
    return doors.ingest.counters().get(f"forward.{name}", 0)


def arrived(backend: OtlpReceiver, number: int = 1) -> None:
    for _ in range(number):
        assert backend.arrived.acquire(timeout=60), "nothing arrived"


def post(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        status: int = answer.status
    return status


def send(server: RunningServer, numbers: range) -> None:
    for number in numbers:
        assert post(f"{server.otlp_http}/v1/traces", traces(chat(number))) == 200


def sql(server: RunningServer, query: str) -> list[list[Any]]:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{server.api}/v1/sql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        rows: list[list[Any]] = json.load(answer)["rows"]
    return rows


SPANS = "SELECT trace_id, span_id, name, attributes, resource, events, links FROM spans ORDER BY ALL"


@contextmanager
def held(backend: OtlpReceiver, times: int) -> Iterator[None]:
    """The backend takes the next requests and answers none of them before the end of the block."""
    release = threading.Event()
    backend.script(*[Answer(release=release)] * times)
    try:
        yield
    finally:
        release.set()


def test_what_any_door_took_reaches_the_second_ledger(tmp_path: Path):
    """OTLP over HTTP in protobuf, gzip and JSON, over gRPC, logs, and a decision recorded by the API."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        running_server(tmp_path / "b") as second,
        running_server(tmp_path / "a", arguments=["--forward", second.otlp_http]) as first,
    ):
        send(first, range(1, 40))
        assert post(f"{first.api}/v1/logs", logs(log_record(7))) == 200
        with grpc.insecure_channel(first.otlp_grpc) as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                request_serializer=None,
                response_deserializer=None,
            )
            export(traces(chat(50), chat(51)), timeout=60)
        recorded = json.dumps({"decision_type": "triage", "output": {"queue": "billing"}}).encode()
        request = urllib.request.Request(
            f"{first.api}/v1/decisions", recorded, {"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=60).close()
        wanted = sql(first, SPANS)
        assert len(wanted) == 42
        eventually(lambda: sql(second, SPANS) == wanted, "the second ledger holds the same spans")
        events = "SELECT count(*) FROM events"
        eventually(lambda: sql(second, events) == sql(first, events), "and the same events")


def test_what_people_say_goes_out_after_its_commit_as_the_record_that_is_exported(backend, tmp_path):
    def call(path: str, body: object = None, accept: str = "application/json") -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "accept": accept}
        with urllib.request.urlopen(
            urllib.request.Request(server.api + path, sent, headers), timeout=60
        ) as it:
            answer: bytes = it.read()
        return answer

    with running_server(tmp_path, arguments=["--forward", backend.url]) as server:
        decision = json.loads(call("/v1/decisions", {"decision_type": "triage", "output": 1}))["decision_id"]
        call(f"/v1/decisions/{decision}/incorrect", {"reason": "Missed it", "marked_by": "dana"})
        arrived(backend, 2)
        exported = call("/v1/evaluations", accept="application/x-protobuf")

    (sent,) = [request.body for request in backend.requests if request.path == "/v1/logs"]
    assert sent == exported
    (record,) = ExportLogsServiceRequest.FromString(sent).resource_logs[0].scope_logs[0].log_records
    assert f"{record.trace_id.hex()}-{record.span_id.hex()}" == decision


@pytest.mark.crash
def test_a_second_server_killed_and_restarted_mid_stream_misses_nothing(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    second = start_server(tmp_path / "b")
    try:
        with running_server(tmp_path / "a", arguments=["--forward", second.otlp_http]) as first:
            send(first, range(1, 20))
            eventually(lambda: bool(sql(second, SPANS)), "the stream flows")
            send(first, range(20, 30))
            second.kill()
            send(first, range(30, 50))
            port = second.otlp_http.rpartition(":")[2]
            second = start_server(tmp_path / "b", arguments=["--otlp-http-port", port])
            send(first, range(50, 61))
            eventually(lambda: sql(second, SPANS) == sql(first, SPANS), "both hold all sixty spans")
            assert len(sql(first, SPANS)) == 60
    finally:
        second.stop()


@pytest.mark.crash
def test_a_server_killed_while_it_passes_on_has_what_it_acknowledged_and_passes_on_nothing_else(
    backend: OtlpReceiver, tmp_path: Path
):
    """What waits for the backend is memory (the guide says so); what was acknowledged is not."""
    acknowledged: list[int] = []
    first_of_round = 1
    for answers in (1, 20):
        first = start_server(tmp_path, arguments=["--forward", backend.url])
        numbers = range(first_of_round, first_of_round + 60)
        enough = threading.Event()

        with held(backend, 2):
            sending = threading.Thread(target=_sender, args=(first, numbers, acknowledged, answers, enough))
            sending.start()
            assert enough.wait(60)
            first.kill()
            sending.join(60)
        first_of_round += 60

    with running_server(tmp_path, arguments=["--forward", backend.url]) as server:
        stored = {int(row[1], 16) for row in sql(server, SPANS)}
        send(server, range(1_000, 1_003))
        eventually(lambda: _passed_on(backend) >= {1_000, 1_001, 1_002}, "what comes after is passed on")

    assert stored >= set(acknowledged)
    assert _passed_on(backend) <= stored | {1_000, 1_001, 1_002}


def _sender(
    server: RunningServer, numbers: range, acknowledged: list[int], answers: int, enough: threading.Event
) -> None:
    """Sends until nobody answers any more; says when it has had some answers."""
    for number in numbers:
        try:
            post(f"{server.otlp_http}/v1/traces", traces(chat(number)))
        except OSError:
            return
        acknowledged.append(number)
        if number - numbers.start + 1 >= answers:
            enough.set()


def _passed_on(backend: OtlpReceiver) -> set[int]:
    """Numbers of the spans that the backend was sent."""
    requests = [ExportTraceServiceRequest.FromString(request.body) for request in list(backend.requests)]
    return {
        int.from_bytes(item.span_id, "big")
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for item in scope.spans
    }


def test_a_backend_that_hangs_costs_neither_ingestion_nor_the_stop(backend, tmp_path):
    """The forwarder would wait an hour for an answer; the stop waits for its grace period only."""
    environ = {"LOOPGRID_FORWARD_TIMEOUT_S": str(NEVER_S), "LOOPGRID_SHUTDOWN_GRACE_S": "1"}
    with (
        held(backend, 100),
        running_server(tmp_path, arguments=["--forward", backend.url], environ=environ) as server,
    ):
        send(server, range(1, 30))
        arrived(backend)
        assert len(sql(server, SPANS)) == 29
        assert server.stop() == 0
    assert "not passed on" in server.log.read_text()


def test_a_backend_that_is_gone_costs_neither_ingestion_nor_the_stop(tmp_path):
    with OtlpReceiver() as gone:
        url = gone.url
    with running_server(
        tmp_path, arguments=["--forward", url], environ={"LOOPGRID_SHUTDOWN_GRACE_S": "1"}
    ) as server:
        assert post(f"{server.otlp_http}/v1/traces", traces(chat(1))) == 200
        eventually(lambda: "is tried again" in server.log.read_text(), "the log says so")


def test_the_bytes_that_go_out_are_the_bytes_that_came_in(backend, tmp_path):
    """Also those that the protobuf runtime would write in another way: an unknown field at the end."""
    odd = traces(chat(1)) + b"\xfa\x3f\x03abc"
    with running(tmp_path, forward=backend.url) as doors:
        assert doors.post("/v1/traces", gzip.compress(odd), content_encoding="gzip").status_code == 200
        arrived(backend)
    (sent,) = backend.requests
    assert sent.body == odd
    headers = {name.lower(): value for name, value in sent.headers.items()}
    assert (headers["content-type"], headers["content-encoding"]) == ("application/x-protobuf", "gzip")


def test_bodies_that_wait_together_ride_together_each_whole(backend, tmp_path):
    bodies = [traces(chat(number)) for number in range(1, 30)]
    with running(tmp_path, forward=backend.url) as doors:
        with held(backend, 4):
            for body in bodies[:4]:
                doors.post("/v1/traces", body)
                arrived(backend)
            for body in bodies[4:]:
                doors.post("/v1/traces", body)
        eventually(lambda: counted(doors, "requests_sent") == len(bodies), "all are sent")
    assert len(backend.requests) < len(bodies)
    assert sorted(span.trace_id for span in backend.spans) == [f"{n:032x}" for n in range(1, 30)]
    assert b"".join(request.body for request in backend.requests[4:]) == b"".join(bodies[4:])


def test_a_body_that_the_backend_refuses_does_not_take_its_fellow_travellers_along(backend, tmp_path):
    with running(tmp_path, forward=backend.url) as doors:
        with held(backend, 4):
            for number in range(1, 5):
                doors.post("/v1/traces", traces(chat(number)))
                arrived(backend)
            for number in range(5, 8):
                doors.post("/v1/traces", traces(chat(number)))
            backend.script(Answer(400), Answer(200), Answer(400), Answer(200))
        eventually(lambda: counted(doors, "requests_sent") == 6, "all but one are sent")
        assert counted(doors, "requests_refused") == 1


def test_only_what_brought_something_new_is_passed_on(backend, tmp_path):
    first, mixed = traces(chat(1)), traces(chat(1), chat(2))
    with running(tmp_path, forward=backend.url) as doors:
        doors.post("/v1/traces", first)
        arrived(backend)
        doors.post("/v1/traces", first)
        doors.post("/v1/traces", mixed)
        arrived(backend)
    assert [request.body for request in backend.requests] == [first, mixed]


def test_what_is_refused_here_is_passed_on_once_the_backend_may_read_it(backend, tmp_path):
    bad = traces(span(1, trace_id=b""), chat(2))
    with running(tmp_path, forward=backend.url) as doors:
        for _ in range(3):
            doors.post("/v1/traces", bad)
        eventually(lambda: counted(doors, "requests_repeated") == 2, "the repetitions are recognised")
    assert [request.body for request in backend.requests] == [bad]


def test_metrics_are_passed_on_once(backend, tmp_path):
    """They are not kept, so the ledger cannot end a circle of servers; their bytes do."""
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name="tokens")
    backend.script(Answer(200))
    with running(tmp_path, forward=backend.url) as doors:
        for _ in range(3):
            assert doors.post("/v1/metrics", request.SerializeToString()).status_code == 200
        eventually(lambda: counted(doors, "requests_repeated") == 2, "the repetitions are recognised")
        eventually(lambda: counted(doors, "requests_sent") == 1, "one is sent")
    assert [(sent.path, sent.body) for sent in backend.requests] == [
        ("/v1/metrics", request.SerializeToString())
    ]


def test_a_backend_that_asks_for_patience_gets_the_same_bytes_again(backend, tmp_path):
    backend.script(Answer(503, {"Retry-After": "0"}), Answer(429, {"Retry-After": "0"}))
    with running(tmp_path, forward=backend.url) as doors:
        doors.post("/v1/traces", traces(chat(1)))
        eventually(lambda: counted(doors, "requests_sent") == 1, "it is sent in the end")
        assert counted(doors, "retries") == 2
    assert [request.body for request in backend.requests] == [traces(chat(1))] * 3


def test_retry_after_is_waited_for_and_a_stop_does_not_wait_for_it(backend, tmp_path):
    backend.script(Answer(503, {"Retry-After": "250"}))
    with running(tmp_path, forward=backend.url) as doors:
        doors.post("/v1/traces", traces(chat(1)))
        eventually(lambda: counted(doors, "retries") == 1, "it is told to come back later")
    assert len(backend.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_the_backend_refuses_for_good_is_counted_and_not_sent_again(backend, tmp_path, status, caplog):
    backend.script(Answer(status))
    with running(tmp_path, forward=backend.url) as doors:
        doors.post("/v1/traces", traces(chat(1)))
        eventually(lambda: counted(doors, "requests_refused") == 1, "the refusal is counted")
        doors.post("/v1/traces", traces(chat(2)))
        eventually(lambda: counted(doors, "requests_sent") == 1, "the next one is sent")
        assert doors.count("spans") == 2
    assert f"HTTP {status}" in caplog.text
    assert "accepts again" in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_because_headers_may_be_secret(backend, tmp_path, status):
    with OtlpReceiver() as elsewhere:
        backend.script(Answer(status, {"Location": f"{elsewhere.url}/v1/traces"}))
        with running(tmp_path, forward=backend.url, forward_headers="authorization=Bearer%20s3cret") as doors:
            assert doors.post("/v1/traces", traces(chat(1))).status_code == 200
            eventually(lambda: counted(doors, "requests_refused") == 1, "the redirect is a refusal")
        assert elsewhere.requests == []


def test_a_full_queue_drops_the_newest_loudly_and_the_ledger_holds_everything(backend, tmp_path, caplog):
    body = traces(chat(1))
    with running(tmp_path, forward=backend.url, forward_queue_bytes=5 * len(body) + 50) as doors:
        with held(backend, 5):
            for number in range(1, 21):
                assert doors.post("/v1/traces", traces(chat(number))).status_code == 200
            assert counted(doors, "requests_dropped") >= 15
            assert counted(doors, "queued_bytes") <= 5 * len(body) + 50
            assert doors.count("spans") == 20
        eventually(lambda: counted(doors, "queued_bytes") == 0, "the queue empties")
        doors.post("/v1/traces", traces(chat(21)))
        eventually(lambda: counted(doors, "queued_bytes") == 0, "and flows again")
        sent, dropped = counted(doors, "requests_sent"), counted(doors, "requests_dropped")
        assert sent + dropped == 21
        scraped = doors.client.get("/metrics").text
        assert f'name="forward.requests_dropped"}} {float(dropped)}' in scraped
        assert "loopgrid_forward_queue_bytes 0.0" in scraped
    received = {span.trace_id for span in backend.spans}
    assert f"{1:032x}" in received
    assert f"{20:032x}" not in received
    assert caplog.text.count("the queue is full") == 1
    assert "LOOPGRID_FORWARD_QUEUE_BYTES" in caplog.text


def test_a_sender_that_hangs_up_while_its_request_commits_takes_nothing_away(backend, tmp_path):
    """What it sends again is a duplicate by then, so the first attempt has to be passed on."""
    config = CollectorConfig(ledger=str(tmp_path / "test.duckdb"))
    ledger = Ledger.open(config.ledger, config)
    forwarder = Forwarder(target(backend.url), queue_bytes=2**20, timeout_s=60)
    ingest = ForwardingIngest(ledger, config, forwarder)
    forwarder.start()

    async def hang_up() -> None:
        sending = asyncio.create_task(ingest.traces(traces(chat(1))))
        for _ in range(3):  # turns of the loop, in which the work begins and cannot end
            await asyncio.sleep(0)
        assert ingest.counters()["queued_bytes"]
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.to_thread(arrived, backend)

    try:
        asyncio.run(hang_up())
    finally:
        ingest.close()
        ledger.close()
        forwarder.close(60)
    assert [span.trace_id for span in backend.spans] == [f"{1:032x}"]


def test_a_stop_sends_what_still_waits(backend, tmp_path):
    release = threading.Event()
    backend.script(*[Answer(release=release)] * 4)
    with running(tmp_path, forward=backend.url) as doors:
        for number in range(1, 10):
            doors.post("/v1/traces", traces(chat(number)))
        arrived(backend)
        threading.Thread(target=_once_refused, args=(doors, release)).start()
    assert len({span.trace_id for span in backend.spans}) == 9


def _once_refused(doors: Doors, release: threading.Event) -> None:
    def refused() -> bool:
        try:
            doors.connect().close()
        except ConnectionError:
            return True
        return False

    eventually(refused, "the server takes nothing any more")
    release.set()


def test_headers_reach_the_backend_and_nobody_else(backend, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("Bearer s3cret, with a comma\n")
    arguments = ["--forward", backend.url, "--forward-header", f"authorization=@{secret}"]
    with running_server(tmp_path, arguments=[*arguments, "--forward-header", "x-team=a=b"]) as server:
        post(f"{server.otlp_http}/v1/traces", traces(chat(1)))
        arrived(backend)
    headers = {name.lower(): value for name, value in backend.requests[0].headers.items()}
    assert headers["authorization"] == "Bearer s3cret, with a comma"
    assert headers["x-team"] == "a=b"
    assert "s3cret" not in server.log.read_text()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", EVERYWHERE])
@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
def test_a_server_does_not_forward_to_itself(tmp_path, name, host):
    """Asked of each port: API, OTLP/HTTP, OTLP/gRPC."""
    with running(tmp_path) as doors:
        port = doors.addresses.otlp_http.rpartition(":")[2]
    for setting in ("port", "otlp_http_port", "otlp_grpc_port"):
        own: dict[str, Any] = {setting: int(port)}
        with (
            pytest.raises(Misconfigured, match=r"own port.*LOOPGRID_FORWARD"),
            running(tmp_path, host=host, forward=f"http://{name}:{port}", **own),
        ):
            pass
