"""Prices of a well-kept public list (the package genai-prices), written as a price book.

Only what a price book can say is taken: a price that depends on the hour of the day is left out, because a
cost that is right half of the day is wrong. What a provider bills beside tokens of text (searches, images,
audio, storing a prompt for an hour) is not on decisions, and not in the book.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from loopgrid_query.cli.errors import CliError

_KEYS: Final = {
    "input_mtok": "input_usd",
    "output_mtok": "output_usd",
    "cache_read_mtok": "cache_read_usd",
    "cache_write_mtok": "cache_write_usd",
    "output_reasoning_mtok": "reasoning_usd",
    "requests_kcount": "request_usd",
}
_PER_REQUEST: Final = "requests_kcount"
_REQUESTS: Final = 1000


def prices_of(provider: str | None, model: str) -> list[dict[str, Any]]:
    """The list's prices of one model, as a price book says them; none where the list does not know it.

    Args:
        provider: as on decisions; any, if ``None``.
        model: as on decisions.

    Raises:
        CliError: the list is not installed.
    """
    try:
        from genai_prices.data_snapshot import get_snapshot
        from genai_prices.types import ModelPrice
    except ModuleNotFoundError as error:
        raise CliError("the price list is not installed; pip install genai-prices.") from error
    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return []
    whom = {"model": model} | ({"provider": provider} if provider is not None else {})
    periods = [(None, found.prices)] if isinstance(found.prices, ModelPrice) else _periods(found.prices)
    return [{**whom, **price} for start, prices in periods for price in _tiers(start, prices)]


def _periods(conditional: Any) -> list[tuple[str | None, Any]]:
    from genai_prices.types import StartDateConstraint

    if not all(
        each.constraint is None or isinstance(each.constraint, StartDateConstraint) for each in conditional
    ):
        return []
    return [
        (None if each.constraint is None else each.constraint.start_date.isoformat(), each.prices)
        for each in conditional
    ]


def _tiers(start: str | None, prices: Any) -> Iterator[Mapping[str, Any]]:
    """One price per tier: crossing a tier changes the price of all tokens of a call."""
    from genai_prices.types import TieredPrices

    stated = {key: getattr(prices, key) for key in _KEYS if getattr(prices, key) is not None}
    tiered = [price for price in stated.values() if isinstance(price, TieredPrices)]
    for above in [None, *sorted({tier.start for price in tiered for tier in price.tiers})]:
        row: dict[str, Any] = {} if start is None else {"valid_from": start}
        if above is not None:
            row["above_input_tokens"] = above
        for key, price in stated.items():
            amount = price
            if isinstance(price, TieredPrices):
                reached = [tier for tier in price.tiers if above is not None and tier.start <= above]
                amount = reached[-1].price if reached else price.base
            row[_KEYS[key]] = float(amount) / (_REQUESTS if key == _PER_REQUEST else 1)
        yield row
