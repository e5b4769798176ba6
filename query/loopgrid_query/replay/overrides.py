"""Overrides: what a replay changes. One grammar, checked before anything runs. Pure.

    {"prompt": {"name", "version", "template", "variables": {name: text}},
     "model":  {"provider", "name", "parameters": {name: value}},
     "input":  {argument: value},
     "steps":  {"default": policy, "of": {name: policy}, "allow": [name], "from": number}}

They are merged into the record as JSON objects are: a member given replaces the recorded one,
objects member by member, everything else stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.overrides import POLICIES
from loopgrid_query import jsontext
from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.nearest import did_you_mean, nearest

Overrides = Mapping[str, Any]

_TEXT: Final = "text"
_OBJECT: Final = "object"
_POLICY: Final = "policy"
_NAMES: Final = "names"
_NUMBER: Final = "number"
STEPS: Final = {"default": _POLICY, "of": _OBJECT, "allow": _NAMES, "from": _NUMBER}
GRAMMAR: Final[Mapping[str, Mapping[str, str] | None]] = {
    "prompt": {"name": _TEXT, "version": _TEXT, "template": _TEXT, "variables": _OBJECT},
    "model": {"provider": _TEXT, "name": _TEXT, "parameters": _OBJECT},
    # Its members are the arguments of the decision at hand.
    "input": None,
    "steps": STEPS,
}
"""What may be overridden: members and their types by part."""

_VERSIONS_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a prompt on record.

    Attributes:
        version: its name; ``None`` where decisions used the prompt without one.
        templates: the texts it has had, as far as they are whole; none where only the name was recorded.
    """

    version: str | None
    templates: tuple[str, ...]


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
        if part == "steps" and decision["function"] is None and decision.get("kind") is not None:
            faults.append(
                FieldError(where, "belongs to decisions whose function runs again; this one has none")
            )
        elif part not in GRAMMAR:
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
        elif grammar[name] == _POLICY:
            faults.extend(_policy_faults(place, value))
        elif grammar[name] == _NAMES and not (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        ):
            faults.append(FieldError(place, "must be a list of names"))
        elif grammar[name] == _NUMBER and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            faults.append(FieldError(place, "must be a whole number from 1"))
        elif name == "of":
            faults.extend(
                fault for step, policy in value.items() for fault in _policy_faults(f"{place}.{step}", policy)
            )
        elif name == "variables":
            wrong = [key for key, text in value.items() if not isinstance(text, str)]
            faults.extend(FieldError(f"{place}.{key}", "must be text") for key in wrong)
    return faults


def _policy_faults(where: str, value: Any) -> list[FieldError]:
    if value in POLICIES:
        return []
    written = str(value)
    return [
        FieldError(
            where, f"is no policy of a step; {did_you_mean(written, POLICIES)}", nearest(written, POLICIES)
        )
    ]


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


def named_prompt(overrides: Overrides, decision: Mapping[str, Any]) -> tuple[str | None, str | None] | None:
    """Name and version of the prompt that overrides ask for without saying its text.

    Args:
        overrides: checked by ``check``.
        decision: the original, parsed.

    Returns:
        ``None`` where they ask for no other prompt, or hand in the text themselves.
    """
    given, recorded = overrides.get("prompt", {}), decision["prompt"]
    if "template" in given or not given.keys() & {"name", "version"}:
        return None
    name = given.get("name", recorded["name"])
    inherited = recorded["version"] if name == recorded["name"] else None
    return name, given.get("version", inherited)


def with_template(
    overrides: Overrides,
    name: str | None,
    version: str | None,
    versions: Sequence[Version],
    names: Sequence[str],
) -> Overrides:
    """The overrides with the template that is on record for the prompt they name.

    Args:
        overrides: checked by ``check``.
        name: of the prompt; ``None`` where neither they nor the decision say it.
        version: of the prompt.
        versions: those of that name on record.
        names: of the prompts on record, where there is none of that name.

    Raises:
        Invalid: there is no such template, or more than one.
    """
    if name is None:
        message = 'the decision records no prompt name; add "name", or give the text as "template"'
        raise Invalid.of([FieldError("overrides.prompt.name", message)])
    if not versions:
        near = nearest(name, names)
        hint = "." if near is None else f"; did you mean {near!r}?"
        message = f'no prompt {name!r} is on record{hint} Its text can be given as "template"'
        raise Invalid.of([FieldError("overrides.prompt.name", message, near)])
    found = next((one for one in versions if one.version == version), None)
    if found is None or len(found.templates) != 1:
        raise Invalid.of([_version_fault(name, version, found, versions)])
    return {**overrides, "prompt": {**overrides["prompt"], "template": found.templates[0]}}


def _version_fault(
    name: str, version: str | None, found: Version | None, versions: Sequence[Version]
) -> FieldError:
    where, said = "overrides.prompt.version", "no version" if version is None else f"version {version!r}"
    if found is not None and found.templates:
        message = f"prompt {name!r}, {said}, has had {len(found.templates)} texts; say which"
        return FieldError(where, f'{message} as "template"')
    known = [one.version for one in versions if one.version is not None and len(one.templates) == 1]
    named = ", ".join(known[-_VERSIONS_NAMED:])
    if len(known) > _VERSIONS_NAMED:
        named = f"the last {_VERSIONS_NAMED} of {len(known)}, {named}"
    exist = f"versions with a template: {named}" if known else "no version of it has one template"
    missing = f"prompt {name!r}, {said}, is on record {'without its whole template' if found else 'nowhere'}"
    suggestion = nearest(version, known) if version is not None else None
    return FieldError(where, f'{missing}; {exist}. Its text can be given as "template"', suggestion)


def merge(decision: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Input, prompt and model of a decision with the overrides in place.

    A template that is overridden without its version is no longer the recorded version's text, so the
    version is dropped; the other way round, the recorded template is dropped. A prompt of another name has
    no version unless one is given.

    Args:
        decision: the original, parsed.
        overrides: checked by ``check``.

    Returns:
        ``input`` (where there is one), ``prompt`` and ``model``, absent members left out.
    """
    prompt = dict(decision["prompt"])
    given = overrides.get("prompt", {})
    another = given.get("name", prompt["name"]) != prompt["name"]
    if ("template" in given or another) and "version" not in given:
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
