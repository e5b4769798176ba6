"""JSON from a record → the Python value a function takes, by its type hint.

Laws:

* A value is restored exactly or not at all: what was recorded incompletely, has no hint that says what it
  was, or fits several hints, is a `NotReplayable` that names the argument.
* No class is called that the function's own hints do not name.
"""

from __future__ import annotations

import base64
import binascii
import builtins
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import Any, Final

from loopgrid.capture import LOSSY_MARKS, Losses, plain
from loopgrid.config import CaptureLimits
from loopgrid.errors import NotReplayable
from loopgrid.prompt import Model, Prompt

_COLLECTIONS: Final[Mapping[Any, Callable[[Iterable[Any]], Any]]] = {
    list: list,
    Sequence: list,
    MutableSequence: list,
    Collection: list,
    Iterable: list,
    deque: deque,
    set: set,
    AbstractSet: set,
    MutableSet: set,
    frozenset: frozenset,
}
_MAPS: Final = frozenset({dict, Mapping, MutableMapping})
_NATIVE: Final = (str, bool, int, float, bytes, list, dict, type(None))
_FORMS: Final[Mapping[type, tuple[Any, Callable[[Any], Any]]]] = {
    dt.datetime: (str, dt.datetime.fromisoformat),
    dt.date: (str, dt.date.fromisoformat),
    dt.time: (str, dt.time.fromisoformat),
    dt.timedelta: ((int, float), lambda seconds: dt.timedelta(seconds=seconds)),
    decimal.Decimal: (str, decimal.Decimal),
    uuid.UUID: (str, uuid.UUID),
    tuple: (list, tuple),
    set: (list, set),
    frozenset: (list, frozenset),
    deque: (list, deque),
    bytearray: (bytes, bytearray),
    memoryview: (bytes, memoryview),
}
"""What stands for a value of the type in a record, and what makes the value of it."""


def restore_argument(written: Any, parameter: inspect.Parameter, hint: object) -> Any:
    """The value of one argument.

    Args:
        written: its JSON value in the record, or a value given as an override.
        parameter: the parameter it is for.
        hint: the parameter's resolved type hint, or `inspect.Parameter.empty`.

    Raises:
        NotReplayable: it cannot be restored exactly; the message names the argument and says what to do.
    """
    where = f"argument {parameter.name!r}"
    value = read_back(written, where)
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return tuple(shaped(item, hint, where) for item in _expect(list, value, where))
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return {name: shaped(item, hint, where) for name, item in _expect(dict, value, where).items()}
    return shaped(value, hint, where)


def read_back(written: Any, where: str) -> Any:
    """JSON as captured → Python natives: marked forms become what they stand for.

    Raises:
        NotReplayable: a marked form stands for something that was left out.
    """
    if isinstance(written, list):
        return [read_back(item, where) for item in written]
    if not isinstance(written, dict):
        return written
    if "$omitted" in written or (len(written) == 1 and not LOSSY_MARKS.isdisjoint(written)):
        raise NotReplayable(
            f"{where} was recorded incompletely ({_briefly(written)}) and cannot be restored: give it in "
            'overrides={"input": {…}}'
        )
    try:
        return _unmarked(written, where)
    except (binascii.Error, ValueError, TypeError) as error:
        raise NotReplayable(f"{where} holds a malformed {next(iter(written))} value in the record") from error


def _unmarked(written: dict[str, Any], where: str) -> Any:
    if len(written) == 1:
        match written:
            case {"$bytes": str(text)}:
                return base64.b64decode(text, validate=True)
            case {"$double": "NaN" | "Infinity" | "-Infinity" as text}:
                return float(text)
            case {"$int": str(text)}:
                return int(text)
            case {"$map": list(pairs)}:
                return {_key(read_back(key, where)): read_back(item, where) for key, item in pairs}
    return {key: read_back(item, where) for key, item in written.items()}


def _key(key: Any) -> Any:
    # Lists stand for tuples where only something hashable could have stood.
    return tuple(_key(item) for item in key) if isinstance(key, list) else key


def shaped(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint wants it."""
    hint = _unwrapped(hint)
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return value
    if hint is None:
        return _expect(type(None), value, where)
    origin = typing.get_origin(hint)
    if origin is not None:
        return _shape_generic(value, hint, origin, where)
    if isinstance(hint, type):
        return _shape_class(value, hint, where)
    raise _unknown(hint, where)


def _unwrapped(hint: Any) -> Any:
    """The type behind a new type, a type variable, an alias or an annotation."""
    while True:
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, typing.TypeVar):
            hint = Any if hint.__bound__ is None else hint.__bound__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        else:
            return hint


def _shape_generic(value: Any, hint: Any, origin: Any, where: str) -> Any:
    arguments = typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        return _shape_union(value, arguments, where)
    if origin is typing.Literal:
        return _shape_literal(value, arguments, where)
    if origin is tuple:
        return _shape_tuple(value, arguments, where)
    if origin in _MAPS:
        pairs = _expect(dict, value, where).items()
        return {shaped(key, arguments[0], where): shaped(item, arguments[1], where) for key, item in pairs}
    make = _COLLECTIONS.get(origin)
    if make is None:
        raise _unknown(hint, where)
    return make(shaped(item, arguments[0], where) for item in _expect(list, value, where))


def _shape_literal(value: Any, choices: Sequence[Any], where: str) -> Any:
    for choice in choices:
        if _shown_equal(value, choice):
            return choice
    raise NotReplayable(f"{where} is {_briefly(value)}, its hint allows {', '.join(map(repr, choices))}")


def _shape_tuple(value: Any, kinds: Sequence[Any], where: str) -> tuple[Any, ...]:
    items = _expect(list, value, where)
    match kinds:
        case (kind, builtins.Ellipsis):
            return tuple(shaped(item, kind, where) for item in items)
        case _ if len(kinds) == len(items):
            return tuple(shaped(item, kind, where) for item, kind in zip(items, kinds, strict=True))
    raise NotReplayable(f"{where} has {len(items)} items, its hint wants {len(kinds)}")


def _shape_union(value: Any, choices: Sequence[Any], where: str) -> Any:
    """The one choice that fits; several that give different values are refused."""
    if value is None and type(None) in choices:
        return None
    fits: list[Any] = []
    refusals: list[NotReplayable] = []
    for choice in choices:
        try:
            fitted = shaped(value, choice, where)
        except NotReplayable as error:
            refusals.append(error)
            continue
        if not any(type(fitted) is type(known) and fitted == known for known in fits):
            fits.append(fitted)
    if len(fits) == 1:
        return fits[0]
    if fits:
        kinds = " or ".join(type(fit).__name__ for fit in fits)
        raise NotReplayable(
            f"{where} can be {kinds} by its hint and the record does not say which: narrow the hint"
        )
    raise refusals[-1]


def _shape_class(value: Any, hint: type, where: str) -> Any:
    if typing.is_typeddict(hint):
        return _fields(value, _hints(hint, where), where)
    if isinstance(value, hint) or (hint is float and type(value) is int):
        return value
    if issubclass(hint, enum.Enum):
        return _member(value, hint, where)
    if issubclass(hint, (Prompt, Model)):
        return _prompt_or_model(value, hint, where)
    form, make = _FORMS.get(hint, (str, hint) if issubclass(hint, pathlib.PurePath) else (None, None))
    if make is None:
        return _shape_record(value, hint, where)
    given = _expect(form, value, where)
    try:
        return make(given)
    except (ValueError, ArithmeticError) as error:
        raise NotReplayable(f"{where} is {_briefly(value)}, which is no {hint.__name__}") from error


def _shape_record(value: Any, hint: type, where: str) -> Any:
    """Classes with named fields, built through their own constructors."""
    if callable(getattr(hint, "model_validate", None)):
        return _build(hint.model_validate, where, value)  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(hint):
        given = _fields(value, _hints(hint, where), where)
        computed = {field.name for field in dataclasses.fields(hint) if not field.init}
        return _build(hint, where, **{name: item for name, item in given.items() if name not in computed})
    if issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _build(hint, where, **_fields(value, _hints(hint, where), where))
    if hint in _NATIVE or hint is complex:
        raise NotReplayable(f"{where} is {_briefly(value)}, its hint says {hint.__name__}")
    raise _unknown(hint, where)


def _fields(value: Any, hints: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = _expect(dict, value, where)
    unknown = [name for name in given if name not in hints]
    if unknown:
        raise NotReplayable(
            f"{where} has fields the class does not have any more: {', '.join(map(str, unknown))}"
        )
    return {name: shaped(item, hints[name], f"{where}, field {name!r}") for name, item in given.items()}


def _hints(owner: type, where: str) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(owner)
    except (NameError, TypeError, AttributeError) as error:
        raise NotReplayable(
            f"{where}: the type hints of {owner.__name__} cannot be resolved ({error})"
        ) from error
    return {name: Any if hint is dataclasses.KW_ONLY else hint for name, hint in hints.items()}


def _build(constructor: Callable[..., Any], where: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return constructor(*args, **kwargs)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        name = getattr(constructor, "__qualname__", "its class")
        raise NotReplayable(f"{where}: {name} refuses the recorded value ({error})") from error


def _member(value: Any, hint: type[enum.Enum], where: str) -> enum.Enum:
    """The member that would have been written like this."""
    for member in hint:
        if _shown_equal(value, member.value):
            return member
    names = ", ".join(repr(member.value) for member in hint)
    raise NotReplayable(f"{where} is {_briefly(value)}; {hint.__name__} has {names}")


def _shown_equal(value: Any, original: object) -> bool:
    """Whether the original would have been written like the value."""
    written = read_back(plain(original, "choice", CaptureLimits(), Losses()), "choice")
    return type(written) is type(value) and bool(written == value)


def _prompt_or_model(value: Any, hint: type[Prompt | Model], where: str) -> Prompt | Model:
    match value:
        case {"name": str(name), "version": version, "template": str(template)} if issubclass(hint, Prompt):
            return _build(hint.recorded, where, name, version=version, template=template)  # type: ignore[no-any-return]
        case {"provider": str(provider), "name": str(name), "parameters": dict(parameters)} if issubclass(
            hint, Model
        ):
            return _build(hint, where, provider, name, **parameters)  # type: ignore[no-any-return]
    raise NotReplayable(f"{where} is {_briefly(value)}, which is no recorded {hint.__name__}")


def _expect(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    wanted = kind.__name__ if isinstance(kind, type) else "number"
    raise NotReplayable(f"{where} is {_briefly(value)}, its hint needs a {wanted} in the record")


def _unknown(hint: object, where: str) -> NotReplayable:
    return NotReplayable(
        f"{where} has the type {inspect.formatannotation(hint)}, which cannot be restored from a record: "
        "LoopGrid "
        "restores JSON values, dataclasses, named tuples, enums, dates, pydantic models, Prompt and Model. "
        "Make the "
        "object inside the function, or replace the argument in a function you pass as function="
    )


MAX_SHOWN_CHARS: Final = 80
"""Characters of a recorded value that a message shows."""


def _briefly(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[:MAX_SHOWN_CHARS]}…"
