"""The requests of review queues: made, worked through, looked at. Pure.

They are part of `Calls`, which has what they need in common. `loopgrid review` is the same for a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from loopgrid.errors import Invalid
from loopgrid.request import ABSENT, Call, as_json
from loopgrid.results import Result
from loopgrid.review_results import (
    AgreementRecord,
    ClaimRecord,
    ReviewAnswerRecord,
    ReviewItemPage,
    ReviewPage,
    ReviewRecord,
    ReviewStepRecord,
)

R = TypeVar("R", bound=Result)

_REVIEWS = "/v1/reviews"


class ReviewCalls:
    """Review queues, as requests."""

    def create_review(
        self,
        name: str,
        *,
        filters: Mapping[str, Any] | None = None,
        sample: Mapping[str, Any] | None = None,
        reviewers_per_item: int | None = None,
        lease_s: int | None = None,
        created_by: str | None = None,
    ) -> Call[ReviewRecord]:
        """Make a queue of decisions for people to judge. They are chosen now, and stay those.

        Args:
            name: what people call it; no two open queues share one.
            filters: as `list_decisions` takes them, by the API's names: `{"decision_type": "reply",
                "metadata.tier": "gold"}`.
            sample: which of those that fit: `{"method": "random", "size": 50}`; the newest fifty by default.
            reviewers_per_item: independent answers that each decision gets; 1 by default.
            lease_s: seconds that a claim holds; half an hour by default.
            created_by: who makes it; the API key's person by default.

        Raises:
            Conflict: an open queue has that name.
            Invalid: a filter or the sample cannot be meant, or nothing was found.
        """
        body: dict[str, Any] = {"name": name}
        optional = {
            "filters": filters,
            "sample": sample,
            "reviewers_per_item": reviewers_per_item,
            "lease_s": lease_s,
            "created_by": created_by,
        }
        body |= {key: as_json(value, key) for key, value in optional.items() if value is not None}
        return Call("POST", _REVIEWS, ReviewRecord, body=body, settles=True, recorded=True)

    def list_reviews(self) -> Call[ReviewPage]:
        """Every queue with its progress, newest first; they are also the attribute `reviews`."""
        return Call("GET", _REVIEWS, ReviewPage)

    def get_review(self, review_id: str) -> Call[ReviewRecord]:
        """One queue with its progress.

        Raises:
            NotFound: there is none.
        """
        return Call("GET", _path(review_id), ReviewRecord)

    def close_review(self, review_id: str, *, reviewer: str | None = None) -> Call[ReviewRecord]:
        """End a queue: it takes no answers any more. Closing it again changes nothing.

        Args:
            review_id: the queue.
            reviewer: who ends it; the API key's person by default.

        Raises:
            NotFound: there is none.
        """
        return _happens(review_id, "close", ReviewRecord, {}, reviewer, repeatable=True)

    def claim_review(self, review_id: str, *, reviewer: str | None = None) -> Call[ClaimRecord]:
        """The decision that a reviewer goes on with, held for that reviewer until the lease expires.

        Asked again meanwhile, it is the same one with a new lease.

        Args:
            review_id: the queue.
            reviewer: who claims; the API key's person by default.

        Returns:
            The claim; its `decision_id` is None where nothing is left for this reviewer now.

        Raises:
            NotFound: there is no such queue.
            Invalid: nobody knows who claims.
        """
        return _happens(review_id, "claim", ClaimRecord, {}, reviewer, repeatable=True)

    def answer_review(
        self,
        review_id: str,
        decision_id: str,
        verdict: str,
        *,
        reason: str | None = None,
        category: str | None = None,
        severity: str | None = None,
        output: Any = ABSENT,
        patch: Sequence[Mapping[str, Any]] | None = None,
        reviewer: str | None = None,
    ) -> Call[ReviewAnswerRecord]:
        """Answer a claimed decision. It becomes an ordinary approval, mark or correction.

        Args:
            review_id: the queue.
            decision_id: the decision that was claimed.
            verdict: `correct`, `incorrect` or `corrected`.
            reason: why; needed for `incorrect`.
            category: kind of fault, in a word of yours.
            severity: how bad it is, in a word of yours.
            output: for `corrected`, the right output, whole.
            patch: instead of it, what to change in the recorded output: JSON Patch (RFC 6902).
            reviewer: who answers; the API key's person by default.

        Raises:
            NotFound: there is no such queue, or the decision is not in it.
            Conflict: the reviewer does not hold it, or has answered it already.
            Invalid: the answer lacks what its verdict needs, or nobody knows who answers.
        """
        if output is not ABSENT and patch is not None:
            raise Invalid("give either output, the right one, or patch, what to change in it")
        said = {"reason": reason, "category": category, "severity": severity}
        body = {"decision_id": decision_id, "verdict": verdict}
        body |= {name: value for name, value in said.items() if value is not None}
        if output is not ABSENT:
            body["output"] = as_json(output, "output")
        if patch is not None:
            body["patch"] = as_json(patch, "patch")
        return _happens(review_id, "answers", ReviewAnswerRecord, body, reviewer)

    def skip_review(
        self, review_id: str, decision_id: str, *, reason: str, reviewer: str | None = None
    ) -> Call[ReviewStepRecord]:
        """Leave a claimed decision to others; this reviewer is not given it again.

        Args:
            review_id: the queue.
            decision_id: the decision that was claimed.
            reason: why.
            reviewer: who skips it; the API key's person by default.

        Raises:
            NotFound: there is no such queue, or the decision is not in it.
            Conflict: the reviewer does not hold it.
        """
        body = {"decision_id": decision_id, "reason": reason}
        return _happens(review_id, "skip", ReviewStepRecord, body, reviewer)

    def release_review(
        self, review_id: str, decision_id: str, *, reviewer: str | None = None
    ) -> Call[ReviewStepRecord]:
        """Give a claimed decision back, to be taken by anybody. Raises as `skip_review`."""
        return _happens(review_id, "release", ReviewStepRecord, {"decision_id": decision_id}, reviewer)

    def review_items(self, review_id: str) -> Call[ReviewItemPage]:
        """The decisions of a queue, in its order; they are also the attribute `decisions`.

        Answers of others are shown once an item is complete or the queue closed.

        Raises:
            NotFound: there is no such queue.
        """
        return Call("GET", f"{_path(review_id)}/items", ReviewItemPage)

    def review_agreement(self, review_id: str) -> Call[AgreementRecord]:
        """How far the reviewers of a queue agree, on verdicts and on fields of outputs.

        Raises:
            NotFound: there is no such queue.
        """
        return Call("GET", f"{_path(review_id)}/agreement", AgreementRecord)


def _path(review_id: str) -> str:
    return f"{_REVIEWS}/{quote(review_id, safe='')}"


def _happens(
    review_id: str,
    verb: str,
    result: type[R],
    body: dict[str, Any],
    reviewer: str | None,
    *,
    repeatable: bool = False,
) -> Call[R]:
    if reviewer is not None:
        body["reviewer"] = reviewer
    path = f"{_path(review_id)}/{verb}"
    return Call("POST", path, result, body=body, settles=True, repeatable=repeatable, recorded=True)
