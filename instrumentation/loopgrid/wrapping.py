"""One wrapper for each kind of callable; what it opens (a decision, a step, a tool call) is not its concern.

A wrapper calls the function with the arguments it was given and passes on what that returns, yields, is sent
or raises. Nothing is attached to the context while control is with the caller: not before the first `next`,
not between two chunks, not after the end.

A generator that is closed early, or that nobody refers to any more, ends unfinished. So does one that is
cancelled at a `yield`: its consumer gave up, its own code did not fail.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeVar

from loopgrid import tape
from loopgrid.chunks import Chunks, Reduce
from loopgrid.health import Count
from loopgrid.life import ABANDONED, CLOSED_EARLY, Life, guarded
from loopgrid.streams import Following, followed, is_stream
from loopgrid.tape import Answer, Known, StepRefused

F = TypeVar("F", bound=Callable[..., Any])

Open = Callable[[tuple[Any, ...], Mapping[str, Any]], Life]
"""Opens the record of one call with these arguments."""


class Wrapping:
    """How calls of one function are wrapped.

    Attributes:
        open: opens the record of one call.
        stream: True: what it returns is a stream whatever its type; False: it never is; None: it is one if it
            is an iterator.
        reduce: joins chunks into the output.
        known: the step or tool that it is, which a replay can answer from the record; None for a decision.
    """

    __slots__ = ("known", "open", "reduce", "stream")

    def __init__(
        self,
        open_: Open,
        *,
        stream: bool | None = None,
        reduce: Reduce | None = None,
        known: Known | None = None,
    ) -> None:
        self.open = open_
        self.known = known
        self.stream = stream
        self.reduce = reduce

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, wrapped as its kind asks for."""
        if inspect.iscoroutinefunction(function):
            return _around_coroutine(function, self)
        if inspect.isgeneratorfunction(function):
            return _around_generator(function, self)
        if inspect.isasyncgenfunction(function):
            return _around_async_generator(function, self)
        return _around_function(function, self)

    def played(self, life: Life, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer | None:
        """What a replay answers in the function's place; None where the function runs.

        Raises:
            StepRefused: it neither may run nor has an answer.
            Exception: what the recorded call raised.
        """
        playing = tape.current()
        if self.known is None or playing is None:
            return None
        try:
            answer = playing.play(self.known, args, kwargs)
        except StepRefused as refusal:
            life.fail(refusal)
            raise
        if answer is None:
            return None
        life.answered(answer.span_id)
        if answer.error is not None:
            life.fail(answer.error)
            raise answer.error
        return answer

    def ended(self, life: Life, output: Any) -> Any:
        """End the record with what was returned; or, if that is still to come, when it has come."""
        if self.stream is not False and life.recording:
            # The types of foreign objects may do anything when they are asked what they are.
            handed_on = guarded(Count.OUTPUT_FAILED, self._handed_on, life, output)
            if handed_on is not None:
                return handed_on
        life.succeed(output)
        return output

    def _handed_on(self, life: Life, output: Any) -> Any:
        """What stands for a stream, or None where what was returned is none."""
        if not is_stream(output, asked=self.stream is True):
            return None
        return followed(output, Following(life, life.chunks(self.reduce)))


def _around_function(function: Callable[..., Any], wrapping: Wrapping) -> Callable[..., Any]:
    open_, ended, played = wrapping.open, wrapping.ended, wrapping.played

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        life = open_(args, kwargs)
        answer = played(life, args, kwargs)
        if answer is not None:
            life.succeed(answer.value)
            return answer.value
        if not life.recording:
            return function(*args, **kwargs)
        token = life.enter()
        try:
            output = function(*args, **kwargs)
        except BaseException as error:
            life.leave(token)
            life.fail(error)
            raise
        life.leave(token)
        return ended(life, output)

    return wrapper


def _around_coroutine(function: Callable[..., Any], wrapping: Wrapping) -> Callable[..., Any]:
    open_, ended, played = wrapping.open, wrapping.ended, wrapping.played

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        life = open_(args, kwargs)
        answer = played(life, args, kwargs)
        if answer is not None:
            life.succeed(answer.value)
            return answer.value
        token = life.enter()
        try:
            output = await function(*args, **kwargs)
        except BaseException as error:
            life.leave(token)
            life.fail(error)
            raise
        life.leave(token)
        return ended(life, output)

    return wrapper


def _around_generator(function: Callable[..., Any], wrapping: Wrapping) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        life = wrapping.open(args, kwargs)
        chunks = life.chunks(wrapping.reduce)
        answer = wrapping.played(life, args, kwargs)
        if answer is not None:
            for chunk in answer.value:
                guarded(Count.OUTPUT_FAILED, chunks.add, chunk)
                yield chunk
            life.complete(chunks)
            return None
        token = life.enter()
        try:
            generator = function(*args, **kwargs)
        except BaseException as error:
            life.leave(token)
            life.fail(error)
            raise
        life.leave(token)
        return (yield from _drive(life, chunks, generator))

    return wrapper


def _drive(life: Life, chunks: Chunks, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The generator, step by step: what is sent and thrown in reaches it, what it returns is passed on."""
    sent: Any = None
    thrown: BaseException | None = None
    closing = False
    while True:
        token = life.enter()
        try:
            if thrown is not None:
                chunk = generator.throw(thrown)
            else:
                chunk = next(generator) if sent is None else generator.send(sent)
        except StopIteration as stop:
            life.pause(token)
            if closing:
                life.abandon(CLOSED_EARLY, chunks)
            else:
                life.complete(chunks, stop.value)
            return stop.value
        except BaseException as error:
            life.pause(token)
            if closing and error is thrown:
                life.abandon(CLOSED_EARLY, chunks)
            else:
                life.fail(error, chunks)
            raise
        life.pause(token)
        if life.recording:
            guarded(Count.OUTPUT_FAILED, chunks.add, chunk)
        thrown = None
        try:
            sent = yield chunk
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the generator
            thrown = error
            closing = closing or not isinstance(error, Exception)


def _around_async_generator(function: Callable[..., Any], wrapping: Wrapping) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        life = wrapping.open(args, kwargs)
        chunks = life.chunks(wrapping.reduce)
        answer = wrapping.played(life, args, kwargs)
        if answer is not None:
            for chunk in answer.value:
                guarded(Count.OUTPUT_FAILED, chunks.add, chunk)
                yield chunk
            life.complete(chunks)
            return
        # The event loop closes a generator that nobody refers to any more; where none runs, nothing does.
        guard = _Guard(life, chunks)
        token = life.enter()
        try:
            generator = function(*args, **kwargs)
        except BaseException as error:
            life.leave(token)
            life.fail(error)
            raise
        life.leave(token)
        sent: Any = None
        thrown: BaseException | None = None
        closing = False
        while True:
            token = life.enter()
            try:
                chunk = await (generator.asend(sent) if thrown is None else generator.athrow(thrown))
            except StopAsyncIteration:
                life.pause(token)
                if closing:
                    life.abandon(CLOSED_EARLY, chunks)
                else:
                    life.complete(chunks)
                return
            except BaseException as error:
                life.pause(token)
                if closing and error is thrown:
                    life.abandon(CLOSED_EARLY, chunks)
                else:
                    life.fail(error, chunks)
                raise
            life.pause(token)
            if life.recording:
                guarded(Count.OUTPUT_FAILED, guard.chunks.add, chunk)
            thrown = None
            try:
                sent = yield chunk
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the generator
                thrown = error
                closing = closing or not isinstance(error, Exception)

    return wrapper


class _Guard:
    """Held by a generator's frame alone: gone when that is, and then the record ends, too."""

    __slots__ = ("chunks", "life")

    def __init__(self, life: Life, chunks: Chunks) -> None:
        self.life = life
        self.chunks = chunks

    def __del__(self) -> None:
        self.life.abandon(ABANDONED, self.chunks)
