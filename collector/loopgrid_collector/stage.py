"""Between the doors and the ledger: requests that wait are decoded together, large ones in other processes.

A pass of the decoder and the dialects costs some milliseconds however little it is given, so under load
many small requests share one. Nobody waits for company: a thread that is free takes what is there.

Laws:

* A future resolves with the ledger's receipt for its own request, or with the reason why there is none.
* A body that cannot be decoded costs no other request anything: then each is decoded alone. So is one that
  ends the process that decodes it.
* The ledger is told of every request before it is decoded, so that it can wait for what is about to come.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
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

LEAST_REMOTE_BYTES: Final = 64 * 2**10
"""Bytes of bodies from which a pass goes to another process: below, the way there costs as much."""

THREADS: Final = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: Kind
    body: bytes
    announced: Announced
    future: Future[Receipt] = field(default_factory=Future)


class Stage:
    """Decodes on its own threads and in its own processes, and hands what comes out to the ledger."""

    def __init__(self, ledger: Ledger, processes: int) -> None:
        """Begin; nothing is decoded yet.

        Args:
            ledger: where it goes.
            processes: how many processes large requests are decoded in; 0 for none but this one.
        """
        self._ledger = ledger
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        number = max(THREADS, processes)
        self._threads = [
            threading.Thread(
                target=self._work, args=(each < processes,), name=f"ingest-decode-{each}", daemon=True
            )
            for each in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, kind: Kind, body: bytes) -> Future[Receipt]:
        """Decode a body and append what it holds.

        Raises (from the future):
            Undecodable: it is no request of its kind.
            Retryable: nothing of it is stored.

        Raises:
            ShuttingDown: the stage is closed.
        """
        with self._door:
            if self._closed:
                raise ShuttingDown("The server is stopping; send again when it is back.")
            waiting = _Waiting(kind, body, self._ledger.announce())
            # From here on nobody can cancel it: a sender that goes away must not disturb the others.
            waiting.future.set_running_or_notify_cancel()
            self._queue.put(waiting)
        return waiting.future

    def close(self) -> None:
        """Finish what was put in, and end the threads."""
        with self._door:
            self._closed = True
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, may_delegate: bool) -> None:  # noqa: FBT001 — a thread's argument, named where it is given
        decoder = _Decoder(may_delegate=may_delegate)
        while (first := self._queue.get()) is not None:
            for group in self._grouped(first):
                self._decode(group, decoder)
        decoder.close()
        # The end is for every thread: it is passed on.
        self._queue.put(None)

    def _grouped(self, first: _Waiting) -> list[list[_Waiting]]:
        """What waits, up to the size of one pass, by kind of request."""
        groups: dict[Kind, list[_Waiting]] = {first.kind: [first]}
        size, number = len(first.body), 1
        while size < MAX_SHARED_BYTES and number < MAX_SHARED_REQUESTS:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                # Nothing comes after the end, but it must be seen again, by this thread too.
                self._queue.put(None)
                break
            groups.setdefault(waiting.kind, []).append(waiting)
            size, number = size + len(waiting.body), number + 1
        return list(groups.values())

    def _decode(self, group: Sequence[_Waiting], decoder: _Decoder) -> None:
        announced = [waiting.announced for waiting in group]
        try:
            append = decoder.append_of(group[0].kind, [waiting.body for waiting in group])
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

    def append_of(self, kind: Kind, bodies: Sequence[bytes]) -> Append:
        """The bodies as rows.

        Raises:
            Undecodable: at least one of them is no request of its kind.
            Lost: the process that decoded them ended; each may be tried alone.
        """
        if not self._may_delegate or sum(map(len, bodies)) < LEAST_REMOTE_BYTES:
            return append_of(kind, *bodies)
        if self._process is None:
            self._process = DecodeProcess()
        try:
            return self._process.append_of(kind, bodies)
        except Lost:
            self._process = None
            _log.error("A decoding process ended in the middle of its work; another one takes its place.")
            raise

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
