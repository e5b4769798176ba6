"""`@loopgrid.decision`: what it takes, what it refuses, and what the wrapped function opens."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, NoReturn, ParamSpec, Protocol, TypeVar, overload

from loopgrid.definition import Definition, definition_of, register
from loopgrid.span import Decision, open_decision
from loopgrid.wrapping import Wrapping

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """Turns a function into one with the same signature."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """The function, decorated."""
        ...


@overload
def decision(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def decision(
    decision_type: str | None = None,
    /,
    *,
    reduce: Callable[[list[Any]], object] | None = None,
    stream: bool | None = None,
) -> Decorator: ...


def decision(
    subject: Callable[..., Any] | str | None = None,
    /,
    *,
    reduce: Callable[[list[Any]], object] | None = None,
    stream: bool | None = None,
) -> Any:
    """Record every call of a function, coroutine, generator or async generator as a decision.

    Arguments by name with their defaults become the decision's input, the return value or the list of what
    was yielded its output; an argument that is a `Prompt` or a `Model` fills the prompt or model fields. The
    function runs exactly as without the decorator; what it raises is recorded and raised. Its trace is that
    of the caller; where it starts one, the trace is sampled.

    A returned stream or iterator is handed on inside a proxy that stands for it, and the decision ends with
    the stream. One that is closed before its end, or dropped, ends unfinished: its status is neither ok nor
    error, and `lossiness` holds `output:incomplete:closed` or `output:incomplete:abandoned`.

    Write `@loopgrid.decision("customer_support_reply")`, or `@loopgrid.decision` to use the function's
    name as decision type. Put it below `@property`; above or below `@staticmethod` and `@classmethod`.

    Args:
        subject: the decision type, or the function itself.
        reduce: joins the list of chunks that were yielded into the output, for example `"".join`.
        stream: True: what the function returns is a stream, whatever its type; False: it is recorded and
            returned as it is; by default it is a stream if it is an iterator.

    Raises:
        TypeError: what is decorated is no function, or an option is not what it must be.
        ValueError: the decision type is empty.
    """
    decorate = Decorating("decision", _check_type(subject), _decorate_decision, stream=stream, reduce=reduce)
    return decorate(subject) if subject is not None and not isinstance(subject, str) else decorate


def _check_type(subject: object) -> str | None:
    if not isinstance(subject, str):
        return None
    if not subject.strip():
        raise ValueError('a decision type is a name: write @loopgrid.decision("customer_support_reply")')
    return subject


Decorate = Callable[[Callable[..., Any], "Decorating"], Callable[..., Any]]


class Decorating:
    """A decorator with its options, waiting for its function."""

    __slots__ = ("_decorate", "name", "reduce", "stream", "word")

    def __init__(
        self,
        word: str,
        name: str | None,
        decorate: Decorate,
        *,
        stream: bool | None,
        reduce: Callable[[list[Any]], object] | None,
    ) -> None:
        if reduce is not None and not callable(reduce):
            raise TypeError(
                f"reduce is a function from the list of chunks to the output, not {reduce!r}: write "
                'reduce="".join, or leave it out to record the list'
            )
        if stream is not None and not isinstance(stream, bool):
            raise TypeError(f"stream is True, False or left out, not {stream!r}")
        self.word = word
        self.name = name
        self.stream = stream
        self.reduce = reduce
        self._decorate = decorate

    def __call__(self, function: Any, /) -> Any:
        """The function, decorated."""
        if isinstance(function, (staticmethod, classmethod)):
            # Either order will do: what is inside is decorated.
            return type(function)(self(function.__func__))
        _refuse_what_is_no_function(function, self.word)
        return self._decorate(function, self)

    def __enter__(self) -> NoReturn:
        """Refused: this decorates.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"loopgrid.{self.word}(…) goes above a def. For a block of code write "
            'with loopgrid.decide("type", input=…) as decision:'
        )

    def __exit__(self, *_: object) -> None:
        """Never reached."""


def _decorate_decision(function: Callable[..., Any], options: Decorating) -> Callable[..., Any]:
    if definition_of(function) is not None:
        raise TypeError(
            f"{function.__qualname__} is decorated with @loopgrid.decision twice: each call would be two "
            "decisions"
        )
    definition = Definition(function, options.name or str(function.__name__))

    def opened(args: Any, kwargs: Any) -> Decision:
        return open_decision(definition.decision_type, functools.partial(definition.describe, args, kwargs))

    wrapper = Wrapping(opened, stream=options.stream, reduce=options.reduce).around(function)
    register(wrapper, definition)
    return wrapper


_ADVICE: Final = 'write @loopgrid.{word}("name") above a def'


def _refuse_what_is_no_function(function: object, word: str) -> None:
    name = getattr(function, "__qualname__", type(function).__name__)
    if isinstance(function, (property, functools.cached_property)):
        kind = type(function).__name__
        raise TypeError(f"put @{kind} above @loopgrid.{word}: the decorator needs the function itself")
    if isinstance(function, functools.partial):
        raise TypeError(
            f"@loopgrid.{word} goes on a function, and a partial has no name to be found by: decorate the "
            "function it is made of, or write a def that calls it"
        )
    if inspect.isclass(function):
        raise TypeError(
            f"@loopgrid.{word} goes on a function, not on the class {name}: decorate the method that decides"
        )
    if not inspect.isfunction(function):
        raise TypeError(
            f"@loopgrid.{word} goes on a function or coroutine function, not on {name}: "
            + _ADVICE.format(word=word)
        )
