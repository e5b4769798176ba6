"""Running a past decision again, in this process, by its own function.

Order matters: everything that can be refused (the function, an argument, an override) is refused before the
replay is written to the ledger, so that no replay stands there that never had a chance to run.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.context import attach, detach
from opentelemetry.trace import Link, SpanContext, TraceFlags

from loopgrid.definition import definition_of, registered
from loopgrid.errors import Invalid, NotReplayable, nearest
from loopgrid.overrides import Overrides, replaced_model, replaced_prompt
from loopgrid.prompt import Model, Prompt
from loopgrid.restore import restore_argument
from loopgrid.results import ReplayRecord
from loopgrid.schema import Key, parse_decision_id
from loopgrid.span import ReplayScope, replay_context
from loopgrid.streams import is_proxy

LINK_REPLAY_OF: Final = "replay_of"


class Replay(ReplayRecord):
    """A replay as the API shows it, and what its function raised.

    Attributes:
        exception: the exception that ended the function, or None. The replay's status is then `failed`.
        differences: of a replay with `verify`: what came out otherwise; empty where nothing did. Else None.
    """

    exception: Exception | None
    differences: list[str] | None

    def __init__(
        self,
        shown: Mapping[str, Any],
        exception: Exception | None = None,
        differences: list[str] | None = None,
    ) -> None:
        super().__init__(shown)
        self.exception = exception
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Call:
    """A function with the arguments it will be run with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call_now(decision: Mapping[str, Any], function: Callable[..., Any], given: Mapping[str, Any]) -> Call:
    """The call of a recorded decision by a function as it is now: arguments from the record, prompt and model
    the function's own.

    Args:
        decision: the decision as the API shows it.
        function: the function, decorated or not; a method is passed bound to its object.
        given: arguments that take the place of recorded ones, as the function takes them.

    Raises:
        NotReplayable: an argument cannot be restored, or has neither a record nor a default.
        Invalid: the function takes no argument of a name that is given.
    """
    signature = inspect.signature(function)
    name = getattr(function, "__qualname__", repr(function))
    for argument in given:
        if argument not in signature.parameters:
            raise Invalid(f"{name}() has no argument {argument!r}: {nearest(argument, signature.parameters)}")
    written = decision.get("input")
    kept = (
        {key: value for key, value in written.items() if key not in given}
        if isinstance(written, dict)
        else written
    )
    arguments = _Arguments({**decision, "input": kept}, Overrides.checked({}), function, signature)
    values = arguments.restored() | dict(given)
    for parameter in signature.parameters.values():
        variadic = parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        if parameter.name not in values and parameter.default is inspect.Parameter.empty and not variadic:
            raise NotReplayable(
                f"{name}() needs {parameter.name!r}, which the record does not have among its arguments and "
                f"which has no default: give it, as {parameter.name}=…"
            )
    return arguments.call(values)


def prepare(
    decision: Mapping[str, Any],
    overrides: Overrides,
    function: Callable[..., Any] | None,
    find_prompt: Callable[[str, str | None], Prompt],
) -> Call:
    """The call that a replay of the decision makes.

    Args:
        decision: the decision as the API shows it.
        overrides: what to replace.
        function: the decorated function to run, or None to look it up by its recorded name.
        find_prompt: gives the prompt of a name and version, or raises `NotReplayable`.

    Raises:
        NotReplayable: the function is not here or an argument cannot be restored.
        Invalid: an override names nothing the function takes.
    """
    target = _find_function(decision, function)
    signature = inspect.signature(target)
    arguments = _Arguments(decision, overrides, target, signature)
    values = arguments.restored()
    prompt_argument = arguments.argument_for(Prompt)
    if prompt_argument is not None:
        prompt = replaced_prompt(decision.get("prompt") or {}, overrides.prompt, find_prompt)
        if overrides.prompt.keys().isdisjoint({"template", "version", "name"}):
            arguments.check_complete("prompt.template")
        if prompt is not None:
            values[prompt_argument] = prompt
    elif overrides.prompt:
        raise _no_argument(target, "Prompt", "prompt")
    model_argument = arguments.argument_for(Model)
    if model_argument is not None:
        if "parameters" not in overrides.model:
            arguments.check_complete("model.parameters")
        model = replaced_model(decision.get("model") or {}, overrides.model)
        if model is not None:
            values[model_argument] = model
    elif overrides.model:
        raise _no_argument(target, "Model", "model")
    return arguments.call(values)


def run(call: Call, replay_id: str, decision_id: str, result_id: str | None = None) -> Exception | None:
    """Run the call as the given replay, in a new trace linked to the original.

    Args:
        call: the function with its arguments.
        replay_id: the replay.
        decision_id: the decision that is replayed.
        result_id: id of the decision that the run is recorded as; a new one by default.

    Returns:
        The exception the function raised, or None. KeyboardInterrupt, SystemExit and cancellation are not
        caught.

    Raises:
        NotReplayable: the function is a coroutine function and this thread already runs an event loop.
    """
    trace_id, span_id = parse_decision_id(decision_id)
    original = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    link = Link(original, {Key.LINK_TYPE: LINK_REPLAY_OF})
    result = None if result_id is None else parse_decision_id(result_id)
    scope = ReplayScope(replay_id, decision_id, link, result)
    token = attach(replay_context(scope))
    try:
        if _needs_loop(call.function):
            asyncio.run(_finish(call))
        else:
            _consume(call.function(*call.args, **call.kwargs))
    except Exception as error:  # noqa: BLE001 - the function's failure is the replay's result, whatever it is
        return error
    finally:
        detach(token)
    return None


def _needs_loop(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _consume(result: Any) -> None:
    """A decision that streams is over when its stream is."""
    if hasattr(type(result), "__next__" if not is_proxy(result) else "__iter__"):
        for _ in result:
            pass


async def _finish(call: Call) -> None:
    result = call.function(*call.args, **call.kwargs)
    if inspect.iscoroutine(result):
        result = await result
    if hasattr(type(result), "__anext__" if not is_proxy(result) else "__aiter__"):
        async for _ in result:
            pass
    else:
        _consume(result)


def refuse_running_loop(call: Call) -> None:
    """Coroutine functions are run in an event loop of their own.

    Raises:
        NotReplayable: this thread already runs one.
    """
    if not _needs_loop(call.function):
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise NotReplayable(
        "replay() runs a coroutine function in an event loop of its own, and this thread already runs one: "
        "call it as `await asyncio.to_thread(grid.replay, decision_id, overrides=…)`"
    )


class _Arguments:
    """The recorded arguments of one decision, being fitted to a function."""

    def __init__(
        self,
        decision: Mapping[str, Any],
        overrides: Overrides,
        function: Callable[..., Any],
        signature: inspect.Signature,
    ) -> None:
        self._decision = decision
        self._function = function
        self._signature = signature
        self._name = getattr(function, "__qualname__", repr(function))
        self._changes = overrides.input
        self._losses: list[str] = list(decision.get("lossiness") or [])
        written = decision.get("input")
        self._written: dict[str, Any] = written if isinstance(written, dict) else {}
        if "$map" in self._written or not isinstance(written, dict):
            raise NotReplayable(
                f"decision {decision.get('decision_id')} holds no arguments by name: it was not recorded by "
                "@loopgrid.decision"
            )
        self._hints = {name: self._hint(parameter) for name, parameter in signature.parameters.items()}

    def restored(self) -> dict[str, Any]:
        """Every argument but the prompt and the model."""
        self._check_names()
        values: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            if name in self._changes:
                values[name] = restore_argument(self._changes[name], parameter, self._usable_hint(name))
            elif name in self._written:
                self.check_complete(f"input.{name}")
                values[name] = restore_argument(self._written[name], parameter, self._usable_hint(name))
        return values

    def argument_for(self, kind: type[Prompt | Model]) -> str | None:
        """The parameter whose argument fills the record's prompt or model: it is not among those recorded."""
        # None stands where an optional prompt or model was left out: an override may fill it.
        absent = [
            name
            for name in self._signature.parameters
            if self._written.get(name) is None and name not in self._changes
        ]
        for name in absent:
            default = self._signature.parameters[name].default
            if isinstance(default, kind) or kind in _classes_in(self._hints[name]):
                return name
        other = Model if kind is Prompt else Prompt
        recorded = self._decision.get("prompt" if kind is Prompt else "model") or {}
        untyped = [
            name
            for name in absent
            if name not in self._written
            and self._hints[name] is inspect.Parameter.empty
            and not isinstance(self._signature.parameters[name].default, other)
        ]
        if len(untyped) == 1 and recorded.get("name") is not None:
            return untyped[0]
        return None

    def check_complete(self, field: str) -> None:
        """Refuse to run on a part of the record that is known to be incomplete.

        Raises:
            NotReplayable: `lossiness` names the field.
        """
        for loss in self._losses:
            if loss.startswith("input:") and field.startswith("input."):
                raise NotReplayable(
                    f"the arguments were not recorded ({loss}): this call cannot be run again"
                )
            if loss.startswith(field) and loss[len(field) : len(field) + 1] in {":", ".", "["}:
                advice = (
                    "give the parameter a type hint, or its value"
                    if ":untyped:" in loss
                    else "give its value"
                )
                raise NotReplayable(f"{field} was not recorded as it was ({loss}): {advice} in overrides")

    def call(self, values: Mapping[str, Any]) -> Call:
        """The call with these values.

        Raises:
            NotReplayable: a parameter without default has no value.
        """
        for name, parameter in self._signature.parameters.items():
            variadic = parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
            if name not in values and parameter.default is inspect.Parameter.empty and not variadic:
                raise NotReplayable(
                    f"{self._name}() needs {name!r}, which the record does not have: the function has "
                    "changed. Give it "
                    f"in overrides={{'input': {{{name!r}: …}}}}"
                )
        ordered = {name: values[name] for name in self._signature.parameters if name in values}
        bound = inspect.BoundArguments(self._signature, ordered)
        bound.apply_defaults()
        return Call(self._function, bound.args, bound.kwargs)

    def _check_names(self) -> None:
        parameters = self._signature.parameters
        for name in self._changes:
            if name not in parameters:
                raise Invalid(f"{self._name}() has no argument {name!r}: {nearest(name, parameters)}")
            for kind, part in ((Prompt, "prompt"), (Model, "model")):
                if kind in _classes_in(self._hints[name]) and name not in self._written:
                    raise Invalid(
                        f"argument {name!r} is a {kind.__name__}: replace it in overrides[{part!r}]"
                    )
        gone = [name for name in self._written if name not in parameters]
        if gone:
            raise NotReplayable(
                f"the record has an argument {gone[0]!r} that {self._name}() does not take: "
                f"{nearest(gone[0], parameters)} "
                "Pass the function as it was, as function="
            )

    def _hint(self, parameter: inspect.Parameter) -> Any:
        """The resolved hint, or the exception that says why it has none.

        Each parameter on its own: a name that only a type checker imports must not cost the others.
        """
        if parameter.annotation is inspect.Parameter.empty:
            return inspect.Parameter.empty
        holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        scope = inspect.unwrap(getattr(self._function, "__func__", self._function)).__globals__
        try:
            return typing.get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            return error

    def _usable_hint(self, name: str) -> Any:
        hint = self._hints[name]
        if isinstance(hint, Exception):
            raise NotReplayable(
                f"the type hint of argument {name!r} cannot be resolved ({hint}): import the type at run time"
            ) from hint
        return hint


def _find_function(decision: Mapping[str, Any], function: Callable[..., Any] | None) -> Callable[..., Any]:
    if function is not None:
        if definition_of(function) is None:
            raise NotReplayable(
                f"{getattr(function, '__qualname__', function)!s} is not decorated with @loopgrid.decision: "
                "its run "
                "would leave no record"
            )
        return function
    name = decision.get("function")
    if name is None:
        raise NotReplayable(
            f"decision {decision.get('decision_id')} names no function: it was not recorded by "
            "@loopgrid.decision. Pass "
            "one as function=, or record an answer with create_replay(…, executor='external', output=…)"
        )
    known = registered()
    if name not in known:
        raise NotReplayable(
            f"function {name} is not defined in this process ({nearest(name, known)}): import its module "
            "first, or "
            "pass it as function="
        )
    return _bound(known[name])


def _bound(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it can be called: a class method gets its class, a method has no object."""
    definition = definition_of(function)
    if definition is None or definition.receiver is None:
        return function
    found: Any = sys.modules.get(function.__module__)
    for step in function.__qualname__.split("."):
        found = getattr(found, step, None)
    if inspect.ismethod(found) and definition_of(found) is definition:
        return found
    raise NotReplayable(
        f"{definition.name} is a method and the record does not hold its object: pass it bound, as "
        f"function=obj.{function.__name__}"
    )


def _classes_in(hint: Any) -> set[Any]:
    """The hint and, of a union or annotation, its parts."""
    parts = typing.get_args(hint)
    return (
        {part for arm in parts for part in _classes_in(arm)}
        if parts
        else {hint}
        if isinstance(hint, type)
        else set()
    )


def _no_argument(function: Callable[..., Any], kind: str, part: str) -> NotReplayable:
    return NotReplayable(
        f"{getattr(function, '__qualname__', function)}() takes no {kind} argument, so overrides[{part!r}] "
        "would change "
        f"nothing: give it a parameter `{part}: loopgrid.{kind} = …` and use that"
    )
