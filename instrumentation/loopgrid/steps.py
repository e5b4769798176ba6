"""`@loopgrid.step` and `@loopgrid.tool`: what happens inside a decision, by name, with arguments and result.

A replay can answer such a call from the record, by its name, its arguments and its occurrence, and knows by a
tool's effect what must not run again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, ParamSpec, TypeVar, overload

from opentelemetry.context import get_current
from opentelemetry.trace import set_span_in_context
from opentelemetry.util.types import AnyValue

from loopgrid import tracing
from loopgrid.capture import Losses
from loopgrid.config import CaptureLimits
from loopgrid.decorator import Decorating, Decorator
from loopgrid.definition import Definition
from loopgrid.health import Count
from loopgrid.life import Life, Opening, guarded
from loopgrid.schema import Effect, Key
from loopgrid.span import opening_of
from loopgrid.tape import STEP, TOOL, Known, register
from loopgrid.wrapping import Wrapping

P = ParamSpec("P")
R = TypeVar("R")

EXECUTE_TOOL: Final = "execute_tool"
_EFFECTS: Final = ", ".join(f'"{effect}"' for effect in Effect)


class Step(Life):
    """An open step."""

    __slots__ = ()


class ToolCall(Life):
    """An open tool call."""

    __slots__ = ()

    output_key: ClassVar[str] = Key.TOOL_RESULT


_NO_STEP: Final = Step(None, Opening(losses=Losses()), CaptureLimits())


@overload
def step(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(
    name: str | None = None,
    /,
    *,
    reduce: Callable[[list[Any]], object] | None = None,
    stream: bool | None = None,
) -> Decorator: ...


def step(
    subject: Callable[..., Any] | str | None = None,
    /,
    *,
    reduce: Callable[[list[Any]], object] | None = None,
    stream: bool | None = None,
) -> Any:
    """Record every call of a function as a step of the decision it runs in.

    Works on the same kinds of callables as `@loopgrid.decision`. A call that runs in no decision is recorded
    as a span of its own.

    Args:
        subject: the step's name, or the function itself, whose name is then the step's.
        reduce: joins the list of chunks that were yielded into the output.
        stream: as for `@loopgrid.decision`.

    Raises:
        TypeError: what is decorated is no function, or an option is not what it must be.
        ValueError: the name is empty.
    """
    if isinstance(subject, str) and not subject.strip():
        raise ValueError('a step has a name: write @loopgrid.step("look up the order")')
    name = subject if isinstance(subject, str) else None
    decorate = Decorating("step", name, _decorate_step, stream=stream, reduce=reduce)
    return decorate(subject) if subject is not None and not isinstance(subject, str) else decorate


def tool(
    *unnamed: object,
    effect: str | None = None,
    name: str | None = None,
    call_id: str | None = None,
    reduce: Callable[[list[Any]], object] | None = None,
    stream: bool | None = None,
) -> Decorator:
    """Record every call of a function as a tool call of the decision it runs in.

    Args:
        unnamed: nothing; refused with a sentence that says what to write.
        effect: what running it does to the world. `read` changes nothing, `idempotent` may run twice, `write`
            can be undone, `irreversible` cannot.
        name: the tool's name as the model knows it; by default the function's.
        call_id: name of the parameter that takes the model's id of the call: `gen_ai.tool.call.id`.
        reduce: joins the list of chunks that were yielded into the result.
        stream: as for `@loopgrid.decision`.

    Raises:
        TypeError: what is decorated is no function, or an option is not what it must be.
        ValueError: the effect is none of the four, or the name is empty.
    """
    if unnamed or effect is None:
        raise TypeError(
            "a tool says what it does to the world, so that a replay knows what may run again: write "
            f'@loopgrid.tool(effect="read") above the def; effects are {_EFFECTS}'
        )
    if effect not in set(Effect):
        raise ValueError(f"{effect!r} is no effect of a tool: write one of {_EFFECTS}")
    if name is not None and not str(name).strip():
        raise ValueError('a tool has a name: write @loopgrid.tool(effect="read", name="find_order")')

    def decorate(function: Callable[..., Any], options: Decorating) -> Callable[..., Any]:
        return _decorate_tool(function, options, Effect(effect), call_id)

    return Decorating("tool", name, decorate, stream=stream, reduce=reduce)


def _decorate_step(function: Callable[..., Any], options: Decorating) -> Callable[..., Any]:
    name = options.name or str(function.__name__)
    definition = Definition(function, name)

    def describe(args: Any, kwargs: Any, limits: CaptureLimits) -> Opening:
        return definition.describe_step(args, kwargs, limits, Key.STEP_INPUT)

    def opened(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Life:
        says = {Key.STEP_NAME: name}
        return (
            guarded(Count.OPEN_FAILED, _open, Step, name, says, describe, args, kwargs, definition)
            or _NO_STEP
        )

    streams, reduces = _chunks_of(function, options)
    known = Known(STEP, name, definition, Key.STEP_INPUT, streams=streams, reduces=reduces)
    register(name)
    return Wrapping(opened, stream=options.stream, reduce=options.reduce, known=known).around(function)


def _chunks_of(function: Callable[..., Any], options: Decorating) -> tuple[bool, bool]:
    """Whether what it gives comes in chunks, and whether the record has them joined."""
    chunked = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return chunked or options.stream is True, options.reduce is not None


def _decorate_tool(
    function: Callable[..., Any], options: Decorating, effect: Effect, call_id: str | None
) -> Callable[..., Any]:
    name = options.name or str(function.__name__)
    definition = Definition(function, name)
    if call_id is not None and call_id not in definition.signature.parameters:
        raise TypeError(
            f"{function.__qualname__} has no parameter {call_id!r}: call_id names the one that takes the "
            f"model's id of the call; it has {', '.join(definition.signature.parameters) or 'none'}"
        )

    def describe(args: Any, kwargs: Any, limits: CaptureLimits) -> Opening:
        return definition.describe_step(args, kwargs, limits, Key.TOOL_ARGUMENTS, call_id)

    says = {
        Key.OPERATION_NAME: EXECUTE_TOOL,
        Key.TOOL_NAME: name,
        Key.TOOL_TYPE: "function",
        Key.TOOL_EFFECT: str(effect),
    }

    def opened(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Life:
        span_name = f"{EXECUTE_TOOL} {name}"
        return (
            guarded(Count.OPEN_FAILED, _open, ToolCall, span_name, says, describe, args, kwargs, definition)
            or _NO_STEP
        )

    streams, reduces = _chunks_of(function, options)
    known = Known(TOOL, name, definition, Key.TOOL_ARGUMENTS, effect, call_id, streams, reduces)
    register(name)
    return Wrapping(opened, stream=options.stream, reduce=options.reduce, known=known).around(function)


def _open(
    kind: type[Life],
    span_name: str,
    says: Mapping[str, AnyValue],
    describe: Callable[[Any, Any, CaptureLimits], Opening],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    definition: Definition,
) -> Life:
    pipeline = tracing.active()
    if pipeline is None:
        return _NO_STEP
    limits = pipeline.config.capture
    number = pipeline.next_number()
    opening = opening_of(lambda limits: describe(args, kwargs, limits), limits)
    attributes = opening.attributes
    attributes.update(says)
    attributes[Key.PRODUCER_ID] = pipeline.producer_id
    attributes[Key.PRODUCER_SEQ] = number
    outside = get_current()
    span = pipeline.start(span_name, outside, attributes, [])
    life = kind(span, opening, limits, set_span_in_context(span, outside))
    life.vague = definition.vague_result
    return life
