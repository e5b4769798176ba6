"""When one provider may be asked, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from loopgrid_query.replay.pacing import Pace, Withheld
from loopgrid_query.replay.providers import Provider
from tests.support.clock import Clock

Test = Callable[[Pace, Clock], Coroutine[Any, Any, None]]


def paced(test: Test, **limits: Any) -> None:
    """Run a test on a provider that allows so much."""
    clock = Clock()
    pace = Pace(Provider("acme", "openai", "http://x/v1", **limits), clock.now, clock.sleep)
    asyncio.run(test(pace, clock))


async def settled(pace: Pace, *tasks: asyncio.Task[Any]) -> None:
    """Let every task go as far as it can."""
    del pace, tasks
    for _ in range(50):
        await asyncio.sleep(0)


def test_without_limits_nobody_waits():
    async def test(pace: Pace, clock: Clock) -> None:
        for _ in range(100):
            async with pace.turn(10_000) as turn:
                turn.answered(20_000)
        assert clock.pauses == []

    paced(test)


def test_requests_are_spread_over_the_minute_in_the_order_in_which_they_came():
    async def test(pace: Pace, clock: Clock) -> None:
        sent: list[tuple[int, float]] = []

        async def ask(number: int) -> None:
            async with pace.turn(0):
                sent.append((number, clock.now()))

        await asyncio.gather(*(ask(number) for number in range(40)))
        assert sent == [(number, number * 2.0) for number in range(40)]

    paced(test, requests_per_minute=30)


def test_tokens_are_spread_and_what_was_really_used_counts():
    async def test(pace: Pace, clock: Clock) -> None:
        sent: list[float] = []
        for used in (100, 300, None, 0):
            async with pace.turn(100) as turn:
                sent.append(clock.now())
                turn.answered(used)
        async with pace.turn(100):
            sent.append(clock.now())
        # 600 a minute: ten seconds for a hundred.
        assert sent == [0.0, 10.0, 40.0, 50.0, 50.0]

    paced(test, tokens_per_minute=600)


def test_a_request_that_is_larger_than_a_minute_allows_is_sent_and_the_next_waits_for_it():
    async def test(pace: Pace, clock: Clock) -> None:
        async with pace.turn(1200):
            assert clock.now() == 0.0
        async with pace.turn(1):
            assert clock.now() == 120.0

    paced(test, tokens_per_minute=600)


def test_no_more_are_under_way_at_once_than_allowed():
    async def test(pace: Pace, clock: Clock) -> None:
        go, most = asyncio.Event(), 0

        async def ask() -> None:
            nonlocal most
            async with pace.turn(0):
                most = max(most, pace.counts.under_way)
                await go.wait()

        tasks = [asyncio.create_task(ask()) for _ in range(20)]
        await settled(pace)
        assert (pace.counts.under_way, pace.counts.waiting) == (3, 17)
        go.set()
        await asyncio.gather(*tasks)
        assert (most, pace.counts.sent, pace.counts.waiting, pace.counts.under_way) == (3, 20, 0, 0)

    paced(test, concurrency=3)


def test_what_one_call_is_told_counts_for_all_and_one_tries_first():
    async def test(pace: Pace, clock: Clock) -> None:
        async with pace.turn(0) as turn:
            turn.held_back(7.0, "busy")
        assert pace.paused_s == 7.0
        go, sent = asyncio.Event(), []

        async def ask(number: int) -> None:
            async with pace.turn(0) as turn:
                sent.append((number, clock.now()))
                await go.wait()
                turn.answered(None)

        tasks = [asyncio.create_task(ask(number)) for number in range(5)]
        await settled(pace)
        assert sent == [(0, 7.0)]
        go.set()
        await asyncio.gather(*tasks)
        assert sent == [(number, 7.0) for number in range(5)]
        assert (pace.counts.sent, pace.counts.answered, pace.counts.held_back) == (6, 5, 1)

    paced(test)


def test_where_the_first_one_is_refused_again_the_others_still_wait():
    async def test(pace: Pace, clock: Clock) -> None:
        sent: list[float] = []

        async def ask(*, refused: bool) -> None:
            async with pace.turn(0) as turn:
                sent.append(clock.now())
                if refused:
                    turn.held_back(2.0, "busy")
                else:
                    turn.answered(None)

        await asyncio.gather(*(ask(refused=number < 3) for number in range(6)))
        assert sent == [0.0, 2.0, 4.0, 6.0, 6.0, 6.0]

    paced(test)


def test_an_answer_that_only_concerns_its_own_call_lets_the_others_go():
    async def test(pace: Pace, clock: Clock) -> None:
        async with pace.turn(0) as turn:
            turn.held_back(1.0, "busy")
        async with pace.turn(0) as first:
            first.failed()
            async with pace.turn(0) as second:
                assert (first.first, second.first) == (True, False)

    paced(test)


def test_a_pause_that_is_too_long_is_told_to_all_and_after_a_while_one_asks_again():
    async def test(pace: Pace, clock: Clock) -> None:
        async with pace.turn(0) as turn:
            turn.held_back(3600.0, "acme is closed for an hour.")
        for _ in range(3):
            with pytest.raises(Withheld, match="closed for an hour"):
                async with pace.turn(0):
                    pytest.fail("nothing may be sent")
        assert (pace.counts.sent, pace.counts.withheld, clock.pauses) == (1, 3, [])
        clock.pass_by(60.0)
        async with pace.turn(0) as turn:
            assert turn.first
            turn.answered(None)
        async with pace.turn(0) as turn:
            assert not turn.first

    paced(test, max_retry_wait_s=60.0)


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {}])
def test_whoever_waits_can_be_cancelled_and_takes_nothing_with_them(limits):
    async def test(pace: Pace, clock: Clock) -> None:
        go = asyncio.Event()

        async def ask(*, doubt: bool = False) -> None:
            async with pace.turn(0) as turn:
                if doubt:
                    turn.held_back(1.0, "busy")
                await go.wait()

        await asyncio.gather(*[asyncio.create_task(ask(doubt=True))], settled(pace), _set(go))
        go.clear()
        first = asyncio.create_task(ask())
        await settled(pace)
        waiting = [asyncio.create_task(ask()) for _ in range(10)]
        await settled(pace)
        assert (pace.counts.under_way, pace.counts.waiting) == (1, 10)
        for task in (*waiting, first):
            task.cancel()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        assert (pace.counts.under_way, pace.counts.waiting) == (0, 0)
        async with pace.turn(0) as turn:
            turn.answered(None)
        assert pace.counts.answered == 1

    async def _set(go: asyncio.Event) -> None:
        go.set()

    paced(test, **limits)
