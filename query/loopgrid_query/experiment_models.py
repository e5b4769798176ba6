"""The API's shapes about cohorts and experiments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from loopgrid_query.models import DecisionId, Policy, Request, Said
from loopgrid_query.report_models import Item

MAX_COHORT: Final = 50_000
"""Decisions of one cohort."""
MAX_CONCURRENCY: Final = 256
MAX_PAGE: Final = 200

Named = Annotated[Said, Field(max_length=200)]
Seed = Annotated[
    Named | None, Field(description="draws the same sample again; chosen and recorded if left out")
]


class CohortGiven(Request):
    """Which decisions a cohort holds: either ids, or what finds them."""

    decision_ids: list[DecisionId] | None = Field(None, min_length=1, max_length=MAX_COHORT)
    filters: dict[str, Any] | None = Field(
        None,
        description="as `GET /v1/decisions` takes them, by name; no limit and no cursor",
        examples=[{"decision_type": "customer_support_reply"}],
    )
    corrected_since: str | None = Field(
        None,
        description="only decisions whose ground truth was said since this moment (RFC 3339)",
        examples=["2026-03-01T00:00:00Z"],
    )
    uncorrected_sample: int | None = Field(
        None,
        ge=1,
        le=MAX_COHORT,
        description="with `corrected_since`: so many decisions besides that nobody corrected, evenly from "
        "every decision type and prompt version",
    )
    size: int | None = Field(None, ge=1, le=MAX_COHORT, description="decisions at most")
    random: bool = Field(default=False, description="a random sample of `size`, instead of the newest")
    seed: Seed = None


class CohortRequest(CohortGiven):
    """Asks for a cohort, or the next version of one."""

    name: Named = Field(examples=["refunds"])
    policy: Policy = Field("latest", description="whose word counts as ground truth")
    created_by: Named | None = None


class Cohort(BaseModel):
    """A frozen list of decisions, and how they were chosen."""

    cohort_id: str
    name: str
    version: int
    decisions: int
    chosen: dict[str, Any] = Field(description="how they were chosen, and how many were found")
    created_by: str | None
    recorded_at: datetime


class CohortList(BaseModel):
    """Cohorts, newest first."""

    items: list[Cohort]


class CohortDecisions(BaseModel):
    """A page of the decisions of a cohort, in its order."""

    items: list[str]
    next_cursor: str | None


class Budget(Request):
    """What an experiment may use at most. It stops before it would use more, and can be resumed."""

    calls: int | None = Field(None, ge=1, description="model calls")
    tokens: int | None = Field(None, ge=1, description="input and output tokens")
    usd: float | None = Field(
        None, gt=0, description="US dollars by the price book; every price must be known"
    )


class ExperimentRequest(Request):
    """Asks for an experiment: replays of a cohort under one override set."""

    name: Named | None = None
    cohort: str | None = Field(
        None, description="a cohort's name, `name@version` or id", examples=["refunds@2"]
    )
    decisions: CohortGiven | None = Field(
        None, description="instead of `cohort`: one made for this experiment"
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="as of a replay; none repeats the decisions unchanged",
        examples=[{"prompt": {"version": "2"}}],
    )
    executor: Literal["function", "model"] | None = Field(None, description="chosen for each if left out")
    control_share: float = Field(
        1.0, ge=0, le=1, description="share of the cohort that is repeated unchanged, to measure the noise"
    )
    concurrency: int = Field(8, ge=1, le=MAX_CONCURRENCY, description="replays under way at once")
    budget: Budget | None = None
    policy: Policy = Field("latest", description="whose word counts as ground truth")
    equality: Any = Field(None, description="when outputs count as equal, as in a comparison")
    idempotency_key: Named | None = None
    created_by: Named | None = None


class RefusedShare(BaseModel):
    """Items that nothing can run, with the reason they share."""

    reason: str
    items: int


class Estimate(BaseModel):
    """What an experiment is going to need, from what its decisions used."""

    items: int
    calls: int
    input_tokens: int
    output_tokens: int
    unknown_usage: int = Field(description="items whose decision does not say what it used")
    cost_usd: float | None = Field(description="null where no item has a known price")
    unpriced: int = Field(description="items without a known price; their cost is not in `cost_usd`")
    seconds: float | None = Field(
        description="at the asked concurrency, within the providers' limits; null where no duration is known"
    )
    refused: list[RefusedShare] = Field(description="items that nothing can run; they need none of the above")


class Spent(BaseModel):
    """What the finished items have used."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int = Field(description="finished items whose cost nobody can tell")


class ExperimentProgress(BaseModel):
    """How far an experiment is. The counts are of items."""

    items: int
    waiting: int = Field(description="not asked for yet")
    running: int = Field(description="asked for, and not at their end")
    completed: int
    failed: int
    refused: int
    cancelled: int
    spent: Spent
    eta_s: float | None = Field(description="seconds left at the rate so far; null where nobody can tell")


class Experiment(BaseModel):
    """Many replays of a cohort under one override set."""

    experiment_id: str
    name: str | None
    status: Literal["running", "completed", "stopped", "cancelled"]
    reason: str | None = Field(description="why it stopped or was cancelled")
    cohort_id: str
    overrides: dict[str, Any]
    executor: str | None
    control_share: float
    concurrency: int
    budget: dict[str, Any] | None
    policy: str
    equality: Any
    estimate: Estimate
    progress: ExperimentProgress
    created_by: str | None
    recorded_at: datetime
    ended_at: datetime | None


class ExperimentList(BaseModel):
    """Experiments, newest first."""

    items: list[Experiment]


class ExperimentItem(Item):
    """What became of one decision in one arm."""

    arm: Literal["change", "control"]
    status: str | None = Field(description="of its replay; null where it was not asked for yet")


class ExperimentItems(BaseModel):
    """A page of items, in the cohort's order: the change arm, then the control arm."""

    items: list[ExperimentItem]
    next_cursor: str | None


class ScheduleRequest(Request):
    """Asks for a cohort to be repeated unchanged every so often: a canary for the model behind a name."""

    name: Named = Field(examples=["refund canary"])
    cohort: str = Field(description="a cohort's name, `name@version` or id", examples=["refunds@2"])
    every_s: int = Field(ge=60, le=366 * 86_400, description="seconds from one run to the next")
    executor: Literal["function", "model"] | None = Field(None, description="chosen for each if left out")
    concurrency: int = Field(8, ge=1, le=MAX_CONCURRENCY)
    budget: Budget | None = Field(None, description="of each run")
    equality: Any = Field(None, description="when outputs count as equal, as in a comparison")
    created_by: Named | None = None


class Schedule(BaseModel):
    """A cohort that is repeated unchanged, each run an experiment whose two arms both change nothing."""

    schedule_id: str
    name: str
    cohort_id: str
    every_s: int
    executor: str | None
    concurrency: int
    budget: dict[str, Any] | None
    equality: Any
    status: Literal["running", "stopped"]
    runs: int
    last_experiment_id: str | None
    last_run_at: datetime | None
    trouble: str | None = Field(description="why the last run that was due did not begin")
    created_by: str | None
    recorded_at: datetime


class ScheduleList(BaseModel):
    """Schedules, newest first."""

    items: list[Schedule]


class ExperimentCancel(Request):
    """Ends an experiment."""

    reason: Annotated[Said, Field(max_length=2000)] | None = None
    requested_by: Named | None = None


class ExperimentResume(Request):
    """Lets an experiment go on that stopped, was cancelled, or has failed items."""

    budget: Budget | None = Field(None, description="in place of the budget so far")
    retry_failed: bool = Field(default=False, description="run failed, refused and cancelled items once more")
    requested_by: Named | None = None
