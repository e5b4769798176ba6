"""Recorded messages and tools as a chat request in OpenAI's form. Pure.

Nothing is invented and nothing is left out: each recorded message is in the request, in order, and what has
no place there raises ``Unsendable``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loopgrid_collector.dialects.messages import message
from loopgrid_query.replay.unsendable import Unsendable

Message = dict[str, Any]
Part = Mapping[str, Any]

ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_MESSAGE_MEMBERS: Final = frozenset({"role", "parts", "name", "finish_reason"})
_PLAIN_MEMBERS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
_PART_MEMBERS: Final = {
    "text": frozenset({"type", "content"}),
    "tool_call": frozenset({"type", "id", "name", "arguments"}),
    "tool_call_response": frozenset({"type", "id", "response"}),
    "blob": frozenset({"type", "mime_type", "modality", "content"}),
    "uri": frozenset({"type", "mime_type", "modality", "uri"}),
}
_AUDIO_FORMATS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_OUT_OF_REACH: Final = {
    "file": "a file that only the provider holds",
    "reasoning": "reasoning of the model, which cannot be sent back without the provider's signature",
    "server_tool_call": "a tool that the provider ran",
    "server_tool_call_response": "the result of a tool that the provider ran",
    "compaction": "a part of the conversation that the provider compacted",
}


def canonical(value: Any) -> list[Message]:
    """A recorded input as messages in OpenTelemetry's form.

    Messages in OpenAI's plain form, as an application may record them itself, are taken too.

    Raises:
        Unsendable: it is no list of messages.
    """
    if value is None:
        raise Unsendable("The record has no input: its content was not captured.")
    if are_messages(value):
        return list(value)
    plain = isinstance(value, list) and bool(value) and all(map(_is_plain, value))
    if not plain:
        raise Unsendable("Its input is no list of messages, so there is nothing to send to a model.")
    return [message(each, "user") for each in value]


def are_messages(value: Any) -> bool:
    """Whether a recorded value is a list of messages in OpenTelemetry's form, whatever they hold."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in value)
        and all(isinstance(each.get("parts"), list) and all(map(_is_part, each["parts"])) for each in value)
    )


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _is_plain(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and value.keys() <= _PLAIN_MEMBERS


def chat_messages(recorded: Sequence[Message]) -> list[Message]:
    """Recorded messages in OpenAI's form.

    A message that holds results of tools becomes one message a result.

    Raises:
        Unsendable: a message, or a part of one, has no place in a chat request.
    """
    return [sent for number, each in enumerate(recorded, 1) for sent in _sent(each, f"Message {number}")]


def _sent(recorded: Message, where: str) -> list[Message]:
    role, name = recorded["role"], recorded.get("name")
    if role not in ROLES:
        raise Unsendable(f"{where} has the role {role!r}, which no provider takes.")
    _only(recorded, _MESSAGE_MEMBERS, where)
    if name is not None and not isinstance(name, str):
        raise Unsendable(f"{where} has a name that is no text.")
    parts = recorded["parts"]
    if not parts:
        raise Unsendable(f"{where} is empty in the record: its content was not captured.")
    said = [_checked(part, where) for part in parts]
    results = [part for part in said if part["type"] == "tool_call_response"]
    rest = said[len(results) :]
    if said[: len(results)] != results or (results and role not in {"tool", "user"}):
        raise Unsendable(f"{where} has the result of a tool in a place where none can stand.")
    if role == "tool" and rest:
        raise Unsendable(f"{where} is a tool's, and says more than results of calls.")
    answers = [_result(part, where) for part in results]
    return answers + ([_spoken(role, name, rest, where)] if rest else [])


def _checked(part: Part, where: str) -> Part:
    kind = part["type"]
    if kind in _OUT_OF_REACH:
        raise Unsendable(f"{where} holds {_OUT_OF_REACH[kind]}.")
    if kind not in _PART_MEMBERS:
        raise Unsendable(f"{where} holds a part of type {kind!r}, which has no place in a chat request.")
    _only(part, _PART_MEMBERS[kind], where)
    return part


def _only(value: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(name for name, inner in value.items() if inner is not None and name not in known)
    if unknown:
        raise Unsendable(f"{where} has {', '.join(unknown)}, which has no place in a chat request.")


def _spoken(role: str, name: str | None, parts: Sequence[Part], where: str) -> Message:
    calls = [_call(part, where) for part in parts if part["type"] == "tool_call"]
    content = [_content(part, where) for part in parts if part["type"] != "tool_call"]
    if calls and role != "assistant":
        raise Unsendable(f"{where} calls a tool, and is not the model's.")
    if role != "user" and any(part["type"] != "text" for part in content):
        raise Unsendable(f"{where} is of the role {role} and holds more than text.")
    sent: Message = {"role": role, "content": None}
    if content:
        # One text is sent as text: a list of one says the same and fewer servers take it.
        sent["content"] = content[0]["text"] if [p["type"] for p in content] == ["text"] else content
    if name is not None:
        sent["name"] = name
    if calls:
        sent["tool_calls"] = calls
    return sent


def _content(part: Part, where: str) -> Message:
    if part["type"] == "text":
        if not isinstance(part.get("content"), str):
            raise Unsendable(f"{where} has a text that was not captured.")
        return {"type": "text", "text": part["content"]}
    return _media(part, where)


def _media(part: Part, where: str) -> Message:
    kind, mime = part.get("modality"), part.get("mime_type")
    data = part.get("content" if part["type"] == "blob" else "uri")
    if not isinstance(data, str) or not data:
        raise Unsendable(f"{where} holds an attachment that was not captured.")
    if part["type"] == "uri":
        if kind == "image" and data.startswith(("https://", "http://")):
            return {"type": "image_url", "image_url": {"url": data}}
        raise Unsendable(f"{where} points to an attachment that is out of reach.")
    if kind == "image" and isinstance(mime, str):
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
    if kind == "audio" and mime in _AUDIO_FORMATS:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO_FORMATS[mime]}}
    raise Unsendable(f"{where} holds an attachment ({mime or kind}) that has no place in a chat request.")


def _call(part: Part, where: str) -> Message:
    call_id, name, arguments = (part.get(member) for member in ("id", "name", "arguments"))
    if not isinstance(call_id, str) or not isinstance(name, str):
        raise Unsendable(f"{where} calls a tool without its name or the id of the call.")
    if arguments is None:
        raise Unsendable(f"{where} calls {name}, and the arguments were not captured.")
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _result(part: Part, where: str) -> Message:
    if not isinstance(part.get("id"), str):
        raise Unsendable(f"{where} has the result of a tool without the id of its call.")
    if "response" not in part:
        raise Unsendable(f"{where} has a call of a tool whose result was not captured.")
    return {"role": "tool", "tool_call_id": part["id"], "content": _response(part["response"])}


def _response(response: Any) -> Any:
    if isinstance(response, str):
        return response
    if isinstance(response, list) and response and all(map(_is_text_block, response)):
        texts = [block.get("text", block.get("content")) for block in response]
        return [{"type": "text", "text": text} for text in texts]
    return _json(response)


def _is_text_block(block: Any) -> bool:
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text", block.get("content")), str)
        and len(block) == len({"type", "text"})
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def calls_tools(messages: Any) -> bool:
    """Whether any of some recorded messages calls a tool."""
    return are_messages(messages) and any(
        part["type"] == "tool_call" for each in messages for part in each["parts"]
    )


def chat_tools(recorded: Any) -> list[Message]:
    """Recorded tool definitions in OpenAI's form; an empty list where none are recorded.

    Raises:
        Unsendable: one is the provider's own, or was not recorded whole.
    """
    if recorded is None:
        return []
    if not isinstance(recorded, list):
        raise Unsendable("The tools it was offered are recorded in a form that nobody knows.")
    return [_tool(each, f"Tool {number}") for number, each in enumerate(recorded, 1)]


def _tool(recorded: Any, where: str) -> Message:
    name = recorded.get("name") if isinstance(recorded, dict) else None
    if not isinstance(name, str):
        raise Unsendable(f"{where} has no name in the record.")
    if recorded.get("type", "function") != "function":
        raise Unsendable(f"Tool {name} is the provider's own ({recorded['type']}).")
    _only(recorded, frozenset({"type", "name", "description", "parameters"}), f"Tool {name}")
    if not isinstance(recorded.get("parameters"), dict):
        raise Unsendable(f"The parameters of the tool {name} were not recorded.")
    function = {
        member: recorded[member]
        for member in ("name", "description", "parameters")
        if recorded.get(member) is not None
    }
    return {"type": "function", "function": function}
