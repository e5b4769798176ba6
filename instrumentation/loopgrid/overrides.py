"""The grammar of a replay's overrides, and what they make of a recorded prompt and model. Pure.

`{"prompt": {name?, version?, template?, variables?}, "model": {provider?, name?, parameters?}, "input":
{argument: value}, "steps": {default?, of?: {name: policy}, allow?: [name], from?: number}}`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from loopgrid.errors import Invalid, NotReplayable, nearest
from loopgrid.prompt import Model, Prompt
from loopgrid.restore import read_back

GRAMMAR: Final[Mapping[str, frozenset[str] | None]] = {
    "prompt": frozenset({"name", "version", "template", "variables"}),
    "model": frozenset({"provider", "name", "parameters"}),
    "input": None,
    "steps": frozenset({"default", "of", "allow", "from"}),
}
"""Parts of an override set and the keys each may have; None: the arguments of the function."""


RECORDED: Final = "recorded"
MATCHING: Final = "matching"
LIVE: Final = "live"
FAIL: Final = "fail"
POLICIES: Final = (RECORDED, MATCHING, LIVE, FAIL)
"""What a replay does where the function calls a step or a tool: answer from the record, and fail where that
has no answer; answer from the record where the arguments are the same, and run where not; run; refuse."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """An override set that is known to be well-formed."""

    prompt: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def checked(cls, overrides: Mapping[str, Any]) -> Overrides:
        """The override set, if every key of it is known and every part has its shape.

        Raises:
            Invalid: a key is unknown (the message suggests the nearest) or a value has the wrong shape.
        """
        for part, values in _mapping("overrides", overrides).items():
            if part not in GRAMMAR:
                raise Invalid(f"overrides have no part {part!r}: {nearest(str(part), GRAMMAR)}")
            known = GRAMMAR[part]
            for key in _mapping(f"overrides[{part!r}]", values):
                if known is not None and key not in known:
                    raise Invalid(f"overrides[{part!r}] has no key {key!r}: {nearest(str(key), known)}")
        checked = cls(**overrides)
        for part, key in (("prompt", "variables"), ("model", "parameters")):
            values = getattr(checked, part)
            if key in values:
                _mapping(f"overrides[{part!r}][{key!r}]", values[key])
        for part, key in (
            ("prompt", "name"),
            ("prompt", "template"),
            ("model", "provider"),
            ("model", "name"),
        ):
            _text(f"overrides[{part!r}][{key!r}]", getattr(checked, part).get(key, ""))
        _check_steps(checked.steps)
        _text("overrides['prompt']['version']", checked.prompt.get("version") or "")
        return checked


def _check_steps(steps: Mapping[str, Any]) -> None:
    named = {"default": steps["default"]} if "default" in steps else {}
    of = _mapping("overrides['steps']['of']", steps.get("of", {}))
    for name, policy in {**named, **of}.items():
        if policy not in POLICIES:
            raise Invalid(
                f"overrides['steps']: {policy!r}, of {name}, is no policy of a step: "
                f"{nearest(str(policy), POLICIES)}"
            )
    allow, first = steps.get("allow", []), steps.get("from", 1)
    if not isinstance(allow, list | tuple) or not all(isinstance(name, str) for name in allow):
        raise Invalid("overrides['steps']['allow'] is a list of the names of tools")
    if isinstance(first, bool) or not isinstance(first, int) or first < 1:
        raise Invalid("overrides['steps']['from'] is a whole number from 1: the first call that runs")


def replaced_prompt(
    recorded: Mapping[str, Any],
    changes: Mapping[str, Any],
    find: Callable[[str, str | None], Prompt],
) -> Prompt | None:
    """The prompt a replay uses: the recorded one with the changes, or None where none is known.

    Args:
        recorded: `prompt` of the decision, values may be None.
        changes: `prompt` of the overrides.
        find: gives the prompt of a name and version, or raises `NotReplayable`.

    Raises:
        NotReplayable: the changes do not lead to a template.
    """
    name = changes.get("name") or recorded.get("name")
    pinned = changes.get("variables") or {}
    if name is None and not changes:
        return None
    if name is None:
        raise NotReplayable(
            "the decision records no prompt: name the one to use in overrides['prompt']['name']"
        )
    if "template" in changes:
        prompt = _prompt(name, changes.get("version"), changes["template"], pinned)
    elif "version" in changes or name != recorded.get("name"):
        found = find(name, changes.get("version"))
        prompt = _prompt(found.name, found.version, found.template, pinned)
    elif recorded.get("template") is not None:
        prompt = _prompt(name, recorded.get("version"), recorded["template"], pinned)
    else:
        found = find(name, recorded.get("version"))
        prompt = _prompt(found.name, found.version, found.template, pinned)
    unknown = [variable for variable in pinned if variable not in prompt.placeholders]
    if unknown:
        raise Invalid(
            f"prompt {prompt.name!r} has no placeholder {unknown[0]!r}: "
            f"{nearest(str(unknown[0]), prompt.placeholders)}"
        )
    return prompt


def replaced_model(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> Model | None:
    """The model a replay uses: the recorded one with the changes, or None where none is known.

    Raises:
        NotReplayable: provider or name are neither recorded nor given.
    """
    provider = changes.get("provider") or recorded.get("provider")
    name = changes.get("name") or recorded.get("name")
    if not changes and (provider is None or name is None):
        return None
    if provider is None or name is None:
        raise NotReplayable(
            "the decision records no model: give both overrides['model']['provider'] and "
            "overrides['model']['name']"
        )
    kept = read_back(recorded.get("parameters") or {}, "model parameters")
    parameters = {**kept, **(changes.get("parameters") or {})}
    return Model(provider, name, **parameters)


def unknown_version(
    name: str, version: str | None, known: Iterable[Prompt | Mapping[str, Any]], names: Iterable[str] = ()
) -> NotReplayable:
    """The error for a prompt whose template nobody knows, naming the versions that exist.

    Args:
        name: of the prompt.
        version: of the prompt.
        known: the prompts of that name.
        names: of the prompts this process defines; the nearest is suggested where none has that name.
    """
    found = (prompt.version if isinstance(prompt, Prompt) else prompt.get("version") for prompt in known)
    versions = {str(one) for one in found if one is not None}
    if version in versions:
        return NotReplayable(
            f"prompt {name!r} version {version} is in the ledger without its template, and this process does "
            "not define it: import the module that defines it, or give overrides['prompt']['template']"
        )
    defined = sorted(names)
    hint = f" ({nearest(name, defined)})" if defined else ""
    exist = (
        f"its versions are {', '.join(sorted(versions))}"
        if versions
        else f"no prompt of that name is known{hint}"
    )
    return NotReplayable(
        f"prompt {name!r} has no version {version!r} in this process or in the ledger: {exist}. Import the "
        "module "
        "that defines it, or give overrides['prompt']['template']"
    )


def _prompt(name: str, version: str | None, template: str, pinned: Mapping[str, Any]) -> Prompt:
    try:
        return Prompt.recorded(name, version=version, template=template, pinned=pinned)
    except ValueError as error:
        raise Invalid(str(error)) from error


def _mapping(where: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(f"{where} is a map, not {type(value).__name__}")
    return value


def _text(where: str, value: Any) -> None:
    if not isinstance(value, str):
        raise Invalid(f"{where} is text, not {type(value).__name__}")
