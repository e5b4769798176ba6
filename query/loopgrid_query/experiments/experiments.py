"""Experiments of one ledger: asked for, looked at, ended, gone on with."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import compare, ids, jsontext
from loopgrid_query.compare import equality as equalities
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import Conflict, FieldError, Invalid, NotFound
from loopgrid_query.experiment_models import Budget, ExperimentRequest
from loopgrid_query.experiments.cohorts import Cohorts
from loopgrid_query.experiments.estimates import Prices, Sum, need_of
from loopgrid_query.experiments.running import Runner, append_transition
from loopgrid_query.experiments.state import CHANGE, Run, items_of
from loopgrid_query.models import given
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, parsed
from loopgrid_query.replay import overrides as grammar
from loopgrid_query.replay.executors import OPEN, Executor, Status
from loopgrid_query.replay.prompts import SeenPrompts
from loopgrid_query.replay.replays import Fork, Replays
from loopgrid_query.replay.request import provider_of

_AT_ONCE: Final = 200
"""Decisions read at once."""
_RETRIED: Final = frozenset({Status.FAILED, Status.REFUSED, Status.CANCELLED})
_NOTHING_SPENT: Final = Sum().spent()


class Experiments:
    """The experiments of one ledger. Threads may share them."""

    def __init__(
        self, reader: Reader, ingest: Ingest, decisions: Decisions, replays: Replays, cohorts: Cohorts
    ) -> None:
        self._reader = reader
        self._ingest = ingest
        self._decisions = decisions
        self._replays = replays
        self._cohorts = cohorts
        self._lock = threading.Lock()
        self.runner = Runner(reader, ingest, decisions, replays)

    def start(self) -> None:
        """Go on with what was running when the last server ended."""
        self.runner.start(self._running)

    def estimate(self, request: ExperimentRequest) -> Record:
        """What an experiment is going to need; nothing is recorded.

        Raises:
            NotFound: there is no such cohort.
            Invalid: it cannot be meant.
        """
        self._check(request)
        members, _ = self._members(request)
        return self._estimate(request, members)

    def is_running(self, experiment_id: str) -> bool:
        """Whether an experiment is under way here."""
        return self.runner.progress(experiment_id) is not None

    def create(
        self, request: ExperimentRequest, by: str | None, *, schedule_id: str | None = None
    ) -> tuple[Record, bool]:
        """Begin an experiment.

        Args:
            request: the experiment.
            by: who asks.
            schedule_id: the schedule that it is a run of, if any.

        Returns:
            The experiment, and whether it was made now: the idempotency key may have made it before.

        Raises:
            NotFound: there is no such cohort.
            Invalid: it cannot be meant; nothing is recorded.
            Conflict: the idempotency key stands for another experiment.
            CollectorError: the door refuses; it may be sent again.
        """
        self._check(request)
        experiment_id = ids.new_experiment_id(request.idempotency_key)
        with self._lock:
            before = self._row(experiment_id) if request.idempotency_key is not None else None
            if before is not None:
                return self._same(before, request), False
            members, chosen = self._members(request)
            estimate = self._estimate(request, members)
            self._check_budget(request.budget, estimate)
            if chosen is None:
                cohort_id = self._cohorts.get(str(request.cohort))["cohort_id"]
            else:
                name = request.name or f"of {experiment_id}"
                cohort_id = self._cohorts.append_for(name, members, chosen, by)
            body = self._body(request, cohort_id, estimate)
            if schedule_id is not None:
                body["schedule_id"] = schedule_id
            self._ingest.entry_blocking(Entry(experiment_id, "experiment", 0, 0, None, by, body))
            self.runner.take(self._run(experiment_id, body, body["budget"] or {}, members, by))
        return self.get(experiment_id), True

    def all(self) -> Record:
        """The newest thousand."""
        rows = self._reader.rows("experiments", {"experiment_id": None})
        return {"items": [self._record(row) for row in rows]}

    def get(self, experiment_id: str) -> Record:
        """One experiment.

        Raises:
            NotFound: there is none.
        """
        return self._record(self.row(experiment_id))

    def cancel(self, experiment_id: str, by: str | None, reason: str | None) -> Record:
        """End an experiment: nothing more is asked for. What runs comes to its end and is recorded.

        Raises:
            NotFound: there is none.
            Conflict: it is not running.
        """
        jsontext.check(reason, "reason")
        row = self.row(experiment_id)
        status = _status(row)
        if status == "cancelled":
            return self._record(row)
        if status != "running":
            raise Conflict(f"Experiment {experiment_id} is {status}, so there is nothing to cancel.")
        said = f"cancelled by {by}" if by else "cancelled"
        said = f"{said}: {reason}" if reason else said
        spent = (self.runner.progress(experiment_id) or {}).get("spent", _NOTHING_SPENT)
        body = {"status": "cancelled", "reason": said, "spent": spent}
        append_transition(self._ingest, experiment_id, by, body)
        self.runner.cancel(experiment_id, by, said)
        return self.get(experiment_id)

    def resume(
        self, experiment_id: str, budget: Budget | None, by: str | None, *, retry_failed: bool
    ) -> Record:
        """Go on with an experiment that stopped, was cancelled, or has failed items.

        Raises:
            NotFound: there is none.
            Conflict: it is running, or there is nothing left to do.
        """
        with self._lock:
            row = self.row(experiment_id)
            status = _status(row)
            if status == "running" or self.runner.progress(experiment_id) is not None:
                raise Conflict(f"Experiment {experiment_id} is still running.")
            body = parsed(row["body"])
            asked = given(budget) if budget is not None else parsed(row["budget"]) or {}
            if budget is not None:
                self._check_budget(budget, body["estimate"])
            run = self._recovered(experiment_id, body, asked, row["created_by"], retry_failed=retry_failed)
            if run.finished:
                raise Conflict(
                    f"Every item of {experiment_id} has come to its end; retry_failed runs the failed ones "
                    "again."
                )
            told: Record = {"status": "running", "retry_failed": retry_failed}
            if budget is not None:
                told["budget"] = asked
            append_transition(self._ingest, experiment_id, by, told)
            self.runner.take(run)
        return self.get(experiment_id)

    def row(self, experiment_id: str) -> Row:
        """An experiment as it is on record, with what was last said of it. Raises as ``get``."""
        row = self._row(experiment_id)
        if row is None:
            raise NotFound(f"No experiment {experiment_id} is on record. GET /v1/experiments lists them.")
        return row

    def _row(self, experiment_id: str) -> Row | None:
        return self._reader.row("experiments", experiment_id=experiment_id)

    def _check(self, request: ExperimentRequest) -> None:
        if (request.cohort is None) == (request.decisions is None):
            raise Invalid.of([FieldError("cohort", "give either cohort or decisions")])
        jsontext.check(given(request), "")
        equalities.parse(request.equality)
        # What depends on a decision is found out for each: the item is refused.
        grammar.check(
            request.overrides, {"input": dict(request.overrides.get("input") or {}), "function": None}
        )

    def _members(self, request: ExperimentRequest) -> tuple[list[str], Record | None]:
        """The decisions, and how they were chosen where that was only now."""
        if request.decisions is None:
            return self._cohorts.members(str(request.cohort)), None
        return self._cohorts.choose(request.decisions, request.policy, "decisions.")

    def _control_share(self, request: ExperimentRequest) -> float:
        # Without a change every arm is a control arm.
        if not request.overrides and "control_share" not in request.model_fields_set:
            return 0.0
        return request.control_share

    def _estimate(self, request: ExperimentRequest, members: Sequence[str]) -> Record:
        prices = Prices(self._reader.rows("experiment_prices", {}))
        prompts = SeenPrompts(self._reader, remembers=True)
        needed, refused = Sum(), Counter[str]()
        of_provider: dict[str, Sum] = {}
        arms: dict[str, list[Mapping[str, Any]]] = {}
        for item in items_of("exp", members, self._control_share(request)):
            changed: Mapping[str, Any] = request.overrides if item.arm == CHANGE else {}
            arms.setdefault(item.decision_id, []).append(changed)
        for original, row in self._originals(members):
            for overrides in arms[row["decision_id"]]:
                fork = Fork("", original, overrides, request.executor, "", {})
                chosen, _ = self._replays.planned(fork, prompts)
                if chosen.status is Status.REFUSED:
                    refused[chosen.reason or ""] += 1
                    continue
                need = need_of(row, overrides, prices)
                needed.add(need)
                if chosen.executor is Executor.MODEL:
                    of_provider.setdefault(provider_of(original, overrides), Sum()).add(need)
        known = self._replays.models.providers
        least_s = [asked.least_seconds(known[name]) for name, asked in of_provider.items() if name in known]
        return needed.estimate(request.concurrency, refused, max(least_s, default=0.0))

    def _originals(self, members: Sequence[str]) -> Iterator[tuple[Record, Row]]:
        for start in range(0, len(members), _AT_ONCE):
            rows = self._decisions.originals(members[start : start + _AT_ONCE])
            for row in rows.values():
                yield decision_record(row, parsed), row

    def _check_budget(self, budget: Budget | None, estimate: Mapping[str, Any]) -> None:
        if budget is not None and budget.usd is not None and estimate["unpriced"]:
            raise Invalid.of(
                [
                    FieldError(
                        "budget.usd",
                        f"cannot be kept: the cost of {estimate['unpriced']} items is unknown. Give the "
                        "price book their model's price (POST /v1/prices), or limit tokens or calls",
                    )
                ]
            )

    def _body(self, request: ExperimentRequest, cohort_id: str, estimate: Record) -> Record:
        return {
            "name": request.name,
            "cohort_id": cohort_id,
            "cohort": request.cohort,
            "overrides": request.overrides,
            "executor": request.executor,
            "control_share": self._control_share(request),
            "concurrency": request.concurrency,
            "budget": given(request.budget) or None,
            "policy": request.policy,
            "equality": equalities.parse(request.equality).written(),
            "items": estimate["items"],
            "estimate": estimate,
            "idempotency_key": request.idempotency_key,
        }

    def _same(self, before: Row, request: ExperimentRequest) -> Record:
        body = parsed(before["body"])
        asked = {
            "name": request.name,
            "cohort": request.cohort,
            "overrides": request.overrides,
            "executor": request.executor,
            "control_share": self._control_share(request),
        }
        unlike = [name for name, value in asked.items() if not compare.same(body[name], value)]
        if unlike:
            raise Conflict(
                f"The idempotency key stands for experiment {before['experiment_id']}, which has another "
                f"{', '.join(unlike)}. Send the same request again, or choose another key."
            )
        return self._record(before)

    def _running(self) -> list[Run]:
        """What was running when the last server ended."""
        rows = self._reader.rows("experiments", {"experiment_id": None})
        return [
            self._recovered(
                row["experiment_id"],
                parsed(row["body"]),
                parsed(row["budget"]) or {},
                row["created_by"],
                retry_failed=bool((parsed(row["told"]) or {}).get("retry_failed")),
                retried_since=row["told_at"],
            )
            for row in rows
            if _status(row) == "running"
        ]

    def _run(
        self,
        experiment_id: str,
        body: Mapping[str, Any],
        budget: Mapping[str, Any],
        members: Sequence[str],
        by: str | None,
    ) -> Run:
        return Run(experiment_id, body, budget, items_of(experiment_id, members, body["control_share"]), by)

    def _recovered(
        self,
        experiment_id: str,
        body: Mapping[str, Any],
        budget: Mapping[str, Any],
        by: str | None,
        *,
        retry_failed: bool,
        retried_since: Any = None,
    ) -> Run:
        """An experiment as far as it is on record.

        Args:
            experiment_id: which.
            body: as it was asked for.
            budget: what it may use.
            by: who asked.
            retry_failed: whether failed items run once more.
            retried_since: only those that failed before this moment: later ones have run once more already.
        """
        run = self._run(experiment_id, body, budget, self._cohorts.members(body["cohort_id"]), by)
        rows = self._reader.rows("experiment_items", {"experiment_id": experiment_id})
        run.recover(rows, frozenset(OPEN))
        if retry_failed:
            for row in rows:
                late = retried_since is not None and (row["completed_at"] or retried_since) >= retried_since
                if row["status"] in _RETRIED and not late:
                    run.retries.append(row["replay_id"])
                    run.counts[row["status"]] -= 1
        return run

    def _record(self, row: Row) -> Record:
        body, told = parsed(row["body"]), parsed(row["told"]) or {}
        status = _status(row)
        progress = self.runner.progress(row["experiment_id"]) or self._progress(row, body, told)
        return {
            "experiment_id": row["experiment_id"],
            "status": status,
            "reason": told.get("reason"),
            "created_by": row["created_by"],
            "recorded_at": row["recorded_at"],
            "ended_at": None if status == "running" else row["told_at"],
            "progress": progress,
            **{
                name: body[name]
                for name in (
                    *("name", "cohort_id", "overrides", "executor", "control_share", "concurrency"),
                    *("policy", "equality", "estimate"),
                )
            },
            "budget": parsed(row["budget"]) or None,
        }

    def _progress(self, row: Row, body: Mapping[str, Any], told: Mapping[str, Any]) -> Record:
        counted = {
            each["status"]: each["items"]
            for each in self._reader.rows("experiment_counts", {"experiment_id": row["experiment_id"]})
        }
        running = sum(counted.get(status, 0) for status in OPEN)
        return {
            "items": body["items"],
            "waiting": body["items"] - sum(counted.values()),
            "running": running,
            **{name: counted.get(name, 0) for name in ("completed", "failed", "refused", "cancelled")},
            "spent": told.get("spent") or _NOTHING_SPENT,
            "eta_s": None,
        }


def _status(row: Row) -> str:
    return str((parsed(row["told"]) or {}).get("status", "running"))
