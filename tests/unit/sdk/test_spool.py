"""The queue on disk: what survives, what it does when it is full, and what it says of its losses."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

import loopgrid
from loopgrid import encode, spool, tracing
from loopgrid.errors import Misconfigured, SpoolFull
from loopgrid.health import health
from loopgrid.redact import Redactor
from tests.support.otlp_receiver import Answer, OtlpReceiver, spans_of
from tests.unit.sdk.conftest import QUICK

GROUP = (b"", b"")


@loopgrid.decision("number")
def number(value: object) -> object:
    return value


@pytest.fixture
def gone() -> str:
    """Where no collector listens."""
    with OtlpReceiver() as receiver:
        return receiver.url


def run(program: str, endpoint: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    prelude = """
        import os, signal, sys, threading, loopgrid
        @loopgrid.decision("number")
        def number(value):
            return value
        def on_disk(decisions):
            from loopgrid import tracing
            assert tracing.active().shipper.writer.until_written(decisions, 30)
    """
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(prelude) + textwrap.dedent(program)],
        env={**os.environ, "LOOPGRID_ENDPOINT": endpoint, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def left_behind(program: str, receiver: OtlpReceiver, **environ: str) -> list[object]:
    """What the next process sends of what a program left that could not reach the collector."""
    receiver.script(*[Answer(503)] * 1000)
    done = run(program, receiver.url, **environ)
    receiver.forget_script()
    already = len(receiver.spans)
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)
    assert loopgrid.recover(30), done.stderr
    return [span.input["value"] for span in receiver.spans[already:]]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", id="sigkill"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", id="sigterm without a handler"),
        pytest.param("os._exit(0)", id="os._exit"),
        pytest.param("sys.exit(3)", id="exit"),
    ],
)
def test_what_is_on_disk_survives_any_end_and_the_next_start_sends_it(receiver, own_spool, end):
    program = f"""
        loopgrid.configure(delivery=loopgrid.DeliveryLimits(exit_flush_s=0.0))
        for value in range(3):
            number(value)
        on_disk(3)
        {end}
    """

    assert left_behind(program, receiver) == [0, 1, 2]
    loopgrid.shutdown()
    assert list(own_spool.iterdir()) == [], "what has arrived is removed"


def test_a_synchronous_decision_is_on_disk_when_its_call_returns(receiver):
    program = "number(1); os.kill(os.getpid(), signal.SIGKILL)"

    assert left_behind(program, receiver, LOOPGRID_DURABILITY="sync") == [1]


def test_a_decision_that_never_ended_is_reported_as_started_with_its_input_and_no_end(receiver):
    program = """
        import time
        @loopgrid.decision("endless")
        def endless(question: str) -> None:
            from loopgrid import tracing
            open_ = tracing.active().shipper.writer._open
            while not any(True for _ in open_):
                time.sleep(0.01)
                open_ = tracing.active().shipper.writer._open
            number(1)
            on_disk(1)
            os.kill(os.getpid(), signal.SIGKILL)
        endless("why?")
    """

    assert left_behind(program, receiver) == [1]
    (event,) = [event for event in receiver.events if event.name == "loopgrid.decision.started"]
    assert event.attributes["loopgrid.decision.input"] == '{"question":"why?"}'
    assert "loopgrid.decision.output" not in event.attributes
    (span,) = receiver.spans
    assert (span.trace_id, span.parent_span_id) == (event.trace_id, event.span_id)
    assert loopgrid.counters() == {"recovered": 1, "unfinished": 1}


def test_a_decision_open_for_long_is_reported_and_still_ends(receiver):
    loopgrid.configure(endpoint=receiver.url, delivery=dataclasses.replace(QUICK, open_report_s=0.0))
    reported = threading.Event()
    handle = receiver.take

    def watch(request):
        if request.path == "/v1/logs":
            reported.set()
        return handle(request)

    receiver.take = watch

    @loopgrid.decision("slow")
    def slow() -> bool:
        return reported.wait(30)

    assert slow()
    assert loopgrid.flush()
    (span,) = receiver.spans
    (event,) = receiver.events
    assert (event.name, event.span_id) == ("loopgrid.decision.started", span.span_id)


def test_two_processes_share_what_a_dead_one_left_and_send_it_once(receiver, own_spool):
    receiver.script(*[Answer(503)] * 1000)
    run("[number(value) for value in range(50)]; on_disk(50); os._exit(0)", receiver.url)
    receiver.forget_script()
    drainers = [
        subprocess.Popen(
            [sys.executable, "-c", "import loopgrid; assert loopgrid.recover(30)"],
            env={**os.environ, "LOOPGRID_ENDPOINT": receiver.url},
        )
        for _ in range(2)
    ]

    assert [drainer.wait(60) for drainer in drainers] == [0, 0]
    loopgrid.configure(endpoint=receiver.url)
    assert loopgrid.recover(30)
    assert sorted(span.input["value"] for span in receiver.spans) == list(range(50))


def test_a_living_process_is_not_drained_by_another(gone, own_spool):
    loopgrid.configure(endpoint=gone, delivery=QUICK)
    number(1)
    pipeline = tracing.active()
    assert pipeline is not None
    assert pipeline.shipper.writer.until_written(1, 10)

    assert list(spool.orphans(own_spool, gone, own_spool / "nobody")) == []


def test_a_spool_of_another_endpoint_is_left_alone(receiver, own_spool, gone):
    run("number(1); on_disk(1); os._exit(0)", gone)
    loopgrid.configure(endpoint=receiver.url)

    assert loopgrid.recover(30)
    assert receiver.spans == []
    assert len([path for path in own_spool.iterdir() if (path / "00000001.seg").exists()]) == 1


@pytest.mark.parametrize("policy", ["drop", "block"])
def test_a_full_spool_drops_counts_and_tells_the_ledger(receiver, policy):
    receiver.script(*[Answer(503, {"Retry-After": "0"})] * 100_000)
    loopgrid.configure(
        endpoint=receiver.url, when_full=policy, delivery=dataclasses.replace(QUICK, max_spool_bytes=4000)
    )
    for value in range(20):
        assert number(f"{value}" + "x" * 1000) is not None
    dropped = loopgrid.counters()["spool_full"]
    receiver.forget_script()

    assert not loopgrid.flush(), "some are lost"
    assert not loopgrid.shutdown()
    assert dropped >= 15
    assert len(receiver.spans) == 20 - dropped
    report = receiver.events[-1]
    assert report.name == "loopgrid.producer.report"
    assert report.attributes["loopgrid.producer.last_seq"] == 20
    assert report.attributes["loopgrid.producer.count.spool_full"] == dropped


def test_a_spool_known_to_be_full_refuses_a_call_before_its_function_runs(gone):
    loopgrid.configure(
        endpoint=gone, when_full="raise", delivery=dataclasses.replace(QUICK, max_spool_bytes=4000)
    )
    ran: list[int] = []

    @loopgrid.decision("acting")
    def acting(value: int, _: str = "x" * 1000) -> None:
        ran.append(value)

    @loopgrid.decision("streaming")
    def streaming() -> Iterator[int]:
        ran.append(-1)
        yield 1

    def until_full() -> None:
        for value in range(20):
            acting(value)

    with pytest.raises(SpoolFull, match="no room"):
        until_full()
    before = list(ran)
    with pytest.raises(SpoolFull, match="no room"):
        next(streaming())
    with pytest.raises(SpoolFull, match="no room"), loopgrid.decide("block"):
        ran.append(-2)

    assert 0 < len(ran) < 10
    assert ran == before
    counted = loopgrid.counters()
    assert counted["turned_away"] + counted.get("spool_full", 0) == 3
    assert counted["started"] == len(ran)


def test_room_that_goes_while_the_function_runs_raises_after_it_but_not_over_its_own_error(gone):
    loopgrid.configure(
        endpoint=gone, when_full="raise", delivery=dataclasses.replace(QUICK, max_spool_bytes=1000)
    )

    @loopgrid.decision("failing")
    def failing(_: str) -> None:
        raise ValueError("mine")

    with pytest.raises(SpoolFull, match="no room"):
        number("x" * 1000)
    with pytest.raises(ValueError, match="mine"):
        failing("x" * 1000)
    assert loopgrid.counters() == {"started": 2, "spool_full": 2}


def test_the_bytes_of_other_processes_count_towards_the_bound_of_the_folder(gone, own_spool):
    run("[number('x' * 1000) for value in range(20)]; on_disk(20); os._exit(0)", gone)
    loopgrid.configure(
        endpoint=gone, when_full="drop", delivery=dataclasses.replace(QUICK, max_spool_bytes=10_000)
    )
    pipeline = tracing.active()
    assert pipeline is not None
    # The first is handed over before anybody has looked.
    number("first")
    assert pipeline.shipper.writer.until_written(1, 10)
    number("second")

    assert loopgrid.counters()["spool_full"] == 1
    assert sum(path.stat().st_size for path in own_spool.glob("*/*.seg")) > 10_000


def test_what_a_living_process_cannot_send_is_dropped_by_age_and_counted(receiver):
    receiver.script(*[Answer(503)] * 100_000)
    loopgrid.configure(endpoint=receiver.url, delivery=dataclasses.replace(QUICK, max_spool_age_s=0.0))
    number(1)

    assert not loopgrid.flush(10)
    assert tracing.active().shipper.undelivered() == 0  # type: ignore[union-attr]
    assert loopgrid.counters() == {"started": 1, "expired": 1}


def test_what_waits_for_another_endpoint_is_dropped_by_age_too(receiver, own_spool, gone):
    run("number(1); on_disk(1); os._exit(0)", gone)
    for path in own_spool.glob("*/*.seg"):
        os.utime(path, (0, 0))
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)

    assert loopgrid.recover(30)
    assert loopgrid.counters() == {"expired": 1}
    assert list(own_spool.glob("*/*.seg")) == []


def test_what_is_set_aside_is_bounded_too(tmp_path):
    spool.set_aside(tmp_path, "one.otlp", b"x" * 60, 100)

    with pytest.raises(OSError, match="is full"):
        spool.set_aside(tmp_path, "two.otlp", b"x" * 60, 100)


def test_a_folder_that_cannot_be_made_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Misconfigured, match="LOOPGRID_SPOOL_DIR"):
        loopgrid.configure(spool_dir=str(tmp_path / "file" / "spool"))


def test_a_folder_that_cannot_be_made_costs_the_record_and_not_the_call(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOOPGRID_SPOOL_DIR", str(tmp_path / "file" / "spool"))

    assert number(1) == 1
    assert loopgrid.counters() == {"open_failed": 1}
    assert "the spool folder cannot be written" in caplog.text


def test_the_folder_and_its_files_are_the_users_own(gone, own_spool):
    loopgrid.configure(endpoint=gone, delivery=QUICK, durability="sync")
    number(1)
    (folder,) = own_spool.iterdir()

    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir() if path.suffix == ".seg")


def test_a_disk_that_fails_and_recovers_loses_nothing(receiver, monkeypatch):
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)
    failed = threading.Event()
    write = os.write

    def full(fd, data):
        if not failed.is_set() and threading.current_thread().name == "loopgrid-spool":
            failed.set()
            write(fd, bytes(data[:5]))
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    number(1)
    assert failed.wait(10)
    number(2)

    assert loopgrid.flush(30)
    assert [span.input["value"] for span in receiver.spans] == [1, 2]
    assert loopgrid.counters() == {"started": 2, "acknowledged": 2, "not_durable": 1}


def segment(folder: Path, *bodies: bytes) -> tuple[Path, spool.Writing]:
    """A spool with one record per body."""
    writing = spool.Writing(folder, "producer", "http://nowhere", 2**20)
    writing.append([(spool.Kind.SPAN, GROUP, bytes(24), body) for body in bodies])
    return writing.folder / "00000001.seg", writing


@pytest.mark.parametrize("cut", [1, 5, 20, 40])
def test_a_torn_tail_costs_the_torn_record_only(tmp_path, cut):
    path, _ = segment(tmp_path, b"first", b"second")
    path.write_bytes(path.read_bytes()[:-cut])
    reading = spool.Reading(path.parent)

    assert [item.body for item in reading.items()] == [b"first"]
    assert reading.damaged == []


def test_damage_before_the_end_is_noticed_and_not_taken_for_a_record(tmp_path):
    path, _ = segment(tmp_path, b"first", b"second", b"third")
    path.write_bytes(path.read_bytes().replace(b"second", b"SECOND"))
    reading = spool.Reading(path.parent)

    assert [item.body for item in reading.items()] == [b"first", b"third"]
    assert reading.damaged == [path]


@pytest.mark.parametrize("at", range(spool.HEAD.size))
def test_damage_to_a_length_a_checksum_or_a_type_costs_that_record_only(tmp_path, at):
    path, _ = segment(tmp_path, b"first", b"second" * 100, b"third", b"fourth")
    content = bytearray(path.read_bytes())
    begin = content.index(b"second") - spool.ITEM_HEAD.size - spool.HEAD.size
    content[begin + at] ^= 0xFF
    path.write_bytes(content)
    reading = spool.Reading(path.parent)

    assert [item.body for item in reading.items()] == [b"first", b"third", b"fourth"]
    assert reading.damaged == [path]


def test_a_page_of_zeros_costs_the_records_it_struck(tmp_path):
    bodies = [f"record {number:03d} ".encode() * 20 for number in range(100)]
    path, _ = segment(tmp_path, *bodies)
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(4096)
    path.write_bytes(content)
    reading = spool.Reading(path.parent)
    read = [item.body for item in reading.items()]

    assert read == [body for body in bodies if body in content]
    assert 80 <= len(read) < 100
    assert reading.damaged == [path]


def test_spans_whose_resource_is_damaged_are_read_without_one(tmp_path):
    writing = spool.Writing(tmp_path, "producer", "http://nowhere", 2**20)
    writing.append([(spool.Kind.SPAN, (b"resource", b"scope"), bytes(24), b"first")])
    path = writing.folder / "00000001.seg"
    path.write_bytes(path.read_bytes().replace(b"resource", b"RESOURCE"))
    reading = spool.Reading(path.parent)

    assert [(item.body, item.group) for item in reading.items()] == [(b"first", GROUP)]
    assert reading.damaged == [path]


def test_a_damaged_file_is_kept_and_counted(receiver, own_spool):
    receiver.script(*[Answer(503)] * 1000)
    run("number(1); number(2); number(3); on_disk(3); os._exit(0)", receiver.url)
    receiver.forget_script()
    (path,) = own_spool.glob("*/*.seg")
    damaged = path.read_bytes().replace(b'{"value":2}', b'{"value":7}')
    path.write_bytes(damaged)
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)

    assert loopgrid.recover(30)
    assert [span.input["value"] for span in receiver.spans] == [1, 3]
    (kept,) = (own_spool / "refused").iterdir()
    assert kept.read_bytes() == damaged
    assert loopgrid.counters() == {"recovered": 2, "damaged": 1}
    loopgrid.shutdown()
    (report,) = [event for event in receiver.events if event.name == "loopgrid.producer.report"]
    assert report.attributes["loopgrid.producer.count.damaged"] == 1


def test_acknowledged_segments_are_removed_while_the_process_runs(receiver, own_spool):
    loopgrid.configure(endpoint=receiver.url, delivery=dataclasses.replace(QUICK, max_segment_bytes=4000))
    for value in range(40):
        number(f"{value}" + "x" * 1000)
        assert loopgrid.flush()

    assert len(receiver.spans) == 40
    assert len(list(own_spool.glob("*/*.seg"))) <= 2


def test_what_waited_too_long_is_dropped_and_counted(receiver, own_spool):
    receiver.script(*[Answer(503)] * 1000)
    run("number(1); on_disk(1); os._exit(0)", receiver.url)
    receiver.forget_script()
    for path in own_spool.glob("*/*.seg"):
        os.utime(path, (0, 0))
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)

    assert loopgrid.recover(30)
    assert receiver.spans == []
    assert loopgrid.counters() == {"expired": 1}


def test_a_span_encoded_here_is_what_the_generic_encoder_makes():
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("lib", "1.2")
    remote = SpanContext(
        5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")])
    )
    span = tracer.start_span(
        "näme",
        kind=SpanKind.CLIENT,
        links=[Link(remote, {"type": "x"})],
        attributes={
            "text": "ü" * 3000,
            "flag": True,
            "count": -3,
            "big": 2**62,
            "ratio": 0.5,
            "list": ["a", "b"],
            "raw": b"\x00\xff",
            "map": {"k": [1, {"n": "v"}]},
        },
    )
    span.add_event("happened", {"why": "test"})
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.end()
    ended = span._readable_span()  # type: ignore[attr-defined]

    expected = encode_spans([ended]).resource_spans[0].scope_spans[0].spans[0]
    assert ProtoSpan.FromString(encode.encode(ended)) == expected


def test_redaction_changes_what_leaves_and_fails_closed(receiver, caplog, monkeypatch):
    def rules(span):
        if span.attributes[0].value.string_value == "explode" or "explode" in str(span):
            raise ValueError("the secret itself")
        for entry in span.attributes:
            if entry.key == "loopgrid.decision.input":
                entry.value.string_value = "[redacted]"
        return 1

    monkeypatch.setattr(Redactor, "span", lambda _, span: rules(span))
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK, redact=loopgrid.Redaction(keys=["x"]))
    number("public")
    number("explode")
    assert loopgrid.flush()
    first, second = receiver.spans
    assert first.attributes["loopgrid.decision.input"] == "[redacted]"
    assert "loopgrid.decision.input" not in second.attributes
    assert second.attributes["loopgrid.producer.seq"] == 2
    assert second.losses == ["content:withheld:redaction_failed"]
    assert health.counters()["redacted"] == health.counters()["redaction_failed"] == 1
    assert "the secret itself" not in caplog.text


def test_multiprocessing_children_are_producers_of_their_own(receiver):
    program = """
        import multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        number("parent")
        def work(index):
            number(index)
            assert loopgrid.flush()
        workers = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        number("parent")
    """
    done = run(program, receiver.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(str(span.input["value"]) for span in receiver.spans) == ["0", "1", "2", "parent", "parent"]
    assert len({span.attributes["loopgrid.producer.id"] for span in receiver.spans}) == 4


LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "triage"}


def test_in_a_lambda_a_decision_has_arrived_when_the_call_returns(receiver):
    program = """
        @loopgrid.decision("handler")
        def handler(event):
            return number(event)
        handler(1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(program, receiver.url, **LAMBDA)

    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert sorted(span.name for span in receiver.spans) == ["handler", "number"]


def test_in_a_lambda_a_collector_that_fails_does_not_hold_up_the_call(receiver):
    receiver.script(*[Answer(503, headers={"Retry-After": "60"})] * 3)
    program = """
        number("kept")
        number("kept, too")
        os.kill(os.getpid(), signal.SIGKILL)
    """

    done = run(program, receiver.url, **LAMBDA)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    receiver.forget_script()
    run("assert loopgrid.recover(30)", receiver.url)

    assert sorted(span.input["value"] for span in receiver.spans) == ["kept", "kept, too"]


def test_no_thread_of_ours_imports_without_keeping_others_from_forking(receiver):
    program = """
        import sys, threading
        from loopgrid import encode
        class Watch:
            def find_spec(self, name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    seen.append((name, encode.imports._is_owned()))
        seen = []
        sys.meta_path.insert(0, Watch())
        number("first")
        assert loopgrid.flush()
        assert "urllib3" in dict(seen)
        assert [name for name, kept in seen if not kept] == []
    """
    done = run(program, receiver.url)

    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_refused_can_be_read_again(receiver, own_spool):
    receiver.script(Answer(400))
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)
    number("bad")

    assert not loopgrid.flush()
    (kept,) = (own_spool / "refused").iterdir()
    assert [span.input for span in spans_of(kept.read_bytes())] == [{"value": "bad"}]
