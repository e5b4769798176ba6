"""Whose turn it is to run a statement: waiting costs no thread, so that it slows no other request."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from loopgrid_query.errors import SqlBusy

_T = TypeVar("_T")
BUSY: Final = "As many statements run as may run at once; send it again in a moment."


class Turns:
    """Threads of their own for clients' statements, so many at once."""

    def __init__(self, at_once: int, waiting: int, wait_seconds: float) -> None:
        """Begin.

        Args:
            at_once: statements that run at the same time.
            waiting: statements that may wait for them.
            wait_seconds: how long one waits.
        """
        self._turns = anyio.CapacityLimiter(at_once)
        # The turns are what bounds them; never those of the other routes.
        self._threads = anyio.CapacityLimiter(math.inf)
        self._most_waiting = waiting
        self._wait_seconds = wait_seconds

    @property
    def waiting(self) -> int:
        """Statements that wait now."""
        return self._turns.statistics().tasks_waiting

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do something in a thread when there is room.

        Raises:
            SqlBusy: there was none in time, or too many wait already.
            Exception: whatever ``work`` raises.
        """
        if self.waiting >= self._most_waiting:
            raise SqlBusy(BUSY)
        turn = object()
        try:
            with anyio.fail_after(self._wait_seconds):
                await self._turns.acquire_on_behalf_of(turn)
        except TimeoutError as error:
            raise SqlBusy(BUSY) from error
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._turns.release_on_behalf_of(turn)
