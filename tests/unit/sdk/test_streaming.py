"""Generators, async generators and returned streams: handed on unchanged, recorded, and ended truthfully."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Self

import pytest
from opentelemetry import trace

import loopgrid
from loopgrid.config import CaptureLimits
from tests.unit.sdk.conftest import QUICK


@loopgrid.decision("count")
def count(number: int) -> Iterator[int]:
    """Yield numbers."""
    yield from range(number)


@loopgrid.decision("talk", reduce="".join)
async def talk(words: list[str]) -> AsyncIterator[str]:
    for word in words:
        await asyncio.sleep(0)
        yield word


class Stream:
    """What a model client returns for a streamed answer."""

    def __init__(self, words: list[str]) -> None:
        self.words = iter(words)
        self.response_id = "r-1"
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        yield from self.words

    def __next__(self) -> str:
        return next(self.words)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


class AsyncStream:
    def __init__(self, words: list[str]) -> None:
        self.words = iter(words)

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        try:
            return next(self.words)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""


@loopgrid.decision("stream", reduce="".join)
def stream(words: list[str]) -> Stream:
    return Stream(words)


def test_a_generator_yields_what_it_yields_and_its_chunks_are_the_output(decided):
    assert list(count(3)) == [0, 1, 2]

    span = decided()
    assert (span.status, span.input, span.output) == ("ok", {"number": 3}, [0, 1, 2])
    assert span.losses == []


def test_introspection_sees_what_was_written():
    assert inspect.isgeneratorfunction(count)
    assert inspect.isasyncgenfunction(talk)
    assert count.__doc__ == "Yield numbers."
    assert str(inspect.signature(count)) == "(number: 'int') -> 'Iterator[int]'"
    assert inspect.isgenerator(count(1))


def test_reduce_joins_the_chunks_of_an_async_generator_into_the_output(decided):
    async def main() -> list[str]:
        return [word async for word in talk(["Hel", "lo"])]

    assert asyncio.run(main()) == ["Hel", "lo"]
    assert (decided().status, decided().output) == ("ok", "Hello")


def test_a_reduce_that_fails_costs_the_joining_and_nothing_else(decided):
    @loopgrid.decision("sum", reduce="".join)
    def numbers():
        yield 1
        yield 2

    assert list(numbers()) == [1, 2]
    assert decided().output == [1, 2]
    assert decided().losses == ["output:reduce_failed:TypeError"]


def test_what_is_sent_thrown_and_returned_passes_through(decided):
    @loopgrid.decision("dialogue")
    def dialogue():
        try:
            heard = yield "name?"
        except KeyError:
            heard = "thrown"
        got = yield f"hello {heard}"
        return {"got": got}

    talk_to = dialogue()
    assert next(talk_to) == "name?"
    assert talk_to.throw(KeyError("x")) == "hello thrown"
    with pytest.raises(StopIteration) as stop:
        talk_to.send("bye")

    assert stop.value.value == {"got": "bye"}
    span = decided()
    assert (span.status, span.output) == ("ok", ["name?", "hello thrown"])
    assert span.attributes["loopgrid.decision.returned"] == '{"got":"bye"}'


def test_what_is_sent_and_thrown_into_an_async_generator_passes_through(decided):
    @loopgrid.decision("dialogue")
    async def dialogue():
        heard = yield "name?"
        try:
            yield f"hello {heard}"
        except KeyError:
            yield "caught"

    async def main() -> list[str]:
        talk_to = dialogue()
        return [await anext(talk_to), await talk_to.asend("Ada"), await talk_to.athrow(KeyError("x"))]

    assert asyncio.run(main()) == ["name?", "hello Ada", "caught"]
    assert decided().losses == ["output:incomplete:closed"]


def test_an_exception_in_a_generator_ends_it_as_failed_with_the_chunks_until_then(decided):
    @loopgrid.decision("break")
    def breaks():
        yield 1
        raise LookupError("gone")

    chunks = breaks()
    assert next(chunks) == 1
    with pytest.raises(LookupError, match="gone"):
        next(chunks)

    span = decided()
    assert (span.status, span.attributes["error.type"], span.output) == ("error", "LookupError", [1])


def test_a_generator_closed_early_is_unfinished_neither_ok_nor_failed(decided):
    chunks: Any = count(5)
    next(chunks)
    chunks.close()

    span = decided()
    assert (span.status, span.output) == ("unset", [0])
    assert span.losses == ["output:incomplete:closed"]


def test_a_generator_that_nobody_refers_to_any_more_is_unfinished(decided):
    chunks = count(5)
    next(chunks)
    del chunks
    gc.collect()

    assert decided().status == "unset"
    assert decided().losses == ["output:incomplete:closed"]


def test_a_generator_that_never_ran_decided_nothing(recording):
    count(5)

    assert loopgrid.flush()
    assert recording.spans == []


def test_an_async_generator_left_behind_by_its_loop_is_unfinished(decided):
    left: list[Any] = []

    async def main() -> None:
        chunks = talk(["a", "b"])
        assert await anext(chunks) == "a"
        left.append(chunks)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    left.clear()
    gc.collect()

    assert decided().status == "unset"
    assert decided().losses[0].startswith("output:incomplete:")


def test_a_cancelled_async_generator_is_failed_by_the_cancellation(decided):
    @loopgrid.decision("wait")
    async def waits():
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in waits():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert decided().attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert decided().output == [1]


def test_nothing_is_current_between_two_chunks_and_the_decision_is_within(decided):
    inside = []

    @loopgrid.decision("look")
    def look():
        inside.append(loopgrid.current().decision_id)
        yield 1
        inside.append(loopgrid.current().decision_id)

    outside = []
    for _ in look():
        outside.append(loopgrid.current().decision_id)
        assert trace.get_current_span() is trace.INVALID_SPAN

    assert outside == [None]
    assert inside == [decided().decision_id] * 2


def test_what_the_generator_made_current_is_so_again_after_the_yield(recording):
    @loopgrid.step("inner")
    def inner():
        yield trace.get_current_span().get_span_context().span_id
        yield trace.get_current_span().get_span_context().span_id

    @loopgrid.decision("outer")
    def outer():
        yield from inner()

    first, second = outer()

    assert loopgrid.flush()
    step = next(span for span in recording.spans if span.name == "inner")
    assert first == second == int(step.span_id, 16)


def test_an_async_generator_closed_by_another_task_logs_nothing(decided, caplog):
    async def main() -> None:
        chunks: Any = talk(["a", "b"])
        await anext(chunks)
        await asyncio.create_task(chunks.aclose())

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())

    assert caplog.records == []
    assert decided().losses == ["output:incomplete:closed"]


def test_a_returned_stream_stands_for_itself_and_ends_the_decision_when_used_up(decided, recording):
    answer = stream(["Hel", "lo"])

    assert loopgrid.flush()
    assert recording.spans == [], "the answer is still to come"
    assert isinstance(answer, Stream)
    assert answer.response_id == "r-1"
    assert list(answer) == ["Hel", "lo"]
    assert (decided().status, decided().output) == ("ok", "Hello")


def test_a_with_block_left_before_the_end_of_the_stream_closes_it_and_the_record_says_so(decided):
    with stream(["Hel", "lo"]) as answer:
        assert next(answer) == "Hel"

    assert answer.closed
    assert (decided().status, decided().output) == ("unset", "Hel")
    assert decided().losses == ["output:incomplete:closed"]


def test_a_returned_stream_that_is_dropped_is_abandoned(decided):
    stream(["a"])
    gc.collect()

    assert decided().losses == ["output:incomplete:abandoned"]


def test_an_async_stream_returned_by_a_coroutine_is_followed(decided):
    @loopgrid.decision("ask", reduce="".join)
    async def ask() -> AsyncStream:
        return AsyncStream(["a", "b"])

    async def main() -> list[str]:
        async with await ask() as answer:
            assert isinstance(answer, AsyncIterable)
            return [word async for word in answer]

    assert asyncio.run(main()) == ["a", "b"]
    assert (decided().status, decided().output) == ("ok", "ab")


def test_calls_that_a_stream_makes_while_it_is_consumed_belong_to_the_decision(recording):
    @loopgrid.step("fetch")
    def fetch() -> str:
        return "x"

    @loopgrid.decision("lazy")
    def lazy():
        return (fetch() for _ in range(2))

    assert list(lazy()) == ["x", "x"]

    assert loopgrid.flush()
    *steps, decision = recording.spans
    assert [step.parent_span_id for step in steps] == [decision.span_id] * 2
    assert decision.output == ["x", "x"]


def test_stream_false_returns_the_very_object(decided):
    made = Stream(["a"])

    @loopgrid.decision("raw", stream=False)
    def raw() -> Stream:
        return made

    assert raw() is made
    assert decided().status == "ok"


def test_stream_true_follows_what_is_iterable_and_no_iterator(decided):
    class Pages:
        def __iter__(self):
            return iter(["p1", "p2"])

    @loopgrid.decision("pages", stream=True)
    def pages() -> Pages:
        return Pages()

    assert list(pages()) == ["p1", "p2"]
    assert decided().output == ["p1", "p2"]


def test_a_manager_that_gives_a_stream_is_followed_when_asked_to(decided):
    class Manager:
        def __enter__(self) -> Stream:
            return Stream(["a", "b"])

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

    @loopgrid.decision("manage", stream=True, reduce="".join)
    def manage() -> Manager:
        return Manager()

    with manage() as answer:
        assert isinstance(answer, Stream)
        assert list(answer) == ["a", "b"]

    assert (decided().status, decided().output) == ("ok", "ab")


def test_a_returned_object_whose_type_cannot_be_looked_at_is_handed_on_as_it_is(decided):
    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            raise RuntimeError(name)

    class Odd(metaclass=Meta):
        pass

    made = Odd()

    @loopgrid.decision("odd")
    def odd() -> Odd:
        return made

    assert odd() is made
    assert decided().status == "ok"


def test_a_stream_of_another_name_is_the_same_stream(decided):
    class Messages:
        def __init__(self) -> None:
            self.text_stream = iter(["a", "b"])

        def __next__(self) -> str:
            raise StopIteration

        def __iter__(self) -> Self:
            return self

    @loopgrid.decision("messages", reduce="".join)
    def messages() -> Messages:
        return Messages()

    assert list(messages().text_stream) == ["a", "b"]
    assert (decided().status, decided().output) == ("ok", "ab")


def test_an_open_file_is_handed_on_as_it_is(decided, tmp_path):
    @loopgrid.decision("open")
    def open_it():
        return (tmp_path / "file").open("w")

    with open_it() as file:
        assert type(file).__name__ == "TextIOWrapper"


def test_a_coroutine_and_a_future_end_the_decision_with_their_result(recording):
    async def answer() -> int:
        return 42

    @loopgrid.decision("hand on")
    def hand_on():
        return answer()

    @loopgrid.decision("submit")
    def submit(pool):
        return pool.submit(lambda: 43)

    assert asyncio.run(hand_on()) == 42
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert submit(pool).result() == 43

    assert loopgrid.flush()
    assert [span.output for span in recording.spans] == [42, 43]


def test_a_long_stream_is_recorded_in_bounded_memory_with_count_size_and_digest(receiver):
    loopgrid.configure(endpoint=receiver.url, delivery=QUICK, capture=CaptureLimits(max_chunks=10))

    @loopgrid.decision("long")
    def long():
        for _ in range(1000):
            yield "word "

    assert sum(map(len, long())) == 5000

    assert loopgrid.flush()
    (span,) = receiver.spans
    assert len(span.output) == 11
    assert span.output[-1] == {"$omitted": 990}
    (loss,) = span.losses
    assert loss.startswith("output:chunks_omitted:990 of 1000:5000:sha256=")


def test_a_disabled_decision_streams_all_the_same(receiver):
    loopgrid.configure(endpoint=receiver.url, disabled=True)

    assert list(count(3)) == [0, 1, 2]
    assert type(stream(["a"])) is Stream
