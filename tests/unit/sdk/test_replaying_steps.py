"""A replay answers steps and tools from the record, and runs nothing that must not run again."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

import loopgrid
from loopgrid import LoopGrid, Prompt, errors
from tests.support.server import RunningServer, running_server
from tests.support.spans import span, traces
from tests.unit.sdk.conftest import QUICK

CALLS: Counter[str] = Counter()
WORLD: dict[str, Any] = {"stock": 3}


@dataclass
class Order:
    number: int
    placed: dt.date


class Gone(Exception):
    """An order that there is not."""


@loopgrid.tool(effect="read")
def find_order(number: int) -> Order:
    CALLS["find_order"] += 1
    if number < 0:
        raise Gone(f"no order {number}")
    return Order(number, dt.date(2026, 1, 1 + WORLD["stock"]))


@loopgrid.tool(effect="read")
def stock(item: str) -> int:
    CALLS["stock"] += 1
    WORLD["stock"] += 1
    return int(WORLD["stock"])


@loopgrid.tool(effect="irreversible")
def refund(number: int, *, cents: int) -> str:
    CALLS["refund"] += 1
    return f"refund {CALLS['refund']} of {cents}"


@loopgrid.tool(effect="read")
def vague_date(number: int):
    CALLS["vague_date"] += 1
    return dt.date(2026, 1, number)


@loopgrid.step("think")
def think(text: str) -> str:
    CALLS["think"] += 1
    return f"{text} ({stock('inside')})"


@loopgrid.tool(effect="read")
async def look_up(key: str) -> list[str]:
    CALLS["look_up"] += 1
    await asyncio.sleep(0)
    return [key, str(CALLS["look_up"])]


@loopgrid.tool(effect="read")
def lines(count: int) -> Iterator[int]:
    CALLS["lines"] += 1
    for number in range(count):
        yield number + CALLS["lines"]


@loopgrid.tool(effect="read")
async def later_lines(count: int) -> AsyncIterator[int]:
    CALLS["later_lines"] += 1
    for number in range(count):
        yield number + CALLS["later_lines"]


FIRST = Prompt("desk", version="1", template="{x}")
SECOND = Prompt("desk", version="2", template="please {x}")


@loopgrid.decision("desk")
def desk(number: int, *, prompt: Prompt = FIRST) -> dict[str, Any]:
    order = find_order(number)
    counts = [stock("a"), stock("b"), stock("a")]
    return {"placed": order.placed.isoformat(), "counts": counts, "said": refund(number, cents=700)}


@loopgrid.decision("thinking")
def thinking(x: str, *, prompt: Prompt = FIRST) -> list[str]:
    return [think(prompt.render(x=x)), str(stock("inside"))]


@loopgrid.decision("swallowing")
def swallowing(number: int) -> str:
    try:
        return refund(number, cents=number)
    except errors.LoopGridError:
        return "nothing"


@loopgrid.decision("missing")
def missing(number: int) -> str:
    try:
        return str(find_order(number).number)
    except Gone as gone:
        return f"gone: {gone}"


@loopgrid.decision("streams")
def streams(count: int) -> list[int]:
    return list(lines(count))


@loopgrid.decision("later")
async def later(key: str) -> list[Any]:
    found = await asyncio.gather(look_up(key), look_up("other"))
    return [*found, [number async for number in later_lines(2)]]


@loopgrid.decision("threads")
def threads(count: int) -> list[int]:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(copy_context().run, stock, f"t{number}") for number in range(count)]
        return [each.result() for each in asked]


@loopgrid.decision("drifting")
def drifting(number: int) -> int:
    if WORLD.get("more"):
        stock("drift")
    return stock("drift") + number + int(WORLD.get("offset", 0))


@loopgrid.decision("foreign")
def foreign(x: str) -> str:
    return x


POOL = ThreadPoolExecutor(1)


@loopgrid.decision("shared")
def shared(item: str) -> int:
    return POOL.submit(copy_context().run, stock, item).result()


@loopgrid.decision("careless")
def careless(number: int) -> list[str]:
    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        said.append(pool.submit(refund, number, cents=1).result())
    thread = threading.Thread(target=lambda: said.append(refund(number, cents=2)))
    thread.start()
    thread.join()
    return said


@loopgrid.decision("vague")
def vague(number: int) -> str:
    return str(vague_date(number))


@loopgrid.decision("many")
def many(times: int) -> int:
    return sum(stock("same") for _ in range(times))


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("tape")) as running:
        yield running


@pytest.fixture
def grid(real_server: RunningServer, fresh_process: None) -> Iterator[LoopGrid]:
    loopgrid.configure(endpoint=real_server.api, service_name="tape-test", delivery=QUICK)
    CALLS.clear()
    WORLD.clear()
    WORLD["stock"] = 3
    with LoopGrid() as client:
        yield client
    loopgrid.shutdown(5)


def latest(grid: LoopGrid, decision_type: str) -> str:
    (decision,) = grid.list_decisions(decision_type=decision_type, include_replays=True, limit=1)["items"]
    CALLS.clear()
    return str(decision["decision_id"])


def result_of(grid: LoopGrid, replay: Any) -> Any:
    return grid.get_decision(replay["result_decision_id"])["output"]


def test_tools_answer_from_the_record_by_name_arguments_and_occurrence_and_nothing_is_called(grid):
    before = desk(7)
    original = latest(grid, "desk")
    WORLD["stock"] = 20

    replay = grid.replay(original)

    assert replay["status"] == "completed"
    assert result_of(grid, replay) == before
    assert before["counts"] == [4, 5, 6]
    assert sum(CALLS.values()) == 0
    rows = grid.sql(
        "SELECT attributes->>'$.\"loopgrid.step.from_record\"' FROM spans "
        "WHERE trace_id = ? AND kind = 'tool'",
        [replay["result_decision_id"][:32]],
    )["rows"]
    originals = grid.sql("SELECT span_id FROM spans WHERE trace_id = ? AND kind = 'tool'", [original[:32]])[
        "rows"
    ]
    assert sorted(row[0] for row in rows) == sorted(row[0] for row in originals)


def test_what_differs_from_the_record_fails_and_says_how(grid):
    desk(7)
    original = latest(grid, "desk")

    replay = grid.replay(original, overrides={"input": {"number": 8}})

    assert replay["status"] == "failed"
    assert "tool 'find_order' was called" in replay["reason"]
    assert "number is 8, recorded is 7" in replay["reason"]
    assert sum(CALLS.values()) == 0


def test_a_tool_may_run_where_it_is_said_and_one_that_cannot_be_undone_only_by_name(grid):
    desk(7)
    original = latest(grid, "desk")

    asked = grid.replay(original, overrides={"steps": {"of": {"find_order": "live"}}})
    assert (asked["status"], dict(CALLS)) == ("completed", {"find_order": 1})
    CALLS.clear()
    refused = grid.replay(original, overrides={"steps": {"default": "live"}})
    assert (refused["status"], CALLS["refund"]) == ("failed", 0)
    assert "declared irreversible" in refused["reason"]
    assert "allow" in refused["reason"]
    CALLS.clear()
    allowed = grid.replay(original, overrides={"steps": {"default": "live", "allow": ["refund"]}})
    assert (allowed["status"], CALLS["refund"]) == ("completed", 1)


def test_what_was_refused_is_the_replays_end_though_the_function_catches_it(grid):
    swallowing(3)
    original = latest(grid, "swallowing")

    replay = grid.replay(original, overrides={"input": {"number": 4}})

    assert (replay["status"], CALLS["refund"]) == ("failed", 0)
    assert "cents is 4, recorded is 3" in replay["reason"]


def test_an_exception_on_record_is_raised_again_as_what_it_was(grid):
    assert missing(-1) == "gone: no order -1"
    original = latest(grid, "missing")

    replay = grid.replay(original)

    assert (result_of(grid, replay), CALLS["find_order"]) == ("gone: no order -1", 0)


def test_a_fork_is_from_the_record_before_and_live_after(grid):
    desk(7)
    original = latest(grid, "desk")
    WORLD["stock"] = 100

    replay = grid.replay(
        original, overrides={"steps": {"from": 3, "of": {"refund": "recorded"}, "allow": ["refund"]}}
    )

    assert replay["status"] == "completed"
    assert result_of(grid, replay)["counts"] == [4, 101, 102]
    assert (CALLS["find_order"], CALLS["stock"], CALLS["refund"]) == (0, 2, 1)


def test_a_step_runs_unless_the_record_is_asked_for_and_then_what_is_inside_it_is_passed_over(grid):
    before = thinking("why")
    original = latest(grid, "thinking")

    live = grid.replay(original)
    assert (CALLS["think"], CALLS["stock"]) == (1, 0)
    recorded = grid.replay(original, overrides={"steps": {"default": "recorded"}})
    assert (CALLS["think"], CALLS["stock"]) == (1, 0)
    matching = grid.replay(
        original, overrides={"steps": {"of": {"think": "matching"}}, "prompt": {"version": "2"}}
    )
    assert CALLS["think"] == 2

    assert result_of(grid, live) == before
    assert result_of(grid, recorded) == before
    assert result_of(grid, matching)[0].startswith("please why")


def test_a_call_more_than_the_record_has_is_no_answer(grid):
    many(3)
    original = latest(grid, "many")

    replay = grid.replay(original, overrides={"input": {"times": 4}})

    assert replay["status"] == "failed"
    assert "3 times, and this is one more" in replay["reason"]


def test_a_thousand_equal_calls_are_answered_in_order(grid):
    before = many(1000)
    original = latest(grid, "many")

    replay = grid.replay(original)

    assert (result_of(grid, replay), sum(CALLS.values())) == (before, 0)


def test_coroutines_generators_and_async_generators_are_answered_too(grid):
    first = asyncio.run(later("k"))
    later_id = latest(grid, "later")
    second = streams(3)
    streams_id = latest(grid, "streams")

    again, more = grid.replay(later_id), grid.replay(streams_id)

    assert result_of(grid, again) == first
    assert result_of(grid, more) == second
    assert sum(CALLS.values()) == 0


def test_what_runs_in_threads_of_the_replay_is_answered_or_refused_as_well(grid):
    before = threads(8)
    threads_id = latest(grid, "threads")
    careless(5)
    careless_id = latest(grid, "careless")

    again = grid.replay(threads_id)
    # Its threads knew nothing of the decision, so what they did is not on its record.
    refused = grid.replay(careless_id)

    assert result_of(grid, again) == before
    assert refused["status"] == "failed"
    assert "the decision did not call it" in refused["reason"]
    assert sum(CALLS.values()) == 0


def test_a_pool_that_a_replay_used_belongs_to_others_afterwards(grid):
    before = shared("x")
    original = latest(grid, "shared")

    grid.replay(original)
    later = POOL.submit(stock, "x").result()

    assert CALLS["stock"] == 1
    assert later != before


def test_a_result_whose_type_nobody_knows_is_given_for_nothing(grid):
    vague(3)
    original = latest(grid, "vague")

    replay = grid.replay(original)

    assert replay["status"] == "failed"
    assert "untyped" in replay["reason"]
    assert CALLS["vague_date"] == 0


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"defualt": "live"}, "did you mean 'default'"),
        ({"default": "record"}, "did you mean 'recorded'"),
        ({"of": {"refnud": "live"}}, "did you mean 'refund'"),
        ({"allow": "refund"}, "list of the names"),
        ({"from": 0}, "whole number from 1"),
        ({"of": ["refund"]}, "is a map"),
    ],
)
def test_policies_that_cannot_be_meant_are_refused_before_anything_runs(grid, steps, said):
    desk(7)
    original = latest(grid, "desk")
    replays = len(grid.get_decision(original)["replays"])

    with pytest.raises(errors.Invalid, match=said):
        grid.replay(original, overrides={"steps": steps})
    assert sum(CALLS.values()) == 0
    assert len(grid.get_decision(original)["replays"]) == replays


@pytest.mark.parametrize(
    "steps", [{"defualt": "live"}, {"default": "record"}, {"allow": [1]}, {"from": True}]
)
def test_the_server_refuses_them_too(grid, steps):
    desk(7)
    original = latest(grid, "desk")

    with pytest.raises(errors.Invalid, match="overrides"):
        grid.create_replay(original, overrides={"steps": steps})


def test_a_self_test_calls_nothing_and_finds_that_nothing_differs(grid):
    desk(7)
    asyncio.run(later("v"))
    thinking("v")
    missing(-3)
    ids = [latest(grid, kind) for kind in ("desk", "later", "thinking", "missing")]

    replays = [grid.replay(each, verify=True) for each in ids]

    assert [replay.differences for replay in replays] == [[], [], [], []]
    assert sum(CALLS.values()) == 0


def test_a_self_test_says_what_differs_and_takes_no_overrides(grid):
    drifting(3)
    original = latest(grid, "drifting")
    WORLD["offset"] = 5

    replay = grid.replay(original, verify=True)

    assert replay.differences == ["output differs"]
    WORLD["more"] = True
    again = grid.replay(original, verify=True)
    assert again.differences is not None
    assert "this is one more" in again.differences[0]
    with pytest.raises(errors.Invalid, match="leave the overrides out"):
        grid.replay(original, overrides={"input": {"number": 1}}, verify=True)


def test_a_self_test_refuses_where_a_model_would_be_asked(grid, real_server):
    foreign("x")
    original = latest(grid, "foreign")
    trace_id, span_id = (bytes.fromhex(part) for part in original.split("-"))
    asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
    body = traces(span(77, trace_id=trace_id, parent_span_id=span_id, attributes=asked))
    headers = {"Content-Type": "application/x-protobuf"}
    sent = urllib3.request("POST", f"{real_server.otlp_http}/v1/traces", body=body, headers=headers)
    assert sent.status == 200
    replays = len(grid.get_decision(original)["replays"])

    with pytest.raises(errors.NotReplayable, match=r"1 model calls .* @loopgrid.step"):
        grid.replay(original, verify=True)
    assert len(grid.get_decision(original)["replays"]) == replays


def test_a_replay_of_a_replay_answers_from_what_the_first_one_recorded(grid):
    before = desk(9)
    first = grid.replay(latest(grid, "desk"))
    second = grid.replay(first["result_decision_id"])

    assert (result_of(grid, second), sum(CALLS.values())) == (before, 0)


def test_steps_are_refused_where_no_function_runs(grid):
    desk(7)
    original = latest(grid, "desk")

    with pytest.raises(errors.Invalid, match="executor function"):
        grid.create_replay(original, overrides={"steps": {"default": "live"}}, executor="external", output=1)


def test_outside_of_a_replay_nothing_is_answered(grid):
    desk(7)
    original = latest(grid, "desk")
    seen: list[int] = []

    grid.replay(original)
    thread = threading.Thread(target=lambda: seen.append(stock("a")))
    thread.start()
    thread.join()

    assert (seen, CALLS["stock"]) == ([WORLD["stock"]], 1)
