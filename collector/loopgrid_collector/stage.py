"""Between the doors and the ledger: requests that wait are decoded together.

A pass of the decoder and the dialects costs some milliseconds however little it is given, so under load
many small requests share one. Nobody waits for company: a thread that is free takes what is there.

Laws:

* A future resolves with the ledger's receipt for its own request, or with the reason why there is none.
* A body that cannot be decoded costs no other request anything: then each is decoded alone.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from loopgrid_collector.errors import CollectorError, ShuttingDown, StorageTrouble, Undecodable
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append, Receipt

MAX_SHARED_BYTES: Final = 4 * 2**20
"""Bytes of bodies that share one pass; a larger body has one of its own."""

MAX_SHARED_REQUESTS: Final = 256

THREADS: Final = 2

_log = logging.getLogger(__name__)

Decode = Callable[..., Append]
"""Takes request bodies and gives one append; raises ``Undecodable``."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    decode: Decode
    body: bytes
    future: Future[Receipt] = field(default_factory=Future)


class Stage:
    """Decodes on its own threads, and hands what comes out to the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        """Begin; nothing is decoded yet."""
        self._ledger = ledger
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"ingest-decode-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, decode: Decode, body: bytes) -> Future[Receipt]:
        """Decode a body and append what it holds.

        Raises (from the future):
            Undecodable: it is no request of its kind.
            Retryable: nothing of it is stored.

        Raises:
            ShuttingDown: the stage is closed.
        """
        waiting = _Waiting(decode, body)
        # From here on nobody can cancel it: a sender that goes away must not disturb those it shares with.
        waiting.future.set_running_or_notify_cancel()
        with self._door:
            if self._closed:
                raise ShuttingDown("The server is stopping; send again when it is back.")
            self._queue.put(waiting)
        return waiting.future

    def close(self) -> None:
        """Finish what was put in, and end the threads."""
        with self._door:
            self._closed = True
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            for group in self._grouped(first):
                self._decode(group)
        # The end is for every thread: it is passed on.
        self._queue.put(None)

    def _grouped(self, first: _Waiting) -> list[list[_Waiting]]:
        """What waits, up to the size of one pass, by kind of request."""
        groups: dict[Decode, list[_Waiting]] = {first.decode: [first]}
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
            groups.setdefault(waiting.decode, []).append(waiting)
            size, number = size + len(waiting.body), number + 1
        return list(groups.values())

    def _decode(self, group: Sequence[_Waiting]) -> None:
        try:
            append = group[0].decode(*(waiting.body for waiting in group))
            outcome = self._ledger.append(append) if append.rows else _nothing(len(group))
        except Undecodable as error:
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for waiting in group:
                self._decode([waiting])
        except CollectorError as error:
            _fail(group, error)
        except Exception:  # noqa: BLE001 — nobody stands above this thread; the senders are told, and may try again
            _log.exception("Requests could not be decoded because of a mistake in LoopGrid.")
            _fail(group, StorageTrouble("The request could not be taken in: a mistake here, it is logged."))
        else:
            outcome.add_done_callback(lambda done: _deliver(group, done))


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
