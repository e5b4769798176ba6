"""The real server for tests: `loopgrid serve` as its own process, on ports the system chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("loopgrid"))
"""The command as installed beside the interpreter that runs the tests."""

STOP_TIMEOUT_S = 30


@dataclass(slots=True)
class RunningServer:
    """A server process that has said it is ready.

    Attributes:
        api: base URL of the API, without a slash at its end.
        otlp_http: base URL of the OTLP/HTTP port.
        otlp_grpc: target of the OTLP/gRPC port, `host:port`.
        ledger: path of its ledger file.
        process: the process itself.
        log: file that receives its standard error.
    """

    api: str
    otlp_http: str
    otlp_grpc: str
    ledger: Path
    process: subprocess.Popen[str] = field(repr=False)
    log: Path = field(repr=False)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait until it has, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        self.process.communicate(timeout=STOP_TIMEOUT_S)
        return self.process.returncode

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no chance to write anything."""
        self.process.kill()
        self.process.communicate(timeout=STOP_TIMEOUT_S)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without LoopGrid's or OpenTelemetry's variables, and without this user's profiles."""
    kept = {name: text for name, text in environ.items() if not name.startswith(("LOOPGRID_", "OTEL_"))}
    return kept | {"XDG_CONFIG_HOME": os.devnull}


def start_server(
    folder: Path,
    *,
    ledger: Path | None = None,
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> RunningServer:
    """Start a server and return once it has printed its ready line.

    Args:
        folder: where its log goes, and its ledger unless `ledger` names one.
        ledger: ledger file; by default `ledger.duckdb` in the folder, made if absent.
        arguments: further flags of `loopgrid serve`.
        environ: variables on top of the cleaned environment of the tests.

    Raises:
        AssertionError: it ended before it was ready; the message holds what it wrote.
    """
    path = ledger or folder / "ledger.duckdb"
    log = folder / "server.log"
    ports = ("--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [COMMAND, "serve", "--json", "--ledger", str(path), *ports, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=without_settings(os.environ) | dict(environ or {}),
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        code = process.wait(timeout=STOP_TIMEOUT_S)
        process.stdout.close()
        raise AssertionError(f"the server ended with code {code} before it was ready:\n{log.read_text()}")
    ready = json.loads(line)
    return RunningServer(
        api=ready["api"].rstrip("/"),
        otlp_http=ready["otlp_http"].rstrip("/"),
        otlp_grpc=ready["otlp_grpc"],
        ledger=path,
        process=process,
        log=log,
    )


@contextmanager
def running_server(
    folder: Path,
    *,
    ledger: Path | None = None,
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[RunningServer]:
    """A server for the length of a `with` block; at its end it must stop cleanly on SIGTERM.

    A block that stopped or killed the server itself is left alone. Arguments as `start_server`.
    """
    running = start_server(folder, ledger=ledger, arguments=arguments, environ=environ)
    try:
        yield running
    except BaseException:
        # The claim of the block comes first: its failure must not be replaced by one at the stop.
        running.kill()
        raise
    if running.process.poll() is None:
        code = running.stop()
        assert code == 0, f"the server ended with code {code} on SIGTERM:\n{running.log.read_text()}"
