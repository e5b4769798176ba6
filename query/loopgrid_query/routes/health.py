"""Whether the server lives, and whether it can answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response

from loopgrid_collector.errors import StorageTrouble
from loopgrid_query import models
from loopgrid_query.routes.common import Domain, answer, refusals

router: Final = APIRouter(tags=["health"])


@router.get("/healthz", response_model=models.Health, summary="Alive")
async def healthz() -> Response:
    """The process runs and answers; it says nothing about the ledger."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    response_model=models.Health,
    responses=refusals(HTTPStatus.SERVICE_UNAVAILABLE),
    summary="Ready",
)
def readyz(domain: Domain) -> Response:
    """The ledger answers a query, and the last write to it worked."""
    trouble = domain.reader.trouble
    if trouble is not None:
        raise StorageTrouble(trouble)
    domain.reader.row("last_commit")
    return answer({"status": "ready"})
