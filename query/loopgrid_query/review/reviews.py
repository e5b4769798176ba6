"""Review queues of one ledger: made, claimed from, answered, closed.

Everything that happens to a queue is an entry of the ledger, leases included: a restart forgets none. Times
are the server's. What a reviewer says is an ordinary mark or correction; the answer links to it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.corrections import Corrections
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid, NotFound
from loopgrid_query.instants import in_utc
from loopgrid_query.judgement import Judgements, Speaker
from loopgrid_query.judgement_models import ApprovalRequest
from loopgrid_query.models import CorrectionRequest, MarkRequest
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record
from loopgrid_query.review import queue as happened
from loopgrid_query.review.queue import Event, Item, Queue
from loopgrid_query.review.sampling import choose
from loopgrid_query.review_models import AnswerRequest, ReviewRequest, SampleGiven

_SAID: Final = ("marks", "corrections", "ground_truth", "outcomes", "replays", "incorrect", "corrected")
"""What is known of a decision beyond what it was when made: what people said, and what was tried since."""


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Reviews:
    """The review queues of one ledger. Threads may share them: one thing at a time happens to queues."""

    def __init__(
        self,
        reader: Reader,
        ingest: Ingest,
        decisions: Decisions,
        corrections: Corrections,
        judgements: Judgements,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Stand on an open ledger.

        Args:
            reader: reads it.
            ingest: the door into it.
            decisions: its decisions.
            corrections: marks and corrections of them.
            judgements: what else people say about them.
            clock: the time, UTC without zone, by which leases run out.
        """
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._corrections = corrections
        self._judgements = judgements
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[str, Queue] = {}
        self._position = -1

    def create(self, request: ReviewRequest, created_by: str | None) -> Record:
        """Make a queue: choose its decisions now, and record which they are.

        Raises:
            Invalid: a filter or the sample cannot be meant, or nothing was found.
            Conflict: an open queue has that name.
            CollectorError: the door refuses; nothing is stored.
        """
        given = request.filters or {}
        jsontext.check(given, "filters")
        jsontext.check(request.name, "name")
        decision_ids, selection = choose(
            self._reader, given, request.sample or SampleGiven.model_validate({})
        )
        body = {
            "name": request.name,
            "selection": selection,
            "reviewers_per_item": request.reviewers_per_item,
            "lease_s": request.lease_s,
            "decision_ids": decision_ids,
        }
        review_id = ids.new_review_id()
        with self._lock:
            self._catch_up()
            taken = [one for one in self._queues.values() if one.name == request.name and not one.closed]
            if taken:
                raise Conflict(
                    f"The open queue {taken[0].review_id} is named {request.name!r}; close it, or choose "
                    "another name."
                )
            self._append(happened.REVIEW, None, created_by, body, entry_id=review_id)
        return self.get(review_id)

    def all(self) -> Record:
        """Every queue, newest first, with its progress."""
        with self._lock:
            self._catch_up()
            rows = self._reader.rows("reviews", {})
            return {"items": [self._record(row) for row in rows]}

    def get(self, review_id: str) -> Record:
        """One queue with its progress.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            self._queue(review_id)
            row = self._reader.row("review", review_id=review_id)
            if row is None:
                raise AssertionError(f"{review_id} is known, so it is on record")
            return self._record(row)

    def close(self, review_id: str, by: str | None) -> Record:
        """End a queue: it takes no answers any more. Closing it again changes nothing. Raises as ``get``."""
        with self._lock:
            if not self._queue(review_id).closed:
                self._append(happened.CLOSED, None, by, {}, review_id=review_id)
        return self.get(review_id)

    def claim(self, review_id: str, reviewer: str | None) -> Record:
        """The decision that a reviewer goes on with, held for that reviewer until its lease expires.

        A reviewer holds one item of a queue at most: asked again, the same one is given, with a new lease.

        Raises:
            NotFound: there is no such queue.
            Invalid: nobody knows who asks.
        """
        who = _named(reviewer)
        with self._lock:
            queue = self._queue(review_id)
            now = self._clock()
            item = queue.next_for(who, now)
            claim_id = expires_at = None
            if item is not None:
                expires_at = now + timedelta(seconds=queue.lease_s)
                body = {"expires_at": expires_at.isoformat()}
                claim_id = self._append(
                    happened.CLAIM, item.decision_id, who, body, review_id=review_id
                ).event_id
            progress = queue.reviewer(who, now)
            waiting = sum(
                who not in one.answers and who not in one.skips and one.held_by_others(who, now) > 0
                for one in queue.items.values()
                if not queue.complete(one)
            )
        return {
            "review_id": review_id,
            "reviewer": who,
            "claim_id": claim_id,
            "decision_id": None if item is None else item.decision_id,
            "expires_at": None if expires_at is None else in_utc(expires_at),
            "decision": None if item is None else self._unjudged(item.decision_id),
            "progress": progress,
            "waiting": 0 if queue.closed else waiting,
        }

    def release(self, review_id: str, decision_id: str, reviewer: str | None) -> Record:
        """Give an item back, to be taken by anybody.

        Raises:
            NotFound: there is no such queue, or the decision is not in it.
            Conflict: the reviewer does not hold it.
            Invalid: nobody knows who asks.
        """
        return self._let_go(happened.RELEASE, review_id, decision_id, reviewer, {})

    def skip(self, review_id: str, decision_id: str, reviewer: str | None, reason: str) -> Record:
        """Leave an item to others; that reviewer is not given it again. Raises as ``release``."""
        jsontext.check(reason, "reason")
        return self._let_go(happened.SKIP, review_id, decision_id, reviewer, {"reason": reason})

    def _let_go(
        self, kind: str, review_id: str, decision_id: str, reviewer: str | None, body: Mapping[str, Any]
    ) -> Record:
        who = _named(reviewer)
        with self._lock:
            queue = self._queue(review_id)
            item = _item(queue, decision_id)
            if queue.closed or who not in item.claims:
                raise Conflict(f"{who} does not hold {decision_id} in {review_id}; claim it first.")
            event = self._append(kind, decision_id, who, body, review_id=review_id)
        return _done(event, who)

    def answer(self, review_id: str, request: AnswerRequest, reviewer: str | None) -> Record:
        """Append what a reviewer says about a decision, and that it is the answer to this item.

        An answer whose lease has expired is taken, unless the place was taken by then.

        Raises:
            NotFound: there is no such queue, or the decision is not in it.
            Conflict: the reviewer never claimed it, has answered it, or others took its places.
            Invalid: the answer lacks what its verdict needs, or nobody knows who asks.
        """
        who = _named(reviewer)
        _check(request)
        with self._lock:
            queue = self._queue(review_id)
            item = _item(queue, request.decision_id)
            if who in item.answers:
                raise Conflict(
                    f"{who} has answered {item.decision_id} in {review_id} already ({item.answers[who]})."
                )
            if queue.closed:
                raise Conflict(f"The queue {review_id} is closed; nothing was recorded.")
            if who not in item.claims:
                raise Conflict(f"{who} does not hold {item.decision_id} in {review_id}; claim it first.")
            if not queue.has_place(item, who, self._clock()):
                raise Conflict(
                    f"The lease of {who} on {item.decision_id} has expired and others have taken it; "
                    "claim the next item. Nothing was recorded."
                )
            judgement_id = self._say(request, who, item.claims[who].claim_id)
            body = {"verdict": request.verdict, "judgement_id": judgement_id}
            event = self._append(happened.ANSWER, item.decision_id, who, body, review_id=review_id)
        return {**_done(event, who), **body}

    def items(self, review_id: str, asks: str | None, *, sees_all: bool) -> Record:
        """The items of a queue with what may be shown to whoever asks.

        Args:
            review_id: the queue.
            asks: the reviewer who asks, if known: own answers are shown.
            sees_all: whether those of others are, too, before an item is complete.
        """
        with self._lock:
            queue = self._queue(review_id)
            by_item: dict[str, list[Record]] = {}
            for row in self._reader.rows("review_answers_of", {"review_id": review_id}):
                by_item.setdefault(row["decision_id"], []).append(_said(row))
            shown = []
            for item in queue.items.values():
                open_to_all = sees_all or queue.closed or queue.complete(item)
                said = by_item.get(item.decision_id, [])
                shown.append(
                    {
                        "decision_id": item.decision_id,
                        "complete": queue.complete(item),
                        "answers": len(item.answers),
                        "skips": {n: why for n, why in item.skips.items() if open_to_all or n == asks},
                        "said": [one for one in said if open_to_all or one["reviewer"] == asks],
                    }
                )
            return {"items": shown}

    def countable(self, review_id: str) -> tuple[frozenset[str], bool]:
        """The items whose answers give nothing away, and whether the queue is closed. Raises as ``get``."""
        with self._lock:
            queue = self._queue(review_id)
            counted = (item for item in queue.items.values() if queue.closed or queue.complete(item))
            return frozenset(item.decision_id for item in counted), queue.closed

    def kept_back(self, decision_id: str, reviewer: str) -> frozenset[str]:
        """Judgements that a reviewer shall not see of a decision before answering it.

        These are what others answered in open queues where the reviewer has a place at the decision.
        """
        with self._lock:
            self._catch_up()
            now = self._clock()
            return frozenset(
                entry_id
                for queue in self._queues.values()
                if (item := queue.items.get(decision_id)) is not None
                and (queue.has_place(item, reviewer, now) or (not queue.closed and reviewer in item.claims))
                for who, entry_id in item.said.items()
                if who != reviewer
            )

    def _say(self, request: AnswerRequest, who: str, claim_id: str) -> str:
        """Id of the ordinary judgement that an answer is; said again after a crash, it is the same one."""
        text = jsontext.text_of(request.model_dump(exclude={"reviewer"}), "output")
        key = f"{claim_id}:{hashlib.sha256(text.encode()).hexdigest()}"
        decision_id = request.decision_id
        stated = {
            name: getattr(request, name)
            for name in ("reason", "category", "severity")
            if getattr(request, name)
        }
        if request.verdict == "correct":
            approval = ApprovalRequest.model_validate(stated)
            made = self._judgements.approve(decision_id, approval, Speaker(who), key)
            return str(made.record["judgement_id"])
        if request.verdict == "incorrect":
            mark = MarkRequest.model_validate({**stated, "marked_by": who})
            return str(self._corrections.mark(decision_id, mark, key).record["mark_id"])
        right = {"patch": request.patch} if request.patch is not None else {"correction": request.output}
        correction = CorrectionRequest.model_validate({**stated, **right, "corrected_by": who})
        return str(self._corrections.correct(decision_id, correction, key).record["correction_id"])

    def _unjudged(self, decision_id: str) -> Record:
        record = self._decisions.get(decision_id)
        return {name: value for name, value in record.items() if name not in _SAID}

    def _queue(self, review_id: str) -> Queue:
        self._catch_up()
        queue = self._queues.get(review_id)
        if queue is None:
            raise NotFound(f"No review queue {review_id} is on record. GET /v1/reviews lists those that are.")
        return queue

    def _catch_up(self) -> None:
        for row in self._reader.rows("review_events", {"after": self._position}):
            event = Event(
                row["entry_id"],
                row["entry_type"],
                row["review_id"],
                row["decision_id"],
                row["actor"],
                jsontext.parse(row["body"]),
            )
            if event.kind == happened.REVIEW:
                self._queues[event.review_id] = Queue.made_by(event)
            else:
                self._queues[event.review_id].apply(event)
            self._position = row["position"]

    def _append(
        self,
        kind: str,
        decision_id: str | None,
        actor: str | None,
        body: Mapping[str, Any],
        *,
        review_id: str | None = None,
        entry_id: str | None = None,
    ) -> Event:
        trace_id, span_id = (0, 0) if decision_id is None else ids.split_decision_id(decision_id)
        made = entry_id or ids.new_review_event_id()
        self._ingest.entry_blocking(
            Entry(
                entry_id=made,
                entry_type=kind,
                trace_id=trace_id,
                span_id=span_id,
                subject_id=review_id,
                actor=actor,
                body=body,
            )
        )
        self._catch_up()
        return Event(made, kind, review_id or made, decision_id, actor, body)

    def _record(self, row: Mapping[str, Any]) -> Record:
        queue = self._queues[row["review_id"]]
        return {
            **row,
            "selection": jsontext.stored(row["selection"]),
            "status": "closed" if queue.closed else "open",
            "progress": queue.progress(self._clock()),
        }


def _named(reviewer: str | None) -> str:
    if reviewer is None:
        raise Invalid.of([FieldError("reviewer", "is missing: say who reviews, or send an API key")])
    jsontext.check(reviewer, "reviewer")
    return reviewer


def _item(queue: Queue, decision_id: str) -> Item:
    item = queue.items.get(decision_id)
    if item is None:
        raise NotFound(f"Decision {decision_id} is not in the review queue {queue.review_id}.")
    return item


def _check(request: AnswerRequest) -> None:
    for name in ("reason", "category", "severity", "output", "patch"):
        jsontext.check(getattr(request, name), name)
    if request.verdict == "incorrect" and request.reason is None:
        raise Invalid.of([FieldError("reason", "is missing: an incorrect decision needs one")])
    right = request.model_fields_set & {"output", "patch"}
    if request.verdict == "corrected":
        if len(right) != 1 or (right == {"patch"} and request.patch is None):
            raise Invalid.of(
                [FieldError("output", "give the output that is right, or a patch of the recorded one")]
            )
    elif right:
        raise Invalid.of([FieldError(min(right), "belongs to the verdict corrected")])


def _done(event: Event, reviewer: str) -> Record:
    return {
        "review_id": event.review_id,
        "decision_id": event.decision_id,
        "reviewer": reviewer,
        "event_id": event.event_id,
    }


def _said(row: Mapping[str, Any]) -> Record:
    return {
        "answer_id": row["answer_id"],
        "reviewer": row["reviewer"],
        "verdict": row["verdict"],
        **{name: row[name] for name in ("judgement_id", "reason", "category", "severity", "withdrawn")},
        "output": jsontext.stored(row["output"]),
        "recorded_at": row["recorded_at"],
    }
