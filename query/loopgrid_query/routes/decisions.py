"""``/v1/decisions``: record, list, get, trace, mark, correct."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from loopgrid.schema import FIELDS, Kind
from loopgrid_query import models
from loopgrid_query.filters import DEFAULT_LIMIT, FILTERS, MAX_LIMIT, METADATA_PREFIX
from loopgrid_query.instants import FORM
from loopgrid_query.replay_models import RecordedSteps
from loopgrid_query.review.veil import veiled
from loopgrid_query.routes.common import (
    KNOWN,
    Asked,
    DecisionIdInPath,
    Domain,
    IdempotencyKey,
    IfNoneMatch,
    answer,
    answer_unless_known,
    refusals,
)

router: Final = APIRouter(prefix="/v1/decisions", tags=["decisions"])

_ADDRESS: Final = refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_WITH_BODY: Final = _ADDRESS | refusals(HTTPStatus.UNPROCESSABLE_ENTITY)

_JUDGED: Final = _WITH_BODY | refusals(HTTPStatus.CONFLICT)
_AGAIN: Final = "The idempotency key brought it forth before"

_MEANINGS: Final = {field.column: field.meaning for field in FIELDS} | {
    "model": "model that was asked for, or model that answered",
    "from": f"started at this moment or later: {FORM}",
    "to": "started before this moment",
    "incorrect": "`true` or `false`: somebody marked it incorrect",
    "corrected": "`true` or `false`: a correction is attached",
    "q": "text in its input or output, in any case",
    "include_replays": "`true`: also the decisions that replays made, which are left out otherwise",
    "limit": f"decisions a page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} if left out",
    "cursor": "`next_cursor` or `previous_cursor` of another page",
}


_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    "kind": {"type": "string", "enum": [Kind.DECISION.value, Kind.INFERENCE.value]},
    "status": {"type": "string", "enum": ["ok", "error"]},
    **{name: {"type": "boolean"} for name in ("incorrect", "corrected", "include_replays")},
    **{name: {"type": "string", "format": "date-time"} for name in ("from", "to")},
}


def filter_parameters() -> list[dict[str, Any]]:
    """The filters for the API's description; they are read from the address as they stand there."""
    named = [
        {
            "name": name,
            "in": "query",
            "description": _MEANINGS[name],
            "schema": _SCHEMAS.get(name, {"type": "string"}),
        }
        for name in FILTERS
    ]
    any_fact = {
        "name": "metadata",
        "in": "query",
        "description": f"`{METADATA_PREFIX}<key>=<text>`: a fact of the decision, each under its own name",
        "style": "form",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return [*named, any_fact]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=models.DecisionWhole,
    responses={
        HTTPStatus.OK: {
            "model": models.DecisionWhole,
            "description": "The same decision was on record already",
        },
        **_WITH_BODY,
        **refusals(HTTPStatus.CONFLICT),
    },
    summary="Record a decision",
)
def record(body: models.DecisionRequest, domain: Domain, asked: Asked) -> Response:
    """The decision is durable when the answer comes. Sent again with the same `decision_id` and content it is
    stored once; with other content it is refused.
    """
    asked.sends_for(body.service_name)
    recorded = domain.decisions.record(body)
    asked.shows([recorded.decision_id])
    status = HTTPStatus.CREATED if recorded.created else HTTPStatus.OK
    headers = {"Location": f"/v1/decisions/{recorded.decision_id}"}
    return answer(domain.decisions.get(recorded.decision_id), status, headers)


@router.get(
    "",
    response_model=models.DecisionPage,
    responses=KNOWN | refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE),
    openapi_extra={"parameters": filter_parameters()},
    summary="List decisions, newest first",
)
def list_decisions(
    request: Request, domain: Domain, asked: Asked, if_none_match: IfNoneMatch = None
) -> Response:
    """All filters must hold. A filter that does not exist is refused with the nearest name that does."""
    page = domain.decisions.list(request.query_params.multi_items())
    asked.shows(item["decision_id"] for item in page["items"])
    return answer_unless_known(page, if_none_match)


@router.post(
    "/batch",
    response_model=models.DecisionBatch,
    responses=refusals(
        HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
    summary="Get many decisions",
)
def batch(body: models.BatchRequest, domain: Domain, asked: Asked) -> Response:
    """Each as `GET /v1/decisions/{decision_id}` gives it, in the order of the ids; `missing` names those that
    are no decision on record.
    """
    found = domain.decisions.many(body.ids)
    asked.shows(item["decision_id"] for item in found["items"])
    found["items"] = [_as_shown(item, domain, asked) for item in found["items"]]
    return answer(found)


@router.get(
    "/{decision_id}",
    response_model=models.DecisionWhole,
    responses=KNOWN | _ADDRESS,
    summary="Get a decision",
)
def get(
    decision_id: DecisionIdInPath, domain: Domain, asked: Asked, if_none_match: IfNoneMatch = None
) -> Response:
    """The record with its marks, corrections, replays and ground truth.

    To a key that may review, what others answered in an open review queue is not shown before it has answered
    itself; `withheld_for_review` says so.
    """
    record = domain.decisions.get(decision_id)
    return answer_unless_known(_as_shown(record, domain, asked), if_none_match)


def _as_shown(record: dict[str, Any], domain: Domain, asked: Asked) -> dict[str, Any]:
    """A decision, less what a reviewer shall not see yet."""
    reviewer = asked.blind_reviewer
    if reviewer is None:
        return record
    return veiled(record, domain.reviews.kept_back(record["decision_id"], reviewer))


@router.get(
    "/{decision_id}/trace",
    response_model=models.Trace,
    responses=_ADDRESS,
    summary="Get the tree around a decision",
)
def trace(decision_id: DecisionIdInPath, domain: Domain, asked: Asked) -> Response:
    """Every span of its trace, parents before children, and sums that count nothing twice."""
    tree = domain.decisions.trace(decision_id)
    asked.shows([decision_id, *(span["decision_id"] for span in tree["spans"])])
    return answer(tree)


@router.get(
    "/{decision_id}/steps",
    response_model=RecordedSteps,
    responses=_ADDRESS,
    summary="Get what happened inside a decision",
)
def steps(decision_id: DecisionIdInPath, domain: Domain, asked: Asked) -> Response:
    """Calls of functions decorated with `@step` and `@tool`, with arguments and results."""
    found = domain.decisions.steps(decision_id)
    asked.shows([decision_id])
    return answer(found)


@router.post(
    "/{decision_id}/incorrect",
    status_code=HTTPStatus.CREATED,
    response_model=models.MarkMade,
    responses={HTTPStatus.OK: {"model": models.MarkMade, "description": _AGAIN}, **_JUDGED},
    tags=["judgement"],
    summary="Mark a decision incorrect",
)
def mark(
    decision_id: DecisionIdInPath,
    body: models.MarkRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Appended to the ledger; the decision itself stays as it is."""
    by = asked.said_by(body.marked_by, "marked_by")
    body = body.model_copy(update={"marked_by": by})
    made = domain.corrections.mark(decision_id, body, idempotency_key)
    return answer(made.record, HTTPStatus.CREATED if made.created else HTTPStatus.OK)


@router.post(
    "/{decision_id}/correction",
    status_code=HTTPStatus.CREATED,
    response_model=models.CorrectionMade,
    responses={HTTPStatus.OK: {"model": models.CorrectionMade, "description": _AGAIN}, **_JUDGED},
    tags=["judgement"],
    summary="Attach the right output",
)
def correct(
    decision_id: DecisionIdInPath,
    body: models.CorrectionRequest,
    domain: Domain,
    asked: Asked,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Becomes the decision's ground truth. A correction that stood before stays on record, superseded."""
    by = asked.said_by(body.corrected_by, "corrected_by")
    body = body.model_copy(update={"corrected_by": by})
    made = domain.corrections.correct(decision_id, body, idempotency_key)
    return answer(made.record, HTTPStatus.CREATED if made.created else HTTPStatus.OK)
