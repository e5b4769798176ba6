"""Differences of texts, prompts, messages and tool calls. Pure, and bounded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from loopgrid_query.compare.equality import same
from loopgrid_query.compare.structure import structural

MAX_LINE_PAIRS: Final = 4_000_000
"""Pairs of lines that a text difference looks at: the effort grows with the product of both lengths."""
MAX_MESSAGES: Final = 500
"""Messages of one side that are put beside those of the other."""
MAX_TOOL_CALLS: Final = 500
"""Tool calls of one side that are put beside those of the other."""

Notes = list[str]
"""Sentences that say what was not compared, and why."""


def text_of(value: Any) -> str:
    """A value as lines of text: text as it is, anything else as indented JSON; "" for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def unified(left: Any, right: Any, what: str, notes: Notes) -> str | None:
    """The unified difference of two values as text; None where they are the same text, or are too long."""
    before, after = text_of(left), text_of(right)
    if before == after:
        return None
    old, new = before.split("\n"), after.split("\n")
    if len(old) * len(new) > MAX_LINE_PAIRS:
        notes.append(f"{what}: {len(old)} and {len(new)} lines are too many for a text difference.")
        return None
    return "\n".join(difflib.unified_diff(old, new, "left", "right", lineterm=""))


def structure(left: Any, right: Any, what: str, notes: Notes) -> list[dict[str, Any]]:
    """The structural difference; where it is cut off, a note says so."""
    found, whole = structural(left, right)
    if not whole:
        notes.append(f"{what}: only the first {len(found)} differences are told.")
    return found


def prompts(
    left: Mapping[str, Any], right: Mapping[str, Any], rendered: tuple[Any, Any], notes: Notes
) -> dict[str, Any]:
    """How two prompts differ: name and version, template and rendered text, variables.

    Args:
        left: ``prompt`` of a decision record.
        right: that of the other.
        rendered: the prompts with their variables filled in, as far as they are recorded.
        notes: takes what is not told.
    """
    return {
        "fields": [
            {"field": name, "left": left[name], "right": right[name]}
            for name in ("name", "version")
            if left[name] != right[name]
        ],
        "template": unified(left["template"], right["template"], "Prompt template", notes),
        "rendered": unified(*rendered, "Rendered prompt", notes),
        "variables": structure(left["variables"], right["variables"], "Prompt variables", notes),
    }


def messages(left: Any, right: Any, notes: Notes) -> dict[str, Any] | None:
    """Which messages of the inputs were added, removed and changed; None where no side has any."""
    one, other = messages_of(left), messages_of(right)
    if not one and not other:
        return None
    if max(len(one), len(other)) > MAX_MESSAGES:
        notes.append(f"Messages: more than {MAX_MESSAGES} on one side are not put beside the other's.")
        return None
    told: dict[str, Any] = {"unchanged": 0, "added": [], "removed": [], "changed": []}
    for before, after in _pairs(one, other, lambda message: message.get("role")):
        if after is None and before is not None:
            told["removed"].append({"index": before, "message": one[before]})
        elif before is None and after is not None:
            told["added"].append({"index": after, "message": other[after]})
        elif before is not None and after is not None:
            if same(one[before], other[after]):
                told["unchanged"] += 1
                continue
            spoken = (message_text(one[before]), message_text(other[after]))
            told["changed"].append(
                {
                    "left_index": before,
                    "right_index": after,
                    "left": one[before],
                    "right": other[after],
                    "text": unified(*spoken, f"Message {before}", notes),
                }
            )
    return told


def tool_calls(
    left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]], notes: Notes
) -> dict[str, Any] | None:
    """Which tool calls were added, removed, and made with other arguments; None where no side has any.

    Args:
        left: calls in order, each with ``name`` and ``arguments``.
        right: those of the other side.
        notes: takes what is not told.
    """
    if not left and not right:
        return None
    if max(len(left), len(right)) > MAX_TOOL_CALLS:
        notes.append(f"Tool calls: more than {MAX_TOOL_CALLS} on one side are not put beside the other's.")
        return None
    told: dict[str, Any] = {"unchanged": 0, "added": [], "removed": [], "changed": []}
    for before, after in _pairs(left, right, lambda call: call["name"]):
        if after is None and before is not None:
            told["removed"].append({"index": before, **left[before]})
        elif before is None and after is not None:
            told["added"].append({"index": after, **right[after]})
        elif before is not None and after is not None:
            arguments = (left[before]["arguments"], right[after]["arguments"])
            places = structure(*arguments, f"Arguments of {left[before]['name']}", notes)
            if not places:
                told["unchanged"] += 1
                continue
            told["changed"].append(
                {
                    "name": left[before]["name"],
                    "left_index": before,
                    "right_index": after,
                    "arguments": places,
                }
            )
    return told


def messages_of(value: Any) -> list[Mapping[str, Any]]:
    """The list of messages that an input is, or the first one among its arguments; else none."""
    members = [value, *value.values()] if isinstance(value, dict) else [value]
    for member in members:
        if (
            isinstance(member, list)
            and member
            and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in member)
        ):
            return member
    return []


def calls_of(output: Any) -> list[dict[str, Any]]:
    """The tool calls that a model asked for in its output messages."""
    return [
        {"name": part.get("name"), "arguments": part.get("arguments")}
        for message in messages_of(output)
        for part in _parts(message)
        if isinstance(part, dict) and part.get("type") == "tool_call"
    ]


def message_text(message: Mapping[str, Any]) -> str:
    """What a message says, as text: its content, or its parts below each other."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = _parts(message)
    return "\n".join(
        part["content"] if isinstance(part, dict) and isinstance(part.get("content"), str) else text_of(part)
        for part in parts
    ) or text_of(content)


def canonical(value: Any) -> str:
    """Text that is the same for what is the same JSON, but for the way its numbers are written."""
    return json.dumps(value, sort_keys=True)


def _parts(message: Mapping[str, Any]) -> list[Any]:
    for name in ("parts", "content"):
        if isinstance(message.get(name), list):
            return list(message[name])
    return []


def _pairs(
    left: Sequence[Any], right: Sequence[Any], kind: Callable[[Any], Any]
) -> Iterator[tuple[int | None, int | None]]:
    """Positions that belong together, in order: what is the same, then what is of the same kind."""
    matcher = difflib.SequenceMatcher(
        None, [canonical(item) for item in left], [canonical(item) for item in right], autojunk=False
    )
    for op, start, end, new_start, new_end in matcher.get_opcodes():
        if op == "equal":
            yield from zip(range(start, end), range(new_start, new_end), strict=True)
            continue
        waiting = list(range(new_start, new_end))
        for before in range(start, end):
            partner = next((at for at in waiting if kind(right[at]) == kind(left[before])), None)
            yield before, partner
            if partner is not None:
                # What was put in before the partner is told before it is passed.
                yield from ((None, at) for at in waiting if at < partner)
                waiting = [at for at in waiting if at > partner]
        yield from ((None, at) for at in waiting)
