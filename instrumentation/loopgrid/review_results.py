"""What the API answers about review queues, in the manner of `loopgrid.results`."""

from __future__ import annotations

from typing import Any, ClassVar

from loopgrid.results import DecisionRecord, Result


class ReviewerProgress(Result):
    """What one reviewer did in a queue; `open` items could be answered by that reviewer now."""

    reviewer: str
    answered: int
    skipped: int
    holding: int
    open: int


class ReviewProgress(Result):
    """How far a queue is."""

    complete: int
    answers: int
    answers_wanted: int
    remaining: int
    reviewers: list[ReviewerProgress]

    _nested: ClassVar[dict[str, type[Result]]] = {"reviewers": ReviewerProgress}


class ReviewRecord(Result):
    """A review queue."""

    review_id: str
    name: str
    status: str
    selection: dict[str, Any]
    reviewers_per_item: int
    lease_s: int
    created_by: str | None
    recorded_at: str
    closed_at: str | None
    closed_by: str | None
    progress: ReviewProgress

    _nested: ClassVar[dict[str, type[Result]]] = {"progress": ReviewProgress}


class ReviewPage(Result):
    """Review queues, newest first."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ReviewRecord}

    @property
    def reviews(self) -> list[ReviewRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ReviewRecord] = self.__getattr__("items")
        return found


class ClaimRecord(Result):
    """What a reviewer goes on with. `decision` has nothing in it that people said."""

    review_id: str
    reviewer: str
    claim_id: str | None
    decision_id: str | None
    expires_at: str | None
    decision: DecisionRecord | None
    progress: ReviewerProgress
    waiting: int

    _nested: ClassVar[dict[str, type[Result]]] = {"decision": DecisionRecord, "progress": ReviewerProgress}


class ReviewStepRecord(Result):
    """What a reviewer did with an item."""

    review_id: str
    decision_id: str
    reviewer: str
    event_id: str


class ReviewAnswerRecord(ReviewStepRecord):
    """An answer that is on record, and the judgement that it brought forth."""

    verdict: str
    judgement_id: str


class ItemAnswer(Result):
    """What one reviewer said about an item."""

    answer_id: str
    reviewer: str
    verdict: str
    judgement_id: str
    reason: str | None
    category: str | None
    severity: str | None
    withdrawn: bool
    output: Any
    recorded_at: str


class ReviewItem(Result):
    """One decision of a queue."""

    decision_id: str
    complete: bool
    answers: int
    skips: dict[str, str]
    said: list[ItemAnswer]

    _nested: ClassVar[dict[str, type[Result]]] = {"said": ItemAnswer}


class ReviewItemPage(Result):
    """The decisions of a queue, in its order."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ReviewItem}

    @property
    def decisions(self) -> list[ReviewItem]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ReviewItem] = self.__getattr__("items")
        return found


class AgreementRecord(Result):
    """How far the reviewers of a queue agree: on verdicts, and by JSON pointer on fields of outputs."""

    review_id: str
    basis: str
    verdict: dict[str, Any]
    fields: dict[str, dict[str, Any]]
    fields_left_out: int
