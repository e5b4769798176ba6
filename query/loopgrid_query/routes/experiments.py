"""``/v1/cohorts`` and ``/v1/experiments``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response

from loopgrid_query import experiment_models as models
from loopgrid_query.ids import EXPERIMENT_ID_PATTERN
from loopgrid_query.replay.gate import MAX_RULE_CHARS
from loopgrid_query.report_models import GateReport
from loopgrid_query.routes.common import Asked, Domain, answer, refusals

router: Final = APIRouter(prefix="/v1", tags=["experiment"])

CohortNamed = Annotated[
    str,
    Path(description="a cohort's id, its name, or `name@version`", max_length=300, examples=["refunds@2"]),
]
ExperimentId = Annotated[
    str,
    Path(
        description="`exp_` and 32 lower-case hex digits",
        json_schema_extra={"pattern": f"^{EXPERIMENT_ID_PATTERN}$"},
        max_length=100,
    ),
]
Limit = Annotated[int, Query(ge=1, le=models.MAX_PAGE)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
_READ: Final = refusals(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
_PAGED: Final = _READ | refusals(HTTPStatus.BAD_REQUEST)
_WRITE: Final = _READ | refusals(HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)


@router.post(
    "/cohorts",
    status_code=HTTPStatus.CREATED,
    response_model=models.Cohort,
    responses=_WRITE,
    summary="Freeze a cohort of decisions",
)
def create_cohort(body: models.CohortRequest, domain: Domain, asked: Asked) -> Response:
    """Under a name that exists, its next version; the versions before stay."""
    return answer(
        domain.cohorts.create(body, asked.said_by(body.created_by, "created_by")), HTTPStatus.CREATED
    )


@router.get("/cohorts", response_model=models.CohortList, responses=_READ, summary="List cohorts")
def list_cohorts(domain: Domain) -> Response:
    """The newest thousand versions, newest first."""
    return answer(domain.cohorts.all())


@router.get("/cohorts/{cohort}", response_model=models.Cohort, responses=_READ, summary="Get a cohort")
def get_cohort(cohort: CohortNamed, domain: Domain) -> Response:
    """By a name alone, its newest version."""
    return answer(domain.cohorts.get(cohort))


@router.get(
    "/cohorts/{cohort}/decisions",
    response_model=models.CohortDecisions,
    responses=_PAGED,
    summary="List the decisions of a cohort",
)
def cohort_decisions(
    cohort: CohortNamed, domain: Domain, asked: Asked, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Their ids, in the cohort's order."""
    page = domain.cohorts.page(cohort, limit, cursor)
    asked.shows(page["items"])
    return answer(page)


@router.post(
    "/experiments",
    status_code=HTTPStatus.CREATED,
    response_model=models.Experiment,
    responses={
        HTTPStatus.OK: {"model": models.Experiment, "description": "The idempotency key made it before"},
        **_WRITE,
    },
    summary="Begin an experiment",
)
def create(body: models.ExperimentRequest, domain: Domain, asked: Asked) -> Response:
    """Replays a cohort with overrides, and once more unchanged: the control arm. It runs by itself."""
    experiment, created = domain.experiments.create(body, asked.said_by(body.created_by, "created_by"))
    return answer(
        experiment,
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"Location": f"/v1/experiments/{experiment['experiment_id']}"},
    )


@router.post(
    "/experiments/estimate",
    response_model=models.Estimate,
    responses=_WRITE,
    summary="Estimate an experiment",
)
def estimate(body: models.ExperimentRequest, domain: Domain) -> Response:
    """Calls, tokens, money and time, from what the decisions used. Nothing is recorded."""
    return answer(domain.experiments.estimate(body))


@router.get("/experiments", response_model=models.ExperimentList, responses=_READ, summary="List experiments")
def list_experiments(domain: Domain) -> Response:
    """The newest thousand, newest first."""
    return answer(domain.experiments.all())


@router.get(
    "/experiments/{experiment_id}",
    response_model=models.Experiment,
    responses=_READ,
    summary="Get an experiment",
)
def get(experiment_id: ExperimentId, domain: Domain) -> Response:
    """How far it is, and what it has used."""
    return answer(domain.experiments.get(experiment_id))


@router.get(
    "/experiments/{experiment_id}/items",
    response_model=models.ExperimentItems,
    responses=_PAGED,
    summary="List what became of each decision",
)
def items(
    experiment_id: ExperimentId,
    domain: Domain,
    asked: Asked,
    arm: Annotated[str | None, Query(description="`change` or `control`", examples=["change"])] = None,
    outcome: Annotated[str | None, Query(description="as `outcome` of an item", examples=["fixed"])] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Verdicts by what people say is right now."""
    page = domain.results.items(experiment_id, arm, outcome, limit, cursor)
    asked.shows(item["decision_id"] for item in page["items"])
    return answer(page)


@router.get(
    "/experiments/{experiment_id}/report",
    response_model=GateReport,
    responses=_READ | refusals(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_IMPLEMENTED),
    summary="Report on an experiment",
)
def report(
    experiment_id: ExperimentId,
    domain: Domain,
    asked: Asked,
    rule: Annotated[
        str | None,
        Query(
            max_length=MAX_RULE_CHARS,
            description="as of a gate",
            examples=["fixed >= 0.8 and newly_broken == 0"],
        ),
    ] = None,
    title: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """In numbers: shares with intervals, the exact McNemar test, the noise of the control arm, the rule."""
    found = domain.results.report(experiment_id, rule, title)
    asked.shows(item.decision_id for item in found.items)
    return answer(found.model_dump(mode="json"))


@router.post(
    "/experiments/{experiment_id}/cancel",
    response_model=models.Experiment,
    responses=_WRITE,
    summary="Cancel an experiment",
)
def cancel(
    experiment_id: ExperimentId, body: models.ExperimentCancel, domain: Domain, asked: Asked
) -> Response:
    """Nothing more is asked for. What runs comes to its end, and is recorded."""
    by = asked.said_by(body.requested_by, "requested_by")
    return answer(domain.experiments.cancel(experiment_id, by, body.reason))


@router.post(
    "/experiments/{experiment_id}/resume",
    response_model=models.Experiment,
    responses=_WRITE,
    summary="Go on with an experiment",
)
def resume(
    experiment_id: ExperimentId, body: models.ExperimentResume, domain: Domain, asked: Asked
) -> Response:
    """One that stopped or was cancelled. What has come to its end is not run again, unless it failed."""
    by = asked.said_by(body.requested_by, "requested_by")
    return answer(domain.experiments.resume(experiment_id, body.budget, by, retry_failed=body.retry_failed))


ScheduleId = Annotated[str, Path(description="`sch_` and 32 lower-case hex digits", max_length=100)]


@router.post(
    "/schedules",
    status_code=HTTPStatus.CREATED,
    response_model=models.Schedule,
    responses=_WRITE,
    summary="Repeat a cohort every so often",
)
def create_schedule(body: models.ScheduleRequest, domain: Domain, asked: Asked) -> Response:
    """Each run is an experiment whose two arms both change nothing. The first is due at once."""
    made = domain.schedules.create(body, asked.said_by(body.created_by, "created_by"))
    domain.experiments.runner.nudge()
    return answer(made, HTTPStatus.CREATED)


@router.get("/schedules", response_model=models.ScheduleList, responses=_READ, summary="List schedules")
def list_schedules(domain: Domain) -> Response:
    """The newest thousand, newest first."""
    return answer(domain.schedules.all())


@router.get(
    "/schedules/{schedule_id}", response_model=models.Schedule, responses=_READ, summary="Get a schedule"
)
def get_schedule(schedule_id: ScheduleId, domain: Domain) -> Response:
    """With its last run."""
    return answer(domain.schedules.get(schedule_id))


@router.post(
    "/schedules/{schedule_id}/stop",
    response_model=models.Schedule,
    responses=_WRITE,
    summary="Stop a schedule",
)
def stop_schedule(
    schedule_id: ScheduleId, body: models.ExperimentCancel, domain: Domain, asked: Asked
) -> Response:
    """A run that is under way goes on."""
    by = asked.said_by(body.requested_by, "requested_by")
    return answer(domain.schedules.stop(schedule_id, by, body.reason))
