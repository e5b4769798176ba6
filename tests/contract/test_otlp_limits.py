"""Senders that are slow, many or in a browser, against the real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.guard import Guard
from loopgrid_collector.receivers.http import otlp_routes
from tests.contract.doors import JSON, PROTOBUF, Doors, running
from tests.support.spans import span, traces

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PAGE = "https://app.example.com"
WANTED = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-key"}


# Slow senders


@pytest.mark.parametrize("sent", [b"", b"POST /v1/tra", b"POST /v1/traces HTTP/1.1\r\nHost: t\r\nX-A: "])
def test_a_connection_whose_head_does_not_come_is_closed_and_others_are_served(tmp_path, sent):
    with running(tmp_path, header_read_timeout_s=0.2) as doors, doors.connect() as slow:
        slow.sendall(sent)

        assert slow.recv(100) == b""
        assert doors.post("/v1/traces", traces(span(1))).status_code == 200


def test_a_head_that_trickles_gains_no_time(tmp_path):
    with running(tmp_path, header_read_timeout_s=0.2) as doors, doors.connect() as slow:
        slow.sendall(b"POST /v1/traces HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            trickle(slow)


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"X-Header: more\r\n")


def test_a_second_request_on_a_connection_has_the_clock_of_its_own(tmp_path):
    with running(tmp_path, header_read_timeout_s=0.2) as doors, doors.connect() as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\nGET /hea")
        with slow.makefile("rb") as reader:
            answers = reader.read()

    assert answers.count(b"HTTP/1.1 200") == 1


def test_a_grpc_message_that_does_not_come_is_given_up(tmp_path):
    with (
        running(tmp_path, body_read_timeout_s=0.2) as doors,
        grpc.insecure_channel(doors.addresses.otlp_grpc) as channel,
    ):
        never = threading.Event()
        call: Any = channel.stream_unary(EXPORT, None, None)
        with pytest.raises(grpc.RpcError) as refused:
            call(waiting(never), timeout=20)
        never.set()

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def waiting(until: threading.Event) -> Iterator[bytes]:
    until.wait(20)
    yield b""


# Many senders


def test_a_connection_too_many_is_told_to_come_again_and_one_that_ends_makes_room(tmp_path):
    with running(tmp_path, max_connections=2) as doors, ExitStack() as open_ones:
        first, _ = (open_ones.enter_context(doors.connect()) for _ in range(2))
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert first.recv(1_000).startswith(b"HTTP/1.1 200")
        with doors.connect() as third, third.makefile("rb") as reader:
            answer = reader.read()
        first.close()
        after = doors.client.get("/healthz")
        while after.status_code != 200:
            after = doors.client.get("/healthz")

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer


def test_grpc_calls_over_the_limit_are_refused_unread_with_a_delay_and_health_is_still_told(tmp_path):
    with running(tmp_path, max_grpc_requests=1) as doors, ExitStack() as channels:
        # Each on a connection of its own: on one, the second would wait at the sender.
        busy, other, asker = (
            channels.enter_context(
                grpc.insecure_channel(doors.addresses.otlp_grpc, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(3)
        )
        release = threading.Event()
        held, refused = one_held_and_one_refused(busy, other, release)
        trailers: dict[str, bytes] = dict(refused.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        well = HealthStub(asker).Check(HealthCheckRequest(), timeout=20)
        release.set()

        assert held.result(20) == b""
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert status.details[0].Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        assert well.status == HealthCheckResponse.SERVING


def one_held_and_one_refused(busy: grpc.Channel, other: grpc.Channel, release: threading.Event) -> Any:
    """A call under way, and the refusal of another.

    Either may come first and be the one that is refused; then both are made again.
    """
    hold: Any = busy.stream_unary(EXPORT, None, None)
    call: Any = other.unary_unary(EXPORT, None, None)
    while True:
        held = hold.future(waiting(release), timeout=60)
        while not held.done():
            try:
                call(b"", timeout=60)
            except grpc.RpcError as error:
                return held, error


def test_of_a_thousand_calls_at_once_on_one_connection_each_is_taken_or_told_to_come_again(doors: Doors):
    with grpc.insecure_channel(doors.addresses.otlp_grpc) as channel:
        call: Any = channel.unary_unary(EXPORT, None, None)
        to_send = {number: traces(span(number)) for number in range(1, 1_001)}
        while to_send:
            calls = {number: call.future(body, timeout=60) for number, body in to_send.items()}
            well = HealthStub(channel).Check(HealthCheckRequest(), timeout=60)
            codes = {number: each.code() for number, each in calls.items()}

            assert well.status == HealthCheckResponse.SERVING
            assert set(codes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
            to_send = {n: body for n, body in to_send.items() if codes[n] is not grpc.StatusCode.OK}

    assert doors.count("spans") == 1_000


def test_a_grpc_connection_is_recycled_at_its_age_and_no_call_is_lost(tmp_path):
    age = {"grpc_max_connection_age_s": 0.2, "grpc_max_connection_age_grace_s": 5.0}
    changes: list[grpc.ChannelConnectivity] = []
    recycled = threading.Event()

    def watch(state: grpc.ChannelConnectivity) -> None:
        changes.append(state)
        if grpc.ChannelConnectivity.READY in changes and state is grpc.ChannelConnectivity.IDLE:
            recycled.set()

    with running(tmp_path, **age) as doors, grpc.insecure_channel(doors.addresses.otlp_grpc) as channel:
        channel.subscribe(watch)
        call: Any = channel.unary_unary(EXPORT, None, None)
        number = 0
        while not recycled.is_set():
            number += 1
            assert call(traces(span(number)), timeout=20) == b""

        assert doors.count("spans") == number


def test_a_client_that_pings_every_ten_seconds_is_within_the_policy():
    assert CollectorConfig().grpc_min_ping_interval_s <= 10


# Browsers


@pytest.fixture
def for_pages(tmp_path) -> Iterator[Doors]:
    with running(tmp_path, cors_allowed_origins=f"{PAGE}, http://localhost:3000") as doors:
        yield doors


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics"])
def test_a_preflight_of_a_listed_origin_is_answered(for_pages: Doors, path):
    answer = for_pages.client.options(path, headers={"origin": PAGE, **WANTED})

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "content-type, x-key"
    assert answer.headers["access-control-max-age"] == "7200"
    assert "origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example.com", PAGE + ".evil.com", "null", PAGE + ":8443"])
def test_another_origin_gets_no_permission(for_pages: Doors, origin):
    preflight = for_pages.client.options("/v1/traces", headers={"origin": origin, **WANTED})
    answer = for_pages.post("/v1/traces", b"", origin=origin)

    assert preflight.status_code == 405
    assert not [name for name in [*preflight.headers, *answer.headers] if name.startswith("access-control")]


def test_answers_to_a_listed_origin_can_be_read_by_its_page_refusals_too(for_pages: Doors):
    taken = for_pages.post("/v1/traces", traces(span(1)), origin=PAGE)
    refused = for_pages.post("/v1/traces", b"\xff", origin=PAGE)

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert {a.headers["access-control-allow-origin"] for a in (taken, refused)} == {PAGE}
    assert "retry-after" in taken.headers["access-control-expose-headers"]


def test_everybody_may_be_allowed_and_never_with_credentials(tmp_path):
    with running(tmp_path, cors_allowed_origins="*") as doors:
        answer = doors.client.options("/v1/traces", headers={"origin": PAGE, **WANTED})

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_without_the_setting_no_page_gets_permission(doors: Doors):
    answer = doors.client.options("/v1/traces", headers={"origin": PAGE, **WANTED})

    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_the_api_port_answers_the_preflight_as_well(for_pages: Doors):
    answer = httpx.options(
        for_pages.addresses.api + "/v1/traces", headers={"origin": PAGE, **WANTED}, trust_env=False
    )

    assert answer.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("wrong", ["app.example.com", "https://app.example.com/", "https://*.example.com"])
def test_an_origin_that_is_none_is_a_start_error(doors: Doors, wrong):
    with pytest.raises(Misconfigured, match="is no origin"):
        otlp_routes(doors.ingest, CollectorConfig(cors_allowed_origins=wrong), Guard(doors.ledger))


# Health under load


def test_health_is_told_while_http_is_busy(doors: Doors):
    body = traces(*(span(number) for number in range(1, 201)))
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(doors.post, "/v1/traces", body) for _ in range(16)]
        answer = httpx.get(doors.addresses.otlp_http + "/healthz", trust_env=False, timeout=20)
        codes = {each.result(60).status_code for each in posts}

    assert (answer.status_code, codes) == (200, {200})


def half_closed(doors, request: bytes) -> bytes:
    """All that is answered to a sender that closes its own direction at once."""
    with doors.connect() as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def raw_request(body: bytes, length: int, content_type: str = PROTOBUF) -> bytes:
    head = f"host: x\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    return b"POST /v1/traces HTTP/1.1\r\n" + head.encode() + body


def test_a_sender_that_closes_its_own_direction_is_answered_all_the_same(doors):
    body = traces(span(1))

    answer = half_closed(doors, raw_request(body, len(body)))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"connection: close") == 1
    assert doors.count("spans") == 1


def test_each_request_of_a_pipeline_is_answered_before_the_end(doors):
    bodies = [traces(span(number)) for number in (1, 2, 3)]

    answers = half_closed(doors, b"".join(raw_request(body, len(body)) for body in bodies))

    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert doors.count("spans") == 3


@pytest.mark.parametrize(("content_type", "member"), [(PROTOBUF, b"\x08\x03"), (JSON, b'"code": 3')])
def test_a_body_that_ends_before_its_length_is_400_and_not_waited_for(doors, content_type, member):
    body = traces(span(1))

    answer = half_closed(doors, raw_request(body, len(body) + 1, content_type))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert f"content-type: {content_type}".encode() in answer
    assert member in answer
    assert doors.count("spans") == 0


def test_a_length_that_is_too_small_makes_of_the_rest_no_second_request(doors):
    body = traces(span(1))

    answer = half_closed(doors, raw_request(body, len(body) - 5))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert doors.count("spans") == 0


def test_a_head_without_end_is_not_kept(doors):
    with doors.connect() as connection, pytest.raises(OSError):  # noqa: PT012 - a send or a receive meets the end
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n")
        while True:
            connection.sendall(b"x: " + b"a" * 65536 + b"\r\n")

    assert doors.post("/v1/traces", traces(span(1))).status_code == 200
