"""Watching decisions, profiles, completion and tables: the real command on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import IO, Any

import pytest
from rich.cells import cell_len

from loopgrid import LoopGrid
from tests.support.server import COMMAND, RunningServer, running_server, start_server, without_settings

pytestmark = pytest.mark.integration

KEY = "lgk_0123456789abcdef_secret"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def environ_of(folder: Path, **variables: str) -> dict[str, str]:
    return without_settings(os.environ) | {"XDG_CONFIG_HOME": str(folder)} | variables


def ran(*words: str, environ: dict[str, str], said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words], input=said, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def record(api: str, *messages: str, **facts: Any) -> list[str]:
    with LoopGrid(service_name="support", endpoint=api) as grid:
        return [
            grid.record_decision(decision_type="reply", input=text, output="ok", **facts)["decision_id"]
            for text in messages
        ]


@contextmanager
def following(folder: Path, api: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with subprocess.Popen(
        [COMMAND, "decisions", "list", "--follow", "--json", "--endpoint", api, *words],
        env=environ_of(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def ids(lines: IO[str], count: int) -> list[str]:
    return [json.loads(lines.readline())["decision_id"] for _ in range(count)]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def test_each_decision_is_shown_once_as_it_arrives_also_one_that_began_before(tmp_path):
    with running_server(tmp_path) as server:
        before = record(server.api, "one", "two")
        with following(tmp_path, server.api) as (process, lines):
            assert ids(lines, 2) == before
            arrived = record(server.api, "three", "four")
            assert ids(lines, 2) == arrived
            late = record(server.api, "five", started_at="2020-01-01T00:00:00Z")
            assert ids(lines, 1) == late
            code, told = ended(process)
            assert (code, told) == (0, "")
            assert lines.closed or lines.read() == ""


def test_only_what_the_filters_let_through_is_shown(shared, tmp_path):
    with following(tmp_path, shared.api, "--metadata", "tier=gold", "--limit", "1") as (process, lines):
        (mine,) = record(shared.api, "gold one", metadata={"tier": "gold"})
        assert ids(lines, 1) == [mine]
        record(shared.api, "base", metadata={"tier": "base"})
        (next_one,) = record(shared.api, "gold two", metadata={"tier": "gold"})
        assert ids(lines, 1) == [next_one]
        assert ended(process)[0] == 0


def test_following_goes_on_after_a_restart_of_the_server_and_says_so(tmp_path):
    first = start_server(tmp_path)
    port = first.api.rpartition(":")[2]
    try:
        with following(tmp_path, first.api) as (process, lines):
            before = record(first.api, "one")
            assert ids(lines, 1) == before
            first.stop()
            assert process.stderr is not None
            assert "trying again" in process.stderr.readline()
            again = start_server(tmp_path, arguments=("--port", port))
            try:
                after = record(again.api, "two")
                assert ids(lines, 1) == after
                code, told = ended(process)
            finally:
                again.stop()
            assert code == 0
            assert "is back" in told
    finally:
        first.stop()


def test_following_refuses_filters_that_arrivals_cannot_meet(shared, tmp_path):
    refused = ran(
        "decisions",
        "list",
        "--follow",
        "--incorrect",
        environ=environ_of(tmp_path, LOOPGRID_ENDPOINT=shared.api),
    )

    assert refused.returncode == 2
    assert "leave out" in refused.stderr


def test_a_profile_is_added_used_and_removed_and_its_key_is_never_shown(shared, tmp_path):
    environ = environ_of(tmp_path)
    steps = [
        ran(
            "profiles",
            "add",
            "here",
            "--endpoint",
            shared.api,
            "--with-key",
            environ=environ,
            said=KEY + "\n",
        ),
        ran("profiles", "use", "here", environ=environ),
        ran("profiles", "list", environ=environ),
        ran("profiles", "list", "--json", environ=environ),
        ran("decisions", "list", "--json", environ=environ),
        ran(
            "decisions",
            "list",
            "--json",
            "--profile",
            "here",
            environ=environ | {"LOOPGRID_ENDPOINT": "http://127.0.0.1:9"},
        ),
    ]

    assert [step.returncode for step in steps] == [0] * len(steps), steps
    assert all(KEY not in step.stdout + step.stderr for step in steps)
    assert json.loads(steps[3].stdout)["items"] == [
        {"name": "here", "endpoint": shared.api, "has_key": True, "current": True}
    ]
    assert "already" in ran("profiles", "add", "here", "--endpoint", shared.api, environ=environ).stderr
    assert ran("profiles", "remove", "here", environ=environ).returncode == 0
    assert json.loads(ran("profiles", "list", "--json", environ=environ).stdout) == {"items": []}


def test_a_server_that_is_away_is_named_with_what_named_it(tmp_path):
    environ = environ_of(tmp_path)
    ran("profiles", "add", "gone", "--endpoint", "http://127.0.0.1:9", environ=environ)

    refused = ran("keys", "list", "--profile", "gone", environ=environ)

    assert refused.returncode == 2
    assert "http://127.0.0.1:9 (named by the profile gone)" in refused.stderr
    assert "loopgrid serve" in refused.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(tmp_path, shell):
    printed = ran("completion", shell, environ=environ_of(tmp_path))

    assert printed.returncode == 0
    assert f"_LOOPGRID_COMPLETE=complete_{shell}" in printed.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("deci", "decisions"),
        ("decisions li", "list"),
        ("decisions list --foll", "--follow"),
        ("keys list --profile st", "staging"),
    ],
)
def test_bash_completes_commands_options_and_profiles(tmp_path, words, expected):
    environ = environ_of(tmp_path)
    ran("profiles", "add", "staging", "--endpoint", "http://127.0.0.1:9", environ=environ)
    bash = shutil.which("bash")
    assert bash is not None
    program = (
        "source <(loopgrid completion bash); COMP_WORDS=(loopgrid $1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
        '_loopgrid_completion loopgrid; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    folder = str(Path(COMMAND).parent)

    done = subprocess.run(
        [bash, "-c", program, "bash", words],
        env=environ | {"PATH": f"{folder}:{environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert expected in done.stdout.split()


def on_a_terminal(columns: int, *words: str, environ: dict[str, str]) -> list[str]:
    """The lines that a command writes on a terminal of some width, without colour."""
    controller, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        [COMMAND, *words], env=environ | {"TERM": "xterm"}, stdout=terminal, stdin=terminal
    ) as process:
        os.close(terminal)
        written = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                piece = os.read(controller, 65536)
            except OSError:
                break
            written += piece
            if not piece:
                break
        assert process.wait(60) == 0
    os.close(controller)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n").splitlines()


def test_a_table_fits_a_narrow_terminal_and_uses_a_wide_one_and_a_pipe_gets_all(shared, tmp_path):
    text = "I was charged twice for the same order and want the second payment back " * 4
    (decision_id,) = record(shared.api, text, metadata={"for": "tables"})
    environ = environ_of(tmp_path, LOOPGRID_ENDPOINT=shared.api)
    words = ("decisions", "list", "--metadata", "for=tables")

    narrow = on_a_terminal(60, *words, environ=environ)
    usual = on_a_terminal(80, *words, environ=environ)
    wide = on_a_terminal(200, *words, environ=environ)
    piped = ran(*words, environ=environ).stdout.splitlines()

    for columns, lines in ((60, narrow), (80, usual), (200, wide)):
        assert max(map(cell_len, lines)) <= columns
        assert any(decision_id in line for line in lines)
    assert "input" not in usual[0]
    assert "input" in wide[0]
    assert "…" in wide[2]
    heads, row = (line.split("\t") for line in piped)
    assert dict(zip(heads, row, strict=True))["input"] == text.strip()
