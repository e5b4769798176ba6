"""``/v1/reviews``: queues of decisions for people to judge."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from loopgrid_collector.auth import Scope
from loopgrid_query import review_models as models
from loopgrid_query.access import Asking
from loopgrid_query.review.measuring import measured
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(prefix="/v1/reviews", tags=["review"])

ReviewId = Annotated[str, Path(description="`rev_` and 32 lower-case hex digits", max_length=100)]
_READ: Final = refusals(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_WRITE: Final = _READ | refusals(HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=models.Review,
    responses=_WRITE,
    summary="Make a review queue",
)
def create(body: models.ReviewRequest, domain: Domain, asked: Asked) -> Response:
    """The decisions are chosen now, and stay those."""
    by = asked.said_by(body.created_by, "created_by")
    return answer(domain.reviews.create(body, by), HTTPStatus.CREATED)


@router.get("", response_model=models.ReviewList, responses=_READ, summary="List review queues")
def list_reviews(domain: Domain) -> Response:
    """The newest first, with their progress."""
    return answer(domain.reviews.all())


@router.get("/{review_id}", response_model=models.Review, responses=_READ, summary="Get a review queue")
def get(review_id: ReviewId, domain: Domain) -> Response:
    """How its decisions were chosen, and how far it is."""
    return answer(domain.reviews.get(review_id))


@router.post(
    "/{review_id}/close", response_model=models.Review, responses=_WRITE, summary="Close a review queue"
)
def close(review_id: ReviewId, body: models.ReviewerGiven, domain: Domain, asked: Asked) -> Response:
    """It takes no answers any more. What was answered stays."""
    return answer(domain.reviews.close(review_id, asked.said_by(body.reviewer, "reviewer")))


@router.post(
    "/{review_id}/claim", response_model=models.Claimed, responses=_WRITE, summary="Claim the next decision"
)
def claim(review_id: ReviewId, body: models.ReviewerGiven, domain: Domain, asked: Asked) -> Response:
    """Held for the reviewer until the lease expires; asked again meanwhile, the same one with a new lease."""
    claimed = domain.reviews.claim(review_id, asked.said_by(body.reviewer, "reviewer"))
    asked.shows([claimed["decision_id"]])
    return answer(claimed)


@router.post(
    "/{review_id}/release", response_model=models.Done, responses=_WRITE, summary="Give a decision back"
)
def release(review_id: ReviewId, body: models.ItemGiven, domain: Domain, asked: Asked) -> Response:
    """Anybody may claim it again."""
    who = asked.said_by(body.reviewer, "reviewer")
    return answer(domain.reviews.release(review_id, body.decision_id, who))


@router.post("/{review_id}/skip", response_model=models.Done, responses=_WRITE, summary="Skip a decision")
def skip(review_id: ReviewId, body: models.SkipRequest, domain: Domain, asked: Asked) -> Response:
    """It is left to others; the reason is on record."""
    who = asked.said_by(body.reviewer, "reviewer")
    return answer(domain.reviews.skip(review_id, body.decision_id, who, body.reason))


@router.post(
    "/{review_id}/answers",
    status_code=HTTPStatus.CREATED,
    response_model=models.Answered,
    responses=_WRITE,
    summary="Answer a claimed decision",
)
def submit(review_id: ReviewId, body: models.AnswerRequest, domain: Domain, asked: Asked) -> Response:
    """Appends the ordinary mark or correction, and that it answers this item."""
    who = asked.said_by(body.reviewer, "reviewer")
    return answer(domain.reviews.answer(review_id, body, who), HTTPStatus.CREATED)


@router.get(
    "/{review_id}/items",
    response_model=models.ReviewItems,
    responses=_READ,
    summary="List a queue's decisions",
)
def items(review_id: ReviewId, domain: Domain, asked: Asked) -> Response:
    """Answers of others are shown once an item is complete or the queue closed; to an admin at any time."""
    found = domain.reviews.items(review_id, _who(asked), sees_all=_is_admin(asked))
    asked.shows(item["decision_id"] for item in found["items"])
    return answer(found)


@router.get(
    "/{review_id}/agreement",
    response_model=models.ReviewAgreement,
    responses=_READ | refusals(HTTPStatus.NOT_IMPLEMENTED),
    summary="Measure how far reviewers agree",
)
def agreement(review_id: ReviewId, domain: Domain) -> Response:
    """Cohen's and Fleiss' kappa and Krippendorff's alpha, on verdicts and on fields of outputs."""
    return answer(measured(domain.reader, domain.reviews, review_id))


def _who(asked: Asking) -> str | None:
    return None if asked.key is None else asked.key.who


def _is_admin(asked: Asking) -> bool:
    return asked.key is not None and asked.key.may(Scope.ADMIN)
