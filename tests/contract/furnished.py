"""A ledger in which everything has happened once, made through the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contract.rest import Api, decorated_span, llm_span


@dataclass(frozen=True, slots=True)
class Furnished:
    """What was made, as it was answered.

    Attributes:
        decisions: ids of decisions.
        said: one judgement of every kind, by kind.
        outcome: an outcome.
        replays: a replay that is complete and one that is pending.
        review: a review queue with an answer in it.
        claim: a claim in it.
        answered: the answer.
        price_book: a price book.
    """

    decisions: list[str]
    said: dict[str, dict[str, Any]]
    outcome: dict[str, Any]
    replays: list[dict[str, Any]]
    review: dict[str, Any]
    claim: dict[str, Any]
    answered: dict[str, Any]
    price_book: dict[str, Any]


def furnish(api: Api) -> Furnished:
    """Let everything happen once."""
    decisions = [
        api.record(
            service_name="support-agent",
            input={"message": f"I was charged {number} times"},
            output={"action": "refund", "amount": number},
            model={"provider": "openai", "name": "gpt-4o-mini", "parameters": {"temperature": 0.2}},
            prompt={
                "name": "support",
                "version": "1",
                "template": "{message}",
                "variables": {"message": "x"},
            },
            usage={"input_tokens": 3, "output_tokens": 2},
            metadata={"order": f"order-{number}", "tier": "gold"},
            duration_ms=12.5,
        )["decision_id"]
        for number in range(1, 6)
    ]
    parent = decorated_span()
    api.export(parent, llm_span(parent), service="support-agent")
    decisions.append(f"{parent.trace_id.hex()}-{parent.span_id.hex()}")
    review = _made(api, "/v1/reviews", {"name": "refunds", "filters": {"service_name": "support-agent"}})
    queue = f"/v1/reviews/{review['review_id']}"
    claim = _made(api, f"{queue}/claim", {"reviewer": "dana"}, 200)
    answer = {
        "reviewer": "dana",
        "decision_id": claim["decision_id"],
        "verdict": "incorrect",
        "reason": "late",
    }
    answered = _made(api, f"{queue}/answers", answer)
    prices = [{"model": "gpt-4o-mini", "provider": "openai", "input_usd": 0.15, "output_usd": 0.6}]
    return Furnished(
        decisions=decisions,
        said=_said(api, decisions[0]),
        outcome=_made(api, "/v1/outcomes", {"key": "order", "value": "order-1", "outcome": {"refund": True}})[
            "items"
        ][0],
        replays=[
            _made(
                api,
                "/v1/replays",
                {
                    "decision_id": decisions[0],
                    "executor": "external",
                    "output": {"action": "refund", "amount": 2},
                    "overrides": {"prompt": {"template": "{message}!"}},
                },
            ),
            _made(api, "/v1/replays", {"decision_id": decisions[-1], "executor": "function"}, 202),
        ],
        review=api.client.get(queue).json(),
        claim=claim,
        answered=answered,
        price_book=_made(api, "/v1/prices", {"source": "list of 2026", "prices": prices}),
    )


def _said(api: Api, decision_id: str) -> dict[str, dict[str, Any]]:
    """One judgement of every kind about a decision, as its own address answers it."""
    at = f"/v1/decisions/{decision_id}"
    mark = _made(api, f"{at}/incorrect", {"reason": "wrong amount", "marked_by": "dana"})
    right = {"action": "refund", "amount": 2}
    correction = _made(api, f"{at}/correction", {"correction": right, "corrected_by": "dana"})
    stands = {"subject_id": correction["correction_id"]}
    approval = _made(api, f"{at}/correct", {"said_by": "eve"})
    return {
        "mark": mark,
        "correction": correction,
        "approval": approval,
        "agreement": _made(api, f"{at}/agree", {**stands, "said_by": "eve"}),
        "dispute": _made(api, f"{at}/dispute", {**stands, "said_by": "fay", "reason": "no"}),
        "adjudication": _made(
            api,
            f"{at}/adjudicate",
            {"correction_id": correction["correction_id"], "reason": "seen", "said_by": "gus"},
        ),
        "withdrawal": _made(
            api,
            f"{at}/withdraw",
            {"subject_id": approval["judgement_id"], "reason": "seen again", "said_by": "eve"},
        ),
    }


def _made(api: Api, path: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
    answer = api.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())
