"""A process that imports, forks and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

import loopgrid
from tests.support.otlp_receiver import OtlpReceiver


def run(program: str, receiver: OtlpReceiver | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, warnings as errors."""
    environ = {**os.environ, **({} if receiver is None else {"LOOPGRID_ENDPOINT": receiver.url})}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_importing_brings_nothing_heavy():
    program = """
        import sys, loopgrid
        heavy = {"duckdb", "fastapi", "pyarrow", "grpc", "numpy", "httpx", "requests"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        assert not {"urllib3", "google", "asyncio"} & set(sys.modules)
        loopgrid.LoopGrid()
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    done = run(program)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert set(loopgrid.__all__) <= set(dir(loopgrid))
    assert all(getattr(loopgrid, name) is not None for name in loopgrid.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Grid'"):
        _ = loopgrid.Grid


def test_a_script_that_just_ends_has_delivered_its_decisions(receiver):
    done = run(
        """
        import loopgrid

        @loopgrid.decision
        def last() -> str:
            return "words"

        last()
        raise SystemExit(3)
        """,
        receiver,
    )

    assert (done.returncode, done.stderr) == (3, "")
    assert [span.output for span in receiver.spans] == ["words"]


def test_a_script_that_ends_without_a_collector_says_what_is_lost():
    with OtlpReceiver() as gone:
        pass
    done = run(
        """
        import loopgrid

        loopgrid.configure(delivery=loopgrid.DeliveryLimits(exit_flush_s=0.2))

        @loopgrid.decision
        def last() -> None: ...

        last()
        """,
        gone,
    )

    assert done.returncode == 0
    assert "1 decisions are lost" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_forked_child_is_a_producer_of_its_own(receiver):
    done = run(
        """
        import os, loopgrid

        @loopgrid.decision
        def work(where: str) -> None: ...

        work("parent")
        pid = os.fork()
        if pid == 0:
            work("child")
            delivered = loopgrid.flush()
            os._exit(0 if delivered else 1)
        assert os.waitpid(pid, 0)[1] == 0
        work("parent")
        """,
        receiver,
    )

    assert (done.returncode, done.stderr) == (0, "")
    producers: dict[str, list[object]] = {}
    for span in sorted(receiver.spans, key=lambda span: span.attributes["loopgrid.producer.seq"]):
        assert span.attributes["loopgrid.producer.id"] == span.resource["service.instance.id"]
        producers.setdefault(span.attributes["loopgrid.producer.id"], []).append(
            (span.attributes["loopgrid.producer.seq"], span.input["where"])
        )
    assert sorted(producers.values(), key=len) == [[(1, "child")], [(1, "parent"), (2, "parent")]]


def test_a_decision_open_while_the_process_forks_is_recorded_once(receiver):
    done = run(
        """
        import os, loopgrid

        @loopgrid.decision
        def split() -> int:
            return os.fork()

        pid = split()
        if pid:
            os.waitpid(pid, 0)
        loopgrid.flush()
        """,
        receiver,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(receiver.spans) == 1


def test_a_decision_made_by_a_signal_handler_while_one_is_handed_over_does_not_deadlock(receiver):
    done = run(
        """
        import signal, loopgrid

        @loopgrid.decision
        def work(where: str) -> None: ...

        work("first")
        signal.signal(signal.SIGALRM, lambda *_: work("handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        for _ in range(1000):
            work("main")
        signal.setitimer(signal.ITIMER_REAL, 0)
        import json
        print(json.dumps([loopgrid.flush(), loopgrid.counters()]))
        """,
        receiver,
    )

    assert done.returncode == 0, done.stderr
    delivered, counters = json.loads(done.stdout)
    assert delivered
    assert counters["started"] == counters["acknowledged"] == len(receiver.spans)
