"""`AsyncLoopGrid`: the methods of `LoopGrid`, awaited.

Each attempt runs in a thread of this client's own; waiting between attempts is the event loop's. A cancelled
method sends nothing more; what was on its way when it was cancelled may still arrive (docs/adr/0011).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from loopgrid import tracing
from loopgrid.calls import Calls, answering
from loopgrid.client import LoopGrid, still_on_their_way
from loopgrid.errors import LoopGridError
from loopgrid.replaying import Replay
from loopgrid.request import Call, redacted
from loopgrid.rest import MAX_CONNECTIONS, Attempts
from loopgrid.results import ReplayRecord, Result
from loopgrid.working import NOT_ENDED, Looks

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=Result)


def _sends(
    build: Callable[Concatenate[Calls, P], Call[T]],
) -> Callable[Concatenate[AsyncLoopGrid, P], Coroutine[Any, Any, T]]:
    """The method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    async def method(self: AsyncLoopGrid, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._send(build(self._grid._calls, *args, **kwargs))  # noqa: SLF001 - a method of that class

    return answering(method, build)


class AsyncLoopGrid:
    """A client of one LoopGrid server for coroutines; usable as an async context manager."""

    def __init__(
        self,
        service_name: str | None = None,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Make the client; nothing is sent yet. Arguments and errors are those of `LoopGrid`."""
        self._grid = LoopGrid(service_name, endpoint=endpoint, api_key=api_key, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._threads: ThreadPoolExecutor | None = None

    record_decision = _sends(Calls.record_decision)
    get_decision = _sends(Calls.get_decision)
    get_decisions = _sends(Calls.get_decisions)
    list_decisions = _sends(Calls.list_decisions)
    mark_incorrect = _sends(Calls.mark_incorrect)
    attach_correction = _sends(Calls.attach_correction)
    mark_correct = _sends(Calls.mark_correct)
    agree = _sends(Calls.agree)
    dispute = _sends(Calls.dispute)
    withdraw = _sends(Calls.withdraw)
    adjudicate = _sends(Calls.adjudicate)
    history = _sends(Calls.history)
    report_outcome = _sends(Calls.report_outcome)
    create_review = _sends(Calls.create_review)
    list_reviews = _sends(Calls.list_reviews)
    get_review = _sends(Calls.get_review)
    close_review = _sends(Calls.close_review)
    claim_review = _sends(Calls.claim_review)
    answer_review = _sends(Calls.answer_review)
    skip_review = _sends(Calls.skip_review)
    release_review = _sends(Calls.release_review)
    review_items = _sends(Calls.review_items)
    review_agreement = _sends(Calls.review_agreement)
    create_replay = _sends(Calls.create_replay)
    get_replay = _sends(Calls.get_replay)
    list_replays = _sends(Calls.list_replays)
    cancel_replay = _sends(Calls.cancel_replay)
    retry_replay = _sends(Calls.retry_replay)
    create_cohort = _sends(Calls.create_cohort)
    list_cohorts = _sends(Calls.list_cohorts)
    get_cohort = _sends(Calls.get_cohort)
    cohort_decisions = _sends(Calls.cohort_decisions)
    create_experiment = _sends(Calls.create_experiment)
    estimate_experiment = _sends(Calls.estimate_experiment)
    list_experiments = _sends(Calls.list_experiments)
    get_experiment = _sends(Calls.get_experiment)
    experiment_items = _sends(Calls.experiment_items)
    experiment_report = _sends(Calls.experiment_report)
    cancel_experiment = _sends(Calls.cancel_experiment)
    resume_experiment = _sends(Calls.resume_experiment)
    create_schedule = _sends(Calls.create_schedule)
    list_schedules = _sends(Calls.list_schedules)
    get_schedule = _sends(Calls.get_schedule)
    stop_schedule = _sends(Calls.stop_schedule)
    compare = _sends(Calls.compare)
    sql = _sends(Calls.sql)

    async def replay(
        self,
        decision_id: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        function: Callable[..., Any] | None = None,
        verify: bool = False,
    ) -> Replay:
        """Run a decision's function again, as `LoopGrid.replay` does, in a thread.

        A coroutine function runs in an event loop of its own there.
        """
        replay = functools.partial(
            self._grid.replay, decision_id, overrides=overrides, function=function, verify=verify
        )
        return await self._in_thread(replay)

    async def wait_for_replay(self, replay_id: str, *, timeout_s: float = 60.0) -> ReplayRecord:
        """Wait until a replay that a worker runs has ended, as `LoopGrid.wait_for_replay` does."""
        looks = Looks(timeout_s)
        while True:
            replay = await self.get_replay(replay_id)
            pause_s = looks.pause_s()
            if replay["status"] not in NOT_ENDED or pause_s is None:
                return replay
            await asyncio.sleep(pause_s)

    async def frame(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *, to: str = "arrow"
    ) -> Any:
        """Read the ledger with SQL into a data frame, as `LoopGrid.frame` does, in a thread."""
        return await self._in_thread(functools.partial(self._grid.frame, query, parameters, to=to))

    async def decisions(
        self, *, to: str = "arrow", policy: str | None = None, as_of: Any = None, **filters: Any
    ) -> Any:
        """All decisions that match, as a data frame, as `LoopGrid.decisions` gives them, in a thread."""
        ask = functools.partial(self._grid.decisions, to=to, policy=policy, as_of=as_of, **filters)
        return await self._in_thread(ask)

    async def close(self) -> None:
        """Close the connections; the client may be used again."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        self._grid.close()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        call = redacted(call, tracing.settings().redact)
        settled = not call.settles or await self._in_thread(self._grid._settle)  # noqa: SLF001 - its core
        attempts = Attempts(call, self._timeout_s)
        while True:
            attempt = functools.partial(self._grid._rest.attempt, call, attempts.left_s())  # noqa: SLF001 - its core
            answer = await self._in_thread(attempt)
            if not isinstance(answer, LoopGridError):
                return answer
            wait_s = attempts.wait_s(answer)
            if wait_s is None:
                raise still_on_their_way(answer) if not settled else answer
            await asyncio.sleep(wait_s)

    async def _in_thread(self, action: Callable[[], R]) -> R:
        if self._threads is None:
            # Of its own, so that neither starves the other: the application uses the loop's default one.
            self._threads = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="loopgrid-client")
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)
