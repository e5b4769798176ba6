"""Between the doors and the ledger: requests that wait are decoded together, large ones in other processes.

A pass of the decoder and the dialects costs some milliseconds however little it is given, so under load
many small requests share one. Nobody waits for company: a thread that is free takes what is there.

Laws:

* A future resolves with the ledger's receipt for its own request, or with the reason why there is none.
* A body that cannot be decoded costs no other request anything: then each is decoded alone. So is one that
  ends the process that decodes it, where that is another one: large requests, and small ones that are few.
* The ledger is told of every request before it is decoded, so that it can wait for what is about to come.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Final

from loopgrid_collector.decode_process import DecodeProcess, Lost
from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.errors import CollectorError, ShuttingDown, StorageTrouble, Undecodable
from loopgrid_collector.ledger.ledger import Announced, Ledger
from loopgrid_collector.ledger.records import Append, Receipt

MAX_SHARED_BYTES: Final = 4 * 2**20
"""Bytes of bodies that share one pass; a larger body has one of its own."""

MAX_SHARED_REQUESTS: Final = 256

LARGE_BYTES: Final = 256 * 2**10
"""Size from which decoding a body takes longer than anything that is done once for a pass or a commit."""

LARGE_COMPANY_S: Final = 0.01
"""Seconds that a pass which begins with a large body waits for as many as came with it lately."""

FORGOTTEN_A_PASS: Final = 0.2
"""How many fewer of them each pass expects, when fewer come."""

SMALL_PASS_BYTES: Final = 128 * 2**10
"""Size below which handing a pass to another process costs more than it saves."""

SMALL_COMPANY_PAUSE_S: Final = 0.0015
"""Pause between two small requests that ends the wait for more of them."""

SMALL_COMPANY_S: Final = 0.006
"""Seconds of such waiting at most. Only where the pass before had company, too: who sends one request after
the other never waits."""

MANY: Final = 8
"""Small requests in one pass from which on the next pass waits until these are stored: then as many gather
again, and a pass and a commit of all of them cost little more than of half. With fewer, decoding goes on
while the commit before is made, and everybody is answered sooner.
"""

STORED_WITHIN_S: Final = 1.0
"""Seconds after which small requests no longer wait for those before them to be stored."""

WORTH_A_PROCESS_S: Final = 0.25
"""Seconds of decoding in the server's own process after which a process for it is started: about what
starting one costs, so that a server that takes little never pays for it, and one that takes much has it soon.
"""

THREADS: Final = 2

_log = logging.getLogger(__name__)


def _uncancellable() -> Future[Receipt]:
    # A sender that goes away must not disturb those it shares with.
    future: Future[Receipt] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: Kind
    body: bytes
    announced: Announced
    future: Future[Receipt] = field(default_factory=_uncancellable)


class _Inbox:
    """What waits to be decoded. Safe to use from any thread.

    Large requests are for whoever is free. Small ones take turns: a pass and a commit cost milliseconds
    however little they are given, so they gather while those before them are decoded and stored, and one
    cycle of many costs what a cycle of few does.
    """

    def __init__(self, takers: int) -> None:
        self._takers = takers
        self._changed = threading.Condition()
        self._large: deque[_Waiting] = deque()
        self._small: deque[_Waiting] = deque()
        self._small_turn_taken = False
        self._had_company = False
        self._large_unanswered = 0
        self._large_lately = 0.0
        self._small_unanswered = 0
        self._small_lately = 0.0
        self._closed = False

    def put(self, make: Callable[[], _Waiting]) -> _Waiting:
        with self._changed:
            if self._closed:
                raise ShuttingDown("The server is stopping; send again when it is back.")
            waiting = make()
            if len(waiting.body) >= LARGE_BYTES:
                self._large.append(waiting)
                self._large_unanswered += 1
                waiting.future.add_done_callback(self._large_answered)
            else:
                self._small.append(waiting)
                self._small_unanswered += 1
                waiting.future.add_done_callback(self._small_answered)
            self._changed.notify_all()
        return waiting

    def _large_answered(self, _: Future[Receipt]) -> None:
        with self._changed:
            self._large_unanswered -= 1

    def _small_answered(self, _: Future[Receipt]) -> None:
        with self._changed:
            self._small_unanswered -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> tuple[list[_Waiting], bool]:
        """What shares the next pass, and whether it is a turn of small ones, which :meth:`turn_over` ends.

        Nothing, once all is taken after the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._large or self._small_ready() or self._over())
            if self._large:
                return self._large_company(), False
            if not self._small_ready():
                return [], False
            self._small_turn_taken = True
            return self._small_company(), True

    def turn_over(self) -> None:
        with self._changed:
            self._small_turn_taken = False
            self._changed.notify_all()

    def _small_ready(self) -> bool:
        return bool(self._small) and not self._small_turn_taken

    def _over(self) -> bool:
        return self._closed and not self._large and not self._small

    def _large_company(self) -> list[_Waiting]:
        """A fair share of as many as were under way at once lately: a pass of two costs little more than one.

        Senders that were answered by one commit send again at the same time, within milliseconds.
        """
        group = [self._large.popleft()]
        self._large_lately = max(self._large_unanswered, self._large_lately - FORGOTTEN_A_PASS)
        share = math.ceil(self._large_lately / self._takers)
        until = time.perf_counter() + LARGE_COMPANY_S
        while len(group) < share and _size(group) < MAX_SHARED_BYTES:
            if not self._large and not self._more(self._large, until - time.perf_counter()):
                break
            group.append(self._large.popleft())
        return group

    def _small_company(self) -> list[_Waiting]:
        group = [self._small.popleft()]
        until = time.perf_counter() + (SMALL_COMPANY_S if self._had_company else 0.0)
        self._small_lately = max(self._small_unanswered, self._small_lately - FORGOTTEN_A_PASS)
        while _size(group) < MAX_SHARED_BYTES and len(group) < MAX_SHARED_REQUESTS:
            patience_s = min(SMALL_COMPANY_PAUSE_S, until - time.perf_counter())
            if len(group) >= self._small_lately:
                patience_s = 0.0
            if not self._small and not self._more(self._small, patience_s):
                break
            group.append(self._small.popleft())
        self._had_company = len(group) > 1
        return group

    def _more(self, waiting: deque[_Waiting], patience_s: float) -> bool:
        return (
            patience_s > 0
            and self._changed.wait_for(lambda: waiting or self._closed, patience_s)
            and bool(waiting)
        )


def _size(group: Sequence[_Waiting]) -> int:
    return sum(len(waiting.body) for waiting in group)


class Stage:
    """Decodes on its own threads and in its own processes, and hands what comes out to the ledger."""

    def __init__(self, ledger: Ledger, processes: int) -> None:
        """Begin; nothing is decoded yet.

        Args:
            ledger: where it goes.
            processes: how many processes requests are decoded in; 0 for none but this one.
        """
        self._ledger = ledger
        number = max(THREADS, processes)
        self._inbox = _Inbox(number)
        self._decoders = [_Decoder(may_delegate=each < processes) for each in range(number)]
        self._threads = [
            threading.Thread(target=self._work, args=(decoder,), name=f"ingest-decode-{each}", daemon=True)
            for each, decoder in enumerate(self._decoders)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def processes_lost(self) -> int:
        """How many decoding processes ended in the middle of their work."""
        return sum(decoder.processes_lost for decoder in self._decoders)

    def put(self, kind: Kind, body: bytes) -> Future[Receipt]:
        """Decode a body and append what it holds.

        Raises (from the future):
            Undecodable: it is no request of its kind.
            Retryable: nothing of it is stored.

        Raises:
            ShuttingDown: the stage is closed.
        """
        waiting = self._inbox.put(lambda: _Waiting(kind, body, self._ledger.announce(len(body))))
        return waiting.future

    def close(self) -> None:
        """Finish what was put in, and end the threads and processes."""
        self._inbox.close()
        for thread in self._threads:
            thread.join()

    def _work(self, decoder: _Decoder) -> None:
        while (taken := self._inbox.take())[0]:
            together, small = taken
            by_kind: dict[Kind, list[_Waiting]] = {}
            for waiting in together:
                by_kind.setdefault(waiting.kind, []).append(waiting)
            for group in by_kind.values():
                self._decode(group, decoder)
            if small and len(together) >= MANY:
                wait([waiting.future for waiting in together], STORED_WITHIN_S)
            if small:
                self._inbox.turn_over()
        decoder.close()

    def _decode(self, group: Sequence[_Waiting], decoder: _Decoder) -> None:
        announced = [waiting.announced for waiting in group]
        try:
            append = decoder.append_of(
                group[0].kind, [waiting.body for waiting in group], here=len(group) >= MANY
            )
            outcome = self._ledger.append(append, announced) if append.rows else _nothing(len(group))
        except (Undecodable, Lost) as error:
            if len(group) > 1:
                for waiting in group:
                    self._decode([waiting], decoder)
                return
            _fail(group, error if isinstance(error, Undecodable) else _lost())
        except CollectorError as error:
            _fail(group, error)
        except Exception:  # noqa: BLE001 — nobody stands above this thread; the senders are told, and may try again
            _log.exception("Requests could not be decoded because of a mistake in LoopGrid.")
            _fail(group, StorageTrouble("The request could not be taken in: a mistake here, it is logged."))
        else:
            outcome.add_done_callback(lambda done: _deliver(group, done))
        self._ledger.settle(announced)


class _Decoder:
    """Decodes here or in a process of its own, whichever costs less. Used by one thread."""

    def __init__(self, *, may_delegate: bool) -> None:
        self._may_delegate = may_delegate
        self._process: DecodeProcess | None = None
        self._spent_s = 0.0
        self.processes_lost = 0

    def append_of(self, kind: Kind, bodies: Sequence[bytes], *, here: bool) -> Append:
        """The bodies as rows.

        Args:
            kind: what they are.
            bodies: one or more.
            here: whether nothing else goes on in this process meanwhile.

        Raises:
            Undecodable: at least one of them is no request of its kind.
            Lost: the process that decoded them ended; each may be tried alone.
        """
        if here and sum(map(len, bodies)) < SMALL_PASS_BYTES:
            return append_of(kind, *bodies)
        process = self._ready_process()
        if process is None:
            begun_s = time.thread_time()
            try:
                return append_of(kind, *bodies)
            finally:
                self._spent_s += time.thread_time() - begun_s
        try:
            return process.append_of(kind, bodies)
        except Lost:
            self._process = None
            self.processes_lost += 1
            _log.error("A decoding process ended in the middle of its work; another one takes its place.")
            raise

    def _ready_process(self) -> DecodeProcess | None:
        """The process, where it is worth having and can be had."""
        if self._process is None and not (self._may_delegate and self._spent_s > WORTH_A_PROCESS_S):
            return None
        try:
            if self._process is None:
                self._process = DecodeProcess()
            return self._process if self._process.ready() else None
        except (OSError, Lost) as error:
            # It cannot be started here, and would not be the next time: it takes longer without.
            self._process, self._may_delegate = None, False
            _log.error("No decoding process can be started (%s); this one decodes.", type(error).__name__)
            return None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()


def _lost() -> StorageTrouble:
    return StorageTrouble(
        "The process that decoded this request ended; nothing of it is stored. Send it again, in smaller "
        "batches if this persists."
    )


def _nothing(requests: int) -> Future[Receipt]:
    """The receipt for requests that held nothing."""
    future: Future[Receipt] = Future()
    future.set_result(Receipt(parts=(Receipt(),) * requests))
    return future


def _deliver(group: Sequence[_Waiting], done: Future[Receipt]) -> None:
    error = done.exception()
    if error is not None:
        _fail(group, error)
        return
    receipt = done.result()
    for waiting, part in zip(group, receipt.parts or (receipt,), strict=True):
        waiting.future.set_result(part)


def _fail(group: Sequence[_Waiting], error: BaseException) -> None:
    for waiting in group:
        waiting.future.set_exception(error)
