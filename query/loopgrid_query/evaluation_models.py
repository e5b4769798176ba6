"""The API's shapes about evaluations that others sent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from loopgrid_query.models import Request, Said

MAX_LABELS: Final = 50
MAX_ACCEPTED: Final = 1000
"""Evaluations that one request accepts."""

Becomes = Literal["mark", "approval", "correction"]
Label = Annotated[str, Field(min_length=1, max_length=200)]


class AcceptRequest(Request):
    """Makes one's own word of evaluations that others sent."""

    name: Said = Field(max_length=200, description="`gen_ai.evaluation.name`", examples=["human_review"])
    labels: dict[Label, Becomes] = Field(
        min_length=1,
        max_length=MAX_LABELS,
        description="what each label becomes: `mark` (incorrect), `approval` (correct) or `correction`, "
        "which takes its output from the evaluation",
        examples=[{"incorrect": "mark", "correct": "approval", "corrected": "correction"}],
    )
    evaluator_id: Said | None = Field(
        None, max_length=200, description="only those that name this evaluator; a claim of the sender"
    )
    annotator_kind: Said | None = Field(
        None, max_length=200, description="only those of this kind, as in `human`; a claim of the sender"
    )
    up_to_commit: int | None = Field(
        None, ge=0, lt=2**62, description="only those on record by then, as a dry run answered it"
    )
    limit: int = Field(MAX_ACCEPTED, ge=1, le=MAX_ACCEPTED, description="evaluations at most")
    dry_run: bool = Field(default=False, description="show what would be accepted, and append nothing")
    said_by: Said | None = Field(
        None, description="the API key's person, if left out; needed where there are no keys"
    )


class Accepted(BaseModel):
    """An evaluation and the entry that it became."""

    judgement_id: str
    event: Becomes
    decision_id: str
    evaluation_id: str
    name: str
    label: str
    explanation: str | None


class AcceptAnswer(BaseModel):
    """What was accepted."""

    items: list[Accepted]
    left: dict[str, int] = Field(
        description="others that fit, by reason: `accepted_before`, `withdrawn_by_sender`, "
        "`decision_unknown`, `without_output`, `beyond_limit`"
    )
    up_to_commit: int | None = Field(description="newest commit that holds one of the items")
    dry_run: bool
