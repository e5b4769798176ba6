"""Overrides: what a replay changes. One grammar, checked before anything runs. Pure.

    {"prompt": {"name", "version", "template", "variables": {name: text}},
     "model":  {"provider", "name", "parameters": {name: value}},
     "input":  {argument: value}}

They are merged into the record as JSON objects are: a member given replaces the recorded one,
objects member by member, everything else stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from loopgrid_query import jsontext
from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.nearest import did_you_mean, nearest

Overrides = Mapping[str, Any]

_TEXT: Final = "text"
_OBJECT: Final = "object"
GRAMMAR: Final[Mapping[str, Mapping[str, str] | None]] = {
    "prompt": {"name": _TEXT, "version": _TEXT, "template": _TEXT, "variables": _OBJECT},
    "model": {"provider": _TEXT, "name": _TEXT, "parameters": _OBJECT},
    # Its members are the arguments of the decision at hand.
    "input": None,
}
"""What may be overridden: members and their types by part."""


def check(overrides: Overrides, decision: Mapping[str, Any]) -> None:
    """Refuse overrides that no replay of this decision could carry out.

    Args:
        overrides: as the client sent them.
        decision: the decision, with ``input`` parsed and ``function``.

    Raises:
        Invalid: names every fault, and the nearest name for each unknown one.
    """
    faults: list[FieldError] = []
    for part, members in overrides.items():
        where = f"overrides.{part}"
        if part not in GRAMMAR:
            faults.append(_unknown(where, part, GRAMMAR))
        elif not isinstance(members, dict):
            faults.append(FieldError(where, "must be an object"))
        elif part == "input":
            faults.extend(_input_faults(where, members, decision))
        else:
            faults.extend(_member_faults(where, members, GRAMMAR[part] or {}))
    if faults:
        raise Invalid.of(faults)
    jsontext.check(dict(overrides), "overrides")


def _unknown(where: str, name: str, known: Mapping[str, Any]) -> FieldError:
    return FieldError(where, f"cannot be overridden; {did_you_mean(name, known)}", nearest(name, known))


def _member_faults(where: str, members: Mapping[str, Any], grammar: Mapping[str, str]) -> list[FieldError]:
    faults = []
    for name, value in members.items():
        place = f"{where}.{name}"
        if name not in grammar:
            faults.append(_unknown(place, name, grammar))
        elif grammar[name] == _TEXT and not isinstance(value, str):
            faults.append(FieldError(place, "must be text"))
        elif grammar[name] == _OBJECT and not isinstance(value, dict):
            faults.append(FieldError(place, "must be an object"))
        elif name == "variables":
            wrong = [key for key, text in value.items() if not isinstance(text, str)]
            faults.extend(FieldError(f"{place}.{key}", "must be text") for key in wrong)
    return faults


def _input_faults(where: str, members: Mapping[str, Any], decision: Mapping[str, Any]) -> list[FieldError]:
    recorded = decision["input"]
    if not isinstance(recorded, dict):
        return [FieldError(where, "this decision's input has no named arguments to override")]
    if decision["function"] is None:
        # Whoever runs it elsewhere may well have given it more than was recorded.
        return []
    return [
        FieldError(
            f"{where}.{name}",
            f"the function has no such argument; {did_you_mean(name, recorded)}",
            nearest(name, recorded),
        )
        for name in members
        if name not in recorded
    ]


def merge(decision: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Input, prompt and model of a decision with the overrides in place.

    A template that is overridden without its version is no longer the recorded version's text, so the
    version is dropped; the other way round, the recorded template is dropped.

    Args:
        decision: the original, parsed.
        overrides: checked by ``check``.

    Returns:
        ``input`` (where there is one), ``prompt`` and ``model``, absent members left out.
    """
    prompt = dict(decision["prompt"])
    given = overrides.get("prompt", {})
    if "template" in given and "version" not in given:
        prompt["version"] = None
    if ("version" in given or "name" in given) and "template" not in given:
        prompt["template"] = None
    # What answered is known only when something answers.
    model = {name: decision["model"][name] for name in ("provider", "name", "parameters")}
    merged = {
        "prompt": _present(_merged(prompt, given)),
        "model": _present(_merged(model, overrides.get("model", {}))),
    }
    if decision["input"] is not None or "input" in overrides:
        recorded = decision["input"]
        merged["input"] = _merged(recorded, overrides["input"]) if "input" in overrides else recorded
    return merged


def _merged(recorded: Any, over: Any) -> Any:
    if not isinstance(recorded, dict) or not isinstance(over, dict):
        return over
    merged = dict(recorded)
    for name, value in over.items():
        merged[name] = _merged(merged.get(name), value)
    return merged


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
