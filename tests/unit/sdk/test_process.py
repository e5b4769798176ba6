"""A process that imports, forks and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import loopgrid
from tests.support.otlp_receiver import Answer, OtlpReceiver


def run(
    program: str,
    receiver: OtlpReceiver | None = None,
    started_as: tuple[str, ...] = (),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, warnings as errors."""
    environ = {**os.environ, **({} if receiver is None else {"LOOPGRID_ENDPOINT": receiver.url})}
    return subprocess.run(
        [sys.executable, "-W", "error", *(started_as or ("-c", textwrap.dedent(program)))],
        env=environ,
        cwd=cwd,
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


@pytest.mark.parametrize(("number", "said"), [(1, "1 decision waits"), (600, "600 decisions wait")])
def test_a_script_that_ends_where_nothing_listens_says_so_and_does_not_wait(own_spool, number, said):
    """It may wait for five minutes; the limit of `run` is one."""
    with OtlpReceiver() as gone:
        pass
    done = run(
        """
        import loopgrid

        loopgrid.configure(delivery=loopgrid.DeliveryLimits(exit_flush_s=300.0))

        @loopgrid.decision
        def last() -> None: ...

        for _ in range(NUMBER):
            last()
        """.replace("NUMBER", str(number)),
        gone,
    )

    assert done.returncode == 0
    (producer,) = own_spool.iterdir()
    assert done.stderr == (
        f"LoopGrid: {said} in {producer} for the next start: no server listens at {gone.url}; "
        "start one with `loopgrid serve`, or set LOOPGRID_ENDPOINT\n"
    )


def test_a_script_that_ends_waits_for_a_collector_that_is_there_but_not_ready(receiver):
    receiver.script(Answer(503, {"Retry-After": "0"}), Answer(503, {"Retry-After": "0"}))
    done = run(
        """
        import loopgrid

        @loopgrid.decision
        def last() -> str:
            return "words"

        last()
        """,
        receiver,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [span.output for span in receiver.spans] == ["words"]


def test_a_script_that_ends_says_what_a_collector_that_never_gets_ready_has_not_taken(receiver):
    receiver.script(*[Answer(503, {"Retry-After": "0"})] * 1000)
    done = run(
        """
        import loopgrid

        loopgrid.configure(delivery=loopgrid.DeliveryLimits(exit_flush_s=0.2))

        @loopgrid.decision
        def last() -> None: ...

        last()
        """,
        receiver,
    )

    assert done.returncode == 0
    assert "LoopGrid: 1 decision waits in" in done.stderr
    assert "within 0.2 s" in done.stderr


SCRIPT = """
import sys, loopgrid
from loopgrid.definition import registered

@loopgrid.decision
def reply() -> None: ...

reply()
known = registered()
assert known[f"{__name__}.reply"] is reply
print(*(name for name in known if name != f"{__name__}.reply"))
"""


@pytest.mark.parametrize(
    ("started_as", "name"),
    [
        (("desk/answers.py",), "answers.reply"),
        (("-m", "desk.answers"), "desk.answers.reply"),
        (("-m", "desk"), "desk.__main__.reply"),
    ],
)
def test_the_recorded_function_is_the_one_another_process_can_import(receiver, tmp_path, started_as, name):
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "answers.py").write_text(SCRIPT)
    (tmp_path / "desk" / "__main__.py").write_text(SCRIPT)

    done = run("", receiver, started_as, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert [span.attributes["code.function.name"] for span in receiver.spans] == [name]
    assert done.stdout.split() == [name], "the recording process finds it under both"
    module = name.rpartition(".")[0]
    folder = tmp_path / "desk" if module == "answers" else tmp_path
    found = run("", receiver, ("-c", f"import {module} as it; it.reply"), folder)
    assert found.returncode == 0, found.stderr


def test_what_has_no_file_stays_main(receiver):
    done = run(SCRIPT, receiver)

    assert (done.returncode, done.stderr) == (0, "")
    assert [span.attributes["code.function.name"] for span in receiver.spans] == ["__main__.reply"]


def test_a_spawned_worker_names_the_function_as_its_parent_does(receiver, tmp_path):
    program = """
        import multiprocessing, loopgrid

        @loopgrid.decision
        def reply(who: str) -> None: ...

        def work():
            reply("child")
            assert loopgrid.flush()

        if __name__ == "__main__":
            worker = multiprocessing.get_context("spawn").Process(target=work)
            worker.start()
            worker.join()
            reply("parent")
    """
    (tmp_path / "pool.py").write_text(textwrap.dedent(program))

    done = run("", receiver, ("pool.py",), tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert [(span.input["who"], span.attributes["code.function.name"]) for span in receiver.spans] == [
        ("child", "pool.reply"),
        ("parent", "pool.reply"),
    ]


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
