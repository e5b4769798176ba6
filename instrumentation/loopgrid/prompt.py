"""Prompt and Model: the two arguments that LoopGrid knows by name and can replace in a replay."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from loopgrid.health import logger
from loopgrid.life import PromptFacts
from loopgrid.span import current

MAX_REGISTERED_PROMPTS: Final = 1000
"""Prompts remembered by name and version; of more, the oldest are forgotten."""


class _Frozen:
    """Attributes are set once, by the constructor."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} does not change: make a new one instead of setting {name!r}"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} does not change: {name!r} cannot be deleted")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


class _Template(string.Formatter):
    """`str.format` with plain names only: no positions, attributes or indices.

    A template may come from the ledger or from an override; it fills in what it is given and reaches into
    nothing.
    """

    def names(self, template: str) -> tuple[str, ...]:
        """Placeholders in order of appearance, each once.

        Raises:
            ValueError: the template is malformed.
        """
        found: dict[str, None] = {}
        for _, name, specification, _ in self.parse(template):
            if name is None:
                continue
            if not name.isidentifier():
                raise ValueError(
                    f"placeholder {{{name}}} is no plain name: write {{message}} and pass the value itself "
                    "to "
                    "render(), and write {{ and }} for braces that are text"
                )
            found[name] = None
            found.update(dict.fromkeys(self.names(specification or "")))
        return tuple(found)

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return self.get_value(field_name, args, kwargs), field_name


_TEMPLATE: Final = _Template()


class Prompt(_Frozen):
    """A named, versioned prompt template.

    As an argument of a decorated function it can be replaced in a replay. `render` fills it in and records
    template and variables on the current decision.

    Attributes:
        name: name of the prompt.
        version: version of the prompt, or None.
        template: text with `{name}` placeholders as in `str.format`; `{{` and `}}` stand for braces.
        placeholders: the names that `render` needs.
    """

    __slots__ = ("_pinned", "name", "placeholders", "template", "version")

    name: str
    version: str | None
    template: str
    placeholders: tuple[str, ...]
    _pinned: Mapping[str, object]

    def __init__(self, name: str, *, version: str | None = None, template: str) -> None:
        """Make the prompt and remember it under its name and version for replays in this process.

        Raises:
            TypeError: name, version or template is not text.
            ValueError: the template is malformed or a placeholder is no plain name.
        """
        self._fill(name, version, template)
        _remember(self)

    def _fill(
        self, name: str, version: str | None, template: str, pinned: Mapping[str, object] | None = None
    ) -> None:
        for field, value in (("name", name), ("template", template), ("version", version)):
            if not isinstance(value, str) and not (field == "version" and value is None):
                raise TypeError(f"{field} of a Prompt is text, not {type(value).__name__}")
        if not name:
            raise ValueError("a Prompt needs a name")
        try:
            placeholders = _TEMPLATE.names(template)
        except ValueError as error:
            raise ValueError(
                f"template of prompt {name!r}: {error} (write {{{{ and }}}} for braces)"
            ) from error
        self._set(
            name=name,
            version=version,
            template=template,
            placeholders=placeholders,
            _pinned=MappingProxyType(dict(pinned or {})),
        )

    @classmethod
    def recorded(
        cls,
        name: str,
        *,
        version: str | None = None,
        template: str,
        pinned: Mapping[str, object] | None = None,
    ) -> Self:
        """A prompt as a record or an override states it; the registry of this process does not learn it.

        Args:
            name: name of the prompt.
            version: version of the prompt, or None.
            template: text with placeholders.
            pinned: variables that take precedence over those given to `render`.
        """
        prompt = cls.__new__(cls)
        prompt._fill(name, version, template, pinned)  # noqa: SLF001 - a second constructor of this class
        return prompt

    def render(self, **variables: object) -> str:
        """The template filled in; prompt and variables are recorded on the current decision.

        Raises:
            KeyError: a placeholder has no variable.
            ValueError: a format specification does not fit its value.
        """
        filled = {**variables, **self._pinned}
        missing = [name for name in self.placeholders if name not in filled]
        if missing:
            given = ", ".join(sorted(filled)) or "nothing"
            raise KeyError(
                f"prompt {self.name!r} (version {self.version}) needs {', '.join(missing)}; render() was "
                f"given {given}"
            )
        try:
            text = _TEMPLATE.vformat(self.template, (), filled)
        except Exception:
            current().rendered(self.facts, filled)
            raise
        current().rendered(self.facts, filled, text)
        return text

    @property
    def facts(self) -> PromptFacts:
        """The prompt as the record names it."""
        return PromptFacts(self.name, self.version, self.template)

    def __loopgrid_plain__(self) -> dict[str, object]:
        """The prompt as JSON, where it is an ordinary part of some content."""
        return {"name": self.name, "version": self.version, "template": self.template}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prompt):
            return NotImplemented
        return self.facts == other.facts and self._pinned == other._pinned

    def __hash__(self) -> int:
        return hash(self.facts)

    def __repr__(self) -> str:
        return f"Prompt({self.name!r}, version={self.version!r}, template={self.template!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_prompt, (self.name, self.version, self.template, dict(self._pinned))


class Model(_Frozen):
    """The model a decision asks, with its request parameters. Can be replaced in a replay.

    Attributes:
        provider: who serves it, as OpenTelemetry spells it: `openai`, `anthropic`, `aws.bedrock`…
        name: model that is asked for.
        parameters: request parameters by name, read-only.
    """

    __slots__ = ("name", "parameters", "provider")

    provider: str
    name: str
    parameters: Mapping[str, Any]

    def __init__(self, provider: str, name: str, **parameters: object) -> None:
        """Make the model.

        Raises:
            TypeError: provider or name is not text.
            ValueError: provider or name is empty.
        """
        for field, value in (("provider", provider), ("name", name)):
            if not isinstance(value, str):
                raise TypeError(f"{field} of a Model is text, not {type(value).__name__}")
            if not value:
                raise ValueError(f"a Model needs a {field}")
        self._set(provider=provider, name=name, parameters=MappingProxyType(parameters))

    def __loopgrid_plain__(self) -> dict[str, object]:
        """The model as JSON, where it is an ordinary part of some content."""
        return {"provider": self.provider, "name": self.name, "parameters": dict(self.parameters)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self.provider, self.name, self.parameters) == (other.provider, other.name, other.parameters)

    def __hash__(self) -> int:
        # Parameter values may be lists: equal models have equal parameter names, which is enough.
        return hash((self.provider, self.name, frozenset(self.parameters)))

    def __repr__(self) -> str:
        parameters = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"Model({self.provider!r}, {self.name!r}{parameters})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_model, (self.provider, self.name, dict(self.parameters))


def _rebuild_prompt(name: str, version: str | None, template: str, pinned: dict[str, object]) -> Prompt:
    return Prompt.recorded(name, version=version, template=template, pinned=pinned)


def _rebuild_model(provider: str, name: str, parameters: dict[str, object]) -> Model:
    return Model(provider, name, **parameters)


_prompts: Final[dict[tuple[str, str | None], Prompt]] = {}


def _remember(prompt: Prompt) -> None:
    known = _prompts.pop((prompt.name, prompt.version), None)
    if known is not None and prompt.version is not None and known.template != prompt.template:
        logger.warning(
            "prompt %r version %r was defined again with another template; the new one counts. "
            "Give a changed template a new version",
            prompt.name,
            prompt.version,
        )
    _prompts[prompt.name, prompt.version] = prompt
    while len(_prompts) > MAX_REGISTERED_PROMPTS:
        _prompts.pop(next(iter(_prompts)), None)


def registered_prompt(name: str, version: str | None) -> Prompt | None:
    """The prompt this process defined under that name and version."""
    return _prompts.get((name, version))


def registered_prompts() -> Iterable[Prompt]:
    """All prompts this process defined."""
    return tuple(_prompts.values())
