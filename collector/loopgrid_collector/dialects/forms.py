"""How content is read from the place where it stands: one function per form.

Each takes what an attribute holds and gives messages, or None where it finds none in it. Whether
the attribute can be kept word for word is decided in ``content``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from loopgrid_collector.dialects import messages
from loopgrid_collector.dialects.messages import Message
from loopgrid_collector.dialects.parsers import UnreadableError, read_json
from loopgrid_collector.dialects.parts import Part, part, parts, text, tool_call

_LEGACY_EVENTS: Final = {
    "gen_ai.content.prompt": "gen_ai.prompt",
    "gen_ai.content.completion": "gen_ai.completion",
}
"""2024 drafts: event → the attribute in it that holds messages as JSON."""


def request(value: Any) -> list[Message]:
    """A request, or whatever an application calls the input of its model call."""
    return messages.of_request(value) or messages.generic(value, "user")


def response(value: Any, said: str | None) -> list[Message]:
    """A response, or whatever an application calls the output of its model call.

    Args:
        value: the decoded value.
        said: the text it was decoded from: a model that answers in JSON still answers in text.
    """
    found = messages.of_response(value)
    if found:
        return found
    return messages.generic(value if said is None or isinstance(value, str) else said, "assistant")


def flattened(row: Mapping[str, Any], prefix: str, role: str) -> list[Message]:
    """``gen_ai.prompt.<n>.…`` and ``gen_ai.completion.<n>.…``."""
    return messages.messages(map(_unflattened, messages.regroup(row, prefix)), role)


def _unflattened(entry: Any) -> Any:
    """The prompt of a text completion stands under the name of its role: ``gen_ai.prompt.0.user``."""
    if isinstance(entry, dict) and list(entry) == ["user"]:
        return {"role": "user", "content": entry["user"]}
    return entry


def openinference(row: Mapping[str, Any], prefix: str) -> list[Message]:
    """``llm.input_messages.<n>.…`` and ``llm.output_messages.<n>.…``."""
    found = map(messages.of_openinference, messages.regroup(row, prefix))
    return [message for message in found if message is not None]


def vercel_answer(row: Mapping[str, Any]) -> list[Message]:
    """``ai.response.*`` of one model call, or ``ai.result.*`` of releases before 4."""
    row = {key.replace("ai.result.", "ai.response.", 1): value for key, value in row.items()}
    pieces: list[Part] = []
    thoughts = row.get("ai.response.reasoning")
    if isinstance(thoughts, str) and thoughts:
        pieces.append({"type": "reasoning", "content": thoughts})
    for key in ("ai.response.object", "ai.response.text"):
        said = row.get(key)
        if isinstance(said, str) and said:
            pieces.append(text(said))
            break
    pieces += [
        tool_call(call.get("toolCallId"), call.get("toolName"), call.get("input", call.get("args")))
        for call in listed(row.get("ai.response.toolCalls"))
        if isinstance(call, dict)
    ]
    pieces += [part(file) for file in listed(row.get("ai.response.files"))]
    return [{"role": "assistant", "parts": pieces}] if pieces else []


def listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = read_json(value)
        except UnreadableError:
            return []
    return value if isinstance(value, list) else []


def events(found: Iterable[Mapping[str, Any]], *, output: bool, bedrock: bool = False) -> list[Message]:
    """Messages that span events carry.

    Args:
        found: the span's events.
        output: whether the answer is asked for, or else what the model saw.
        bedrock: whether the content of a message is JSON text of Bedrock's parts.
    """
    found = list(found)
    if any(_says(event, output=output) for event in found):
        # Some senders say the same once more, message by message.
        found = [event for event in found if event["name"] == messages.DETAILS_EVENT]
    built: list[Message] = []
    details = "gen_ai.output.messages" if output else "gen_ai.input.messages"
    legacy = "gen_ai.completion" if output else "gen_ai.prompt"
    for event in found:
        name, attributes = event["name"], event["attributes"]
        if name == messages.DETAILS_EVENT:
            if not output:
                # Strands sends them in an event of their own, after the messages.
                built[:0] = instructions(attributes.get("gen_ai.system_instructions"))
            built += messages.messages(listed(attributes.get(details)), "assistant" if output else "user")
        elif _LEGACY_EVENTS.get(name) == legacy:
            built += messages.messages(listed(attributes.get(legacy)), "assistant" if output else "user")
        elif (name == messages.CHOICE_EVENT) if output else (name in messages.EVENT_ROLES):
            message = messages.of_event(name, _bedrock(attributes) if bedrock else attributes)
            built += [] if message is None else [message]
    return built


def _says(event: Mapping[str, Any], *, output: bool) -> bool:
    """Whether an event carries the whole content of its call, in that direction."""
    key = "gen_ai.output.messages" if output else "gen_ai.input.messages"
    return event["name"] == messages.DETAILS_EVENT and bool(listed(event["attributes"].get(key)))


def listed_events(value: Any, *, output: bool) -> list[Message]:
    """Messages of events that travel as one JSON list, each under the name ``event.name``."""
    found = [
        {"name": str(item.get("event.name")), "attributes": item}
        for item in listed(value)
        if isinstance(item, dict)
    ]
    return events(found, output=output)


def _bedrock(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    found = listed(attributes.get("content"))
    return {**attributes, "content": found} if found else attributes


def instructions(value: Any) -> list[Message]:
    """System instructions as a message: a list of parts, JSON text of one, or plain text."""
    pieces = instruction_parts(value)
    return [{"role": "system", "parts": pieces}] if pieces else []


def instruction_parts(value: Any) -> list[Part]:
    """The parts of system instructions."""
    if isinstance(value, str):
        found = listed(value)
        return parts(found) if found or value.strip() in {"", "[]", "null"} else parts(value)
    return parts(value)
