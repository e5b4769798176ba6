"""The requests of cohorts and experiments. Pure.

They are part of `Calls`; `loopgrid experiment` is the same for a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from loopgrid.errors import Invalid
from loopgrid.experiment_results import (
    CohortDecisionPage,
    CohortPage,
    CohortRecord,
    ExperimentEstimate,
    ExperimentItemPage,
    ExperimentPage,
    ExperimentRecord,
    ExperimentReport,
    SchedulePage,
    ScheduleRecord,
)
from loopgrid.request import Call, as_json, new_key
from loopgrid.results import Result

R = TypeVar("R", bound=Result)

_COHORTS = "/v1/cohorts"
_EXPERIMENTS = "/v1/experiments"
_SCHEDULES = "/v1/schedules"


class ExperimentCalls:
    """Cohorts and experiments, as requests."""

    def create_cohort(
        self,
        name: str,
        *,
        decision_ids: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        corrected_since: str | None = None,
        uncorrected_sample: int | None = None,
        size: int | None = None,
        random: bool = False,
        seed: str | None = None,
        policy: str | None = None,
        created_by: str | None = None,
    ) -> Call[CohortRecord]:
        """Freeze a cohort of decisions. Under a name that exists it is the next version; the others stay.

        Args:
            name: what people call it.
            decision_ids: the decisions; or else what finds them:
            filters: as `list_decisions` takes them, by the API's names. Replays of decisions are left out.
            corrected_since: only decisions whose ground truth was said since then, as `2026-03-01T00:00:00Z`.
            uncorrected_sample: with it, so many decisions besides that nobody corrected.
            size: decisions at most.
            random: a random sample of `size`, instead of the newest.
            seed: draws the same sample again.
            policy: whose word counts as ground truth; `latest` by default.
            created_by: who makes it; the API key's person by default.

        Raises:
            Invalid: it cannot be meant, or no decision was found.
        """
        body = {"name": name} | _chosen(
            decision_ids=decision_ids,
            filters=filters,
            corrected_since=corrected_since,
            uncorrected_sample=uncorrected_sample,
            size=size,
            random=random or None,
            seed=seed,
            policy=policy,
            created_by=created_by,
        )
        return Call("POST", _COHORTS, CohortRecord, body=body, settles=True, recorded=True)

    def list_cohorts(self) -> Call[CohortPage]:
        """Every version of every cohort, newest first; they are also the attribute `cohorts`."""
        return Call("GET", _COHORTS, CohortPage)

    def get_cohort(self, cohort: str) -> Call[CohortRecord]:
        """A cohort by its id, its name (the newest version) or `name@version`.

        Raises:
            NotFound: there is none.
        """
        return Call("GET", f"{_COHORTS}/{quote(cohort, safe='')}", CohortRecord)

    def cohort_decisions(
        self, cohort: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Call[CohortDecisionPage]:
        """A page of the ids of a cohort's decisions, in its order, also as the attribute `decision_ids`.

        Raises:
            NotFound: there is no such cohort.
        """
        path = f"{_COHORTS}/{quote(cohort, safe='')}/decisions"
        return Call("GET", path, CohortDecisionPage, query=_query(limit=limit, cursor=cursor))

    def create_experiment(
        self,
        *,
        cohort: str | None = None,
        decisions: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        name: str | None = None,
        executor: str | None = None,
        control_share: float | None = None,
        concurrency: int | None = None,
        budget: Mapping[str, Any] | None = None,
        policy: str | None = None,
        equality: Any = None,
        created_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[ExperimentRecord]:
        """Begin an experiment: replays of a cohort with overrides, and once more unchanged (the control arm).

        It runs by itself, on the server or in workers; `get_experiment` tells how far it is.

        Args:
            cohort: a cohort's name, `name@version` or id.
            decisions: instead of it, what `create_cohort` takes to find them.
            overrides: as `create_replay` takes them; none repeats the decisions unchanged.
            name: what people call it.
            executor: `function` or `model`; chosen for each decision by default.
            control_share: share of the cohort that is repeated unchanged; all of it by default.
            concurrency: replays under way at once; 8 by default.
            budget: `{"calls": …, "tokens": …, "usd": …}`, each optional; it stops before it would use more.
            policy: whose word counts as ground truth; `latest` by default.
            equality: when outputs count as equal, as `compare` takes it.
            created_by: who makes it; the API key's person by default.
            idempotency_key: the same key begins the same experiment once; a new one by default.

        Raises:
            NotFound: there is no such cohort.
            Invalid: it cannot be meant; nothing was begun.
        """
        body = _experiment(
            cohort=cohort,
            decisions=decisions,
            overrides=overrides,
            name=name,
            executor=executor,
            control_share=control_share,
            concurrency=concurrency,
            budget=budget,
            policy=policy,
            equality=equality,
            created_by=created_by,
        )
        body["idempotency_key"] = new_key() if idempotency_key is None else idempotency_key
        return Call(
            "POST", _EXPERIMENTS, ExperimentRecord, body=body, settles=True, repeatable=True, recorded=True
        )

    def estimate_experiment(
        self,
        *,
        cohort: str | None = None,
        decisions: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        executor: str | None = None,
        control_share: float | None = None,
        concurrency: int | None = None,
    ) -> Call[ExperimentEstimate]:
        """Calls, tokens, money and time that an experiment is going to need. Nothing is recorded.

        Arguments and errors are those of `create_experiment`.
        """
        body = _experiment(
            cohort=cohort,
            decisions=decisions,
            overrides=overrides,
            executor=executor,
            control_share=control_share,
            concurrency=concurrency,
        )
        path = f"{_EXPERIMENTS}/estimate"
        return Call("POST", path, ExperimentEstimate, body=body, settles=True, repeatable=True)

    def list_experiments(self) -> Call[ExperimentPage]:
        """The experiments, newest first; they are also the attribute `experiments`."""
        return Call("GET", _EXPERIMENTS, ExperimentPage)

    def get_experiment(self, experiment_id: str) -> Call[ExperimentRecord]:
        """One experiment, how far it is, and what it has used.

        Raises:
            NotFound: there is none.
        """
        return Call("GET", _path(experiment_id), ExperimentRecord)

    def experiment_items(
        self,
        experiment_id: str,
        *,
        arm: str | None = None,
        outcome: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Call[ExperimentItemPage]:
        """A page of what became of each decision; the items are also the attribute `results`.

        Args:
            experiment_id: the experiment.
            arm: only `change` or `control`.
            outcome: only `fixed`, `still_wrong`, `newly_broken`, `changed`, `unchanged`, `not_comparable` or
                `failed`.
            limit: items on a page.
            cursor: `next_cursor` of the page before.

        Raises:
            NotFound: there is no such experiment.
        """
        query = _query(arm=arm, outcome=outcome, limit=limit, cursor=cursor)
        return Call("GET", f"{_path(experiment_id)}/items", ExperimentItemPage, query=query)

    def experiment_report(
        self, experiment_id: str, *, rule: str | None = None, title: str | None = None
    ) -> Call[ExperimentReport]:
        """An experiment in numbers, held against a rule, as `gate_report` describes it.

        Args:
            experiment_id: the experiment.
            rule: as of `loopgrid check`: `fixed >= 0.8 and newly_broken == 0`.
            title: what the report is headed with.

        Raises:
            NotFound: there is no such experiment.
            Invalid: the rule cannot be read.
        """
        query = _query(rule=rule, title=title)
        return Call("GET", f"{_path(experiment_id)}/report", ExperimentReport, query=query)

    def cancel_experiment(
        self, experiment_id: str, *, reason: str | None = None, requested_by: str | None = None
    ) -> Call[ExperimentRecord]:
        """End an experiment: nothing more is asked for. What runs comes to its end, and is recorded.

        Raises:
            NotFound: there is none.
            Conflict: it is not running.
        """
        body = _given(reason=reason, requested_by=requested_by)
        return _happens(experiment_id, "cancel", body, repeatable=True)

    def resume_experiment(
        self,
        experiment_id: str,
        *,
        budget: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        requested_by: str | None = None,
    ) -> Call[ExperimentRecord]:
        """Go on with an experiment that stopped or was cancelled. What has ended is not run again.

        Args:
            experiment_id: the experiment.
            budget: in place of the budget so far.
            retry_failed: run failed, refused and cancelled items once more.
            requested_by: who asks; the API key's person by default.

        Raises:
            NotFound: there is none.
            Conflict: it is running, or there is nothing left to do.
        """
        body = _given(budget=budget, retry_failed=retry_failed or None, requested_by=requested_by)
        return _happens(experiment_id, "resume", body, repeatable=False)

    def create_schedule(
        self,
        name: str,
        *,
        cohort: str,
        every_s: int,
        executor: str | None = None,
        concurrency: int | None = None,
        budget: Mapping[str, Any] | None = None,
        equality: Any = None,
        created_by: str | None = None,
    ) -> Call[ScheduleRecord]:
        """Have a cohort repeated unchanged every so often: a canary for the model behind a name.

        Args:
            name: what people call it.
            cohort: a cohort's name, `name@version` or id. It is that version from now on.
            every_s: seconds from one run to the next, 60 or more. The first is due at once.
            executor: `function` or `model`; chosen for each decision by default.
            concurrency: replays under way at once; 8 by default.
            budget: of each run, as of `create_experiment`.
            equality: when outputs count as equal, as `compare` takes it.
            created_by: who makes it; the API key's person by default.

        Raises:
            NotFound: there is no such cohort.
            Invalid: it cannot be meant.
        """
        body = _given(
            name=name,
            cohort=cohort,
            every_s=every_s,
            executor=executor,
            concurrency=concurrency,
            budget=budget,
            equality=equality,
            created_by=created_by,
        )
        return Call("POST", _SCHEDULES, ScheduleRecord, body=body, settles=True, recorded=True)

    def list_schedules(self) -> Call[SchedulePage]:
        """The schedules, newest first; they are also the attribute `schedules`."""
        return Call("GET", _SCHEDULES, SchedulePage)

    def get_schedule(self, schedule_id: str) -> Call[ScheduleRecord]:
        """A schedule, with its last run.

        Raises:
            NotFound: there is none.
        """
        return Call("GET", f"{_SCHEDULES}/{quote(schedule_id, safe='')}", ScheduleRecord)

    def stop_schedule(
        self, schedule_id: str, *, reason: str | None = None, requested_by: str | None = None
    ) -> Call[ScheduleRecord]:
        """End a schedule; a run that is under way goes on. Stopped again, nothing changes.

        Raises:
            NotFound: there is none.
        """
        body = _given(reason=reason, requested_by=requested_by)
        path = f"{_SCHEDULES}/{quote(schedule_id, safe='')}/stop"
        return Call("POST", path, ScheduleRecord, body=body, repeatable=True, recorded=True)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: as_json(value, name) for name, value in fields.items() if value is not None}


def _chosen(**fields: Any) -> dict[str, Any]:
    if (fields["decision_ids"] is None) == (fields["filters"] is None and fields["corrected_since"] is None):
        raise Invalid("give either decision_ids, or filters or corrected_since that find them")
    return _given(**fields)


def _experiment(*, cohort: str | None, decisions: Mapping[str, Any] | None, **fields: Any) -> dict[str, Any]:
    if (cohort is None) == (decisions is None):
        raise Invalid("give either cohort, the name of one, or decisions, what finds them")
    return _given(cohort=cohort, decisions=decisions, **fields)


def _query(**fields: Any) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}


def _path(experiment_id: str) -> str:
    return f"{_EXPERIMENTS}/{quote(experiment_id, safe='')}"


def _happens(
    experiment_id: str, verb: str, body: dict[str, Any], *, repeatable: bool
) -> Call[ExperimentRecord]:
    path = f"{_path(experiment_id)}/{verb}"
    return Call("POST", path, ExperimentRecord, body=body, settles=True, repeatable=repeatable, recorded=True)
