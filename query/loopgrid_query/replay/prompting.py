"""Another prompt in the place of the recorded one. Pure.

The record has a template and its variables; the messages hold the text that came of them. Where that text is
found once, what another template or other variables make of it takes its place, and nothing else changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from loopgrid.prompt import Prompt
from loopgrid_query.replay.chat import Message
from loopgrid_query.replay.unsendable import Unsendable

_MUSTACHE: Final = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")

Render = Callable[[str, Mapping[str, str]], str]


def _formatted(template: str, variables: Mapping[str, str]) -> str:
    """As ``loopgrid.Prompt`` does it.

    Raises:
        ValueError: it is no such template.
        KeyError: a variable is missing.
    """
    prompt = Prompt.recorded("replayed", template=template)
    missing = [name for name in prompt.placeholders if name not in variables]
    if missing:
        raise KeyError(", ".join(missing))
    return prompt.render(**variables)


def _mustache(template: str, variables: Mapping[str, str]) -> str:
    """``{{name}}``, as Langfuse and others have it.

    Raises:
        KeyError: a variable is missing.
    """
    return _MUSTACHE.sub(lambda found: variables[found[1]], template)


def _verbatim(template: str, _variables: Mapping[str, str]) -> str:
    return template


_RENDERERS: Final[tuple[Render, ...]] = (_formatted, _mustache, _verbatim)


def changed(
    messages: Sequence[Message], prompt: Mapping[str, Any], given: Mapping[str, Any]
) -> list[Message]:
    """The messages with another prompt in them.

    Args:
        messages: the recorded ones.
        prompt: ``template`` and ``variables`` as recorded.
        given: what is overridden of the prompt; empty for nothing.

    Raises:
        Unsendable: it cannot be told where the prompt stands in the messages, or what the new one says.
    """
    if not given:
        return list(messages)
    if "template" not in given and "variables" not in given:
        raise Unsendable(
            "The prompt is overridden by name or version, and a model reads its text: override "
            '"prompt.template".'
        )
    template, recorded = prompt.get("template"), _texts(prompt.get("variables"))
    if template is None:
        raise Unsendable(
            "The record has no prompt template, so it cannot be told which part of the messages another "
            "prompt would replace. Record it: loopgrid.Prompt, or llm.prompt_template.*."
        )
    render, text = _found(messages, template, recorded)
    # Filled in as the recorded one was.
    new = given.get("template", template)
    variables = recorded | _texts(given.get("variables"))
    try:
        replaced = render(new, variables)
    except KeyError as error:
        raise Unsendable(f"The prompt needs {error.args[0]}, which no recorded variable is.") from error
    except ValueError as error:
        raise Unsendable(f"The prompt cannot be filled in: {error}.") from error
    return [_with(each, text, replaced) for each in messages]


def _texts(variables: Any) -> dict[str, str]:
    return {name: str(value) for name, value in (variables or {}).items() if value is not None}


def _found(messages: Sequence[Message], template: str, variables: Mapping[str, str]) -> tuple[Render, str]:
    """How the template was filled in, and the text that came of it."""
    many = False
    for render in _RENDERERS:
        try:
            text = render(template, variables)
        except (KeyError, ValueError, IndexError):
            continue
        times = sum(content.count(text) for content in _contents(messages)) if text else 0
        if times == 1:
            return render, text
        many = many or times > 1
    if many:
        raise Unsendable("The text of the recorded prompt stands in the messages more than once.")
    raise Unsendable(
        "The text that the recorded template and its variables make is not in the recorded messages, so "
        "another prompt cannot take its place."
    )


def _contents(messages: Sequence[Message]) -> list[str]:
    return [
        part["content"]
        for each in messages
        for part in each["parts"]
        if part["type"] == "text" and isinstance(part.get("content"), str)
    ]


def _with(message: Message, text: str, replaced: str) -> Message:
    parts = [
        {**part, "content": part["content"].replace(text, replaced)}
        if part["type"] == "text" and isinstance(part.get("content"), str)
        else part
        for part in message["parts"]
    ]
    return {**message, "parts": parts}
