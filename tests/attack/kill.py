"""A server that is killed again and again while several senders write, and what its ledger holds afterwards.

    python -m tests.attack.kill --rounds 200

Each round starts the real server on the same ledger, lets senders over HTTP and gRPC send new requests,
those that got no answer before and some that did, and kills it (SIGKILL) at a seeded random moment. After
each restart, and in the end: every acknowledged item is there, none twice, none that nobody sent, each with
the content it was sent with, and `loopgrid verify` finds nothing. The seed decides what senders draw.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import urllib3

from tests.support.server import COMMAND, RunningServer, start_server, without_settings
from tests.support.spans import chat, log_record, logs, traces

HTTP_SENDERS: Final = 3
GRPC_SENDERS: Final = 2
SPANS_PER_REQUEST: Final = 20
LOG_SHARE: Final = 0.2
RESENT_SHARE: Final = 0.1
MOST_ANSWERS: Final = 25
"""A round ends after at most that many acknowledgements, and a moment."""

LONGEST_MOMENT_S: Final = 0.05
ANSWER_TIMEOUT_S: Final = 30.0
_EXPORTS: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
COMMITS_A_LOOK: Final = 50
_SPANS: Final = (
    "SELECT span_id, trace_id, attributes->>'attack.number' AS said FROM spans "
    "WHERE commit_id > {0} AND commit_id <= {1}"
)
_LOGS: Final = (
    "SELECT span_id, trace_id, attributes->>'attack.number' AS said FROM events "
    "WHERE source = 'log' AND commit_id > {0} AND commit_id <= {1}"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: its signal, and the numbers of the items in it."""

    signal: str
    first: int

    @property
    def numbers(self) -> range:
        """One number an item."""
        return range(self.first, self.first + SPANS_PER_REQUEST)

    def body(self) -> bytes:
        """The same bytes each time."""
        if self.signal == "logs":
            marked = (log_record(n, attributes={"attack.number": str(n)}) for n in self.numbers)
            return logs(*marked)
        return traces(*(chat(n, **{"attack.number": str(n)}) for n in self.numbers))


@dataclass(slots=True)
class Book:
    """What was sent and what was acknowledged. Safe to use from many threads."""

    sent: dict[str, set[int]] = field(default_factory=lambda: {"traces": set(), "logs": set()})
    acknowledged: dict[str, set[int]] = field(default_factory=lambda: {"traces": set(), "logs": set()})
    unanswered: list[Batch] = field(default_factory=list)
    answered: list[Batch] = field(default_factory=list)
    lock: threading.Condition = field(default_factory=threading.Condition)
    next_first: int = 1

    def take(self, rng: random.Random) -> Batch:
        """What to send next: something unanswered, something answered, or something new."""
        with self.lock:
            if self.unanswered:
                return self.unanswered.pop(rng.randrange(len(self.unanswered)))
            if self.answered and rng.random() < RESENT_SHARE:
                return rng.choice(self.answered)
            batch = Batch("logs" if rng.random() < LOG_SHARE else "traces", self.next_first)
            self.next_first += SPANS_PER_REQUEST
            self.sent[batch.signal].update(batch.numbers)
            return batch

    def settle(self, batch: Batch, *, stored: bool) -> None:
        """Note what became of it."""
        with self.lock:
            if stored:
                self.acknowledged[batch.signal].update(batch.numbers)
                self.answered.append(batch)
                self.lock.notify_all()
            elif not self.acknowledged[batch.signal].issuperset(batch.numbers):
                self.unanswered.append(batch)


class AttackError(AssertionError):
    """The ledger does not hold what it should."""


Send = Callable[[Batch], bool]


@contextmanager
def http_sender(server: RunningServer) -> Iterator[Send]:
    """Sends over one keep-alive connection; says whether the request was acknowledged."""
    with urllib3.PoolManager(maxsize=1) as pool:

        def send(batch: Batch) -> bool:
            try:
                answer = pool.request(
                    "POST",
                    f"{server.otlp_http}/v1/{batch.signal}",
                    body=batch.body(),
                    headers={"Content-Type": "application/x-protobuf"},
                    retries=False,
                    timeout=ANSWER_TIMEOUT_S,
                )
            except urllib3.exceptions.HTTPError:
                return False
            return answer.status == 200

        yield send


@contextmanager
def grpc_sender(server: RunningServer) -> Iterator[Send]:
    """The same over gRPC."""
    with grpc.insecure_channel(server.otlp_grpc) as channel:
        calls = {signal: channel.unary_unary(method, None, None) for signal, method in _EXPORTS.items()}

        def send(batch: Batch) -> bool:
            try:
                calls[batch.signal](batch.body(), timeout=ANSWER_TIMEOUT_S)
            except grpc.RpcError:
                return False
            return True

        yield send


class Attack:
    """One ledger under attack."""

    def __init__(self, folder: Path, seed: int, settings: Mapping[str, str] | None = None) -> None:
        """Nothing runs yet."""
        self._settings = settings
        self.folder = folder
        self.book = Book()
        self._rng = random.Random(seed)
        self._checked_commit = 0
        self._seen = {"traces": Counter[int](), "logs": Counter[int]()}

    def round(self) -> None:
        """Start, check what the last round left, send, kill."""
        server = start_server(self.folder, environ=self._settings)
        try:
            self.check(server)
            self._send_until_killed(server)
        finally:
            server.kill()

    def finish(self) -> None:
        """Start once more, send what got no answer until it gets one, check, stop, verify.

        Raises:
            AttackError: something was lost, doubled, invented or spoilt.
        """
        server = start_server(self.folder, environ=self._settings)
        try:
            with http_sender(server) as send:
                while self.book.unanswered:
                    batch = self.book.unanswered.pop()
                    if not send(batch):
                        raise AttackError(f"a server that nobody kills does not take {batch}")
                    self.book.settle(batch, stored=True)
            self._checked_commit = 0
            self._seen = {"traces": Counter(), "logs": Counter()}
            self.check(server)
        finally:
            stopped = server.stop()
        if stopped:
            raise AttackError(f"the server stopped with code {stopped}")
        if self._seen["traces"].keys() != self.book.sent["traces"]:
            raise AttackError("not everything that was sent in the end is on record")
        verdict = subprocess.run(
            [COMMAND, "verify", "--ledger", str(server.ledger)],
            capture_output=True,
            text=True,
            check=False,
            env=without_settings({}),
        )
        if verdict.returncode:
            raise AttackError(f"loopgrid verify: {verdict.stdout}{verdict.stderr}")

    def check(self, server: RunningServer) -> None:
        """Read what is new, and compare everything seen so far with the book.

        Raises:
            AttackError: something was lost, doubled, invented or spoilt.
        """
        newest = int(_rows(server, "SELECT coalesce(max(commit_id), 0) AS newest FROM commits")[0]["newest"])
        if newest < self._checked_commit:
            raise AttackError(f"commit {self._checked_commit} was seen, and now {newest} is the newest")
        while self._checked_commit < newest:
            # Some commits at a time: the server bounds the rows of one answer.
            until = min(newest, self._checked_commit + COMMITS_A_LOOK)
            for signal, query in (("traces", _SPANS), ("logs", _LOGS)):
                for row in _rows(server, query.format(self._checked_commit, until)):
                    self._see(signal, row)
            self._checked_commit = until
        for signal, seen in self._seen.items():
            twice = [number for number, count in seen.items() if count > 1]
            lost = self.book.acknowledged[signal] - seen.keys()
            invented = seen.keys() - self.book.sent[signal]
            if twice or lost or invented:
                raise AttackError(
                    f"{signal}: {len(lost)} lost {sorted(lost)[:3]}, {len(twice)} twice {twice[:3]}, "
                    f"{len(invented)} invented {sorted(invented)[:3]}"
                )
        kept = _rows(
            server, "SELECT (SELECT count(*) FROM conflicts) + (SELECT count(*) FROM quarantine) AS kept"
        )
        if kept[0]["kept"] != "0":
            raise AttackError(f"{kept[0]['kept']} items are in conflicts or quarantine")

    def _see(self, signal: str, row: dict[str, str]) -> None:
        number = int(row["span_id"], 16)
        if int(row["trace_id"], 16) != number or row["said"] != str(number):
            raise AttackError(f"{signal}: {row} was never sent")
        self._seen[signal][number] += 1

    def _send_until_killed(self, server: RunningServer) -> None:
        answers, moment_s = self._rng.randrange(MOST_ANSWERS), self._rng.random() * LONGEST_MOMENT_S
        before = len(self.book.answered)
        killed = threading.Event()
        seeds = [self._rng.random() for _ in range(HTTP_SENDERS + GRPC_SENDERS)]

        def work(place: int) -> None:
            rng = random.Random(seeds[place])
            sender = http_sender if place < HTTP_SENDERS else grpc_sender
            with sender(server) as send:
                while not killed.is_set():
                    batch = self.book.take(rng)
                    self.book.settle(batch, stored=send(batch))

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(seeds))]
        for thread in threads:
            thread.start()
        with self.book.lock:
            enough = self.book.lock.wait_for(
                lambda: len(self.book.answered) - before >= answers, timeout=ANSWER_TIMEOUT_S
            )
        killed.wait(moment_s)
        # Killed while requests are under way: senders are told to stop only then.
        server.process.kill()
        killed.set()
        for thread in threads:
            thread.join()
        if not enough:
            raise AttackError("the server acknowledged nothing for too long")


def _rows(server: RunningServer, query: str) -> list[dict[str, str]]:
    answer = urllib3.request(
        "POST", f"{server.api}/v1/sql", json={"query": query}, headers={"Accept": "text/csv"}, timeout=120
    )
    if answer.status != 200:
        raise AttackError(f"SQL is answered {answer.status}: {answer.data[:500]!r}")
    if answer.headers["LoopGrid-Truncated"] != "false":
        raise AttackError("a look goes beyond the rows that the server answers with; lower COMMITS_A_LOOK")
    return list(csv.DictReader(io.StringIO(answer.data.decode())))


def main() -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reopen-rows", type=int, help="rows after which the server opens its file anew")
    options = parser.parse_args()
    settings = None if options.reopen_rows is None else {"LOOPGRID_REOPEN_ROWS": str(options.reopen_rows)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        attack = Attack(Path(folder), options.seed, settings)
        try:
            for number in range(1, options.rounds + 1):
                attack.round()
                if number % 10 == 0 or number == options.rounds:
                    told = sum(map(len, attack.book.acknowledged.values()))
                    print(
                        f"{number:>5} kills {told:>9} acknowledged {time.monotonic() - began:>6.0f} s",
                        flush=True,
                    )
            attack.finish()
        except AttackError as error:
            sys.exit(f"seed {options.seed}: {error}")
    stored = sum(map(len, attack.book.sent.values()))
    print(f"{options.rounds} kills, {stored} items sent: none lost, none twice, none invented.")


if __name__ == "__main__":
    main()
