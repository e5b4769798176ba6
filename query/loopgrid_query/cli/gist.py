"""Recorded values as text for people. Pure.

A decision's input and output are whatever JSON it recorded: arguments by name, or a list of
messages with parts. A terminal wants one line of it, or a few named lines.
"""

from __future__ import annotations

import json
from typing import Any

# They turn the direction of the text around them, and so show another order than there is.
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), *_TURNING], "�")
_CONTROLS_EXCEPT_LAYOUT = {code: mark for code, mark in _CONTROLS.items() if chr(code) not in "\n\t"}


def plain(text: str, *, one_line: bool = False) -> str:
    """The text without control characters, so that recorded content cannot steer a terminal."""
    if one_line:
        text = " ".join(text.split())
    return text.replace("\r\n", "\n").translate(_CONTROLS_EXCEPT_LAYOUT)


def gist(value: Any) -> str:
    """One line that says what a recorded value is about; "" for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return plain(value, one_line=True)
    if _is_messages(value):
        return plain(_message_text(value), one_line=True)
    if isinstance(value, dict) and value and not any(isinstance(one, dict | list) for one in value.values()):
        return " · ".join(gist(one) for one in value.values() if one is not None)
    return compact(value)


def compact(value: Any) -> str:
    """All of a value in one line: text as it is, anything else as JSON; "" for null."""
    if value is None:
        return ""
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), one_line=True)


def whole(value: Any) -> str:
    """All of a recorded value: text as it is, anything else as indented JSON; "" for null."""
    if value is None:
        return ""
    if isinstance(value, str):
        return plain(value)
    return plain(json.dumps(value, ensure_ascii=False, indent=2))


def leaves(value: Any, path: str) -> dict[str, Any]:
    """The members of an object by dotted path; anything else is its own only leaf."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for name, member in value.items():
        found.update(leaves(member, f"{path}.{name}"))
    return found


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, dict) and "role" in message for message in value)
    )


def _message_text(messages: list[dict[str, Any]]) -> str:
    """The last message that was said: of the user where there is one, else of anybody."""
    spoken = [message for message in messages if message["role"] == "user"] or messages
    parts = spoken[-1].get("parts") or []
    return " ".join(_part_text(part) for part in parts if isinstance(part, dict))


def _part_text(part: dict[str, Any]) -> str:
    if part.get("type") == "tool_call":
        return f"{part.get('name')}({json.dumps(part.get('arguments'), ensure_ascii=False)})"
    content = part.get("content", part.get("response"))
    if content is None:
        return f"[{part.get('type', 'part')}]"
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
