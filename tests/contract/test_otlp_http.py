"""OTLP over HTTP, row by row of the protocol, against the real server and a real ledger."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import httpx
import pyarrow as pa
import pytest
import zstandard
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.contract.doors import JSON, PROTOBUF, Doors, running
from tests.support.spans import log_record, logs, span, traces

SIGNALS = ["/v1/traces", "/v1/logs", "/v1/metrics"]
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "snappy": lambda body: bytes(pa.compress(body, codec="snappy", asbytes=True)),
}
METRICS = ExportMetricsServiceRequest(
    resource_metrics=[{"scope_metrics": [{"metrics": [{"name": "tokens"}]}]}]  # type: ignore[list-item]
).SerializeToString()


def sized(size: int) -> bytes:
    """A request of exactly so many bytes."""
    padding = "x" * (size - len(traces(span(1, name=""))) - 9)
    body = traces(span(1, name=padding))
    body = traces(span(1, name=padding + "x" * (size - len(body))))
    assert len(body) == size
    return body


def status_of(response: httpx.Response) -> status_pb2.Status:
    assert response.headers["content-type"] == PROTOBUF
    return status_pb2.Status.FromString(response.content)


# Paths and methods


def test_each_signal_is_taken_and_what_it_holds_is_in_the_ledger_at_once(doors: Doors):
    answers = [
        doors.post("/v1/traces", traces(span(1), span(2))),
        doors.post("/v1/logs", logs(log_record(1))),
        doors.post("/v1/metrics", METRICS),
    ]

    assert [(a.status_code, a.content, a.headers["content-type"]) for a in answers] == [
        (200, b"", PROTOBUF)
    ] * 3
    assert (doors.count("spans"), doors.count("events")) == (2, 1)


def test_the_api_port_takes_otlp_as_well(doors: Doors):
    answer = httpx.post(
        doors.addresses.api + "/v1/traces",
        content=traces(span(1)),
        headers={"content-type": PROTOBUF},
        trust_env=False,
    )

    assert answer.status_code == 200
    assert doors.count("spans") == 1


@pytest.mark.parametrize("path", SIGNALS)
def test_a_trailing_slash_is_no_reason_to_redirect(doors: Doors, path):
    assert doors.post(path + "/", b"").status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/trace", "/v1development/profiles", "/v1/traces/x"])
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
def test_an_unknown_path_is_404_with_a_status_and_the_connection_stays_usable(
    doors: Doors, path, content_type
):
    answer = doors.post(path, b"", content_type)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == content_type
    assert "connection" not in answer.headers
    assert doors.post("/v1/traces", b"").status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
@pytest.mark.parametrize("path", SIGNALS)
def test_other_methods_are_405_with_what_is_allowed_even_with_a_wrong_content_type(
    doors: Doors, method, path
):
    answer = doors.client.request(method, path, headers={"content-type": "text/plain"})

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert (answer.content == b"") == (method == "HEAD")


def test_healthz_answers_on_the_otlp_port(doors: Doors):
    answer = doors.client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_hundred_requests_share_one_connection(doors: Doors):
    with doors.connect() as connection:
        reader = connection.makefile("rb")
        for number in range(1, 101):
            connection.sendall(request(traces(span(number))))
            status, _, _ = response(reader)
            assert status == 200
        reader.close()

    assert doors.count("spans") == 100


def test_a_sender_that_expects_100_continue_is_told_to_go_on(doors: Doors):
    body = traces(span(1))
    with doors.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(head(len(body), "Expect: 100-continue"))
        assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert reader.readline() == b"\r\n"
        connection.sendall(body)
        status, _, _ = response(reader)

    assert status == 200


def test_a_sender_that_expects_100_continue_is_refused_before_it_sends(doors: Doors):
    with doors.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(head(10**12, "Expect: 100-continue"))
        status, headers, _ = response(reader)

    assert status == 413
    assert headers["connection"] == "close"


def test_a_refusal_without_100_continue_ends_the_connection(doors: Doors):
    """The body may follow or not, so that the next bytes could be taken for the wrong thing."""
    with doors.connect() as connection, connection.makefile("rb") as reader:
        connection.sendall(head(10, "Expect: 100-continue", "Content-Encoding: br"))
        status, headers, _ = response(reader)

    assert (status, headers["connection"]) == (400, "close")


# Content types


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;a=b"]
)
def test_json_is_answered_in_json(doors: Doors, content_type):
    answer = doors.post("/v1/traces", b"{}", content_type)

    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["content-type"] == JSON


def test_parameters_of_the_content_type_are_ignored_and_not_repeated(doors: Doors):
    answer = doors.post("/v1/traces", b"", "application/x-protobuf;foo=bar")

    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/protobuf", "application/grpc"])
def test_another_content_type_is_415_and_told_which_two_are_read(doors: Doors, content_type):
    answer = doors.post("/v1/traces", traces(span(1)), content_type)

    assert answer.status_code == 415
    assert answer.headers["content-type"] == JSON
    assert "application/x-protobuf or application/json" in answer.json()["message"]
    assert doors.count("spans") == 0


def test_a_missing_content_type_is_415(doors: Doors):
    assert doors.client.post("/v1/traces", content=b"").status_code == 415


# Size, compression, bombs


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_is_413(tmp_path):
    with running(tmp_path, max_body_bytes=5_000) as doors:
        assert doors.post("/v1/traces", sized(5_000)).status_code == 200
        answer = doors.post("/v1/traces", sized(5_001))

        assert answer.status_code == 413
        assert (status_of(answer).code, len(status_of(answer).details)) == (8, 0)
        assert "retry-after" not in answer.headers
        assert doors.count("spans") == 1


@pytest.mark.parametrize("coding", sorted(COMPRESSORS))
def test_the_limit_holds_for_what_a_body_expands_to(tmp_path, coding):
    compress = COMPRESSORS[coding]
    with running(tmp_path, max_body_bytes=5_000) as doors:
        assert doors.post("/v1/traces", compress(sized(5_000)), content_encoding=coding).status_code == 200
        assert doors.post("/v1/traces", compress(sized(5_001)), content_encoding=coding).status_code == 413


@pytest.mark.parametrize("coding", sorted(COMPRESSORS))
def test_compressed_bodies_are_read(doors: Doors, coding):
    small, large = traces(span(1)), traces(*(span(n, name="x" * 500) for n in range(2, 1_002)))
    for body in (small, large):
        assert (
            doors.post("/v1/traces", COMPRESSORS[coding](body), content_encoding=coding.upper()).status_code
            == 200
        )

    assert doors.count("spans") == 1_001


@pytest.mark.parametrize("coding", sorted(COMPRESSORS))
def test_a_bomb_is_413_and_the_next_request_is_served(tmp_path, coding):
    with running(tmp_path, max_body_bytes=2**20) as doors:
        bomb = COMPRESSORS[coding](bytes(64 * 2**20))

        assert doors.post("/v1/traces", bomb, content_encoding=coding).status_code == 413
        assert doors.post("/v1/traces", traces(span(1))).status_code == 200


def test_a_chunked_body_is_read_and_limited(tmp_path):
    with running(tmp_path, max_body_bytes=5_000) as doors:

        def chunks(body: bytes):
            yield from (body[start : start + 700] for start in range(0, len(body), 700))

        headers = {"content-type": PROTOBUF}
        small = doors.client.post("/v1/traces", content=chunks(sized(5_000)), headers=headers)
        large = doors.client.post("/v1/traces", content=chunks(bytes(5_001)), headers=headers)

        assert (small.status_code, large.status_code) == (200, 413)


def test_a_sender_in_the_middle_of_a_huge_body_gets_its_413_and_no_broken_connection(tmp_path):
    with running(tmp_path, max_body_bytes=5_000) as doors, doors.connect() as connection:
        size = 20 * 2**20
        connection.sendall(head(size))
        connection.sendall(bytes(size))
        with connection.makefile("rb") as reader:
            status, headers, body = response(reader)
            rest = reader.read()

    assert (status, headers["connection"], rest) == (413, "close", b"")
    assert status_pb2.Status.FromString(body).code == 8


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "lz4", "x-snappy-framed"])
def test_a_coding_that_is_not_read_is_400_and_named(doors: Doors, coding):
    answer = doors.post("/v1/traces", b"whatever", content_encoding=coding)

    assert answer.status_code == 400
    assert coding in status_of(answer).message


@pytest.mark.parametrize("coding", sorted(COMPRESSORS))
@pytest.mark.parametrize(
    "spoil", [lambda w: w[:-3], lambda w: b"\x00" + w, lambda w: w + b"tail", lambda _: b""]
)
def test_a_damaged_stream_is_400_and_the_next_request_is_served(doors: Doors, coding, spoil):
    wire = COMPRESSORS[coding](traces(span(1)))
    answer = doors.post("/v1/traces", spoil(wire), content_encoding=coding)

    assert answer.status_code == 400
    assert status_of(answer).code == 3
    assert doors.post("/v1/traces", wire, content_encoding=coding).status_code == 200


def test_framed_snappy_is_refused_by_name(doors: Doors):
    answer = doors.post("/v1/traces", b"\xff\x06\x00\x00sNaPpY", content_encoding="snappy")

    assert answer.status_code == 400
    assert "framed snappy" in status_of(answer).message


def test_a_snappy_block_that_claims_more_than_the_limit_is_refused_before_it_is_expanded(doors: Doors):
    claims_4_gib = b"\xff\xff\xff\xff\x0f" + b"\x00"

    assert doors.post("/v1/traces", claims_4_gib, content_encoding="snappy").status_code == 413


def test_json_has_a_smaller_limit_of_its_own(tmp_path):
    body = b" " * 3_000 + b"{}"
    with running(tmp_path, max_json_body_bytes=3_000) as doors:
        assert doors.post("/v1/traces", body[2:], JSON).status_code == 200
        assert doors.post("/v1/traces", body, JSON).status_code == 413
        assert doors.post("/v1/traces", gzip.compress(body), JSON, content_encoding="gzip").status_code == 413
        assert doors.post("/v1/traces", sized(4_000)).status_code == 200


def test_an_empty_protobuf_body_is_an_empty_request_and_an_empty_json_body_is_400(doors: Doors):
    assert doors.post("/v1/traces", b"").status_code == 200
    assert doors.post("/v1/traces", b"", JSON).status_code == 400


# Bodies


@pytest.mark.parametrize("path", SIGNALS)
@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"not otlp at all", b"\x0a\x7f", b"\x0a" + b"\xff" * 11])
def test_a_body_that_is_not_otlp_is_400_with_what_is_wrong(doors: Doors, path, body):
    answer = doors.post(path, body)
    detail = error_details_pb2.BadRequest()

    assert answer.status_code == 400
    assert status_of(answer).details[0].Unpack(detail)
    assert detail.field_violations[0].description == status_of(answer).message != ""
    assert doors.count("quarantine") == 0


def test_a_json_body_that_does_not_fit_is_400_with_the_place_and_without_the_content(doors: Doors):
    body = {"resourceSpans": [{"schemaUrl": ["a customer's words"]}]}
    answer = doors.post("/v1/traces", json.dumps(body).encode(), JSON)

    assert answer.status_code == 400
    assert answer.json()["code"] == 3
    assert "resourceSpans[0].schemaUrl: expected a string, found a list" in answer.json()["message"]
    assert "customer" not in answer.text


def test_an_id_in_json_that_is_not_hexadecimal_costs_its_span_alone_and_its_json_is_kept(doors: Doors):
    wrong = {"traceId": "CvdlGRbNQ92ESOshHIAxnA==", "spanId": "cd" * 8, "name": "a customer's words"}
    spans = [{"traceId": "ab" * 16, "spanId": "cd" * 8}, wrong]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    answer = doors.post("/v1/traces", body, JSON)

    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "traceId: expected" in answer.json()["partialSuccess"]["errorMessage"]
    assert "customer" not in answer.text
    ((payload,),) = doors.rows("SELECT payload FROM quarantine")
    assert json.loads(payload) == wrong
    assert doors.count("spans") == 1


def test_a_span_sent_as_json_and_as_protobuf_is_the_same_span(doors: Doors):
    found = {
        "traceId": (1).to_bytes(16, "big").hex(),
        "spanId": (1).to_bytes(8, "big").hex().upper(),
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000001",
        "endTimeUnixNano": 1790000001000000001,
        "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "42"}}],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "test-service"}}]}
    scope_spans = [{"scope": {"name": "tests"}, "spans": [found]}]
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}

    doors.post("/v1/traces", json.dumps(body).encode(), JSON)
    doors.post("/v1/traces", traces(span(1, name="chat", attributes={"gen_ai.usage.input_tokens": 42})))

    assert (doors.count("spans"), doors.count("conflicts")) == (1, 0)


def test_a_large_json_body_is_read(doors: Doors):
    spans = [
        {"traceId": f"{n:032x}", "spanId": f"{n:016x}", "name": "x" * 400, "startTimeUnixNano": str(n)}
        for n in range(1, 501)
    ]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()

    assert doors.post("/v1/traces", gzip.compress(body), JSON, content_encoding="gzip").status_code == 200
    assert doors.count("spans") == 500


def test_one_bad_span_costs_no_neighbour_and_is_counted_in_the_answer(doors: Doors):
    answer = doors.post("/v1/traces", traces(span(1), span(2, trace_id=b"short"), span(3)))
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success

    assert answer.status_code == 200
    assert told.rejected_spans == 1
    assert "trace_id must be 16 bytes" in told.error_message
    assert (doors.count("spans"), doors.count("quarantine")) == (2, 1)


def test_one_bad_span_in_json_costs_no_neighbour_either(doors: Doors):
    spans = [{"traceId": "ab" * 16, "spanId": "cd" * 8}, {"traceId": "abcd", "spanId": "cd" * 8}]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    told = doors.post("/v1/traces", body, JSON).json()["partialSuccess"]

    assert told["rejectedSpans"] == "1"
    assert (doors.count("spans"), doors.count("quarantine")) == (1, 1)


# Refusals that pass


def test_a_failing_commit_is_503_with_a_delay_and_never_500(doors: Doors):
    with doors.ledger.cursor() as cursor:
        cursor.execute("ALTER TABLE store.spans RENAME TO lost")
    answer = doors.post("/v1/traces", traces(span(1)))

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert status_of(answer).code == 14

    with doors.ledger.cursor() as cursor:
        cursor.execute("ALTER TABLE store.lost RENAME TO spans")
    assert doors.post("/v1/traces", traces(span(1))).status_code == 200


def test_a_closed_ledger_is_503_with_a_delay(doors: Doors):
    doors.ledger.close()
    refused = doors.post("/v1/traces", traces(span(1)))
    retry = error_details_pb2.RetryInfo()

    assert (refused.status_code, int(refused.headers["retry-after"])) == (503, 1)
    assert status_of(refused).details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_bytes_that_are_still_arriving_count_and_more_than_the_house_holds_is_503(tmp_path):
    with running(tmp_path, max_body_bytes=30_000, max_queued_bytes=30_000) as doors:
        with doors.connect() as stalled:
            stalled.sendall(head(25_000) + bytes(24_999))
            # The stalled bytes are admitted when the server gets round to them, not when they are sent.
            answers = (doors.post("/v1/traces", sized(10_000)) for _ in range(1_000))
            answer = next(a for a in answers if a.status_code != 200)

            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        answers = (doors.post("/v1/traces", sized(10_000)) for _ in range(1_000))
        assert any(a.status_code == 200 for a in answers)


def test_a_sender_that_never_finishes_is_cut_off_and_told_to_resend(tmp_path):
    with running(tmp_path, body_read_timeout_s=0.2) as doors, doors.connect() as connection:
        connection.sendall(head(1_000) + bytes(10))
        with connection.makefile("rb") as reader:
            status, headers, _ = response(reader)
            rest = reader.read()

    assert (status, headers["connection"], rest) == (503, "close", b"")
    assert int(headers["retry-after"]) >= 1


def test_a_sender_that_hangs_up_in_the_middle_costs_nothing_and_is_no_bug(doors: Doors, caplog):
    with doors.connect() as connection:
        connection.sendall(head(1_000) + bytes(10))

    assert doors.post("/v1/traces", traces(span(1))).status_code == 200
    assert caplog.records == []


def test_ipv6_is_served(tmp_path):
    with running(tmp_path, host="::1") as doors:
        assert "[::1]" in doors.addresses.otlp_http
        assert doors.post("/v1/traces", traces(span(1))).status_code == 200


def test_many_senders_at_once_are_all_stored_and_acknowledged(doors: Doors):
    barrier = threading.Barrier(16)

    def send(sender: int) -> list[int]:
        barrier.wait(20)
        with httpx.Client(base_url=doors.addresses.otlp_http, trust_env=False, timeout=20) as client:
            return [
                client.post(
                    "/v1/traces",
                    content=traces(span(sender * 100 + number)),
                    headers={"content-type": PROTOBUF},
                ).status_code
                for number in range(1, 11)
            ]

    with ThreadPoolExecutor(16) as pool:
        codes = [code for result in pool.map(send, range(16)) for code in result]

    assert codes == [200] * 160
    assert doors.count("spans") == 160


def head(size: int, *headers: str) -> bytes:
    """The head of a raw request."""
    lines = [
        "POST /v1/traces HTTP/1.1",
        "Host: t",
        f"Content-Type: {PROTOBUF}",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def request(body: bytes) -> bytes:
    return head(len(body)) + body


def response(reader: BinaryIO) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a raw response."""
    status = int(reader.readline().split()[1])
    headers: dict[str, str] = {}
    while (line := reader.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, reader.read(int(headers["content-length"]))


def test_json_of_unknown_fields_alone_is_an_empty_request_and_the_receipt_says_so(doors: Doors):
    answer = doors.post("/v1/traces", b'{"hello": "world"}', JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["loopgrid-receipt"].startswith("stored=0, ")
