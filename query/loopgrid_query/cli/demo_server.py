"""The demo's server: the real one, as a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from loopgrid_query.cli.console import stderr
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.gist import plain

_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 20.0
_LOG_TAIL_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A running server: where its doors are, its ledger, its log."""

    api: str
    otlp_http: str
    ledger: Path
    log: Path

    def print_log_tail(self) -> None:
        """Prints the last lines of its log on stderr."""
        _print_tail(self.log)


@contextmanager
def running_server(folder: Path) -> Iterator[DemoServer]:
    """Starts ``loopgrid serve`` on free ports with a ledger in `folder`, and stops it at the end.

    Raises:
        CliError: it did not start or did not stop cleanly; its last log lines are printed.
    """
    ledger, log = folder / "demo.duckdb", folder / "server.log"
    command = [sys.executable, "-m", "loopgrid_query.cli", "serve", "--json"]
    command += ["--ledger", str(ledger), "--host", "127.0.0.1"]
    for port in ("--port", "--otlp-http-port", "--otlp-grpc-port"):
        command += [port, "0"]
    with log.open("wb") as log_file:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and words from this file
            command,
            stdout=subprocess.PIPE,
            stderr=log_file,
            # Ctrl-C is for the demo; it then stops the server in its own time.
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        with cast("IO[bytes]", process.stdout) as stdout:
            addresses = json.loads(_first_line(stdout, log))
        yield DemoServer(addresses["api"], addresses["otlp_http"], ledger, log)
    except BaseException:
        _stop(process)
        raise
    code = _stop(process)
    if code != 0:
        _print_tail(log)
        raise CliError(f"the server ended with exit code {code}; its last log lines stand above.")


def _first_line(stdout: IO[bytes], log: Path) -> bytes:
    """The line that the server prints when it is ready."""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        ready = selector.select(_START_TIMEOUT_S)
    line = stdout.readline() if ready else b""
    if not line:
        _print_tail(log)
        raise CliError("the server did not start; its last log lines stand above.")
    return line


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _print_tail(log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(lines[-_LOG_TAIL_LINES:]) or "(none)"
    stderr().print(f"The server's last log lines:\n{plain(tail)}", soft_wrap=True)
