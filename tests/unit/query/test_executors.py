"""Who runs a replay: never nobody in the guise of somebody."""

from __future__ import annotations

import pytest

from loopgrid_query.errors import Invalid
from loopgrid_query.replay.executors import Executor, Status, plan

WITH_FUNCTION = {"decision_id": "d", "kind": "decision", "function": "app.reply"}
WITHOUT = {"decision_id": "d", "kind": "inference", "function": None, "input": None}


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


CALL = {**WITHOUT, "input": [{"role": "user", "parts": []}]}


@pytest.mark.parametrize(
    ("decision", "requested", "why_not", "executor", "status"),
    [
        (CALL, None, None, Executor.MODEL, Status.PENDING),
        (CALL, "model", None, Executor.MODEL, Status.PENDING),
        (CALL, None, "It is gone.", None, Status.REFUSED),
        (CALL, "model", "It is gone.", Executor.MODEL, Status.REFUSED),
        (WITH_FUNCTION, None, None, Executor.FUNCTION, Status.PENDING),
        (WITH_FUNCTION, "model", "It is gone.", Executor.MODEL, Status.REFUSED),
    ],
)
def test_a_model_is_asked_where_no_function_is_and_it_can_be(decision, requested, why_not, executor, status):
    found = plan(decision, requested, has_output=False, why_no_model=lambda: why_not)

    assert (found.executor, found.status) == (executor, status)
    assert ("It is gone." in (found.reason or "")) == (status is Status.REFUSED)


def test_a_model_that_is_chosen_says_why():
    chosen = plan(CALL, None, has_output=False, why_no_model=lambda: None).reason or ""
    named = plan(CALL, "model", has_output=False, why_no_model=lambda: None).reason or ""

    assert chosen == f"This inference has no function, and its messages are on record. {named}"


def test_what_is_no_model_call_is_not_told_what_one_would_lack():
    decision = {"decision_id": "d", "kind": "decision", "function": None, "input": {"message": "hello"}}

    reason = plan(decision, None, has_output=False, why_no_model=lambda: "No messages.").reason or ""

    assert "No messages" not in reason
    assert "hand in the result" in reason
