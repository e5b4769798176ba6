"""An experiment under way: what may be asked for next, whatever ends in whatever order."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopgrid_query.experiments.estimates import Need, Prices, Sum, need_of
from loopgrid_query.experiments.state import CHANGE, CONTROL, MAX_FAILED_IN_A_ROW, Run, items_of
from loopgrid_query.replay.providers import Provider

MEMBERS = [f"{number:032x}-{number:016x}" for number in range(1, 41)]


def run(budget: dict[str, float], share: float = 0.0, concurrency: int = 8) -> Run:
    items = items_of("exp_a", MEMBERS, share)
    return Run("exp_a", {"concurrency": concurrency}, budget, items, None)


def test_each_decision_is_in_both_arms_next_to_each_other_and_ids_are_their_own():
    items = items_of("exp_a", MEMBERS, 1.0)

    assert [(item.decision_id, item.arm) for item in items[:4]] == [
        (MEMBERS[0], CHANGE), (MEMBERS[0], CONTROL), (MEMBERS[1], CHANGE), (MEMBERS[1], CONTROL),
    ]  # fmt: skip
    assert len({item.replay_id for item in items}) == 2 * len(MEMBERS)
    assert not {item.replay_id for item in items} & {
        item.replay_id for item in items_of("exp_b", MEMBERS, 1.0)
    }


@pytest.mark.parametrize(("share", "controls"), [(0.0, 0), (0.01, 1), (0.5, 20), (1.0, 40)])
def test_the_control_arm_has_its_share_and_is_the_same_each_time(share, controls):
    drawn = [item.decision_id for item in items_of("exp_a", MEMBERS, share) if item.arm == CONTROL]

    assert len(drawn) == controls
    assert drawn == [item.decision_id for item in items_of("exp_a", MEMBERS, share) if item.arm == CONTROL]


@settings(max_examples=200)
@given(
    concurrency=st.integers(1, 12),
    budget=st.fixed_dictionaries(
        {},
        optional={"calls": st.integers(1, 60), "tokens": st.integers(1, 4000), "usd": st.floats(0.01, 4.0)},
    ),
    needs=st.lists(st.integers(1, 100), min_size=40, max_size=40),
    seed=st.integers(0, 2**32),
)
def test_a_budget_is_never_overrun_where_the_estimates_hold_and_nothing_is_asked_for_twice(
    concurrency, budget, needs, seed
):
    dice = random.Random(seed)
    state = run(budget, concurrency=concurrency)
    need = dict(zip(MEMBERS, (Need(1, tokens, 0, tokens / 1000) for tokens in needs), strict=True))
    of = {item.replay_id: item.decision_id for item in state.items}
    asked: list[str] = []

    def read(state: Run) -> None:
        for each in list(state.unread):
            state.used.add(need[of[each]])
            del state.unread[each]

    while True:
        wanted = state.upcoming(state.free)
        taken = []
        for item in wanted:
            if not state.allows(need[item.decision_id]):
                break
            state.open[item.replay_id] = need[item.decision_id]
            taken.append(item.replay_id)
        state.give_back(wanted[len(taken) :])
        asked += taken
        assert len(state.open) <= concurrency
        if not state.open:
            if not state.unread:
                break
            read(state)
            continue
        ending = dice.choice(sorted(state.open))
        assert state.settle(ending, "completed", ending)
        if dice.random() < 0.5:
            read(state)

    assert len(asked) == len(set(asked))
    assert state.used.calls <= budget.get("calls", 10**9)
    assert state.used.tokens <= budget.get("tokens", 10**9)
    assert state.used.cost_usd <= budget.get("usd", 1e9) + 1e-9
    assert len(asked) == len(MEMBERS) or state.stopping is not None


def test_of_what_nothing_is_known_one_goes_alone():
    state = run({"tokens": 100})

    assert state.allows(Need())
    state.open[state.items[0].replay_id] = Need()
    assert not state.allows(Need())
    assert state.stopping is None
    state.settle(state.items[0].replay_id, "completed", "r")
    assert not state.allows(Need()), "what it used is not known yet"
    del state.unread["r"]
    state.used.add(Need(1, 30, 10))
    assert state.allows(Need())


def test_what_is_being_recorded_takes_no_place_but_never_are_more_than_twice_as_many_open():
    state = run({}, concurrency=4)
    for item in state.items[:4]:
        state.open[item.replay_id] = Need()
    assert state.free == 0
    state.answered.update(item.replay_id for item in state.items[:3])
    assert state.free == 3
    for item in state.items[4:7]:
        state.open[item.replay_id] = Need()
        state.answered.add(item.replay_id)
    assert state.free == 1, "eight open at most"
    state.settle(state.items[0].replay_id, "completed")
    assert state.items[0].replay_id not in state.answered
    assert state.free == 2


def test_failures_in_a_row_stop_it_and_one_that_completes_between_them_does_not():
    state = run({}, concurrency=40)
    for number, item in enumerate(state.items):
        state.open[item.replay_id] = None
        state.settle(item.replay_id, "completed" if number == MAX_FAILED_IN_A_ROW - 1 else "failed")
    assert state.stopping is None
    other = run({}, concurrency=40)
    for item in other.items[:MAX_FAILED_IN_A_ROW]:
        other.open[item.replay_id] = None
        other.settle(item.replay_id, "failed")
    assert other.stopping is not None


def test_what_the_end_of_a_server_interrupted_is_no_failure_in_a_row():
    state = run({}, concurrency=40)
    rows = [{"replay_id": item.replay_id, "status": "running"} for item in state.items]
    state.recover(rows, frozenset({"running"}))
    for item in state.items:
        assert state.settle(item.replay_id, "failed")

    assert state.stopping is None
    assert state.counts["failed"] == 40 > MAX_FAILED_IN_A_ROW
    assert state.finished


def test_what_was_asked_for_before_is_passed_over_and_its_failures_can_be_counted():
    state = run({})
    rows: list[dict[str, Any]] = [
        {"replay_id": state.items[0].replay_id, "status": "completed", "result_decision_id": "d"},
        {"replay_id": state.items[1].replay_id, "status": "running", "result_decision_id": None},
        {"replay_id": state.items[2].replay_id, "status": "failed", "result_decision_id": None},
    ]
    state.recover(rows, frozenset({"pending", "running"}))

    assert [item.decision_id for item in state.upcoming(2)] == MEMBERS[3:5]
    assert (dict(state.counts), list(state.open), list(state.unread)) == (
        {"completed": 1, "failed": 1}, [state.items[1].replay_id], ["d"],
    )  # fmt: skip


def row(**facts: object) -> dict[str, object]:
    price = {"provider": None, "valid_from": None, "above_input_tokens": None, "request_usd": None}
    return {**price, "model": "m", "input_usd": 1.0, "output_usd": 2.0, **facts}


@pytest.mark.parametrize(
    ("rows", "read", "written", "cost"),
    [
        ([row()], 1_000_000, 500_000, 2.0),
        ([row(request_usd=0.5)], 1_000_000, 0, 1.5),
        ([], 10, 10, None),
        ([row()], None, 10, None),
        ([row()], 10, None, None),
        ([row(input_usd=None)], 10, 10, None),
        ([row(output_usd=None)], 1_000_000, None, 1.0),
        ([row(output_usd=None)], 1_000_000, 5, None),
        ([row(), row(above_input_tokens=100, input_usd=9.0)], 1_000_000, 0, 9.0),
        ([row(), row(above_input_tokens=2_000_000, input_usd=9.0)], 1_000_000, 0, 1.0),
        ([row(provider="acme", input_usd=3.0), row()], 1_000_000, 0, 3.0),
        ([row(provider="other", input_usd=3.0)], 1_000_000, 0, None),
    ],
)
def test_a_cost_is_told_where_price_and_usage_are_known_and_only_there(rows, read, written, cost):
    assert Prices(rows).cost("acme", ["m"], read, written) == cost


def test_an_override_of_the_model_is_priced_as_that_model():
    decision = {
        "model_response_name": "old-1", "model_name": "old", "model_provider": "acme",
        "input_tokens": 1_000_000, "output_tokens": 0, "duration_ms": 2000.0,
    }  # fmt: skip
    prices = Prices([row(model="old"), row(model="new", input_usd=7.0)])

    assert need_of(decision, {}, prices).cost_usd == 1.0
    assert need_of(decision, {"model": {"name": "new"}}, prices).cost_usd == 7.0
    assert need_of(decision, {"model": {"name": "unknown"}}, prices).cost_usd is None
    assert need_of(decision, {}, prices).duration_s == 2.0


def test_a_sum_counts_what_nobody_knows():
    total = Sum()
    total.add(Need(1, 10, 5, 0.5, 2.0))
    total.add(Need())
    told = total.estimate(2, Counter({"no function": 3}), 0.0)

    assert (told["items"], told["unknown_usage"], told["unpriced"], told["cost_usd"]) == (5, 1, 1, 0.5)
    assert told["seconds"] == 2.0
    assert told["refused"] == [{"reason": "no function", "items": 3}]


@pytest.mark.parametrize(
    ("limits", "least_s"),
    [
        ({}, 0.0),
        ({"requests_per_minute": 30}, 20.0),
        ({"tokens_per_minute": 600}, 15.0),
        ({"concurrency": 2}, 10.0),
        ({"requests_per_minute": 30, "tokens_per_minute": 60, "concurrency": 1}, 150.0),
    ],
)
def test_limits_of_a_provider_say_how_long_it_takes_at_least(limits, least_s):
    total = Sum()
    for _ in range(10):
        total.add(Need(1, 10, 5, None, 2.0))
    provider = Provider("openai", "openai", "http://there", **limits)

    assert total.least_seconds(provider) == least_s
    assert total.estimate(10, Counter(), least_s)["seconds"] == max(2.0, least_s)


def test_without_a_known_duration_a_providers_limits_are_all_that_is_known_of_the_time():
    total = Sum()
    total.add(Need(1, 10, 5))

    assert total.estimate(10, Counter(), 0.0)["seconds"] is None
    assert total.estimate(10, Counter(), 3.0)["seconds"] == 3.0
