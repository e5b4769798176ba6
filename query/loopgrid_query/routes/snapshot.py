"""``/v1/snapshot``: the whole ledger, as it is at one commit."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from loopgrid_query.routes.common import Domain, refusals

router: Final = APIRouter(tags=["snapshot"])
_TAR: Final = "application/x-tar"


@router.get(
    "/v1/snapshot",
    responses={
        HTTPStatus.OK: {
            "content": {_TAR: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "LoopGrid-Commit": {"description": "its newest commit", "schema": {"type": "string"}},
                "LoopGrid-Ledger": {"description": "which ledger it is", "schema": {"type": "string"}},
            },
        },
        **refusals(HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE),
    },
    response_class=Response,
    summary="Take a copy of the whole ledger",
)
def take(domain: Domain) -> Response:
    """A tar file with the ledger, its log and its head, consistent as of one commit, while others record.
    Unpacked, `loopgrid verify` and `loopgrid serve` take it; `loopgrid snapshot --format parquet` makes
    Parquet files of it where it arrives. Needs an API key with the scope `admin`.
    """
    taken = domain.snapshots.take()
    head = taken.extent.head
    headers = {
        "Content-Length": str(taken.extent.tar_bytes),
        "LoopGrid-Commit": str(head.commit_id),
        "LoopGrid-Ledger": head.ledger_id,
    }
    return StreamingResponse(iter(taken), media_type=_TAR, headers=headers)
