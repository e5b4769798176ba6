"""What people say about decisions beside marks and corrections, its history, and outcomes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from loopgrid_query import judgement_models as models
from loopgrid_query.access import Asking
from loopgrid_query.errors import NotFound
from loopgrid_query.judgement import Made, Speaker
from loopgrid_query.models import POLICY, Policy
from loopgrid_query.review.veil import veiled_history
from loopgrid_query.routes.common import Asked, DecisionIdInPath, Domain, IdempotencyKey, answer, refusals

router: Final = APIRouter(prefix="/v1", tags=["judgement"])

_ADDRESS: Final = refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_AGAIN: Final = "The idempotency key brought it forth before"
_SAID: Final[dict[str, Any]] = {
    "status_code": HTTPStatus.CREATED,
    "response_model": models.Judgement,
    "responses": {
        HTTPStatus.OK: {"model": models.Judgement, "description": _AGAIN},
        **_ADDRESS,
        **refusals(HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
    },
}


@router.post("/decisions/{decision_id}/correct", summary="Mark a decision correct", **_SAID)
def approve(
    decision_id: DecisionIdInPath,
    body: models.ApprovalRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Appended beside the marks of those who say otherwise, which stand."""
    return _answer(
        domain.judgements.approve(decision_id, body, _speaker(asked, body.said_by), idempotency_key)
    )


@router.post("/decisions/{decision_id}/agree", summary="Agree with what somebody said", **_SAID)
def agree(
    decision_id: DecisionIdInPath,
    body: models.StanceRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """With a mark, an approval or a correction of somebody else."""
    speaker = _speaker(asked, body.said_by)
    return _answer(domain.judgements.stand("agreement", decision_id, body, speaker, idempotency_key))


@router.post("/decisions/{decision_id}/dispute", summary="Dispute what somebody said", **_SAID)
def dispute(
    decision_id: DecisionIdInPath,
    body: models.StanceRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A mark, an approval or a correction of somebody else. It ends with an adjudication, or is withdrawn."""
    speaker = _speaker(asked, body.said_by)
    return _answer(domain.judgements.stand("dispute", decision_id, body, speaker, idempotency_key))


@router.post("/decisions/{decision_id}/withdraw", summary="Withdraw what was said", **_SAID)
def withdraw(
    decision_id: DecisionIdInPath,
    body: models.WithdrawalRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """It stays on record and counts no more; what it had taken the place of stands again. What others said
    can be withdrawn with a key of scope `admin`.
    """
    speaker = _speaker(asked, body.said_by)
    return _answer(domain.judgements.withdraw(decision_id, body, speaker, idempotency_key))


@router.post("/decisions/{decision_id}/adjudicate", summary="Say which correction stands", **_SAID)
def adjudicate(
    decision_id: DecisionIdInPath,
    body: models.AdjudicationRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """One of those on record, or one that is stated here and appended with it. It ends a dispute."""
    speaker = _speaker(asked, body.said_by)
    return _answer(domain.judgements.adjudicate(decision_id, body, speaker, idempotency_key))


@router.get(
    "/decisions/{decision_id}/history",
    response_model=models.History,
    responses=_ADDRESS,
    summary="Get everything that happened to a decision",
)
def history(decision_id: DecisionIdInPath, domain: Domain, asked: Asked) -> Response:
    """Every event in order, with who, when and commit; also what was withdrawn or superseded since.

    To a key that is to answer the decision in a review queue, what others answered there is not shown yet.
    """
    found = domain.judgements.history(decision_id)
    reviewer = asked.blind_reviewer
    if reviewer is not None:
        found = veiled_history(found, domain.reviews.kept_back(decision_id, reviewer))
    return answer(found)


@router.get(
    "/decisions/{decision_id}/ground_truth",
    response_model=models.GroundTruthAsOf,
    responses=_ADDRESS,
    summary="Get the ground truth of a decision, under a policy and as of any time",
)
def ground_truth(
    decision_id: DecisionIdInPath,
    domain: Domain,
    asked: Asked,
    policy: Annotated[Policy, Query(description=POLICY)] = "latest",
    as_of: Annotated[
        str | None, Query(description="number of a commit, or a moment; now, if left out", max_length=100)
    ] = None,
) -> Response:
    """404 where the decision has none then, or where a reviewer is to answer first."""
    found = domain.judgements.truth(decision_id, policy, as_of)
    reviewer = asked.blind_reviewer
    if reviewer is not None and found["correction_id"] in domain.reviews.kept_back(decision_id, reviewer):
        raise NotFound(
            f"What others say about {decision_id} is shown once {reviewer} has answered its review."
        )
    return answer(found)


@router.post(
    "/outcomes",
    status_code=HTTPStatus.CREATED,
    response_model=models.OutcomeList,
    responses={
        HTTPStatus.OK: {"model": models.OutcomeList, "description": _AGAIN},
        **refusals(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.CONFLICT,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
    summary="Report what became of it, by business key",
)
def report_outcome(
    body: models.OutcomeRequest, domain: Domain, asked: Asked, idempotency_key: IdempotencyKey = None
) -> Response:
    """Appended, and shown at every decision that states this business key: those on record, which are
    answered, and those that are still to come.
    """
    made = domain.outcomes.report(body, asked.said_by(body.reported_by, "reported_by"), idempotency_key)
    asked.shows(item["decision_id"] for item in made.record["items"])
    return _answer(made)


def _speaker(asked: Asking, named: str | None) -> Speaker:
    return Speaker(asked.said_by(named, "said_by"), governs=asked.governs)


def _answer(made: Made) -> Response:
    return answer(made.record, HTTPStatus.CREATED if made.created else HTTPStatus.OK)
