"""Recorded content as chat messages in OpenAI's shape. Pure.

Nothing is guessed and nothing is dropped: what has no place in a chat message raises ``Unfit``, with a reason
short enough to be counted.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import Any, Final

Message = dict[str, Any]

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_ROLE_NAMES: Final = {"model": "assistant", "ai": "assistant", "human": "user"}


class Unfit(Exception):
    """The decision has no place in the format.

    Attributes:
        reason: why, in a word that is the same for all decisions it holds for.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parsed(text: str) -> Any:
    """The value of stored JSON text.

    Raises:
        Unfit: it is nested too deeply, or holds half a surrogate pair, which is no Unicode text.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise Unfit("nested_too_deeply") from error
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise Unfit("no_unicode_text") from error
    return value


def said(value: Any) -> str:
    """A value as the text of a message: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def are_messages(value: Any) -> bool:
    """Whether a value is a list of messages as instrumentations record them."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(each, dict)
            and isinstance(each.get("role"), str)
            and ("parts" in each or "content" in each)
            for each in value
        )
    )


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """What the model was told before it answered.

    The recorded messages, where the input is a list of them. Otherwise the prompt: a template whose
    placeholders were recorded is one message of the user; any other template is the system's, and the input
    the user's.

    Raises:
        Unfit: there is nothing, or it cannot be said in messages.
    """
    value = parsed(row["input"]) if row["input"] is not None else None
    if value is not None and are_messages(value):
        return chat(value)
    template = row["prompt_template"]
    if template is not None:
        rendered = _rendered(template, row["prompt_variables"])
        if rendered is not None:
            return [{"role": "user", "content": rendered}]
    if value is None:
        raise Unfit("no_input")
    told = [{"role": "system", "content": template}] if template else []
    return [*told, {"role": "user", "content": said(value)}]


def _rendered(template: str, variables: str | None) -> str | None:
    """The template filled in, or None where it has no placeholders or not all of them are recorded."""
    values = parsed(variables) if variables is not None else {}
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError:
        return None
    names = [name for _, name, _, _ in pieces if name is not None]
    plain = all(not form and not conversion for _, name, form, conversion in pieces if name is not None)
    if not names or not plain or not isinstance(values, dict) or any(name not in values for name in names):
        return None
    return "".join(text + ("" if name is None else said(values[name])) for text, name, _, _ in pieces)


def answered(text: str) -> Message:
    """An output as the one message of the assistant.

    Raises:
        Unfit: it is several messages, or cannot be said in one.
    """
    value = parsed(text)
    if not are_messages(value):
        return {"role": "assistant", "content": said(value)}
    messages = chat(value)
    if len(messages) != 1:
        raise Unfit("several_output_messages")
    if messages[0]["role"] != "assistant":
        raise Unfit("output_not_by_assistant")
    return messages[0]


def chat(recorded: list[dict[str, Any]]) -> list[Message]:
    """Recorded messages in OpenAI's shape. Raises ``Unfit`` where one of them has no place there."""
    return [message for each in recorded for message in _chat(each)]


def _chat(recorded: dict[str, Any]) -> list[Message]:
    role = _ROLE_NAMES.get(recorded["role"], recorded["role"])
    if role not in ROLES:
        raise Unfit("unknown_role")
    content = recorded["parts"] if "parts" in recorded else recorded["content"]
    if not isinstance(content, list):
        content = [] if content is None else [content]
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for part in content:
        kind = "text" if isinstance(part, str) else part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind == "text" and isinstance(part.get("content", part.get("text")), str):
            texts.append(part.get("content", part.get("text")))
        elif kind == "tool_call":
            calls.append(_call(part))
        elif kind == "tool_call_response":
            results.append(_result(part))
        else:
            raise Unfit(f"message_part_{kind}" if kind in _KNOWN_PARTS else "message_part_unknown")
    calls += [_call(call) for call in recorded.get("tool_calls") or []]
    return _put_together(role, recorded, texts, calls, results)


_KNOWN_PARTS: Final = frozenset({"reasoning", "blob", "file", "uri", "image_url", "input_audio"})


def _put_together(
    role: str,
    recorded: dict[str, Any],
    texts: list[str],
    calls: list[dict[str, Any]],
    results: list[Message],
) -> list[Message]:
    if results:
        if texts or calls:
            raise Unfit("tool_result_beside_other_parts")
        return results
    if role == "tool":
        call_id = recorded.get("tool_call_id")
        if not isinstance(call_id, str):
            raise Unfit("tool_result_without_id")
        return [{"role": "tool", "tool_call_id": call_id, "content": "\n".join(texts)}]
    if calls and role != "assistant":
        raise Unfit("tool_call_not_by_assistant")
    if not texts and not calls:
        raise Unfit("empty_message")
    message: Message = {"role": role, "content": "\n".join(texts) if texts else None}
    if isinstance(recorded.get("name"), str):
        message["name"] = recorded["name"]
    if calls:
        message["tool_calls"] = calls
    return [message]


def _call(part: Any) -> dict[str, Any]:
    function = part.get("function", part) if isinstance(part, dict) else {}
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(part.get("id"), str):
        raise Unfit("tool_call_without_name_or_id")
    arguments = said(function.get("arguments", {}))
    return {"id": part["id"], "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(part: dict[str, Any]) -> Message:
    if not isinstance(part.get("id"), str):
        raise Unfit("tool_result_without_id")
    result = next((part[name] for name in ("response", "result", "content") if name in part), None)
    return {"role": "tool", "tool_call_id": part["id"], "content": said(result)}


def faults(messages: list[Message]) -> str | None:
    """Why a conversation breaks OpenAI's rules, or None: each tool result follows its call."""
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "tool_result_without_call"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return "tool_call_without_result"
        open_calls = {call["id"] for call in message.get("tool_calls", ())}
    return "tool_call_without_result" if open_calls else None
