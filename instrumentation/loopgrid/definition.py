"""What is known of a decorated function: its name, its signature, how to describe one call of it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

from opentelemetry.util.types import AnyValue

from loopgrid.capture import capture_arguments, text
from loopgrid.config import CaptureLimits
from loopgrid.life import Opening
from loopgrid.prompt import Model, Prompt
from loopgrid.provenance import Provenance
from loopgrid.schema import Key
from loopgrid.span import model_attributes, prompt_attributes

ATTRIBUTE: Final = "__loopgrid_definition__"
"""Where a decorated function carries its definition."""

_BY_PLACE: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})
_ANY: Final = re.compile(r"\bAny\b")
_CONTAINERS: Final = frozenset(
    {"list", "dict", "tuple", "set", "frozenset", "object", "List", "Dict", "Tuple", "Set"}
)


class Definition:
    """A decorated function.

    Attributes:
        function: the function as it was written.
        name: `module.qualified_name`; what `code.function.name` records and a replay looks up.
        decision_type: the type its decisions have.
        signature: its parameters.
        receiver: name of the parameter that is `self` or `cls`, or None. It is not recorded.
        provenance: which source the function is.
    """

    __slots__ = (
        "_positional",
        "_vague",
        "decision_type",
        "function",
        "name",
        "provenance",
        "receiver",
        "signature",
    )

    def __init__(self, function: Callable[..., Any], decision_type: str) -> None:
        self.function = function
        self.decision_type = decision_type
        self.name = f"{_module_of(function)}.{function.__qualname__}"
        self.signature = inspect.signature(function)
        self.receiver = _receiver(function, self.signature)
        self.provenance = Provenance(function)
        # Binding such a call needs no signature, and costs a seventh.
        self._positional = (
            tuple(self.signature.parameters)
            if all(parameter.kind in _BY_PLACE for parameter in self.signature.parameters.values())
            else None
        )
        self._vague = frozenset(
            name for name, parameter in self.signature.parameters.items() if _is_vague(parameter.annotation)
        )

    @property
    def vague_result(self) -> bool:
        """Whether the hint of what it returns leaves open what a value was before it became JSON."""
        return _is_vague(self.signature.return_annotation)

    def describe(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], limits: CaptureLimits
    ) -> Opening:
        """What a call with these arguments says about its decision."""
        opening = Opening()
        attributes = opening.attributes
        attributes[Key.FUNCTION_NAME] = self.name
        attributes.update(self.provenance.attributes())
        if self.provenance.is_waiting:
            opening.late = self.provenance.attributes
        arguments = self._bound(args, kwargs, opening)
        if arguments is None:
            attributes[Key.DECISION_INPUT] = self._unbound(args, kwargs, limits, opening)
            return opening
        prompt = model = None
        for name, value in arguments.items():
            kind = type(value)
            if prompt is None and issubclass(kind, Prompt):
                prompt = name
            elif model is None and issubclass(kind, Model):
                model = name
        if prompt is not None:
            opening.prompt = arguments.pop(prompt).facts
            attributes[Key.PROMPT_ARGUMENT] = prompt
            attributes.update(prompt_attributes(opening.prompt, limits, opening.losses))
        if model is not None:
            attributes[Key.MODEL_ARGUMENT] = model
            attributes.update(_model_attributes(arguments.pop(model), limits, opening))
        attributes[Key.DECISION_INPUT] = capture_arguments(
            arguments, self._vague, "input", limits, opening.losses
        )
        return opening

    def describe_step(
        self,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        limits: CaptureLimits,
        input_key: str,
        call_id: str | None = None,
    ) -> Opening:
        """What a call with these arguments says about a step.

        Args:
            args: positional arguments.
            kwargs: arguments by name.
            limits: how much is recorded.
            input_key: attribute that carries the arguments.
            call_id: name of the parameter that holds the model's id of a tool call. It is no argument of the
                tool.
        """
        opening = Opening()
        opening.attributes[Key.FUNCTION_NAME] = self.name
        arguments = self._bound(args, kwargs, opening)
        if arguments is None:
            opening.attributes[input_key] = self._unbound(args, kwargs, limits, opening)
            return opening
        given = arguments.pop(call_id, None) if call_id is not None else None
        if isinstance(given, str):
            opening.attributes[Key.TOOL_CALL_ID] = text(
                given, "tool.call.id", limits.max_text_bytes, opening.losses
            )
        opening.attributes[input_key] = capture_arguments(
            arguments, frozenset(), "input", limits, opening.losses
        )
        return opening

    def _bound(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], opening: Opening
    ) -> dict[str, Any] | None:
        """The arguments by name without the receiver; None where they do not fit."""
        arguments: dict[str, Any]
        if not kwargs and self._positional is not None and len(args) == len(self._positional):
            arguments = dict(zip(self._positional, args, strict=True))
        else:
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError:
                # The call is about to fail with Python's own TypeError; until then this is what is known.
                opening.losses.note("input", "not_bound")
                return None
            bound.apply_defaults()
            arguments = dict(bound.arguments)
        if self.receiver is not None and arguments.pop(self.receiver, None) is not None:
            opening.losses.note(f"input.{self.receiver}", "not_captured")
        return arguments

    @staticmethod
    def _unbound(
        args: tuple[object, ...], kwargs: Mapping[str, object], limits: CaptureLimits, opening: Opening
    ) -> str:
        given = {"args": args, "kwargs": kwargs}
        return capture_arguments(given, frozenset(), "input", limits, opening.losses)


def _model_attributes(model: Model, limits: CaptureLimits, opening: Opening) -> dict[str, AnyValue]:
    return model_attributes(model.provider, model.name, model.parameters, limits, opening.losses)


_RUN_AS_MAIN: Final = frozenset({"__main__", "__mp_main__"})
"""Names of the module that was run; the second is what a spawned worker process calls it."""


def _module_of(function: Callable[..., Any]) -> str:
    """The name under which another process can import the function's module.

    A notebook and an interactive session have none: there it stays `__main__`.
    """
    if function.__module__ not in _RUN_AS_MAIN:
        return function.__module__
    main = sys.modules.get(function.__module__)
    specification = getattr(main, "__spec__", None)
    if specification is not None:
        # `python -m package.module`. Of `python -m package` it is `package.__main__`, which is where the
        # function can be imported from: `package` does not have it.
        return str(specification.name)
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if file else function.__module__


def _receiver(function: Callable[..., Any], signature: inspect.Signature) -> str | None:
    owner, _, _ = function.__qualname__.rpartition(".")
    first = next(iter(signature.parameters), None)
    in_class = bool(owner) and not owner.endswith("<locals>")
    return first if in_class and first in {"self", "cls"} else None


def _is_vague(annotation: object) -> bool:
    """Whether a hint leaves open what a value was before it became JSON."""
    if annotation is inspect.Parameter.empty:
        return True
    hint = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _ANY.search(hint) is not None or hint.rpartition(".")[2] in _CONTAINERS


_functions: Final[dict[str, Callable[..., Any]]] = {}


def register(function: Callable[..., Any], definition: Definition) -> None:
    """Remember a decorated function under its name; defined again (a notebook cell), the new one counts.

    One of the module that was run is found under `__main__`, too: that is its name to this process.
    """
    setattr(function, ATTRIBUTE, definition)
    _functions[f"{function.__module__}.{function.__qualname__}"] = function
    _functions[definition.name] = function


def registered() -> Mapping[str, Callable[..., Any]]:
    """The decorated functions of this process by name."""
    return dict(_functions)


def definition_of(function: object) -> Definition | None:
    """The definition a decorated function (or a method bound to one) carries."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Definition) else None
