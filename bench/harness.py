"""What every benchmark needs: a real server, a load on it, and what the system says about both."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import duckdb

from generator import Job, Seen

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S: Final = 60.0
_PREPARE_S: Final = 0.5
"""From the order to the first request: the connections are opened in it."""

_SAMPLE_S: Final = 0.25
_OUR_VARIABLES: Final = ("LOOPGRID_", "OTEL_")


@dataclass(frozen=True)
class Server:
    """A running ``loopgrid serve``.

    Attributes:
        api: ``host:port`` of the API; the two others likewise.
        ready_s: seconds from starting the process until it said that it is ready.
    """

    api: str
    otlp_http: str
    otlp_grpc: str
    ready_s: float
    process: subprocess.Popen[str]

    def address(self, transport: str) -> str:
        """Where that transport is taken."""
        return self.otlp_grpc if transport == "grpc" else self.otlp_http

    def cpu_s(self) -> float:
        """Processor time of the server and its children so far."""
        return sum(map(_cpu_s, family(self.process.pid)))

    def rss_mb(self) -> float:
        """Resident memory of the server and its children now; pages that they share count for each."""
        return sum(_status_mb(process_id, "VmRSS") for process_id in family(self.process.pid))

    def peak_mb(self) -> float:
        """The most that one of its processes ever had resident, by the system's own count."""
        return max(_status_mb(process_id, "VmHWM") for process_id in family(self.process.pid))

    def sql(self, query: str) -> list[list[Any]]:
        """Rows of ``POST /v1/sql``."""
        connection = http.client.HTTPConnection(self.api, timeout=STOP_TIMEOUT_S)
        body = json.dumps({"query": query})
        connection.request("POST", "/v1/sql", body, {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
        connection.close()
        if "rows" not in answer:
            sys.exit(f"The server refused {query!r}: {answer}")
        rows: list[list[Any]] = answer["rows"]
        return rows

    def spans(self) -> int:
        """Spans in the ledger, counted by SQL."""
        return int(self.sql("SELECT count(*) FROM spans")[0][0])


@contextmanager
def serving(ledger: Path, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A real server on free ports of the loopback address; it must end cleanly."""
    command = shutil.which("loopgrid", path=str(Path(sys.executable).parent)) or "loopgrid"
    ports = ("--host", "127.0.0.1", "--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(_OUR_VARIABLES)}
    begun = time.monotonic()
    with subprocess.Popen(
        [command, "serve", "--json", "--ledger", str(ledger), *ports],
        stdout=subprocess.PIPE,
        text=True,
        env={**environ, **(variables or {})},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("The server did not start.")
        ready_s = time.monotonic() - begun
        told = json.loads(line)
        try:
            yield Server(
                urlsplit(told["api"]).netloc,
                urlsplit(told["otlp_http"]).netloc,
                told["otlp_grpc"],
                ready_s,
                process,
            )
        finally:
            _end(process)
    if process.returncode != 0:
        sys.exit(f"The server ended with code {process.returncode}.")


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


@dataclass(frozen=True)
class Load:
    """What a load did, in the time that counts.

    Attributes:
        seconds: length of that time.
        spans_per_s: acknowledged in it.
        requests_per_s: likewise.
        accepted: spans acknowledged altogether, warm-up included.
        refused: requests that had to be sent again.
        bytes_per_span: encoded size.
        latencies_s: of the requests acknowledged from its begin on.
        server_cpu_us: processor time of the server for each span, in microseconds.
        generator_cpu_us: likewise, of the load generator.
        peak_mb: most resident memory of the server and its children in any sample, or of one of them ever.
    """

    seconds: float
    spans_per_s: float
    requests_per_s: float
    accepted: int
    refused: int
    bytes_per_span: float
    latencies_s: list[float]
    server_cpu_us: float
    generator_cpu_us: float
    peak_mb: float

    def percentile_ms(self, percent: int) -> float:
        """Time to the acknowledgement that so many percent of the requests did not exceed."""
        return percentile(self.latencies_s, percent) * 1000


class Generator:
    """The load generator's process. Making it encodes the requests; it costs nothing until told to send."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("generator.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(json.dumps(asdict(job)))

    def __enter__(self) -> Self:
        self._hear()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, server: Server, seconds: float, warm_up_s: float = 0.0) -> tuple[float, float]:
        """Begin to send; from when to when on the monotonic clock it counts."""
        begin = time.monotonic() + _PREPARE_S
        began = begin + warm_up_s
        order = {"address": server.address(self.job.transport), "begin": begin, "began": began}
        self._tell(json.dumps({**order, "until": began + seconds}))
        return began, began + seconds

    def seen(self) -> Seen:
        """What the connections saw; waits for the end."""
        return Seen(**json.loads(self._hear()))

    def run(self, server: Server, seconds: float, warm_up_s: float = 0.0) -> Load:
        """Send for so long, and look at both processes meanwhile."""
        began, until = self.start(server, seconds, warm_up_s)
        peak_mb = 0.0
        cpu_s = server.cpu_s()
        while (now := time.monotonic()) < until:
            time.sleep(min(_SAMPLE_S, (began if now < began else until) - now))
            if now < began <= time.monotonic():
                cpu_s = server.cpu_s()
            peak_mb = max(peak_mb, server.rss_mb())
        cpu_s = server.cpu_s() - cpu_s
        seen = self.seen()
        counted = sum(began < at <= until for at in seen.acknowledged_at)
        spans = counted * self.job.spans
        if not spans:
            sys.exit("Nothing was acknowledged in the time that counts; measure for longer.")
        return Load(
            seconds=seconds,
            spans_per_s=spans / seconds,
            requests_per_s=counted / seconds,
            accepted=len(seen.acknowledged_at) * self.job.spans,
            refused=seen.refused,
            bytes_per_span=seen.bytes_per_span,
            latencies_s=[
                latency
                for at, latency in zip(seen.acknowledged_at, seen.latencies_s, strict=True)
                if at > began
            ],
            server_cpu_us=cpu_s / spans * 1e6,
            generator_cpu_us=seen.cpu_s / spans * 1e6,
            peak_mb=max(peak_mb, server.rss_mb(), server.peak_mb()),
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("The load generator ended early.")
        return line


def family(process_id: int) -> list[int]:
    """A process and everything it started that still runs."""
    found = [process_id]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, _read(task).split())
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        # It ended since it was listed.
        return ""


def _cpu_s(process_id: int) -> float:
    # Behind the name in parentheses; own time, and that of children that ended.
    fields = _read(Path(f"/proc/{process_id}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * TICK_S


def _status_mb(process_id: int, name: str) -> float:
    for line in _read(Path(f"/proc/{process_id}/status")).splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> str:
    """What it ran on, as far as the system says."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} × {processor}, {memory_gb:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    )


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns for people."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def verdict(*, passed: bool) -> str:
    """How a figure stands to its aim; never an exit code, since figures belong to a machine."""
    return "pass" if passed else "FAIL"
