"""Work for workers: who waits, what waits, and the handing over of one to the other.

A worker that waits costs a connection and a future, no thread and no look at the ledger. One that is gone
is noticed: what was handed to it meanwhile waits again.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from loopgrid_query.errors import Conflict
from loopgrid_query.replay.executors import Executor
from loopgrid_query.replay.lifecycle import Attempt, Lifecycle, Outcome

_TOOK_LEAVE: Final = "its connection closed before it was told"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker can run.

    Attributes:
        worker: its name.
        functions: decorated functions that it has, by their recorded names.
        modules: modules that it has whole: it can say that a function of one of them is gone.
    """

    worker: str
    functions: frozenset[str]
    modules: frozenset[str] = frozenset()

    def takes(self, function: str) -> bool:
        """Whether it can say what becomes of a replay of that function."""
        return function in self.functions or function.rpartition(".")[0] in self.modules


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody who waits for work; woken once, on its own event loop."""

    offer: Offer
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    left: bool = False

    def wake(self) -> None:
        self.loop.call_soon_threadsafe(self.woken.set)


class Dispatcher:
    """Hands pending replays of functions to workers. Threads and coroutines may share it."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        """Nobody waits."""
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._pending: dict[str, dict[str, Attempt]] = {}
        self._waiters: dict[_Waiter, None] = {}
        self._recovered = False
        self._closed = False
        lifecycle.when_pending(self._arrived)

    async def claim(
        self, offer: Offer, wait_s: float, lease_s: float, gone: asyncio.Future[None]
    ) -> Attempt | None:
        """The next attempt that fits an offer, running and held by its worker; None where none came in time.

        Args:
            offer: what the worker can run.
            wait_s: seconds to wait.
            lease_s: seconds without a heartbeat after which it is taken from the worker.
            gone: done once nobody waits for the answer any more.

        Raises:
            CollectorError: the door refuses; nothing was handed over.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + wait_s
        if not self._recovered:
            await asyncio.to_thread(self._recover)
        waiter = _Waiter(offer, loop)
        try:
            while not gone.done():
                ends_s = self._lifecycle.next_end_s()
                if ends_s == 0:
                    await asyncio.to_thread(self._lifecycle.end_leases)
                waiter.woken.clear()
                attempt = self._take_or_wait(waiter)
                if attempt is not None:
                    held = await asyncio.to_thread(self._begun, attempt, offer.worker, lease_s)
                    if held is not None and gone.done():
                        await asyncio.to_thread(self._hand_back, held, offer.worker)
                        return None
                    if held is not None:
                        return held
                    continue
                left_s = due - loop.time()
                if left_s <= 0 or waiter.left or self._closed:
                    return None
                await _until(waiter.woken, gone, left_s if ends_s is None else min(left_s, ends_s + 0.001))
            return None
        finally:
            self._gone(waiter)

    def leave(self, worker: str) -> int:
        """Answer every request of a worker that waits, with nothing; how many there were."""
        with self._lock:
            leaving = [waiter for waiter in self._waiters if waiter.offer.worker == worker]
            for waiter in leaving:
                waiter.left = True
                waiter.wake()
        return len(leaving)

    def close(self) -> None:
        """Answer everybody who waits, with nothing, and let nobody wait any more: the server stops."""
        with self._lock:
            self._closed = True
            for waiter in self._waiters:
                waiter.wake()

    def _recover(self) -> None:
        waiting = self._lifecycle.waiting()
        with self._lock:
            if not self._recovered:
                for attempt in waiting:
                    self._keep(attempt)
                self._recovered = True

    def _arrived(self, attempt: Attempt) -> None:
        if attempt.executor != Executor.FUNCTION:
            return
        with self._lock:
            self._keep(attempt)
            self._rouse(attempt.function or "")

    def _keep(self, attempt: Attempt) -> None:
        if attempt.executor == Executor.FUNCTION:
            self._pending.setdefault(attempt.function or "", {})[attempt.replay_id] = attempt

    def _rouse(self, function: str) -> None:
        """Wake one who can run it. The lock is held."""
        waiter = next((one for one in self._waiters if one.offer.takes(function)), None)
        if waiter is not None:
            del self._waiters[waiter]
            waiter.wake()

    def _take_or_wait(self, waiter: _Waiter) -> Attempt | None:
        with self._lock:
            self._waiters.pop(waiter, None)
            for function, attempts in self._pending.items():
                if waiter.offer.takes(function):
                    attempt = attempts.pop(next(iter(attempts)))
                    if not attempts:
                        del self._pending[function]
                    return attempt
            self._waiters[waiter] = None
            return None

    def _gone(self, waiter: _Waiter) -> None:
        with self._lock:
            waiting = waiter in self._waiters
            self._waiters.pop(waiter, None)
            if not waiting:
                # It may have been woken for what it did not take: somebody else shall look.
                for function in self._pending:
                    if waiter.offer.takes(function):
                        self._rouse(function)

    def _begun(self, attempt: Attempt, worker: str, lease_s: float) -> Attempt | None:
        """The attempt, held by the worker; None where it need not or cannot be run any more."""
        try:
            if self._lifecycle.settle(attempt):
                return None
            return self._lifecycle.begin(attempt.replay_id, worker, lease_s)
        except Conflict:
            return None
        except BaseException:
            # The ledger refused: it is still pending, so somebody shall be given it again.
            self._arrived(attempt)
            raise

    def _hand_back(self, held: Attempt, worker: str) -> None:
        self._lifecycle.end(
            held.replay_id, worker, held.number, Outcome.GIVEN_BACK, f"{worker}: {_TOOK_LEAVE}"
        )


async def _until(woken: asyncio.Event, gone: asyncio.Future[None], timeout_s: float) -> None:
    """Wait for either, or for the time to pass."""
    told = asyncio.ensure_future(woken.wait())
    either: set[asyncio.Future[Any]] = {told, gone}
    try:
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
