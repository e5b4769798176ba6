"""``/v1/evaluations``: judgement as OpenTelemetry log records, and accepting what others sent."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from loopgrid.schema import JudgementKey
from loopgrid_collector.otlp.evaluations import json_line
from loopgrid_query import evaluation_models as models
from loopgrid_query import media
from loopgrid_query.access import Asking
from loopgrid_query.evaluations import BEGINNING
from loopgrid_query.judgement import Speaker
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(prefix="/v1/evaluations", tags=["judgement"])

NDJSON: Final = "application/x-ndjson"
PROTOBUF: Final = "application/x-protobuf"
POSITION: Final = "LoopGrid-Position"


@router.get(
    "",
    responses={
        HTTPStatus.OK: {
            "content": {
                NDJSON: {"schema": {"type": "string"}},
                PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            },
            "headers": {
                POSITION: {
                    "description": "`after` for what is said from then on",
                    "schema": {"type": "string"},
                }
            },
        },
        **refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.SERVICE_UNAVAILABLE),
    },
    response_class=Response,
    summary="Stream judgement as OpenTelemetry evaluations",
)
def stream(
    domain: Domain,
    by: Asked,
    after: Annotated[
        int, Query(ge=BEGINNING, lt=2**62, description="only what was said after this position")
    ] = BEGINNING,
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """`gen_ai.evaluation.result` log records in the order in which things were said. Each line is an
    `ExportLogsServiceRequest` in OTLP/JSON; as `application/x-protobuf` all of them are one.
    """
    media_type = media.best(accept, (NDJSON, PROTOBUF))
    leaving = domain.evaluations.leaving(after)
    requests = _noted(leaving.requests, by)
    write = json_line if media_type == NDJSON else ExportLogsServiceRequest.SerializeToString
    parts = map(write, requests)
    # The first part is made here, so that what fails at once is answered with a problem document.
    return StreamingResponse(
        chain([next(parts, b"")], parts), media_type=media_type, headers={POSITION: str(leaving.position)}
    )


def _noted(requests: Iterator[ExportLogsServiceRequest], by: Asking) -> Iterator[ExportLogsServiceRequest]:
    for request in requests:
        records = request.resource_logs[0].scope_logs[0].log_records
        by.shows(
            pair.value.string_value
            for record in records
            for pair in record.attributes
            if pair.key == JudgementKey.DECISION_ID
        )
        yield request


@router.post(
    "/accept",
    response_model=models.AcceptAnswer,
    responses=refusals(
        HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
    summary="Accept evaluations that others sent",
)
def accept_evaluations(body: models.AcceptRequest, domain: Domain, asked: Asked) -> Response:
    """They become marks, approvals and corrections of whoever accepts. Accepting twice makes one."""
    speaker = Speaker(asked.said_by(body.said_by, "said_by"), governs=asked.governs)
    accepted = domain.evaluations.accept(body, speaker)
    asked.shows(item["decision_id"] for item in accepted["items"])
    return answer(accepted)
