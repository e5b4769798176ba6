"""A clock that goes only where somebody sleeps."""

from __future__ import annotations

import asyncio


class Clock:
    """Seconds that pass at once.

    Attributes:
        pauses: every sleep that was asked for, in seconds.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        """Seconds since it began."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass, and everybody else have a go."""
        self.pauses.append(seconds)
        self._now += seconds
        await asyncio.sleep(0)

    def pass_by(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += seconds
