"""``/v1/export``: decisions with their ground truth as of one commit, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Any, Final

import pyarrow as pa
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from loopgrid_query import media
from loopgrid_query.access import Asking
from loopgrid_query.export_models import ExportStanding, ExportStandingRequest
from loopgrid_query.exports import asking, streams
from loopgrid_query.exports.formats import FORMATS
from loopgrid_query.ids import DECISION_ID_PATTERN
from loopgrid_query.instants import FORM
from loopgrid_query.routes.common import Asked, Domain, answer, refusals
from loopgrid_query.routes.decisions import filter_parameters

router: Final = APIRouter(prefix="/v1/export", tags=["export"])

_MEANINGS: Final = {
    "format": f"what a row is: {', '.join(FORMATS)}; jsonl if left out. Tables are given as jsonl here",
    "policy": f"which correction is the ground truth: {', '.join(asking.POLICIES)}",
    "as_of": f"the newest commit, by number, or the newest moment that counts: {FORM}",
    "after": "`<commit>:<decision_id>`: go on after this decision",
    "split_at": "say whether a decision's subject has decisions on both sides of this moment (Arrow only)",
}


_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "format": {"type": "string", "enum": list(FORMATS)},
    "policy": {"type": "string", "enum": list(asking.POLICIES)},
    "as_of": {"type": "string"},
    "after": {"type": "string", "pattern": f"^[0-9]{{1,18}}:{DECISION_ID_PATTERN}$"},
    "split_at": {"type": "string", "format": "date-time"},
}


def _parameters() -> list[dict[str, Any]]:
    own = [
        {"name": name, "in": "query", "description": _MEANINGS[name], "schema": _SCHEMAS[name]}
        for name in asking.WORDS
    ]
    return [*own, *(each for each in filter_parameters() if each["name"] not in asking.NOT_HERE)]


@router.get(
    "",
    responses={
        HTTPStatus.OK: {
            "content": {
                streams.NDJSON: {"schema": {"type": "string"}},
                streams.ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
            "headers": {
                name: {"description": meaning, "schema": {"type": "string"}}
                for name, meaning in {
                    "LoopGrid-Ledger": "which ledger it is",
                    "LoopGrid-Commit": "the newest commit that counts; `as_of` for the same rows again",
                    "LoopGrid-Chain": "the chain value of that commit",
                }.items()
            },
        },
        **refusals(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.NOT_ACCEPTABLE,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
    response_class=Response,
    openapi_extra={"parameters": _parameters()},
    summary="Stream decisions as training and test data",
)
def export(
    request: Request, domain: Domain, by: Asked, accept: Annotated[str | None, Header()] = None
) -> Response:
    """A line a decision: its `row` in the format, or why it is `left_out`; and its `lineage`: the decision,
    the correction, who corrected. In the order of their commits, all as of one commit. With
    `Accept: application/vnd.apache.arrow.stream`, every column of the decisions instead.
    """
    media_type = media.best(accept, (streams.NDJSON, streams.ARROW))
    asked = asking.read(request.query_params.multi_items())
    standpoint = domain.exports.standpoint(asked)
    pages = _noted(domain.exports.pages(asked, standpoint), by)
    is_arrow = media_type == streams.ARROW
    parts = streams.arrow(pages, standpoint) if is_arrow else streams.ndjson(pages, asked.format)
    return StreamingResponse(
        _begun(parts),
        media_type=media_type,
        headers={
            "LoopGrid-Ledger": standpoint.ledger_id,
            "LoopGrid-Commit": str(standpoint.commit_id),
            "LoopGrid-Chain": standpoint.chain,
        },
    )


def _noted(pages: Iterator[pa.Table], by: Asking) -> Iterator[pa.Table]:
    for page in pages:
        by.shows(page.column("decision_id").to_pylist())
        yield page


def _begun(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same parts, of which the first is made: what fails at once is answered with a problem document."""
    return chain([next(parts, b"")], parts)


@router.post(
    "/standing",
    response_model=ExportStanding,
    responses=refusals(
        HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
    summary="What exported decisions rest on now",
)
def standing(body: ExportStandingRequest, domain: Domain, by: Asked) -> Response:
    """For each decision the correction that is its ground truth now, and its marks since a commit."""
    by.shows(body.decision_ids)
    return answer(domain.exports.standing(body.decision_ids, body.since_commit, body.policy))
