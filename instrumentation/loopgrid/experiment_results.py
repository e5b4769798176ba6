"""What the API answers about cohorts and experiments, in the manner of `loopgrid.results`."""

from __future__ import annotations

from typing import Any, ClassVar

from loopgrid.results import Result


class CohortRecord(Result):
    """A frozen list of decisions, and how they were chosen."""

    cohort_id: str
    name: str
    version: int
    decisions: int
    chosen: dict[str, Any]
    created_by: str | None
    recorded_at: str


class CohortPage(Result):
    """Cohorts, newest first."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": CohortRecord}

    @property
    def cohorts(self) -> list[CohortRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[CohortRecord] = self.__getattr__("items")
        return found


class CohortDecisionPage(Result):
    """Some of the decisions of a cohort."""

    next_cursor: str | None

    @property
    def decision_ids(self) -> list[str]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[str] = self["items"]
        return found


class ExperimentEstimate(Result):
    """What an experiment is going to need."""

    calls: int
    input_tokens: int
    output_tokens: int
    unknown_usage: int
    cost_usd: float | None
    unpriced: int
    seconds: float | None
    refused: list[dict[str, Any]]


class ExperimentProgress(Result):
    """How far an experiment is; the counts are of items."""

    waiting: int
    running: int
    completed: int
    failed: int
    refused: int
    cancelled: int
    spent: dict[str, Any]
    eta_s: float | None


class ExperimentRecord(Result):
    """Many replays of a cohort under one override set."""

    experiment_id: str
    name: str | None
    status: str
    reason: str | None
    cohort_id: str
    overrides: dict[str, Any]
    executor: str | None
    control_share: float
    concurrency: int
    budget: dict[str, Any] | None
    policy: str
    equality: Any
    estimate: ExperimentEstimate
    progress: ExperimentProgress
    created_by: str | None
    recorded_at: str
    ended_at: str | None

    _nested: ClassVar[dict[str, type[Result]]] = {
        "estimate": ExperimentEstimate,
        "progress": ExperimentProgress,
    }


class ExperimentPage(Result):
    """Experiments, newest first."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ExperimentRecord}

    @property
    def experiments(self) -> list[ExperimentRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ExperimentRecord] = self.__getattr__("items")
        return found


class ExperimentItemRecord(Result):
    """What became of one decision in one arm."""

    decision_id: str
    replay_id: str | None
    arm: str
    status: str | None
    outcome: str
    why: str
    truth: bool
    before: bool | None
    after: bool | None
    same: bool | None


class ExperimentItemPage(Result):
    """Some of the items of an experiment."""

    next_cursor: str | None

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ExperimentItemRecord}

    @property
    def results(self) -> list[ExperimentItemRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ExperimentItemRecord] = self.__getattr__("items")
        return found


class ExperimentReport(Result):
    """An experiment in numbers; the shape is that of `loopgrid check --json`."""

    title: str
    overrides: dict[str, Any] | None
    equality: dict[str, Any]
    gate: dict[str, Any] | None
    statistics: dict[str, Any]
    control: list[dict[str, Any]] | None


class ScheduleRecord(Result):
    """A cohort that is repeated unchanged every so often."""

    schedule_id: str
    name: str
    cohort_id: str
    every_s: int
    executor: str | None
    concurrency: int
    budget: dict[str, Any] | None
    equality: Any
    status: str
    runs: int
    last_experiment_id: str | None
    last_run_at: str | None
    trouble: str | None
    created_by: str | None
    recorded_at: str


class SchedulePage(Result):
    """Schedules, newest first."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ScheduleRecord}

    @property
    def schedules(self) -> list[ScheduleRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ScheduleRecord] = self.__getattr__("items")
        return found
