"""``/v1/sql``: one reading statement over the public views."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from loopgrid_query import media, models, sql_stream
from loopgrid_query.analytics import SqlAnswer
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(tags=["sql"])

_JSON: Final = "application/json"
_CSV: Final = "text/csv"
_ARROW: Final = "application/vnd.apache.arrow.stream"
_PARQUET: Final = "application/vnd.apache.parquet"
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/v1/sql",
    response_model=models.SqlResult,
    responses={
        HTTPStatus.OK: {
            "content": {_CSV: {"schema": {"type": "string"}}, _ARROW: _BINARY, _PARQUET: _BINARY},
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
async def run(
    body: models.SqlRequest, domain: Domain, asked: Asked, accept: Annotated[str | None, Header()] = None
) -> Response:
    """DuckDB's SQL on the views `decisions`, `steps`, `marks`, `corrections`, `ground_truth`, `replays`,
    `spans`, `events` and the others; reading only. `Accept: text/csv` gives CSV;
    `application/vnd.apache.arrow.stream` and `application/vnd.apache.parquet` give all rows in columns.
    """
    media_type = media.best(accept, (_JSON, _CSV, _ARROW, _PARQUET))
    asked.runs(body.query)
    analytics, closed = domain.analytics, asked.closed_views
    if media_type == _ARROW:
        rows = await analytics.turns.run(lambda: analytics.rows(body, closed))
        return StreamingResponse(sql_stream.arrow_stream(rows), media_type=_ARROW)
    if media_type == _PARQUET:
        file = await analytics.turns.run(lambda: sql_stream.parquet_file(analytics.rows(body, closed)))
        return StreamingResponse(sql_stream.pieces(file), media_type=_PARQUET)
    return await analytics.turns.run(lambda: _told(analytics.run(body, closed), media_type))


def _told(found: SqlAnswer, media_type: str) -> Response:
    if media_type == _JSON:
        return answer(found.record())
    headers = {"LoopGrid-Truncated": "true" if found.truncated else "false"}
    return Response(found.csv(), media_type=_CSV, headers=headers)
