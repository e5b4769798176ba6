"""A chat request in Anthropic's form. Pure.

Nothing is left out on the way: what OpenAI's form can say and Anthropic's cannot raises ``Unsendable``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loopgrid_query.replay.chat import Message
from loopgrid_query.replay.unsendable import Unsendable

_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_DATA: Final = "data:"


def members(
    messages: Sequence[Message], tools: Sequence[Message], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything but the model's name of a request to ``/v1/messages``.

    Args:
        messages: in OpenAI's form.
        tools: likewise.
        parameters: likewise.

    Raises:
        Unsendable: a part of it has no place there, or the provider would refuse what is missing.
    """
    if "max_tokens" not in parameters:
        raise Unsendable(
            "Anthropic takes no request without max_tokens, and the record has none. Override "
            '"model.parameters.max_tokens".'
        )
    first = next((place for place, each in enumerate(messages) if each["role"] != "system"), len(messages))
    system = [text for each in messages[:first] for text in _contents(each, "An instruction")]
    told = _conversation(messages[first:], first)
    if not told:
        raise Unsendable("It holds instructions and nothing else, which Anthropic does not take.")
    request: dict[str, Any] = {"messages": told}
    if any("name" in each for each in messages[:first]):
        raise Unsendable("An instruction has the name of who said it, which Anthropic does not take.")
    if system:
        request["system"] = system[0]["text"] if len(system) == 1 else system
    if tools:
        request["tools"] = [_tool(each["function"]) for each in tools]
    for name, value in parameters.items():
        if name == "tool_choice":
            request[name] = _tool_choice(value)
        elif name == "stop":
            request["stop_sequences"] = [value] if isinstance(value, str) else value
        else:
            request[name] = value
    return request


def _conversation(messages: Sequence[Message], before: int) -> list[Message]:
    told: list[Message] = []
    for number, message in enumerate(messages, before + 1):
        where = f"Message {number}"
        if message["role"] == "system":
            raise Unsendable(f"{where} gives instructions after the conversation began.")
        if "name" in message:
            raise Unsendable(f"{where} has the name of who said it, which Anthropic does not take.")
        if message["role"] != "tool":
            told.append({"role": message["role"], "content": _turn(message, where)})
            continue
        call_id, content = message["tool_call_id"], message["content"]
        result = {"type": "tool_result", "tool_use_id": call_id, "content": content}
        if number > before + 1 and messages[number - before - 2]["role"] == "tool":
            # All results of one turn stand in one message there.
            told[-1]["content"].append(result)
        else:
            told.append({"role": "user", "content": [result]})
    return told


def _turn(message: Message, where: str) -> str | list[dict[str, Any]]:
    content, calls = message["content"], message.get("tool_calls", ())
    if isinstance(content, str) and not calls:
        return content
    return _contents(message, where) + [_call(each, where) for each in calls]


def _contents(message: Message, where: str) -> list[dict[str, Any]]:
    content = message["content"]
    if content is None:
        return []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [_block(part, where) for part in parts]


def _block(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    if part["type"] == "text":
        return dict(part)
    if part["type"] != "image_url":
        raise Unsendable(f"{where} holds sound, which Anthropic does not take.")
    url = part["image_url"]["url"]
    if not url.startswith(_DATA):
        return {"type": "image", "source": {"type": "url", "url": url}}
    mime, _, data = url.removeprefix(_DATA).partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}


def _call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Unsendable(f"{where} calls {function['name']} with arguments that are no JSON object.")
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    described = {name: function[name] for name in ("name", "description") if name in function}
    return {**described, "input_schema": function["parameters"]}


def _tool_choice(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"type": _CHOICES[value]}
    return {"type": "tool", "name": value["function"]["name"]}
