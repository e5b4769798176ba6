"""Who runs a replay: never nobody in the guise of somebody."""

from __future__ import annotations

import pytest

from loopgrid_query.errors import Invalid
from loopgrid_query.replay.executors import Executor, Status, plan

WITH_FUNCTION = {"decision_id": "d", "kind": "decision", "function": "app.reply"}
WITHOUT = {"decision_id": "d", "kind": "inference", "function": None}


@pytest.mark.parametrize(
    ("decision", "requested", "has_output", "executor", "status"),
    [
        (WITH_FUNCTION, None, False, Executor.FUNCTION, Status.PENDING),
        (WITH_FUNCTION, "function", False, Executor.FUNCTION, Status.PENDING),
        (WITH_FUNCTION, None, True, Executor.EXTERNAL, Status.PENDING),
        (WITHOUT, None, True, Executor.EXTERNAL, Status.PENDING),
        (WITHOUT, "external", True, Executor.EXTERNAL, Status.PENDING),
        (WITHOUT, None, False, None, Status.REFUSED),
        (WITHOUT, "function", False, Executor.FUNCTION, Status.REFUSED),
    ],
)
def test_the_executor_is_one_that_can_run_or_the_replay_is_refused(
    decision, requested, has_output, executor, status
):
    found = plan(decision, requested, has_output=has_output)

    assert (found.executor, found.status) == (executor, status)


def test_a_pending_replay_says_what_must_happen_for_it_to_run():
    assert "loopgrid replay d --app" in (plan(WITH_FUNCTION, None, has_output=False).reason or "")


def test_a_refused_replay_says_that_nothing_ran_and_what_would():
    assert "Nothing ran" in (plan(WITHOUT, None, has_output=False).reason or "")


@pytest.mark.parametrize(
    ("requested", "has_output", "field"),
    [("functions", False, "executor"), ("external", False, "output"), ("function", True, "output")],
)
def test_an_executor_that_does_not_exist_or_lacks_what_it_needs_is_an_error(requested, has_output, field):
    with pytest.raises(Invalid) as refused:
        plan(WITH_FUNCTION, requested, has_output=has_output)

    assert refused.value.errors[0].field == field


def test_an_unknown_executor_suggests_the_nearest():
    with pytest.raises(Invalid) as refused:
        plan(WITH_FUNCTION, "functions", has_output=False)

    assert refused.value.errors[0].suggestion == "function"
