"""Schedules: a frozen cohort repeated unchanged every so often, to find out when a model has moved.

Times run by a clock that is never set back. The calendar is looked at once, when the server starts: to know
how long ago the last run was. A calendar that jumps therefore starts one run at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from loopgrid_collector.errors import CollectorError
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger.records import Entry
from loopgrid_query import ids, jsontext
from loopgrid_query.compare import equality as equalities
from loopgrid_query.errors import Invalid, NotFound, QueryError
from loopgrid_query.experiment_models import ExperimentRequest, ScheduleRequest
from loopgrid_query.experiments.cohorts import Cohorts
from loopgrid_query.experiments.experiments import Experiments
from loopgrid_query.models import given
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, parsed

_AGAIN_S: Final = 60.0
"""Seconds until a run is tried again that could not begin."""

MAX_RUNNING: Final = 100
"""Schedules that may run at a time."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Scheduled:
    """A schedule that runs, in memory.

    Attributes:
        body: as it was asked for.
        by: who asked.
        due_s: when the next run is due, by the schedules' clock.
        last: its last experiment.
        trouble: why the last run that was due did not begin; None where it did.
    """

    body: Record
    by: str | None
    due_s: float
    last: str | None
    trouble: str | None = None


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Schedules:
    """The schedules of one ledger. Threads may share them."""

    def __init__(
        self,
        reader: Reader,
        ingest: Ingest,
        cohorts: Cohorts,
        experiments: Experiments,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], datetime] = _now,
    ) -> None:
        """Nothing is due yet.

        Args:
            reader: reads the ledger.
            ingest: the door into it.
            cohorts: what is repeated.
            experiments: repeats it.
            clock: seconds, never set back.
            calendar: the time, UTC without zone.
        """
        self._reader = reader
        self._ingest = ingest
        self._cohorts = cohorts
        self._experiments = experiments
        self._clock = clock
        self._calendar = calendar
        self._lock = threading.Lock()
        self._known: dict[str, _Scheduled] | None = None

    def create(self, request: ScheduleRequest, by: str | None) -> Record:
        """Begin a schedule. Its first run is due at once.

        Raises:
            NotFound: there is no such cohort.
            Invalid: it cannot be meant, or too many run.
            CollectorError: the door refuses; nothing is stored.
        """
        jsontext.check(given(request), "")
        cohort = self._cohorts.get(request.cohort)
        body: Record = {
            "name": request.name,
            # The version that is the newest now: a canary must not change.
            "cohort_id": cohort["cohort_id"],
            "every_s": request.every_s,
            "executor": request.executor,
            "concurrency": request.concurrency,
            "budget": given(request.budget) or None,
            "equality": equalities.parse(request.equality).written(),
        }
        schedule_id = ids.new_schedule_id()
        with self._lock:
            known = self._loaded()
            if len(known) >= MAX_RUNNING:
                raise Invalid(f"{MAX_RUNNING} schedules run already. Stop one that nobody looks at any more.")
            self._ingest.entry_blocking(Entry(schedule_id, "schedule", 0, 0, None, by, body))
            known[schedule_id] = _Scheduled(body, by, self._clock(), None)
        return self.get(schedule_id)

    def all(self) -> Record:
        """The newest thousand."""
        return {"items": [self._record(row) for row in self._rows()]}

    def _rows(self, *, schedule_id: str | None = None, status: str | None = None) -> list[Row]:
        return self._reader.rows("schedules", {"schedule_id": schedule_id, "status": status})

    def get(self, schedule_id: str) -> Record:
        """One schedule.

        Raises:
            NotFound: there is none.
        """
        rows = self._rows(schedule_id=schedule_id)
        if not rows:
            raise NotFound(f"No schedule {schedule_id} is on record. GET /v1/schedules lists those that are.")
        return self._record(rows[0])

    def stop(self, schedule_id: str, by: str | None, reason: str | None) -> Record:
        """End a schedule; a run that is under way goes on. Stopped again, nothing changes.

        Raises:
            NotFound: there is none.
            CollectorError: the door refuses; it goes on.
        """
        jsontext.check(reason, "reason")
        with self._lock:
            known = self._loaded()
            if self.get(schedule_id)["status"] == "running":
                body = {"status": "stopped"} | ({"reason": reason} if reason else {})
                entry_id = ids.new_experiment_event_id()
                self._ingest.entry_blocking(Entry(entry_id, "schedule", 0, 0, schedule_id, by, body))
            known.pop(schedule_id, None)
        return self.get(schedule_id)

    def tick(self) -> None:
        """Begin what is due. A run is passed over while the one before it is still running."""
        try:
            with self._lock:
                now = self._clock()
                due = [(name, one) for name, one in self._loaded().items() if one.due_s <= now]
            for schedule_id, scheduled in due:
                self._begin(schedule_id, scheduled)
        except CollectorError as trouble:
            _log.warning("schedules wait for the ledger: %s", trouble)

    def _begin(self, schedule_id: str, scheduled: _Scheduled) -> None:
        with self._lock:
            if schedule_id not in self._loaded():
                # Stopped since it was found to be due.
                return
        body = scheduled.body
        if scheduled.last is not None and self._experiments.is_running(scheduled.last):
            scheduled.trouble = f"the run before, {scheduled.last}, was still running"
            _log.warning("schedule %s left out a run: %s", schedule_id, scheduled.trouble)
            scheduled.due_s = self._clock() + body["every_s"]
            return
        asked = {
            **{name: body[name] for name in ("name", "executor", "concurrency", "budget", "equality")},
            "cohort": body["cohort_id"],
            "overrides": {},
            "control_share": 1.0,
        }
        try:
            request = ExperimentRequest.model_validate(asked)
            made, _ = self._experiments.create(request, scheduled.by, schedule_id=schedule_id)
        except (CollectorError, QueryError, ValidationError) as error:
            scheduled.due_s = self._clock() + min(_AGAIN_S, body["every_s"])
            scheduled.trouble = str(error)
            _log.error("schedule %s could not run: %s", schedule_id, error)
            return
        scheduled.trouble = None
        scheduled.last = made["experiment_id"]
        scheduled.due_s = self._clock() + body["every_s"]

    def _loaded(self) -> dict[str, _Scheduled]:
        """What memory holds, read from the ledger the first time. The lock is held."""
        if self._known is None:
            self._known = {row["schedule_id"]: self._recovered(row) for row in self._rows(status="running")}
        return self._known

    def _recovered(self, row: Row) -> _Scheduled:
        body = parsed(row["body"])
        left_s = 0.0
        if row["last_run_at"] is not None:
            ago_s = (self._calendar() - row["last_run_at"]).total_seconds()
            left_s = body["every_s"] - min(max(ago_s, 0.0), body["every_s"])
        return _Scheduled(body, row["created_by"], self._clock() + left_s, row["last_experiment_id"])

    def _record(self, row: Row) -> Record:
        body: dict[str, Any] = parsed(row["body"])
        scheduled = (self._known or {}).get(row["schedule_id"])
        return {
            "schedule_id": row["schedule_id"],
            **{name: body[name] for name in ("name", "cohort_id", "every_s", "executor", "concurrency")},
            **{name: body[name] for name in ("budget", "equality")},
            **{name: row[name] for name in ("status", "runs", "last_experiment_id", "last_run_at")},
            "trouble": scheduled.trouble if scheduled else None,
            "created_by": row["created_by"],
            "recorded_at": row["recorded_at"],
        }
