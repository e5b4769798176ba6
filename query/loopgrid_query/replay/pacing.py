"""When one provider may be asked: not more at once, not more often, not with more tokens than it allows.

Laws:

* What one call is told counts for all: after a 429, or where an answer asks for a pause, nobody asks before
  it is over, and then a single call tries first. Refusals do not multiply.
* Calls are spread evenly over the minute, in the order in which they came. Providers that allow 600 calls a
  minute refuse 600 in one second.
* Whoever waits holds no thread, and can be cancelled at any moment.

Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from loopgrid_query.replay.providers import Provider

_S_PER_MINUTE: Final = 60.0


class Withheld(Exception):
    """The provider asked for a pause that is longer than anybody here waits; the call was not sent."""


@dataclass(slots=True)
class Counts:
    """What happened to the calls of one provider since the start.

    Attributes:
        sent: requests that were sent, repetitions included.
        answered: those that were answered with a completion.
        held_back: those that the provider refused for now (429 and the like).
        withheld: calls that were not sent, since the provider asked for too long a pause.
        waiting: calls that wait for their turn now.
        under_way: requests that are under way now.
    """

    sent: int = 0
    answered: int = 0
    held_back: int = 0
    withheld: int = 0
    waiting: int = 0
    under_way: int = 0


class Line:
    """A rate, kept by spacing: what takes n of it moves the moment of the next by n times its interval."""

    def __init__(self, per_minute: float | None) -> None:
        """Free at once.

        Args:
            per_minute: how much a minute allows; None for any amount.
        """
        self._interval_s = 0.0 if per_minute is None else _S_PER_MINUTE / per_minute
        self.free_at = 0.0

    def take(self, now: float, amount: float) -> None:
        """Take so much of it now."""
        self.free_at = max(now, self.free_at) + amount * self._interval_s

    def correct(self, by: float) -> None:
        """What was taken turned out to be so much more, or less where negative."""
        self.free_at += by * self._interval_s


class Turn:
    """One request that has its turn.

    Attributes:
        tokens: what it was expected to use.
        first: whether it tries, after a pause, if the provider takes calls again.
    """

    def __init__(self, pace: Pace, tokens: int, *, first: bool) -> None:
        self._pace = pace
        self.tokens = tokens
        self.first = first

    def answered(self, tokens: int | None) -> None:
        """It was answered; it used so many tokens, None where the answer does not say."""
        self._pace.answered(self.tokens, tokens)

    def failed(self) -> None:
        """The provider answered that it will not do this one; it takes others."""
        self._pace.clear()

    def held_back(self, pause_s: float, reason: str) -> None:
        """The provider refused it for now: nobody asks for so many seconds."""
        self._pace.pause(pause_s, reason)


class Pace:
    """The turns of one provider's calls."""

    def __init__(
        self,
        provider: Provider,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Nobody waits yet.

        Args:
            provider: with what it allows.
            now: seconds on a clock that never goes back.
            sleep: waits that many of them.
        """
        self.counts = Counts()
        self._provider = provider
        self._now = now
        self._sleep = sleep
        self._places = None if provider.concurrency is None else asyncio.Semaphore(provider.concurrency)
        self._requests = Line(provider.requests_per_minute)
        self._tokens = Line(provider.tokens_per_minute)
        # One waits for the moment, the others for that one: they go in the order in which they came.
        self._next = asyncio.Lock()
        self._paused_until = 0.0
        self._withheld: str | None = None
        self._doubted = False
        self._trying = False
        self._tried = asyncio.Event()

    @property
    def paused_s(self) -> float:
        """Seconds until the provider may be asked again; 0 where it may."""
        return max(0.0, self._paused_until - self._now())

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the length of a block.

        Args:
            tokens: what the request is expected to use.

        Raises:
            Withheld: the provider does not want to be asked for longer than anybody waits.
        """
        self.counts.waiting += 1
        try:
            if self._places is not None:
                await self._places.acquire()
        except BaseException:
            self.counts.waiting -= 1
            raise
        try:
            try:
                async with self._next:
                    turn = await self._moment(tokens)
            finally:
                self.counts.waiting -= 1
            self.counts.sent += 1
            self.counts.under_way += 1
            try:
                yield turn
            finally:
                self.counts.under_way -= 1
                if turn.first:
                    self._trying = False
                    self._tried.set()
        finally:
            if self._places is not None:
                self._places.release()

    def answered(self, expected: int, used: int | None) -> None:
        """A request was answered: the provider takes calls again."""
        self.counts.answered += 1
        self.clear()
        if used is not None:
            self._tokens.correct(used - expected)

    def clear(self) -> None:
        """The provider takes calls again."""
        self._doubted = False
        self._withheld = None

    def pause(self, pause_s: float, reason: str) -> None:
        """Let nobody ask for so many seconds; where that is too long for anybody, say so to who comes."""
        self.counts.held_back += 1
        self._doubted = True
        most_s = self._provider.max_retry_wait_s
        self._withheld = reason if pause_s > most_s else None
        # Asked once in a while even so: what a provider says of hours from now may change.
        self._paused_until = max(self._paused_until, self._now() + min(pause_s, most_s))

    async def _moment(self, tokens: int) -> Turn:
        """Wait until a request may be sent."""
        while True:
            if self._doubted and self._trying:
                await self._tried.wait()
                continue
            now = self._now()
            if self._withheld is not None and now < self._paused_until:
                self.counts.withheld += 1
                raise Withheld(self._withheld)
            wait_s = max(self._paused_until, self._requests.free_at, self._tokens.free_at) - now
            if wait_s > 0:
                await self._sleep(wait_s)
                continue
            self._requests.take(now, 1)
            self._tokens.take(now, tokens)
            first = self._doubted
            if first:
                self._trying = True
                self._tried.clear()
            return Turn(self, tokens, first=first)
