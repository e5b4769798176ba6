"""`LoopGrid`: the API's methods, in Python.

Results are the API's JSON objects: dicts whose members are attributes, too. Before a method that refers to a
decision it waits until what this process itself has decided has arrived, so that one reads what one wrote.
What may be sent twice is tried again where the server is busy, or the connection breaks.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from loopgrid import frames, selftest, tape, tracing, working
from loopgrid.calls import Calls, answering
from loopgrid.config import checked_endpoint
from loopgrid.errors import Fatal, LoopGridError, Misconfigured, NotFound, Unavailable
from loopgrid.overrides import Overrides, unknown_version
from loopgrid.prompt import Prompt, registered_prompt, registered_prompts
from loopgrid.replaying import Replay, prepare, refuse_running_loop, run
from loopgrid.request import Call, redacted
from loopgrid.rest import Attempts, Rest
from loopgrid.results import ReplayRecord, Result
from loopgrid.schema import replay_result_id
from loopgrid.working import NOT_ENDED, Looks

P = ParamSpec("P")
T = TypeVar("T", bound=Result)
A = TypeVar("A")


def _sends(build: Callable[Concatenate[Calls, P], Call[T]]) -> Callable[Concatenate[LoopGrid, P], T]:
    """The method that sends what `build` makes of its arguments."""

    @functools.wraps(build)
    def method(self: LoopGrid, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._send(build(self._calls, *args, **kwargs))

    return answering(method, build)


class LoopGrid:
    """A client of one LoopGrid server. Thread-safe; usable as a context manager."""

    def __init__(
        self,
        service_name: str | None = None,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
            service_name: `service.name` of the decisions it records; by default that of this process.
            endpoint: URL of the server; by default `LOOPGRID_ENDPOINT` or what `configure` was given.
            api_key: by default `LOOPGRID_API_KEY` or what `configure` was given; an empty one is none.
            timeout_s: seconds one method may take, retries included.

        Raises:
            Misconfigured: a value cannot be meant.
        """
        settings = tracing.settings()
        if not timeout_s > 0:
            raise Misconfigured(f"timeout_s is {timeout_s!r}: give a positive number of seconds")
        self._calls = Calls(service_name if service_name is not None else settings.service_name)
        self._timeout_s = timeout_s
        self._rest = Rest(
            settings.endpoint if endpoint is None else checked_endpoint(endpoint),
            settings.api_key if api_key is None else api_key,
            timeout_s,
        )

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

    def replay(
        self,
        decision_id: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        function: Callable[..., Any] | None = None,
        verify: bool = False,
    ) -> Replay:
        """Run a decision's function again, in this process, with overrides.

        Arguments come from the record, restored by the function's type hints. The run is recorded as a
        decision in a new trace, linked to the original. If the function raises, the replay's status is
        `failed` and its `exception` holds what was raised.

        Args:
            decision_id: the decision to run again.
            overrides: `{"prompt": {name, version, template, variables}, "model": {provider, name,
                parameters}, "input": {argument: value}, "steps": {default, of, allow, from}}`, all optional.
                Tools answer from the record unless `steps` says otherwise.
            function: the decorated function; by default the one in this process with the recorded name. A
                method is passed bound to its object.
            verify: run it as a self-test: every step from the record, nothing changed, nothing called. The
                result's `differences` say what came out otherwise all the same.

        Returns:
            The replay, as `get_replay` shows it.

        Raises:
            NotReplayable: the function is not here, or an argument cannot be restored; nothing was recorded.
            Invalid: an override is unknown; the message suggests the nearest.
            Unavailable: it ran, and its record has not arrived within `timeout_s`.
        """
        self._check_recording_goes_here()
        if verify:
            selftest.check(self._send(Calls.recorded_steps(decision_id)), overrides)
            overrides = selftest.OVERRIDES
        checked = Overrides.checked(overrides or {})
        before = self.get_decision(decision_id)
        call = prepare(before, checked, function, self._find_prompt)
        refuse_running_loop(call)
        steps = self._tape(decision_id, checked)
        worker = working.this_process()
        requested = self._send(working.begin(decision_id, overrides or {}, worker))
        if requested["status"] != "running":
            return Replay(requested)
        replay_id, attempt = requested["replay_id"], requested["attempts"]
        with working.Pulse(lambda: self._send(working.heartbeat(replay_id, worker, attempt))):
            try:
                with tape.playing(steps):
                    exception = run(call, replay_id, decision_id, replay_result_id(replay_id, attempt))
            except BaseException as stop:
                self._end_of(replay_id, worker, attempt, stop)
                raise
        if not tracing.drain(self._timeout_s):
            raise Unavailable(
                f"replay {replay_id} ran, but its record has not reached {self._rest.endpoint} "
                "within "
                f"{self._timeout_s:g} s: call loopgrid.flush() and then get_replay()"
            ) from exception
        refused = None if steps is None else steps.failure()
        end = ("ran", None) if refused is None else ("failed", refused)
        shown = self._send(working.finish(replay_id, worker, attempt, *end))
        if not verify:
            return Replay(shown, exception)
        result = shown["result_decision_id"]
        after = None if result is None else self.get_decision(result)
        return Replay(shown, exception, selftest.differences(before, after, steps))

    def _tape(self, decision_id: str, overrides: Overrides) -> tape.Tape | None:
        """What a replay answers steps and tools from; None where this process has none.

        Raises:
            Invalid: an override names a step that there is not.
            NotReplayable: the record has too many.
        """
        names = tape.names()
        if not names and not overrides.steps:
            return None
        return tape.tape_of(self._send(Calls.recorded_steps(decision_id)), overrides.steps, names)

    def _end_of(self, replay_id: str, worker: str, attempt: int, stop: BaseException) -> None:
        """Say that what stops this process, or this call, stopped a replay: its decision says so, too."""
        tracing.drain(self._timeout_s)
        # What stops it is raised; whether that could be said comes second.
        with contextlib.suppress(LoopGridError):
            self._send(working.finish(replay_id, worker, attempt, "failed", working.named(stop)))

    def wait_for_replay(self, replay_id: str, *, timeout_s: float = 60.0) -> ReplayRecord:
        """Wait until a replay that a worker runs has ended.

        Args:
            replay_id: the replay, as `create_replay` gave it.
            timeout_s: seconds to wait at most.

        Returns:
            The replay as it is then: still `pending` or `running` where the time was over first.

        Raises:
            NotFound: the ledger has no such replay.
        """
        looks = Looks(timeout_s)
        while True:
            replay = self.get_replay(replay_id)
            pause_s = looks.pause_s()
            if replay["status"] not in NOT_ENDED or pause_s is None:
                return replay
            time.sleep(pause_s)

    def frame(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *, to: str = "arrow"
    ) -> Any:
        """Read the ledger with SQL into a data frame: every row, with the types of the columns.

        Args:
            query: one SELECT over the public views.
            parameters: values for `?` and `$1` (a sequence), or `$name` (a mapping).
            to: `arrow` (a `pyarrow.Table`), `pandas` or `polars`.

        Returns:
            The frame.

        Raises:
            Invalid: the query is not a SELECT the ledger can answer, or `to` is unknown.
            Misconfigured: a package that `to` needs is not installed.
            Unreachable: no server answers, or the answer broke off because it outgrew the server's limits.
        """
        read = frames.reader(to)
        call = self._calls.sql(query, parameters)
        attempt = functools.partial(self._rest.attempt_bytes, call, frames.ARROW_STREAM)
        return read(self._attempted(call, attempt))

    def decisions(
        self, *, to: str = "arrow", policy: str | None = None, as_of: Any = None, **filters: Any
    ) -> Any:
        """All decisions that match every filter given, as a data frame: no pages, all as of one commit.

        The columns are those of the view `decisions` and, where a decision has a ground truth, the correction
        that it is. Rows stand in the order in which they were recorded.

        Args:
            to: `arrow` (a `pyarrow.Table`), `pandas` or `polars`.
            policy: which correction is the ground truth: `latest` (the default), `majority`, `adjudicated`.
            as_of: the newest commit, by number, or the newest moment that counts; now by default.
            **filters: as `list_decisions` takes them, but for `limit` and `cursor`.

        Returns:
            The frame.

        Raises:
            Invalid: a filter has a value that cannot be meant, or `to` is unknown.
            TypeError: there is no such filter.
            Misconfigured: a package that `to` needs is not installed.
            Unreachable: no server answers, or the answer broke off.
        """
        read = frames.reader(to)
        call = self._calls.export(policy, as_of, filters)
        attempt = functools.partial(self._rest.attempt_bytes, call, frames.ARROW_STREAM)
        return read(self._attempted(call, attempt))

    def close(self) -> None:
        """Close the connections; the client may be used again."""
        self._rest.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def _send(self, call: Call[T]) -> T:
        call = redacted(call, tracing.settings().redact)
        return self._attempted(call, functools.partial(self._rest.attempt, call))

    def _attempted(self, call: Call[Any], attempt: Callable[[float], A | LoopGridError]) -> A:
        """What an attempt brings, made as often as makes sense; it is told the seconds it may take."""
        attempts = Attempts(call, self._timeout_s)
        settled = not call.settles or self._settle()
        while True:
            answer = attempt(attempts.left_s())
            if not isinstance(answer, LoopGridError):
                return answer
            wait_s = attempts.wait_s(answer)
            if wait_s is None:
                raise still_on_their_way(answer) if not settled else answer
            time.sleep(wait_s)

    def _settle(self) -> bool:
        """Let what this process decided arrive first, if it goes where this client asks; True if it has."""
        return tracing.settings().endpoint != self._rest.endpoint or tracing.drain(self._timeout_s)

    def _check_recording_goes_here(self) -> None:
        settings = tracing.settings()
        if settings.disabled:
            raise Fatal(
                "recording is disabled in this process, so a replay would leave no record: unset "
                "LOOPGRID_DISABLED"
            )
        if settings.endpoint != self._rest.endpoint:
            raise Misconfigured(
                f"this process records to {settings.endpoint}, this client talks to {self._rest.endpoint}: "
                "call "
                f"loopgrid.configure(endpoint={self._rest.endpoint!r}) first"
            )

    def _find_prompt(self, name: str, version: str | None) -> Prompt:
        """The prompt of that name and version: from this process, else as the ledger has seen it.

        Without a version, the only prompt of that name this process defines.
        """
        here = [prompt for prompt in registered_prompts() if prompt.name == name]
        found = registered_prompt(name, version) or (here[0] if version is None and len(here) == 1 else None)
        if found is not None:
            return found
        if version is not None:
            for seen in self._seen_prompts(name, version):
                if seen.get("template") is not None:
                    return Prompt.recorded(name, version=version, template=seen["template"])
        names = {prompt.name for prompt in registered_prompts()}
        raise unknown_version(name, version, [*here, *self._seen_prompts(name)], names)

    def _seen_prompts(self, name: str, version: str | None = None) -> list[dict[str, Any]]:
        """Prompts of that name in the latest decisions that used one."""
        page = self.list_decisions(prompt_name=name, prompt_version=version, include_replays=True, limit=100)
        return [decision["prompt"] for decision in page["items"]]


def still_on_their_way(error: LoopGridError) -> LoopGridError:
    """What is not found may be about to arrive: say so."""
    if not isinstance(error, NotFound):
        return error
    message = f"{error.message} (decisions of this process are still on their way to the server: try again)"
    return NotFound(message, status=error.status, problem=error.problem)
