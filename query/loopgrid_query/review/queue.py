"""A review queue as what happened to it. Pure: events in, state out; times come from the caller.

An item is one decision of a queue. It wants as many answers as the queue asks reviewers; a claim holds one of
these places for one reviewer until it expires; even then the place is kept until somebody else takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

REVIEW: Final = "review"
CLAIM: Final = "review_claim"
RELEASE: Final = "review_release"
SKIP: Final = "review_skip"
ANSWER: Final = "review_answer"
CLOSED: Final = "review_closed"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a queue.

    Attributes:
        event_id: its id in the ledger.
        kind: one of the constants above.
        review_id: the queue.
        decision_id: the item, where it is about one.
        actor: who did it, if known.
        body: the rest.
    """

    event_id: str
    kind: str
    review_id: str
    decision_id: str | None
    actor: str | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A place held for one reviewer until a moment, UTC without zone."""

    claim_id: str
    expires_at: datetime


@dataclass(slots=True)
class Item:
    """One decision of a queue, with what reviewers did about it.

    Attributes:
        decision_id: the decision.
        claims: places held, by reviewer; a newer claim of the same reviewer takes the place of the older.
        answers: ids of answers, by reviewer.
        skips: reasons, by reviewer.
        said: id of the judgement that each reviewer's answer brought forth.
    """

    decision_id: str
    claims: dict[str, Claim] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def held_by_others(self, reviewer: str, now: datetime) -> int:
        """Places that others hold now."""
        return sum(who != reviewer and claim.expires_at > now for who, claim in self.claims.items())


@dataclass(slots=True)
class Queue:
    """A queue as it stands.

    Attributes:
        review_id: its id.
        name: what people call it.
        wanted: answers an item wants, each by another reviewer.
        lease_s: seconds that a claim holds.
        items: by decision id, in the queue's order.
        closed: whether it takes no answers any more.
    """

    review_id: str
    name: str
    wanted: int
    lease_s: int
    items: dict[str, Item]
    closed: bool = False

    @classmethod
    def made_by(cls, event: Event) -> Queue:
        """The queue that an event of kind ``review`` made."""
        body = event.body
        items = {decision_id: Item(decision_id) for decision_id in body["decision_ids"]}
        return cls(event.review_id, body["name"], body["reviewers_per_item"], body["lease_s"], items)

    def apply(self, event: Event) -> None:
        """Take in what happened next."""
        if event.kind == CLOSED:
            self.closed = True
            return
        item = self.items[str(event.decision_id)]
        reviewer = str(event.actor)
        if event.kind == CLAIM:
            expires_at = datetime.fromisoformat(event.body["expires_at"])
            item.claims[reviewer] = Claim(event.event_id, expires_at)
            return
        item.claims.pop(reviewer, None)
        if event.kind == SKIP:
            item.skips[reviewer] = event.body["reason"]
        elif event.kind == ANSWER:
            item.answers[reviewer] = event.event_id
            item.said[reviewer] = event.body["judgement_id"]

    def complete(self, item: Item) -> bool:
        """Whether an item has all the answers it wants."""
        return len(item.answers) >= self.wanted

    def has_place(self, item: Item, reviewer: str, now: datetime) -> bool:
        """Whether a reviewer's answer to an item would be taken now."""
        taken = len(item.answers) + item.held_by_others(reviewer, now)
        return not self.closed and reviewer not in item.answers and taken < self.wanted

    def held(self, reviewer: str, now: datetime) -> Item | None:
        """The item that a reviewer holds already, if any."""
        for item in self.items.values():
            claim = item.claims.get(reviewer)
            if claim is not None and claim.expires_at > now:
                return item
        return None

    def next_for(self, reviewer: str, now: datetime) -> Item | None:
        """The item a reviewer goes on with: the one held, else the first with a place and not skipped."""
        if self.closed:
            return None
        return self.held(reviewer, now) or next(
            (
                item
                for item in self.items.values()
                if reviewer not in item.skips and self.has_place(item, reviewer, now)
            ),
            None,
        )

    def progress(self, now: datetime) -> dict[str, Any]:
        """How far it is: items, answers, and what each reviewer did."""
        items = self.items.values()
        answers = sum(len(item.answers) for item in items)
        names = sorted({name for item in items for name in (*item.answers, *item.skips, *item.claims)})
        return {
            "items": len(self.items),
            "complete": sum(self.complete(item) for item in items),
            "answers": answers,
            "answers_wanted": len(self.items) * self.wanted,
            "remaining": sum(max(self.wanted - len(item.answers), 0) for item in items),
            "reviewers": [self.reviewer(name, now) for name in names],
        }

    def reviewer(self, name: str, now: datetime) -> dict[str, Any]:
        """What one reviewer did, and how many items that reviewer could still answer now."""
        items = self.items.values()
        return {
            "reviewer": name,
            "answered": sum(name in item.answers for item in items),
            "skipped": sum(name in item.skips and name not in item.answers for item in items),
            "holding": sum(name in item.claims and item.claims[name].expires_at > now for item in items),
            "open": sum(name not in item.skips and self.has_place(item, name, now) for item in items),
        }
