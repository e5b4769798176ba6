"""The shapes of price books in the API."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from loopgrid_query.models import Request, Said

Usd = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _date(text: str) -> str:
    try:
        day = date.fromisoformat(text).isoformat()
    except ValueError:
        day = ""
    if day != text:
        raise PydanticCustomError("date", "must be a date as in 2026-01-31")
    return text


class PriceGiven(Request):
    """What tokens of one model cost, in US dollars per million of them."""

    model: Said = Field(description="name as it stands on decisions", examples=["gpt-4o-mini"])
    provider: Said | None = Field(None, description="any provider, if left out", examples=["openai"])
    valid_from: Annotated[str, AfterValidator(_date)] | None = Field(
        None, description="first day it is valid (UTC); always, if left out", examples=["2026-01-31"]
    )
    above_input_tokens: int | None = Field(
        None, ge=0, description="holds for calls that read more tokens than this, for all of their tokens"
    )
    input_usd: Usd | None = None
    output_usd: Usd | None = Field(None, description="reasoning tokens included, unless they have a price")
    cache_read_usd: Usd | None = Field(None, description="as input_usd, if left out")
    cache_write_usd: Usd | None = Field(None, description="as input_usd, if left out")
    reasoning_usd: Usd | None = Field(None, description="as output_usd, if left out")
    request_usd: Usd | None = Field(None, description="for each call, whatever its tokens")


class PriceBookRequest(Request):
    """Prices from one source. A newer book goes before an older one, price by price."""

    source: Said = Field(description="where the prices come from", examples=["price list of 2026-11-01"])
    prices: list[PriceGiven] = Field(min_length=1, max_length=10_000)


class PriceBookMade(BaseModel):
    """A price book that is on record."""

    book_id: str
    source: str
    prices: int


class Price(BaseModel):
    """A price that is on record: US dollars per million tokens."""

    price_id: str
    book_id: str
    source: str
    provider: str | None
    model: str
    valid_from: str | None
    above_input_tokens: int | None
    input_usd: float | None
    output_usd: float | None
    cache_read_usd: float | None
    cache_write_usd: float | None
    reasoning_usd: float | None
    request_usd: float | None = Field(description="per request")
    recorded_at: datetime


class PriceList(BaseModel):
    """At most ten thousand of them."""

    items: list[Price]


class UnpricedModel(BaseModel):
    """A model for which no price fits."""

    model_provider: str | None
    model_name: str | None
    model_response_name: str | None
    model_calls: int


class UnpricedModels(BaseModel):
    """At most a thousand of them, the most used first."""

    items: list[UnpricedModel]
