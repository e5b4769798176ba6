"""``/v1/replays``: request, get."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response

from loopgrid_query import models
from loopgrid_query.routes.common import Asked, Domain, ReplayIdInPath, answer, refusals

router: Final = APIRouter(prefix="/v1/replays", tags=["replay"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=models.Replay,
    responses={
        HTTPStatus.OK: {"model": models.Replay, "description": "The idempotency key brought it forth before"},
        HTTPStatus.ACCEPTED: {
            "model": models.Replay,
            "description": "Recorded; somebody has to run it (`reason`)",
        },
        **refusals(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
    summary="Replay a decision with overrides",
)
def request_replay(body: models.ReplayRequest, domain: Domain, asked: Asked) -> Response:
    """Forks a past decision. What nothing can run is recorded as `refused`, with the reason."""
    asked.shows([body.decision_id])
    by = asked.said_by(body.requested_by, "requested_by")
    requested = domain.replays.request(body.model_copy(update={"requested_by": by}))
    status = HTTPStatus.CREATED if requested.created else HTTPStatus.OK
    if requested.created and requested.replay["status"] == "pending":
        status = HTTPStatus.ACCEPTED
    return answer(requested.replay, status, {"Location": f"/v1/replays/{requested.replay['replay_id']}"})


@router.get(
    "/{replay_id}",
    response_model=models.Replay,
    responses=refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    summary="Get a replay",
)
def get(replay_id: ReplayIdInPath, domain: Domain, asked: Asked) -> Response:
    """Completed or failed only where a decision that it led to is on record."""
    replay = domain.replays.get(replay_id)
    asked.shows([replay["decision_id"], replay["result_decision_id"]])
    return answer(replay)
