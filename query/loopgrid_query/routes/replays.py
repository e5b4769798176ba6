"""``/v1/replays``: request, get, list, cancel, try again; and what workers ask."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from loopgrid_query import models
from loopgrid_query import replay_models as asks
from loopgrid_query.replay.dispatch import Offer
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
def request_replay(body: asks.ReplayRequest, domain: Domain, asked: Asked) -> Response:
    """Forks a past decision. What nothing can run is recorded as `refused`, with the reason."""
    asked.shows([body.decision_id])
    by = asked.said_by(body.requested_by, "requested_by")
    requested = domain.replays.request(body.model_copy(update={"requested_by": by}))
    status = HTTPStatus.CREATED if requested.created else HTTPStatus.OK
    if requested.created and requested.replay["status"] == "pending":
        status = HTTPStatus.ACCEPTED
    return answer(requested.replay, status, {"Location": f"/v1/replays/{requested.replay['replay_id']}"})


_READ: Final = refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_WRITE: Final = _READ | refusals(HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
_ASK: Final = refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)


@router.get(
    "",
    response_model=asks.ReplayList,
    responses=refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE),
    summary="List replays",
)
def list_replays(
    domain: Domain,
    asked: Asked,
    status: Annotated[str | None, Query(description="as `status` of a replay", examples=["pending"])] = None,
    decision_id: Annotated[str | None, Query(description="only replays of this decision")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> Response:
    """The newest first."""
    found = domain.replays.list(status, decision_id, limit, cursor)
    asked.shows(one[name] for one in found["items"] for name in ("decision_id", "result_decision_id"))
    return answer(found)


@router.post("/claim", response_model=asks.ClaimedReplay, responses=_ASK, summary="Claim a replay to run")
async def claim(body: asks.ReplayClaim, request: Request, domain: Domain, asked: Asked) -> Response:
    """Waits `wait_s` for one that the worker can run. It is held until the lease ends."""
    offer = Offer(body.worker, frozenset(body.functions), frozenset(body.modules))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        attempt = await domain.dispatcher.claim(offer, body.wait_s, body.lease_s, gone)
    finally:
        gone.cancel()
    nothing = {"replay": None, "attempt": None, "run_as": None, "decision": None}
    told = nothing if attempt is None else await domain.replays.claimed(attempt)
    asked.shows([None if attempt is None else attempt.decision_id])
    return answer({**told, "lease_s": body.lease_s})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.post("/leave", response_model=asks.Left, responses=_ASK, summary="Stop waiting for replays")
async def leave(body: asks.WorkerGiven, domain: Domain) -> Response:
    """Answers what a worker has waiting with nothing. Attempts that it runs are not touched."""
    return answer({"worker": body.worker, "ended": domain.dispatcher.leave(body.worker)})


@router.post(
    "/{replay_id}/heartbeat",
    response_model=asks.HeartbeatTaken,
    responses=_WRITE,
    summary="Say that an attempt still runs",
)
def heartbeat(replay_id: ReplayIdInPath, body: asks.Heartbeat, domain: Domain) -> Response:
    """409 where the worker does not hold it any more: it was cancelled, or the lease ended."""
    return answer(domain.replays.heartbeat(replay_id, body.worker, body.attempt))


@router.post("/{replay_id}/finish", response_model=models.Replay, responses=_WRITE, summary="End an attempt")
def finish(replay_id: ReplayIdInPath, body: asks.ReplayEnd, domain: Domain, asked: Asked) -> Response:
    """Said again by the same worker, it is said once."""
    replay = domain.replays.end(replay_id, body.worker, body.attempt, body.outcome, body.reason)
    asked.shows([replay["decision_id"], replay["result_decision_id"]])
    return answer(replay)


@router.post("/{replay_id}/cancel", response_model=models.Replay, responses=_WRITE, summary="Cancel a replay")
def cancel(replay_id: ReplayIdInPath, body: asks.ReplayCancel, domain: Domain, asked: Asked) -> Response:
    """It does not run; whoever runs it is told at the next heartbeat. Cancelled again, nothing changes."""
    by = asked.said_by(body.requested_by, "requested_by")
    replay = domain.replays.cancel(replay_id, by, body.reason)
    asked.shows([replay["decision_id"], replay["result_decision_id"]])
    return answer(replay)


@router.post(
    "/{replay_id}/retry", response_model=models.Replay, responses=_WRITE, summary="Run a replay once more"
)
def retry(replay_id: ReplayIdInPath, body: asks.ReplayRetry, domain: Domain, asked: Asked) -> Response:
    """A new attempt of one that failed, was refused or cancelled. One that is pending or running stays so."""
    by = asked.said_by(body.requested_by, "requested_by")
    replay = domain.replays.retry(replay_id, by, body.attempt)
    asked.shows([replay["decision_id"], replay["result_decision_id"]])
    return answer(replay)


@router.get(
    "/{replay_id}",
    response_model=models.Replay,
    responses=refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
    summary="Get a replay",
)
def get(replay_id: ReplayIdInPath, domain: Domain, asked: Asked) -> Response:
    """Completed only where the decision that it led to is on record."""
    replay = domain.replays.get(replay_id)
    asked.shows([replay["decision_id"], replay["result_decision_id"]])
    return answer(replay)
