"""`@loopgrid.decision`: thin wrappers, one per kind of callable.

What opening and ending a decision means is said once, in `span`; a wrapper only calls the function in
between, with the arguments it was given, and passes on what it returns or raises.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from loopgrid.definition import Definition, definition_of, register
from loopgrid.span import open_decision

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
def decision(decision_type: str | None = None, /) -> Decorator: ...


def decision(subject: Callable[..., Any] | str | None = None, /) -> Any:
    """Record every call of a function or coroutine as a decision.

    Arguments by name with their defaults become the decision's input, the return value its output; an
    argument that is a `Prompt` or a `Model` fills the prompt or model fields. The function runs exactly as
    without the decorator; what it raises is recorded and raised. Its trace is that of the caller; where it
    starts one, the trace is sampled.

    Write `@loopgrid.decision("customer_support_reply")`, or `@loopgrid.decision` to use the function's
    name as decision type. Put it below `@staticmethod`, `@classmethod` and `@property`.

    Args:
        subject: the decision type, or the function itself.

    Raises:
        TypeError: what is decorated is no function, or a generator, which is not supported yet.
        ValueError: the decision type is empty.
    """
    if subject is None:
        return _decorate
    if isinstance(subject, str):
        if not subject.strip():
            raise ValueError('a decision type is a name: write @loopgrid.decision("customer_support_reply")')
        return functools.partial(_decorate, decision_type=subject)
    return _decorate(subject)


def _decorate(function: Callable[P, R], /, decision_type: str | None = None) -> Callable[P, R]:
    _refuse_what_would_be_recorded_wrongly(function)
    definition = Definition(function, decision_type or str(function.__name__))
    if inspect.iscoroutinefunction(function):
        # The coroutine function's R is an awaitable; a wrapper around it keeps P and R, which mypy cannot
        # see.
        wrapper = cast("Callable[P, R]", _around_coroutine(function, definition))
    else:
        wrapper = _around_function(function, definition)
    register(wrapper, definition)
    return wrapper


def _around_function(function: Callable[P, R], definition: Definition) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        opened = open_decision(definition.decision_type, functools.partial(definition.describe, args, kwargs))
        try:
            output = function(*args, **kwargs)
        except BaseException as error:
            opened.fail(error)
            raise
        opened.succeed(output)
        return output

    return wrapper


def _around_coroutine(function: Callable[P, Any], definition: Definition) -> Callable[P, Any]:
    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        opened = open_decision(definition.decision_type, functools.partial(definition.describe, args, kwargs))
        try:
            output = await function(*args, **kwargs)
        except BaseException as error:
            opened.fail(error)
            raise
        opened.succeed(output)
        return output

    return wrapper


def _refuse_what_would_be_recorded_wrongly(function: object) -> None:
    name = getattr(function, "__qualname__", type(function).__name__)
    if isinstance(function, (staticmethod, classmethod, property)):
        kind = type(function).__name__
        raise TypeError(
            f"put @{kind} above @loopgrid.decision on {name}: the decorator needs the function itself"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator, which @loopgrid.decision does not record yet: decorate a function that "
            "returns the whole result, and let it join the chunks"
        )
    if not inspect.isfunction(function):
        raise TypeError(
            f"@loopgrid.decision goes on a function or coroutine function, not on {name}: "
            'write @loopgrid.decision("type") above a def'
        )
    if definition_of(function) is not None:
        raise TypeError(
            f"{name} is decorated with @loopgrid.decision twice: each call would be two decisions"
        )
