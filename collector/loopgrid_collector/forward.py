"""``--forward``: what was received goes on to another OTLP endpoint, once it is committed.

Laws:

* Ingestion comes first. Handing a body over is an append to a queue and never waits; a body that does
  not fit into the queue is not passed on, counted and said.
* What goes out is what came in: the bytes of each received body, whole and unchanged. Bodies of one
  signal that wait at the same time may ride in one request, as protobuf defines it: one after the other.
* A request that brought nothing new is not passed on. That is also what ends a circle of servers.
* What people say here goes out, too, as log records made from the ledger after its commit.
* The queue is memory. What it holds when the process is killed is in the ledger and not at the target.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import urllib3

from loopgrid.headers import USER_AGENT
from loopgrid.outcome import Acknowledged, Refused, TryAgain
from loopgrid.transport import MAX_ANSWER_BYTES, judge
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.forward_target import Target
from loopgrid_collector.ingest import Entry, Ingest, Receipt
from loopgrid_collector.ledger.judgement import judgements_of
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.otlp import evaluations

SENDERS: Final = 4
"""Requests under way at once: a far target's round trips overlap."""

RIDE_TOGETHER_BYTES: Final = 2**20
"""Bodies share a request up to this size; a larger one travels alone."""

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
LONGEST_ASKED_PAUSE_S: Final = 300.0
"""A ``Retry-After`` is honoured up to here: no answer can silence the forwarder for a day."""

_METRICS: Final = "metrics"
_REMEMBERED: Final = 4_096
_GZIP: Final = 31
_FASTEST: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Load:
    """Bodies that travel together.

    Attributes:
        signal: last part of the path.
        bodies: export requests in protobuf.
        once: one body alone, whose bytes do not go out again.
    """

    signal: str
    bodies: list[bytes]
    once: bool = False

    @property
    def size(self) -> int:
        return sum(map(len, self.bodies))


class Forwarder:
    """A bounded queue and the threads that empty it. Every method may be called from any thread."""

    def __init__(self, target: Target, *, queue_bytes: int, timeout_s: float) -> None:
        """Prepare; nothing is sent before ``start``.

        Args:
            target: where to.
            queue_bytes: bytes of bodies held at most, waiting or under way.
            timeout_s: how long the target may take to accept a connection, and to answer.
        """
        self._target = target
        self._limit = queue_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._given_up = threading.Event()
        self._waiting: deque[_Load] = deque()
        self._held_bytes = 0
        self._closing = False
        self._full = False
        self._trouble = ""
        self._counts: Counter[str] = Counter()
        self._sent_once: dict[bytes, None] = {}
        # Daemons: a target that hangs must not keep the process from ending.
        self._senders = [
            threading.Thread(target=self._run, name=f"forward-{number}", daemon=True)
            for number in range(SENDERS)
        ]

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            sender.start()

    def offer(self, signal: str, body: bytes, *, once: bool = False) -> None:
        """Take a body over, or count it as dropped. Never waits.

        Args:
            signal: ``traces``, ``logs`` or ``metrics``.
            body: an export request in protobuf, not compressed.
            once: leave it if the same bytes went out lately. For what the ledger cannot tell apart.
        """
        with self._lock:
            fits = not self._closing and self._held_bytes + len(body) <= self._limit
            if fits:
                self._waiting.append(_Load(signal, [body], once))
                self._held_bytes += len(body)
                self._work.notify()
            else:
                self._counts["forward.requests_dropped"] += 1
                self._counts["forward.bytes_dropped"] += len(body)
            turned = fits == self._full and not self._closing
            self._full = self._full if self._closing else not fits
            dropped = self._counts["forward.requests_dropped"]
        if turned and not fits:
            _log.error(
                "forward: the queue is full (%d bytes), what arrives now is stored but not passed on to %s; "
                "look after the target, or raise LOOPGRID_FORWARD_QUEUE_BYTES",
                self._limit,
                self._target.url,
            )
        elif turned:
            _log.warning("forward: there is room again; %d requests were not passed on so far", dropped)

    def missed(self, why: str, commit_id: int) -> None:
        """Count and say that something which a commit holds is not passed on."""
        with self._lock:
            self._counts["forward.requests_dropped"] += 1
        _log.error("forward: %s (commit %d), so it is not passed on to %s", why, commit_id, self._target.url)

    def counters(self) -> Mapping[str, int]:
        """Counts since the start, by dotted name; ``forward.queued_bytes`` is the present value."""
        with self._lock:
            return {**self._counts, "forward.queued_bytes": self._held_bytes}

    def close(self, grace_s: float) -> None:
        """Send what waits, for ``grace_s`` seconds at most; say what had to be left behind."""
        deadline = time.monotonic() + grace_s
        with self._lock:
            self._closing = True
            self._work.notify_all()
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._given_up.set()
            self._work.notify_all()
            left = self._held_bytes
            self._waiting.clear()
            self._counts["forward.bytes_left_behind"] += left
        if left:
            _log.error("forward: stopped with %d bytes not passed on to %s", left, self._target.url)

    def _run(self) -> None:
        pool = urllib3.PoolManager(
            num_pools=1, maxsize=1, retries=False, timeout=urllib3.Timeout(total=self._timeout_s)
        )
        try:
            while (load := self._next()) is not None:
                try:
                    self._deliver(pool, load)
                finally:
                    with self._lock:
                        self._held_bytes -= load.size
        finally:
            pool.clear()

    def _next(self) -> _Load | None:
        """What to send next; waits for it. None once there is nothing more to come."""
        with self._lock:
            while not self._waiting:
                if self._closing:
                    return None
                self._work.wait()
            load = self._waiting.popleft()
            room = RIDE_TOGETHER_BYTES - load.size
            while not load.once and self._waiting:
                other = self._waiting[0]
                room -= other.size
                if other.once or other.signal != load.signal or room < 0:
                    break
                load.bodies.extend(self._waiting.popleft().bodies)
            return load

    def _deliver(self, pool: urllib3.PoolManager, load: _Load) -> None:
        if load.once and self._sent_before(load.bodies[0]):
            return
        outcome = self._settled(pool, load)
        if isinstance(outcome, Refused) and len(load.bodies) > 1:
            # One body may have spoilt it for the others.
            for body in load.bodies:
                alone = _Load(load.signal, [body])
                self._count(self._settled(pool, alone), alone)
        else:
            self._count(outcome, load)

    def _settled(self, pool: urllib3.PoolManager, load: _Load) -> Acknowledged | Refused | None:
        """The target's last word on a load; None if the forwarder gave up first."""
        packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP)
        wire = b"".join([*map(packer.compress, load.bodies), packer.flush()])
        pause_s = FIRST_PAUSE_S
        while not self._given_up.is_set():
            outcome = self._post(pool, load.signal, wire)
            if not isinstance(outcome, TryAgain):
                return outcome
            self._say_trouble(f"{outcome.reason}; it is tried again", "forward.retries")
            asked = outcome.after_s
            # Spread, so that the senders of many servers do not come back together.
            wait_s = random.uniform(pause_s / 2, pause_s) if asked is None else asked  # noqa: S311 - no secret
            self._given_up.wait(min(wait_s, LONGEST_ASKED_PAUSE_S))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return None

    def _post(self, pool: urllib3.PoolManager, signal: str, wire: bytes) -> Acknowledged | TryAgain | Refused:
        headers = {
            **self._target.headers,
            "content-type": "application/x-protobuf",
            "content-encoding": "gzip",
            "user-agent": USER_AGENT,
        }
        try:
            # A redirect is not followed: it would take the headers, which may be secret, elsewhere.
            answer = pool.request(
                "POST",
                f"{self._target.url}/v1/{signal}",
                body=wire,
                headers=headers,
                redirect=False,
                preload_content=False,
            )
            try:
                content = answer.read(MAX_ANSWER_BYTES)
                if answer.length_remaining:
                    # Too long to be an OTLP answer; its rest must not become the next one's beginning.
                    answer.close()
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            return TryAgain(type(error).__name__)
        # The three signals answer with the same two fields under the same numbers.
        return judge(answer.status, answer.headers, content)

    def _count(self, outcome: Acknowledged | Refused | None, load: _Load) -> None:
        if isinstance(outcome, Refused):
            with self._lock:
                self._counts["forward.requests_refused"] += len(load.bodies)
                self._counts["forward.bytes_refused"] += load.size
            self._say_trouble(f"{outcome.reason}; what it refuses is not passed on", "forward.refusals")
        elif outcome is not None:
            with self._lock:
                self._counts["forward.requests_sent"] += len(load.bodies)
                self._counts["forward.bytes_sent"] += load.size
                self._counts["forward.items_rejected"] += outcome.rejected
                before, self._trouble = self._trouble, ""
            if before:
                _log.warning("forward: %s accepts again", self._target.url)

    def _say_trouble(self, trouble: str, counter: str) -> None:
        """Count every trouble, and log the first of each kind since the last success."""
        with self._lock:
            self._counts[counter] += 1
            before, self._trouble = self._trouble, trouble
        if trouble != before:
            _log.error("forward: %s answers %s", self._target.url, trouble)

    def _sent_before(self, body: bytes) -> bool:
        key = hashlib.blake2b(body, digest_size=16).digest()
        with self._lock:
            if key in self._sent_once:
                self._counts["forward.requests_repeated"] += 1
                return True
            self._sent_once[key] = None
            if len(self._sent_once) > _REMEMBERED:
                del self._sent_once[next(iter(self._sent_once))]
            return False


class ForwardingIngest(Ingest):
    """The door that acknowledges, and behind it the forwarder: it hears of a body once it is committed."""

    def __init__(self, ledger: Ledger, config: CollectorConfig, forwarder: Forwarder) -> None:
        """A door into ``ledger`` that passes on to ``forwarder``."""
        super().__init__(ledger, config)
        self._forwarder = forwarder
        self._under_way: set[asyncio.Task[Receipt]] = set()

    async def traces(self, body: bytes) -> Receipt:
        """As the base class does, then passed on."""
        return await self._taken_and_passed_on("traces", body, super().traces(body))

    async def logs(self, body: bytes) -> Receipt:
        """As the base class does, then passed on."""
        return await self._taken_and_passed_on("logs", body, super().logs(body))

    async def metrics(self, body: bytes) -> Receipt:
        """As the base class does, then passed on, although the ledger does not keep them."""
        return await self._taken_and_passed_on(_METRICS, body, super().metrics(body))

    def traces_blocking(self, body: bytes) -> Receipt:
        """As the base class does, then passed on."""
        receipt = super().traces_blocking(body)
        self._pass_on("traces", body, receipt)
        return receipt

    def logs_blocking(self, body: bytes) -> Receipt:
        """As the base class does, then passed on."""
        receipt = super().logs_blocking(body)
        self._pass_on("logs", body, receipt)
        return receipt

    async def entry(self, entry: Entry) -> int:
        """As the base class does, then passed on where it is judgement."""
        commit_id = await super().entry(entry)
        await asyncio.to_thread(self._pass_on_judgement, [entry], commit_id)
        return commit_id

    def entry_blocking(self, entry: Entry) -> int:
        """As the base class does, then passed on where it is judgement."""
        commit_id = super().entry_blocking(entry)
        self._pass_on_judgement([entry], commit_id)
        return commit_id

    def entries_blocking(self, entries: Sequence[Entry]) -> int:
        """As the base class does, then passed on where it is judgement."""
        commit_id = super().entries_blocking(entries)
        self._pass_on_judgement(entries, commit_id)
        return commit_id

    def counters(self) -> Mapping[str, int]:
        """Those of ingest and those of the forwarder."""
        return {**super().counters(), **self._forwarder.counters()}

    async def _taken_and_passed_on(
        self, signal: str, body: bytes, work: Coroutine[Any, Any, Receipt]
    ) -> Receipt:
        # A sender may hang up while its request commits. It will send again, and then nothing is new:
        # so the work goes on without it, and what it stored is passed on now.
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._when_taken(signal, body))
        return await asyncio.shield(task)

    def _when_taken(self, signal: str, body: bytes) -> Callable[[asyncio.Task[Receipt]], None]:
        def taken(task: asyncio.Task[Receipt]) -> None:
            self._under_way.discard(task)
            if not task.cancelled() and task.exception() is None:
                self._pass_on(signal, body, task.result())

        return taken

    def _pass_on_judgement(self, entries: Sequence[Entry], commit_id: int) -> None:
        said = [entry.entry_id for entry in entries if entry.entry_type in evaluations.EVENTS]
        if not said:
            return
        try:
            request = evaluations.request_of(*judgements_of(self._ledger, commit_id, said))
        except StorageTrouble:
            # It is on record and acknowledged; that the target does not hear of it must not undo that.
            self._forwarder.missed("what people said could not be read back", commit_id)
            return
        self._forwarder.offer("logs", request.SerializeToString())

    def _pass_on(self, signal: str, body: bytes, receipt: Receipt) -> None:
        # Metrics are not kept, and what is refused or in conflict is kept each time it comes: the ledger
        # cannot say whether they were here before. The target may well read what was refused here.
        unsure = signal == _METRICS or receipt.conflicts or receipt.rejected
        if body and (receipt.stored or unsure):
            self._forwarder.offer(signal, body, once=bool(unsure))
