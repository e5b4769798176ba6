"""What replays are going to need, from what their decisions used. Pure.

A cost is reckoned as if nothing came from a cache: it is what the price book says at most. An unknown price
or usage is counted, and never taken for zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopgrid_query.queries import Row
from loopgrid_query.records import Record
from loopgrid_query.replay.providers import Provider

_PER_MILLION = 1e6
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Need:
    """What one replay needs, or needed.

    Attributes:
        calls: model calls.
        input_tokens: tokens read; None where nobody knows.
        output_tokens: tokens written; likewise.
        cost_usd: US dollars; None where a price or the usage is unknown.
        duration_s: seconds; None where nobody knows.
    """

    calls: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    duration_s: float | None = None

    @property
    def tokens(self) -> int | None:
        """Input and output tokens; None where neither is known."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Prices:
    """The prices that stand, in the order in which one is preferred."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._of: dict[str, list[Row]] = {}
        for row in rows:
            self._of.setdefault(row["model"], []).append(row)

    def cost(
        self, provider: str | None, models: Sequence[str | None], read: int | None, written: int | None
    ) -> float | None:
        """US dollars of one model call; None where they cannot be told.

        Args:
            provider: who is asked.
            models: names that the model goes by, the one that answers first.
            read: input tokens.
            written: output tokens.
        """
        if read is None:
            return None
        for model in models:
            fitting = [
                row
                for row in self._of.get(model or "", ())
                if row["provider"] in (None, provider)
                and (row["above_input_tokens"] is None or read > row["above_input_tokens"])
            ]
            if fitting:
                return _cost(fitting, read, written)
        return None


def _cost(fitting: Sequence[Row], read: int, written: int | None) -> float | None:
    # They stand in order of preference, but for the tier: the highest one that is reached.
    first = fitting[0]
    price = max(
        (
            row
            for row in fitting
            if (row["provider"], row["valid_from"]) == (first["provider"], first["valid_from"])
        ),
        key=lambda row: row["above_input_tokens"] or -1,
    )
    if price["input_usd"] is None or (price["output_usd"] is None and written):
        return None
    if written is None and price["output_usd"] is not None:
        return None
    tokens = read * price["input_usd"] + (written or 0) * (price["output_usd"] or 0.0)
    return float(tokens / _PER_MILLION + (price["request_usd"] or 0.0))


def need_of(decision: Mapping[str, Any], overrides: Mapping[str, Any], prices: Prices) -> Need:
    """What a replay of a decision needs.

    Args:
        decision: a row of the view; or, with no overrides, what a replay has led to.
        overrides: of the replay.
        prices: those that stand.
    """
    changed = overrides.get("model") or {}
    names = (
        [changed["name"]]
        if changed.get("name")
        else [decision["model_response_name"], decision["model_name"]]
    )
    provider = changed.get("provider") or decision["model_provider"]
    read, written = decision["input_tokens"], decision["output_tokens"]
    duration_ms = decision["duration_ms"]
    return Need(
        input_tokens=read,
        output_tokens=written,
        cost_usd=prices.cost(provider, names, read, written),
        duration_s=None if duration_ms is None else duration_ms / _MS_PER_S,
    )


@dataclass(slots=True)
class Sum:
    """Needs, added up.

    Attributes:
        items: how many.
        unknown_usage: those of which nobody knows the tokens.
        unpriced: those of which nobody knows the cost.
    """

    items: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_usage: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    durations: list[float] = field(default_factory=list)

    def add(self, need: Need) -> None:
        """One more."""
        self.items += 1
        self.calls += need.calls
        self.input_tokens += need.input_tokens or 0
        self.output_tokens += need.output_tokens or 0
        self.unknown_usage += need.tokens is None
        self.cost_usd += need.cost_usd or 0.0
        self.unpriced += need.cost_usd is None
        if need.duration_s is not None:
            self.durations.append(need.duration_s)

    @property
    def tokens(self) -> int:
        """Input and output tokens that are known."""
        return self.input_tokens + self.output_tokens

    def mean(self) -> Need | None:
        """What one of them needs on average; None where nothing is known of any."""
        known = self.items - self.unknown_usage
        if known == 0:
            return None
        priced = self.items - self.unpriced
        cost_usd = self.cost_usd / priced if priced else None
        return Need(
            self.calls // max(self.items, 1),
            self.input_tokens // known,
            self.output_tokens // known,
            cost_usd,
        )

    def seconds(self, concurrency: int) -> float | None:
        """How long all of them take, so many at once; None where no duration is known."""
        if not self.durations:
            return None
        missing = self.items - len(self.durations)
        total = sum(self.durations)
        return (total + missing * total / len(self.durations)) / concurrency

    def least_seconds(self, provider: Provider) -> float:
        """How long a provider's limits make them take, at least."""
        limited = [(self.calls, provider.requests_per_minute), (self.tokens, provider.tokens_per_minute)]
        least = [60.0 * count / most for count, most in limited if most is not None]
        if provider.concurrency is not None:
            least.append(self.seconds(provider.concurrency) or 0.0)
        return max(least, default=0.0)

    def estimate(self, concurrency: int, refused: Counter[str], least_s: float) -> Record:
        """The estimate of an experiment of which these are the items that can run.

        Args:
            concurrency: how many at once.
            refused: how many cannot run, by the reason.
            least_s: what providers' limits make it take.
        """
        seconds = self.seconds(concurrency)
        if least_s:
            seconds = max(seconds or 0.0, least_s)
        return {
            "items": self.items + refused.total(),
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "unknown_usage": self.unknown_usage,
            "cost_usd": self.cost_usd if self.unpriced < self.items else None,
            "unpriced": self.unpriced,
            "seconds": seconds,
            "refused": [
                {"reason": reason, "items": count} for reason, count in refused.most_common(_REASONS)
            ],
        }

    def spent(self) -> Record:
        """What has been used."""
        return {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost_usd,
            "unpriced": self.unpriced,
        }


_REASONS = 20
