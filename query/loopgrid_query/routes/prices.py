"""``/v1/prices``: append a price book, see which models lack a price."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response

from loopgrid_query import price_models as models
from loopgrid_query.routes.common import Domain, answer, refusals

router: Final = APIRouter(prefix="/v1/prices", tags=["sql"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=models.PriceBookMade,
    responses=refusals(
        HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
    summary="Append a price book",
)
def append(body: models.PriceBookRequest, domain: Domain) -> Response:
    """The views `prices` and `costs` show it at once, for decisions of the past too."""
    return answer(domain.prices.append(body), HTTPStatus.CREATED)


@router.get(
    "",
    response_model=models.PriceList,
    responses=refusals(HTTPStatus.SERVICE_UNAVAILABLE),
    summary="Prices on record",
)
def prices(domain: Domain) -> Response:
    """Of all books, the newest first."""
    return answer(domain.prices.all())


@router.get(
    "/unpriced",
    response_model=models.UnpricedModels,
    responses=refusals(HTTPStatus.SERVICE_UNAVAILABLE),
    summary="Models on record without a price",
)
def unpriced(domain: Domain) -> Response:
    """What the view `costs` cannot tell for want of a price."""
    return answer(domain.prices.unpriced())
