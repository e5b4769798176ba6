"""The shapes of judgement in the API: what people say about decisions, about each other's words, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from loopgrid_query.models import GroundTruth, Instant, Outcome, Request, Said
from loopgrid_query.patches import MAX_OPERATIONS

Patch = Annotated[
    list[dict[str, Any]],
    Field(
        min_length=1,
        max_length=MAX_OPERATIONS,
        description="JSON Patch (RFC 6902) of the recorded output",
        examples=[[{"op": "replace", "path": "/action", "value": "refund"}]],
    ),
]
SubjectId = Annotated[
    str,
    Field(
        pattern=r"^(mrk|apr|cor|agr|dsp|adj)_[0-9a-f]{32}$",
        description="the earlier entry that this one speaks of",
        examples=["cor_8c2d3f405b6e47a19d0e1f2a3b4c5d6e"],
    ),
]


class ApprovalRequest(Request):
    """Says that a decision was correct."""

    reason: Said | None = None
    category: Said | None = Field(None, max_length=200)
    severity: Said | None = Field(None, max_length=200)
    said_by: Said | None = Field(None, description="the API key's person, if left out")


class StanceRequest(Request):
    """Agrees with, or disputes, what somebody else said about a decision."""

    subject_id: SubjectId
    reason: Said | None = None
    said_by: Said | None = Field(
        None, description="the API key's person, if left out; needed where there are no keys"
    )


class WithdrawalRequest(Request):
    """Takes back what was said. It stays on record and counts no more."""

    subject_id: SubjectId
    reason: Said
    said_by: Said | None = Field(None, description="the API key's person, if left out")


class AdjudicationRequest(Request):
    """Ends a dispute: chooses the correction that stands, or states the right output."""

    correction_id: str | None = Field(None, pattern=r"^cor_[0-9a-f]{32}$")
    correction: Any = Field(None, description="the right output, where none of the corrections is; any JSON")
    patch: Patch | None = None
    reason: Said
    said_by: Said | None = Field(
        None, description="the API key's person, if left out; needed where there are no keys"
    )


class Judgement(BaseModel):
    """One thing that a person said, as it is on record."""

    judgement_id: str
    decision_id: str
    event: str = Field(
        description="`mark` (incorrect), `approval` (correct), `correction`, `agreement`, `dispute`, "
        "`withdrawal` or `adjudication`"
    )
    subject_id: str | None = Field(description="the entry it speaks of")
    said_by: str | None
    reason: str | None
    category: str | None
    severity: str | None
    output: Any = Field(description="the output that is right, of a correction")
    patch: Any = Field(description="the JSON Patch that made it, where it came as one")
    withdrawn: bool
    recorded_at: datetime
    commit_id: int
    digest: str
    evaluation: Any = Field(description="the evaluation of a sender that it accepts, if it does")


class HistoryEvent(BaseModel):
    """One event of a decision's history."""

    event: str = Field(description="as `Judgement.event`, or `recorded`, `replay`, `outcome`")
    id: str
    subject_id: str | None
    said_by: str | None
    reason: str | None
    category: str | None
    severity: str | None
    output: Any
    patch: Any
    withdrawn: bool
    recorded_at: datetime
    commit_id: int
    digest: str


class History(BaseModel):
    """Everything that happened to a decision, oldest first."""

    decision_id: str
    items: list[HistoryEvent]


class OutcomeRequest(Request):
    """What became of a thing that decisions were about, by a business key."""

    key: Said = Field(max_length=200, description="kind of the business key", examples=["order"])
    value: Said = Field(max_length=1000, examples=["4711"])
    outcome: Any = Field(description="what happened; any JSON", examples=[{"refund": "accepted"}])
    occurred_at: Instant | None = None
    reported_by: Said | None = None


class OutcomeList(BaseModel):
    """Outcomes, oldest first."""

    items: list[Outcome]


class GroundTruthAsOf(GroundTruth):
    """The effective correction of a decision as of a commit."""

    as_of_commit: int
