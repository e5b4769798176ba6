"""``/v1/compare``, and the comparison of a decision with its replay; JSON, or a page by ``Accept``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from loopgrid_query import jsontext, models
from loopgrid_query.comparison_models import Comparison
from loopgrid_query.media import best
from loopgrid_query.models import POLICY, Policy
from loopgrid_query.reports.comparison import CONTENT_SECURITY_POLICY, page
from loopgrid_query.routes.common import Asked, DecisionIdInPath, Domain, ReplayIdInPath, answer, refusals

router: Final = APIRouter(prefix="/v1", tags=["replay"])

_JSON: Final = "application/json"
_HTML: Final = "text/html"
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    HTTPStatus.OK: {
        "content": {_HTML: {"schema": {"type": "string"}}},
        "description": "The comparison, or one self-contained page of it",
    },
    **refusals(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.NOT_ACCEPTABLE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}
_RULE: Final = (
    "When outputs count as equal: `exact`, `normalised`, or JSON such as "
    '`{"fields": ["/action"], "absolute": 0.01}`'
)


@router.get(
    "/decisions/{decision_id}/compare/{replay_id}",
    response_model=Comparison,
    responses=_ANSWERS,
    summary="Compare decision, replay and correction",
)
def compare(
    request: Request,
    decision_id: DecisionIdInPath,
    replay_id: ReplayIdInPath,
    domain: Domain,
    asked: Asked,
    equality: Annotated[str | None, Query(description=_RULE)] = None,
    policy: Annotated[Policy, Query(description=POLICY)] = "latest",
) -> Response:
    """Against the ground truth where there is one; a replay that did not run is `not_comparable`."""
    media_type = best(request.headers.get("accept"), (_JSON, _HTML))
    return _shown(domain.comparisons.replay(decision_id, replay_id, equality, policy), asked, media_type)


@router.post(
    "/compare",
    response_model=Comparison,
    responses=_ANSWERS,
    summary="Compare any two decisions, or a replay with what it replays",
)
def compare_any(request: Request, body: models.CompareRequest, domain: Domain, asked: Asked) -> Response:
    """Against the ground truth where one holds for both: a replay has that of its decision, other decisions
    share one where their inputs are the same. Nothing is recorded.
    """
    media_type = best(request.headers.get("accept"), (_JSON, _HTML))
    found = domain.comparisons.between(body.left, body.right, body.equality, body.policy)
    return _shown(found, asked, media_type)


def _shown(comparison: dict[str, Any], asked: Asked, media_type: str) -> Response:
    sides = (comparison["decision"], comparison["result"])
    asked.shows([side["decision_id"] for side in sides if side is not None])
    if media_type == _JSON:
        return answer(comparison)
    # The page is made of what the API answers, so that both show the same.
    shown = page(jsontext.parse(jsontext.answer(comparison).decode()))
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(shown.encode(), media_type=_HTML, headers=headers)
