"""How many requests one caller may make: a token bucket each. Pure but for the clock that it is given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_CALLERS: Final = 10_000
"""Callers that are remembered; who asked longest ago is forgotten first, and begins anew."""


class Rates:
    """Rates of callers. For one thread, the event loop's."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        """Remember nobody yet.

        Args:
            per_s: requests a second, on average; 0 for no limit.
            burst: requests at once; those of one second, and at least one, if 0.
            clock: seconds that never go back.
        """
        self._per_s = per_s
        self._burst = float(burst) if burst else max(1.0, per_s)
        self._clock = clock
        self._callers: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """Count a request; seconds until the caller may come again if it is one too many, else 0."""
        if not self._per_s:
            return 0.0
        now = self._clock()
        left, since = self._callers.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_s)
        refused = left < 1
        self._callers[caller] = (left if refused else left - 1, now)
        if len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        return (1 - left) / self._per_s if refused else 0.0
