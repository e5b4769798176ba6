"""The API's shapes about review queues."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from loopgrid_query.judgement_models import Patch
from loopgrid_query.models import DecisionId, Request, Said

MAX_ITEMS: Final = 5_000
"""Decisions of one queue."""
MAX_REVIEWERS: Final = 20
"""Independent answers that an item may want."""
MAX_LEASE_S: Final = 86_400
MAX_TEXT_CHARS: Final = 10_000
STRATA: Final = frozenset(
    (
        *("service_name", "decision_type", "model", "prompt_name", "prompt_version"),
        *("kind", "status", "session_id", "user_id", "agent_name"),
    )
)
METADATA: Final = "metadata."

Named = Annotated[Said, Field(max_length=200)]
Text = Annotated[Said, Field(max_length=MAX_TEXT_CHARS)]


def _stratum(text: str) -> str:
    if text in STRATA or (text.startswith(METADATA) and text != METADATA):
        return text
    known = ", ".join(sorted(STRATA))
    raise PydanticCustomError("stratum", "must be one of {known} or metadata.<key>", {"known": known})


def _confidence(text: str) -> str:
    part, dot, path = text.partition(".")
    if part in {"metadata", "output"} and dot and path:
        return text
    raise PydanticCustomError("confidence", "must be metadata.<key> or output.<member>, as in output.score")


class SampleGiven(Request):
    """Which of the decisions that the filter finds are asked about."""

    method: Literal["newest", "random", "stratified", "disagreement", "low_confidence"] = "newest"
    size: int = Field(50, ge=1, le=MAX_ITEMS, description="decisions at most")
    seed: Named | None = Field(
        None, description="the same seed draws the same sample again; one is chosen and recorded if left out"
    )
    by: Annotated[str, AfterValidator(_stratum)] | None = Field(
        None, description="stratified: the field whose values make the groups"
    )
    confidence: Annotated[str, AfterValidator(_confidence)] | None = Field(
        None, description="low_confidence: where decisions record it; `metadata.confidence` if left out"
    )
    below: float | None = Field(None, description="low_confidence: only decisions with less than that")


class ReviewRequest(Request):
    """Asks for a review queue."""

    name: Named = Field(examples=["refunds, week 12"])
    filters: dict[str, Any] | None = Field(
        None,
        description="as `GET /v1/decisions` takes them, by name; no limit and no cursor",
        examples=[{"decision_type": "customer_support_reply", "metadata.tier": "gold"}],
    )
    sample: SampleGiven | None = None
    reviewers_per_item: int = Field(1, ge=1, le=MAX_REVIEWERS)
    lease_s: int = Field(1800, ge=1, le=MAX_LEASE_S, description="seconds that a claim holds")
    created_by: Named | None = None


class ReviewerGiven(Request):
    """Who asks, where the API key does not say."""

    reviewer: Named | None = None


class ItemGiven(ReviewerGiven):
    """An item of the queue that the reviewer holds."""

    decision_id: DecisionId


class SkipRequest(ItemGiven):
    """Does not answer an item."""

    reason: Text


class AnswerRequest(ItemGiven):
    """What a reviewer says about a decision."""

    verdict: Literal["correct", "incorrect", "corrected"]
    reason: Text | None = Field(None, description="why; needed for `incorrect`")
    category: Named | None = None
    severity: Named | None = None
    output: Any = Field(None, description="for `corrected`: the output that is right, whole")
    patch: Patch | None = None


class ReviewerProgress(BaseModel):
    """What one reviewer did in a queue."""

    reviewer: str
    answered: int
    skipped: int
    holding: int
    open: int = Field(description="items that this reviewer could answer now")


class ReviewProgress(BaseModel):
    """How far a queue is."""

    items: int
    complete: int = Field(description="items with all the answers they want")
    answers: int
    answers_wanted: int
    remaining: int
    reviewers: list[ReviewerProgress]


class Review(BaseModel):
    """A review queue."""

    review_id: str
    name: str
    status: Literal["open", "closed"]
    selection: Any = Field(
        description="how its decisions were chosen: filters, method, seed, how many were found"
    )
    reviewers_per_item: int
    lease_s: int
    created_by: str | None
    recorded_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    progress: ReviewProgress


class ReviewList(BaseModel):
    """All review queues, newest first."""

    items: list[Review]


class Claimed(BaseModel):
    """What a reviewer goes on with."""

    review_id: str
    reviewer: str
    claim_id: str | None
    decision_id: str | None = Field(description="null where nothing is left for this reviewer now")
    expires_at: datetime | None = Field(description="when somebody else may take it, by the server's clock")
    decision: Any = Field(description="the decision without anything that people said about it")
    progress: ReviewerProgress
    waiting: int = Field(description="items that others hold, which may come back")


class Done(BaseModel):
    """What a reviewer did with an item."""

    review_id: str
    decision_id: str
    reviewer: str
    event_id: str


class Answered(Done):
    """An answer that is on record."""

    verdict: str
    judgement_id: str = Field(description="the approval, mark or correction that it brought forth")


class ItemAnswer(BaseModel):
    """What one reviewer said about an item."""

    answer_id: str
    reviewer: str
    verdict: str
    judgement_id: str
    reason: str | None
    category: str | None
    severity: str | None
    withdrawn: bool = Field(description="the judgement was withdrawn since; it counts in no agreement")
    output: Any
    recorded_at: datetime


class ReviewItem(BaseModel):
    """One decision of a queue."""

    decision_id: str
    complete: bool
    answers: int
    skips: dict[str, str] = Field(description="reasons by reviewer; one's own only, until it is complete")
    said: list[ItemAnswer] = Field(description="one's own, and all once it is complete or the queue closed")


class ReviewItems(BaseModel):
    """The decisions of a queue, in its order."""

    items: list[ReviewItem]


class Coefficient(BaseModel):
    """A measure of agreement."""

    value: float | None
    reason: str | None = Field(description="why there is no value")
    items: int
    raters: int


class PairAgreement(Coefficient):
    """Cohen's kappa of two reviewers."""

    reviewers: list[str]


class Measures(BaseModel):
    """How far reviewers agree on one thing."""

    items: int = Field(description="items that two or more of them rated")
    raters: int
    ratings: dict[str, int] = Field(description="how often each was said, where at most fifty were said")
    raw_agreement: Coefficient = Field(description="share of pairs of answers to one item that are the same")
    cohens_kappa: list[PairAgreement]
    fleiss_kappa: Coefficient
    krippendorff_alpha: Coefficient


class ReviewAgreement(BaseModel):
    """How far the reviewers of a queue agree."""

    review_id: str
    basis: str = Field(description="which items are counted")
    verdict: Measures
    fields: dict[str, Measures] = Field(
        description="by JSON pointer into the output that each reviewer stands for"
    )
    fields_left_out: int
