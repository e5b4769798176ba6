"""``/v1/sql``: one reading statement over the public views."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from loopgrid_query import media, models
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(tags=["sql"])

_JSON: Final = "application/json"
_CSV: Final = "text/csv"


@router.post(
    "/v1/sql",
    response_model=models.SqlResult,
    responses={
        HTTPStatus.OK: {
            "content": {_CSV: {"schema": {"type": "string"}}},
            "headers": {
                "LoopGrid-Truncated": {
                    "description": "`true` where a CSV answer leaves rows out",
                    "schema": {"type": "string"},
                }
            },
        },
        **refusals(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.NOT_ACCEPTABLE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
    summary="Read the ledger with SQL",
)
def run(
    body: models.SqlRequest, domain: Domain, asked: Asked, accept: Annotated[str | None, Header()] = None
) -> Response:
    """DuckDB's SQL on the views `decisions`, `steps`, `marks`, `corrections`, `ground_truth`, `replays`,
    `spans`, `events` and the others; reading only. `Accept: text/csv` gives CSV.
    """
    media_type = media.best(accept, (_JSON, _CSV))
    asked.runs(body.query)
    found = domain.analytics.run(body, asked.closed_views)
    if media_type == _JSON:
        return answer(found.record())
    headers = {"LoopGrid-Truncated": "true" if found.truncated else "false"}
    return Response(found.csv(), media_type=_CSV, headers=headers)
