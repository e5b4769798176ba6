"""When schedules run, by clocks that the test sets: a real ledger, and experiments that nothing can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopgrid_collector.guard import Guard
from loopgrid_query.analytics import SqlLimits
from loopgrid_query.errors import Invalid
from loopgrid_query.experiment_models import CohortRequest, ScheduleRequest
from loopgrid_query.experiments import schedules as schedules_module
from loopgrid_query.experiments.schedules import Schedules
from loopgrid_query.services import Services
from tests.support.ledgers import House, house
from tests.support.spans import chat, traces
from tests.support.tickets import eventually

pytestmark = pytest.mark.integration
HOUR_S = 3_600


@dataclass
class Times:
    """Schedules, and what moves their time."""

    house: House
    services: Services
    clock_s: float = 1_000.0
    calendar_ahead: timedelta = field(default_factory=timedelta)

    def started(self) -> Schedules:
        """Schedules as a server has them that starts now."""
        domain = self.services
        return Schedules(
            domain.reader,
            self.house.ingest,
            domain.cohorts,
            domain.experiments,
            clock=lambda: self.clock_s,
            calendar=lambda: datetime.now(UTC).replace(tzinfo=None) + self.calendar_ahead,
        )

    def create(self, schedules: Schedules) -> str:
        request = ScheduleRequest.model_validate({"name": "nightly", "cohort": "canaries", "every_s": HOUR_S})
        return str(schedules.create(request, "dana")["schedule_id"])

    def runs(self, schedules: Schedules, schedule_id: str) -> int:
        """How many runs a look begins in the end; the last one has ended then."""
        schedules.tick()
        told = schedules.get(schedule_id)
        if (last := told["last_experiment_id"]) is not None:
            eventually(lambda: not self.services.experiments.is_running(last), "the run ends")
        return int(told["runs"])


@pytest.fixture
def times(tmp_path: Path) -> Iterator[Times]:
    with house(tmp_path) as found:
        services = Services.on(found.ledger, found.ingest, Guard(found.ledger), SqlLimits())
        # The server's own schedules know of none, for good: those of the test are apart.
        services.schedules.tick()
        found.ingest.traces_blocking(traces(chat(1)))
        services.cohorts.create(CohortRequest.model_validate({"name": "canaries", "filters": {}}), None)
        yield Times(found, services)


def test_a_run_begins_at_once_and_then_once_in_each_interval(times):
    schedules = times.started()
    schedule_id = times.create(schedules)

    assert times.runs(schedules, schedule_id) == 1
    assert times.runs(schedules, schedule_id) == 1
    times.clock_s += HOUR_S - 1
    assert times.runs(schedules, schedule_id) == 1
    times.clock_s += 1
    assert times.runs(schedules, schedule_id) == 2


def test_after_a_start_the_next_run_is_due_an_interval_after_the_last(times):
    schedule_id = times.create(first := times.started())
    assert times.runs(first, schedule_id) == 1
    times.calendar_ahead = timedelta(minutes=45)
    again = times.started()

    assert times.runs(again, schedule_id) == 1
    times.clock_s += HOUR_S / 4 - 60
    assert times.runs(again, schedule_id) == 1
    times.clock_s += 120
    assert times.runs(again, schedule_id) == 2


def test_what_was_missed_while_no_server_ran_is_made_up_for_once(times):
    schedule_id = times.create(first := times.started())
    assert times.runs(first, schedule_id) == 1
    times.calendar_ahead = timedelta(days=30)
    again = times.started()

    assert times.runs(again, schedule_id) == 2
    assert times.runs(again, schedule_id) == 2


def test_a_calendar_that_is_set_back_delays_a_run_by_an_interval_at_most(times):
    schedule_id = times.create(first := times.started())
    assert times.runs(first, schedule_id) == 1
    times.calendar_ahead = timedelta(days=-3_000)
    again = times.started()

    assert times.runs(again, schedule_id) == 1
    times.clock_s += HOUR_S
    assert times.runs(again, schedule_id) == 2


def test_a_run_that_cannot_begin_says_why_and_is_tried_again_a_minute_later(times, monkeypatch):
    schedules = times.started()
    schedule_id = times.create(schedules)

    def refuse(*_: object, **__: object) -> None:
        raise Invalid("nobody may begin one now")

    with monkeypatch.context() as patch:
        patch.setattr(times.services.experiments, "create", refuse)
        assert times.runs(schedules, schedule_id) == 0
    assert schedules.get(schedule_id)["trouble"] == "nobody may begin one now"
    assert times.runs(schedules, schedule_id) == 0
    times.clock_s += 60
    assert times.runs(schedules, schedule_id) == 1
    assert schedules.get(schedule_id)["trouble"] is None


def test_a_run_is_left_out_while_the_one_before_it_is_running(times, monkeypatch):
    schedules = times.started()
    schedule_id = times.create(schedules)
    assert times.runs(schedules, schedule_id) == 1
    times.clock_s += HOUR_S
    with monkeypatch.context() as patch:
        patch.setattr(times.services.experiments, "is_running", lambda _: True)
        schedules.tick()

    assert "was still running" in schedules.get(schedule_id)["trouble"]
    assert times.runs(schedules, schedule_id) == 1
    times.clock_s += HOUR_S
    assert times.runs(schedules, schedule_id) == 2


def test_more_schedules_than_may_run_are_refused_until_one_is_stopped(times, monkeypatch):
    monkeypatch.setattr(schedules_module, "MAX_RUNNING", 2)
    schedules = times.started()
    first, _ = times.create(schedules), times.create(schedules)

    with pytest.raises(Invalid, match="Stop one"):
        times.create(schedules)
    schedules.stop(first, "dana", None)
    times.create(schedules)
