"""The agreement of a queue's reviewers, read from the ledger."""

from __future__ import annotations

from typing import Any

from loopgrid.schema import parse_decision_id
from loopgrid_query.queries import Reader
from loopgrid_query.records import Record, parsed
from loopgrid_query.review.agreement import Said, agreement
from loopgrid_query.review.reviews import Reviews


def measured(reader: Reader, reviews: Reviews, review_id: str) -> Record:
    """How far the reviewers of a queue agree.

    While a queue is open only complete items count: what may still be answered gives nothing away.

    Raises:
        NotFound: there is no such queue.
        NotInstalled: the statistics libraries are not here.
    """
    counted, closed = reviews.countable(review_id)
    rows = [
        row
        for row in reader.rows("review_answers_of", {"review_id": review_id})
        if row["decision_id"] in counted and not row["withdrawn"]
    ]
    outputs = _outputs(reader, {row["decision_id"] for row in rows})
    answers = []
    for row in rows:
        known, stands_for = False, None
        if row["verdict"] == "corrected":
            known, stands_for = True, parsed(row["output"])
        elif row["verdict"] == "correct" and row["decision_id"] in outputs:
            known, stands_for = True, outputs[row["decision_id"]]
        answers.append(Said(row["decision_id"], row["reviewer"], row["verdict"], stands_for, known))
    basis = "every answered item" if closed else "items with all the answers they want, as the queue is open"
    return {"review_id": review_id, "basis": basis, **agreement(answers)}


def _outputs(reader: Reader, decision_ids: set[str]) -> dict[str, Any]:
    if not decision_ids:
        return {}
    spans = [parse_decision_id(decision_id)[1] for decision_id in decision_ids]
    rows = reader.rows("review_outputs", {"spans": spans, "decision_ids": sorted(decision_ids)})
    return {row["decision_id"]: parsed(row["output"]) for row in rows if row["output"] is not None}
