"""`AsyncLoopGrid` does what `LoopGrid` does, and a cancelled method sends nothing more."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

import loopgrid
from loopgrid import AsyncLoopGrid, LoopGrid, errors
from tests.support.otlp_receiver import Answer
from tests.unit.sdk.test_client import ID, ok, problem

METHODS = sorted(
    name for name, member in vars(LoopGrid).items() if callable(member) and not name.startswith("_")
)


def test_it_has_the_methods_of_loopgrid_with_the_same_signatures():
    assert {"record_decision", "compare", "replay", "sql"} <= set(METHODS)
    for name in METHODS:
        ours, theirs = getattr(AsyncLoopGrid, name), getattr(LoopGrid, name)
        assert inspect.iscoroutinefunction(ours), name
        assert (
            str(inspect.signature(ours)).partition(" ->")[0]
            == str(inspect.signature(theirs)).partition(" ->")[0]
        )
        assert ours.__doc__, name


def test_methods_run_at_once_and_read_what_was_written(receiver):
    loopgrid.configure(endpoint=receiver.url, delivery=loopgrid.DeliveryLimits(linger_s=60))
    decide = loopgrid.decision("reply")(lambda: str(loopgrid.current().decision_id))
    receiver.script(Answer(200), *[ok({"n": 1})] * 20)

    async def main() -> list[Any]:
        decision_id = decide()
        async with AsyncLoopGrid() as grid:
            return list(await asyncio.gather(*(grid.get_decision(decision_id) for _ in range(20))))

    assert asyncio.run(main()) == [{"n": 1}] * 20
    assert receiver.requests[0].path == "/v1/traces"


def test_a_cancelled_method_is_not_tried_again(receiver):
    loopgrid.configure(endpoint=receiver.url)
    release = threading.Event()
    receiver.script(Answer(503, release=release), ok({}))

    async def main() -> None:
        async with AsyncLoopGrid() as grid:
            task = asyncio.create_task(grid.mark_incorrect(ID, reason="x"))
            await asyncio.to_thread(receiver.arrived.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            release.set()
            receiver.script(ok({"after": 1}))

    asyncio.run(main())

    assert len(receiver.requests) == 1


def test_errors_and_retries_are_those_of_loopgrid(receiver):
    loopgrid.configure(endpoint=receiver.url)
    receiver.script(problem(503, "busy"), ok({"a": 1}), problem(404, "no such decision"))

    async def main() -> None:
        async with AsyncLoopGrid() as grid:
            assert (await grid.get_decision(ID)).a == 1
            with pytest.raises(errors.NotFound, match="no such decision"):
                await grid.get_decision(ID)

    asyncio.run(main())

    assert len(receiver.requests) == 3
