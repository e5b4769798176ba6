"""A decorated function behaves as if it were not decorated, and leaves a complete record."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from typing import Any, assert_type

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

import loopgrid
from loopgrid import tracing
from loopgrid.schema import RECORD_VERSION
from tests.unit.sdk.conftest import QUICK


@loopgrid.decision("greet")
def greet(name: str, *, loud: bool = False) -> str:
    """Say hello."""
    return f"hello {name}{'!' if loud else ''}"


@loopgrid.decision("think")
async def think(question: str) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"answer": len(question)}


class Desk:
    @loopgrid.decision("assign")
    def assign(self, ticket: int) -> str:
        return f"{type(self).__name__} {ticket}"

    @staticmethod
    @loopgrid.decision("route")
    def route(ticket: int) -> int:
        return ticket + 1

    @loopgrid.decision("above")
    @staticmethod
    def above(ticket: int) -> int:
        return ticket + 2

    @loopgrid.decision("above class")
    @classmethod
    def above_class(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @classmethod
    @loopgrid.decision("name")
    def label(cls, suffix: str) -> str:
        return cls.__name__ + suffix


def test_the_record_has_type_function_input_with_defaults_output_and_producer(decided):
    assert greet("Ada") == "hello Ada"

    span = decided()
    assert span.name == "greet"
    assert span.status == "ok"
    assert span.input == {"name": "Ada", "loud": False}
    assert span.output == "hello Ada"
    assert span.attributes["loopgrid.decision.type"] == "greet"
    assert span.attributes["loopgrid.record.version"] == RECORD_VERSION
    assert span.attributes["code.function.name"] == f"{greet.__module__}.greet"
    assert span.attributes["loopgrid.producer.seq"] == 1
    assert span.attributes["loopgrid.producer.id"] == span.resource["service.instance.id"]
    assert span.resource["service.name"] == "test-service"
    assert span.losses == []


def test_a_coroutine_function_is_recorded_when_it_has_been_awaited(decided):
    assert asyncio.run(think("why?")) == {"answer": 4}

    assert decided().output == {"answer": 4}
    assert inspect.iscoroutinefunction(think)


def test_signature_name_and_docstring_are_those_of_the_function():
    assert greet.__name__ == "greet"
    assert greet.__doc__ == "Say hello."
    assert str(inspect.signature(greet)) == "(name: 'str', *, loud: 'bool' = False) -> 'str'"


def test_a_type_checker_sees_the_original_signature(recording):
    assert_type(greet("Ada", loud=True), str)
    assert_type(Desk().assign(3), str)
    assert_type(Desk.route(3), int)
    assert_type(Desk.label("s"), str)


def test_without_a_type_the_functions_name_is_the_type(recording):
    @loopgrid.decision
    def bare() -> None: ...

    @loopgrid.decision()
    def called() -> None: ...

    bare()
    called()

    assert loopgrid.flush()
    assert [span.name for span in recording.spans] == ["bare", "called"]


def test_methods_static_methods_and_class_methods_keep_their_receiver_to_themselves(recording):
    assert Desk().assign(7) == "Desk 7"
    assert Desk.route(7) == 8
    assert Desk().label("!") == "Desk!"
    assert Desk.above(7) == 9
    assert Desk.above_class("?") == "Desk?"

    assert loopgrid.flush()
    assert [span.input for span in recording.spans] == [
        {"ticket": 7},
        {"ticket": 7},
        {"suffix": "!"},
        {"ticket": 7},
        {"suffix": "?"},
    ]
    assert recording.spans[0].losses == ["input.self:not_captured"]


def test_positional_only_and_variadic_arguments_are_recorded_by_name(decided):
    @loopgrid.decision("all kinds")
    def kinds(a, /, b, *rest, c=3, **more):
        return [a, b, rest, c, more]

    assert kinds(1, 2, 4, 5, x=6) == [1, 2, (4, 5), 3, {"x": 6}]
    assert decided().input == {"a": 1, "b": 2, "rest": [4, 5], "c": 3, "more": {"x": 6}}


def test_wrong_arguments_raise_pythons_own_error_and_the_failed_call_is_recorded(decided):
    wrong: Any = greet
    with pytest.raises(TypeError, match=r"greet\(\) got an unexpected keyword argument 'nam'"):
        wrong(nam="Ada")

    span = decided()
    assert span.status == "error"
    assert span.attributes["error.type"] == "TypeError"
    assert span.input == {"args": [], "kwargs": {"nam": "Ada"}}
    assert span.losses == ["input:not_bound"]


def test_an_exception_ends_the_decision_and_is_the_very_one_that_was_raised(decided):
    raised = LookupError("no such ticket 42")

    @loopgrid.decision("fail")
    def fail():
        raise raised

    with pytest.raises(LookupError) as caught:
        fail()

    assert caught.value is raised
    assert caught.value.__context__ is None
    span = decided()
    assert (span.status, span.attributes["error.type"]) == ("error", "LookupError")
    assert span.message == "no such ticket 42"
    assert "loopgrid.decision.output" not in span.attributes


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_exceptions_that_end_programs_are_recorded_and_passed_on(decided, error):
    @loopgrid.decision("stop")
    def stop():
        raise error

    with pytest.raises(error):
        stop()

    assert decided().attributes["error.type"] == error.__name__


def test_cancellation_ends_the_decision_and_cancels_the_task(decided):
    @loopgrid.decision("wait")
    async def wait():
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert decided().attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_an_exception_with_a_hostile_message_is_still_recorded_and_raised(decided):
    class HostileError(Exception):
        def __str__(self):
            raise ValueError("not even my name")

    @loopgrid.decision("fail")
    def fail():
        raise HostileError

    with pytest.raises(HostileError):
        fail()

    span = decided()
    assert (span.status, span.message) == ("error", "")
    assert span.attributes["error.type"].endswith("HostileError")


def test_an_iterator_argument_reaches_the_function_unconsumed(decided):
    @loopgrid.decision("total")
    def total(numbers):
        return sum(numbers)

    assert total(number for number in (1, 2, 3)) == 6
    assert decided().losses == ["input.numbers:repr:generator", "input.numbers:untyped:generator"]


def test_arguments_are_recorded_as_they_were_before_the_function_changed_them(decided):
    @loopgrid.decision("drain")
    def drain(items: list[int]) -> int:
        count = len(items)
        items.clear()
        return count

    items = [1, 2]
    assert drain(items) == 2
    assert items == []
    assert decided().input == {"items": [1, 2]}


def test_a_returned_object_is_the_very_one_the_function_made(decided):
    made: dict[str, object] = {"key": object()}

    @loopgrid.decision("make")
    def make():
        return made

    assert make() is made
    assert decided().losses == ["output.key:repr:object"]


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (property(lambda self: 1), "put @property above @loopgrid.decision"),
        (int, "not on the class int: decorate the method that decides"),
        (functools.partial(print), "a partial has no name to be found by: .*write a def that calls it"),
        (print, "goes on a function"),
        (greet, "decorated with @loopgrid.decision twice"),
        (3, "goes on a function"),
    ],
)
def test_what_would_be_recorded_wrongly_is_refused_with_advice(thing, advice):
    with pytest.raises(TypeError, match=advice):
        loopgrid.decision("type")(thing)


@pytest.mark.parametrize("option", [{"reduce": ","}, {"stream": "yes"}])
def test_an_option_that_cannot_be_meant_is_refused_with_what_to_write_instead(option):
    with pytest.raises(
        TypeError, match=r'write reduce="".join, or leave it out|stream is True, False or left out'
    ):
        loopgrid.decision("type", **option)


def test_the_decorator_in_a_with_statement_points_to_decide():
    block: Any = loopgrid.decision("type")
    with pytest.raises(TypeError, match=r'write with loopgrid.decide\("type", input=…\)'), block:
        pass


def test_an_empty_type_is_refused():
    with pytest.raises(ValueError, match="a decision type is a name"):
        loopgrid.decision(" ")


def test_a_decision_inside_a_decision_is_its_child(recording):
    @loopgrid.decision("outer")
    def outer():
        return greet("Ada")

    outer()

    assert loopgrid.flush()
    inner, parent = recording.spans
    assert (inner.trace_id, inner.parent_span_id) == (parent.trace_id, parent.span_id)


def test_a_decision_belongs_to_the_callers_trace_even_where_that_is_not_sampled(decided):
    application = TracerProvider(sampler=ParentBased(ALWAYS_OFF)).get_tracer("application")

    @loopgrid.decision("flag")
    def flag() -> bool:
        return trace.get_current_span().get_span_context().trace_flags.sampled

    with application.start_as_current_span("request") as request:
        sampled_inside = flag()

    context = request.get_span_context()
    span = decided()
    assert span.parent_span_id == f"{context.span_id:016x}"
    assert span.trace_id == f"{context.trace_id:032x}"
    assert sampled_inside is False, "the application's sampling decision was changed"


def test_the_context_after_a_call_is_the_one_before_it(recording):
    greet("Ada")
    assert trace.get_current_span() is trace.INVALID_SPAN

    with pytest.raises(TypeError):
        greet(1, 2)  # type: ignore[call-arg, arg-type]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_global_provider_and_its_limits_stay_out_of_it(monkeypatch, receiver):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK)

    greet("a long name")

    assert loopgrid.flush()
    (span,) = receiver.spans
    assert span.output == "hello a long name"
    assert span.dropped_attributes == 0
    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"


def test_ids_are_unique_although_the_application_seeds_its_random_numbers(recording):
    @loopgrid.decision("draw")
    def draw() -> float:
        return random.random()

    random.seed(1)
    expected = random.random()
    drawn = []
    for _ in range(3):
        random.seed(1)
        drawn.append(draw())

    assert loopgrid.flush()
    assert drawn == [expected] * 3, "recording drew from the application's random numbers"
    assert len({span.trace_id for span in recording.spans}) == 3


def test_disabled_runs_the_function_and_nothing_else(receiver):
    loopgrid.configure(endpoint=receiver.url, disabled=True)

    assert greet("Ada") == "hello Ada"
    assert loopgrid.current().decision_id is None
    assert loopgrid.flush()
    assert loopgrid.counters() == {}
    assert receiver.requests == []


def test_inside_unrecorded_calls_run_and_leave_no_record_and_after_it_they_do(decided):
    with tracing.unrecorded():
        with tracing.unrecorded():
            assert greet("Ada") == "hello Ada"
        assert greet("Bob") == "hello Bob"
        assert loopgrid.current().decision_id is None
    greet("Cleo")

    assert decided().input == {"name": "Cleo", "loud": False}
    assert loopgrid.counters() == {"started": 1, "acknowledged": 1}


def test_a_setting_that_cannot_be_meant_costs_the_record_but_not_the_call(monkeypatch, caplog):
    monkeypatch.setenv("LOOPGRID_ENDPOINT", "localhost:8000")

    assert [greet("Ada") for _ in range(3)] == ["hello Ada"] * 3
    assert loopgrid.counters() == {"open_failed": 3}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "the endpoint 'localhost:8000' is no URL LoopGrid can use: write it like http://127" in warning
    assert "Ada" not in warning


def test_decisions_of_many_threads_and_tasks_are_numbered_without_gaps(recording):
    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(think(str(number)))
                group.create_task(asyncio.to_thread(greet, str(number)))

    asyncio.run(main())

    assert loopgrid.flush()
    numbers = sorted(span.attributes["loopgrid.producer.seq"] for span in recording.spans)
    assert numbers == list(range(1, 401))
    assert len({span.decision_id for span in recording.spans}) == 400
