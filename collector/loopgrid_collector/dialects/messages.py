"""Requests, responses and events of every convention to a list of OpenTelemetry GenAI messages.

A message is ``{"role", "parts": […]}``, with ``name`` and, on output, ``finish_reason`` where they
were sent. Canonical content of the same call is the same whoever recorded it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from loopgrid_collector.dialects.parsers import UnreadableError, finish_reason, read_json
from loopgrid_collector.dialects.parts import (
    Part,
    is_canonical,
    media,
    part,
    parts,
    present,
    text,
    tool_call,
    tool_response,
)

Message = dict[str, Any]

_ROLES: Final = {
    "model": "assistant",
    "ai": "assistant",
    "human": "user",
    "function": "tool",
    "developer": "system",
    "chat": "user",
    # Of smolagents, which sends them to the provider under these roles.
    "tool-call": "assistant",
    "tool-response": "user",
}

_NO_ROLE: Final = "unknown"
"""What an instrumentation writes as the role of a message whose role it does not know."""

_LANGCHAIN_TYPES: Final = frozenset({"human", "ai", "system", "tool", "function"})
"""``type`` of a LangChain message, which has no role."""

_LONE_ITEMS: Final = ("function_call", "function_call_output", "reasoning")
"""Content items that stand among the messages of OpenAI's Responses API."""

EVENT_ROLES: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
"""Events that carry one input message each."""

CHOICE_EVENT: Final = "gen_ai.choice"
"""The event that carries one output message."""

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
"""The event that carries all content of a call in the attributes named after it."""


class _Text(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True, gc=False):
    content: str


_Role = Literal["system", "user", "assistant", "tool"]
_Reason = Literal["stop", "length", "tool_call", "content_filter", "error"]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: _Role
    parts: list[_Text]
    name: str | None = None
    finish_reason: _Reason | None = None


_PLAIN_MESSAGES: Final = msgspec.json.Decoder(list[_Plain])
_PLAIN_PARTS: Final = msgspec.json.Decoder(list[_Text])


def are_plain_messages(text: str) -> bool:
    """Whether JSON text is canonical messages of text and nothing else, as nearly all are.

    One look instead of a walk: what is refused here may be canonical too (``is_canonical_messages``).
    """
    try:
        return any(message.parts for message in _PLAIN_MESSAGES.decode(text))
    except msgspec.MsgspecError:
        return False


def are_plain_parts(text: str) -> bool:
    """Likewise, whether JSON text is canonical instructions."""
    try:
        return bool(_PLAIN_PARTS.decode(text))
    except msgspec.MsgspecError:
        return False


def is_canonical_messages(value: Any) -> bool:
    """Whether a decoded list of messages says something and can be kept word for word."""
    if not isinstance(value, list):
        return False
    spoken = False
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return False
        if not _in_our_words(message):
            return False
        pieces = message.get("parts")
        if not isinstance(pieces, list):
            return False
        if not all(map(is_canonical, pieces)):
            return False
        spoken = spoken or bool(pieces)
    return spoken


def _in_our_words(message: Message) -> bool:
    """Whether role and finish reason are what they would be made."""
    role, reason = message["role"], message.get("finish_reason")
    return role == _role(role, "") and (reason is None or finish_reason(reason) == reason)


def is_canonical_parts(value: Any) -> bool:
    """Whether decoded system instructions can be kept word for word."""
    return isinstance(value, list) and bool(value) and all(map(is_canonical, value))


def has_parts(messages: Iterable[Message]) -> bool:
    """Whether any message says anything."""
    return any(message["parts"] for message in messages)


def _build(role: str, pieces: list[Part], name: Any = None, reason: Any = None) -> Message:
    return present({"role": role, "parts": pieces, "name": name, "finish_reason": finish_reason(reason)})


def _tool_calls(calls: Any) -> list[Part]:
    """OpenAI's nested calls, the flat ones of older conventions, and Vercel's."""
    found = []
    for entry in calls if isinstance(calls, list) else []:
        call = entry.get("tool_call", entry) if isinstance(entry, dict) else None
        if not isinstance(call, dict):
            continue
        function: Any = call.get("function")
        function = function if isinstance(function, dict) else call
        found.append(
            tool_call(
                call.get("id", call.get("toolCallId")),
                function.get("name", function.get("toolName")),
                function.get("arguments", function.get("input", function.get("args"))),
            )
        )
    return found


def message(value: Any, default_role: str) -> Message:
    """One message of any convention.

    Args:
        value: a message object, a content item, or plain text.
        default_role: role of a message that states none.
    """
    if not isinstance(value, dict):
        return _build(default_role, parts(value))
    if "role" not in value and value.get("type") in _LONE_ITEMS:
        role = "tool" if value["type"] == "function_call_output" else "assistant"
        return _build(role, [part(value)])
    value = _unserialised(value)
    role = _role(value.get("role"), default_role)
    if value.get("parts") is not None:
        pieces = parts(value["parts"])
    elif role == "tool" and ("tool_call_id" in value or not isinstance(value.get("content"), list)):
        pieces = [tool_response(value.get("tool_call_id", value.get("id")), value.get("content"))]
    else:
        pieces = _said(value)
    pieces += _tool_calls(value.get("tool_calls"))
    pieces += _tool_calls([value.get("function_call")])
    return _build(role, pieces, value.get("name"), value.get("finish_reason"))


def _unserialised(value: dict[str, Any]) -> dict[str, Any]:
    """A LangChain message without its packing: a serialised constructor, or ``type`` and ``data``."""
    if value.get("type") == "constructor" and isinstance(value.get("kwargs"), dict):
        path = value.get("id")
        name = str(path[-1]) if isinstance(path, list) and path else ""
        named = name.removesuffix("Chunk").removesuffix("Message").lower()
        inner = dict(value["kwargs"])
        # Other constructors nest in messages as well; only messages have a role.
        kind = inner.pop("type", named)
        inner.pop("id", None)
        return {"role": str(kind).removesuffix("MessageChunk").lower(), **inner}
    kind, data = value.get("type"), value.get("data")
    if "role" in value or not (isinstance(kind, str) and kind in _LANGCHAIN_TYPES):
        return value
    return {
        "role": kind,
        **(data if isinstance(data, dict) else {k: v for k, v in value.items() if k != "type"}),
    }


def _role(role: Any, default: str) -> str:
    return _ROLES.get(role, role) if isinstance(role, str) and role != _NO_ROLE else default


def _said(value: Mapping[str, Any]) -> list[Part]:
    content = value.get("content", value.get("text"))
    thoughts, refusal = value.get("reasoning_content"), value.get("refusal")
    pieces: list[Part] = []
    if isinstance(thoughts, str) and thoughts:
        pieces.append({"type": "reasoning", "content": thoughts})
    pieces += parts(content)
    if not content and isinstance(refusal, str):
        pieces.append(text(refusal))
    return pieces


def messages(values: Iterable[Any], default_role: str) -> list[Message]:
    """Several messages of any convention."""
    return [message(value, default_role) for value in values]


def generic(value: Any, role: str) -> list[Message]:
    """A message for a value of no known shape: the value itself, as it was sent."""
    if isinstance(value, str):
        return [_build(role, parts(value))]
    return [_build(role, [{"type": "generic", "generic_type": "json", "content": value}])]


def of_request(request: Any) -> list[Message] | None:
    """The messages of a provider's request, or of what a framework made of one; null if it is none."""
    if isinstance(request, str):
        return [_build("user", parts(request))]
    if isinstance(request, list):
        shaped = request and all(isinstance(item, dict) for item in request)
        return messages(request, "user") if shaped else None
    if not isinstance(request, dict):
        return None
    return [message(request, "user")] if isinstance(request.get("role"), str) else _of_body(request)


def _of_body(request: Mapping[str, Any]) -> list[Message] | None:
    config = request.get("config")
    inner = config if isinstance(config, dict) else {}
    instructions = next(
        (
            place[member]
            for place in (request, inner)
            for member in ("system", "instructions", "system_instruction")
            if place.get(member)
        ),
        None,
    )
    found = [_build("system", parts(instructions))] if instructions else []
    for member in ("messages", "input", "prompt", "contents"):
        body = request.get(member)
        if isinstance(body, str) and body:
            return [*found, _build("user", parts(body))]
        if isinstance(body, list) and body:
            # LangChain runs several prompts at once; a model call has one.
            body = body[0] if len(body) == 1 and isinstance(body[0], list) else body
            return [*found, *messages(body, "user")]
    return found or None


def of_response(response: Any) -> list[Message] | None:
    """The messages of a provider's response, one per choice; null if it is none."""
    if isinstance(response, list):
        shaped = response and all(isinstance(item, dict) and "role" in item for item in response)
        return messages(response, "assistant") if shaped else None
    if not isinstance(response, dict):
        return None
    alternatives = _alternatives(response)
    if alternatives is not None:
        return alternatives
    items = response.get("output")
    if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
        pieces = [piece for item in items for piece in message(item, "assistant")["parts"]]
        return [_build("assistant", pieces)]
    if "role" in response or response.get("type") == "message":
        reason = response.get("stop_reason", response.get("finish_reason"))
        return [{**message(response, "assistant"), **present({"finish_reason": finish_reason(reason)})}]
    return _wrapped(response)


def _wrapped(response: Mapping[str, Any]) -> list[Message] | None:
    """The message inside what frameworks keep of a response: Google's ``content``, Logfire's ``message``."""
    for member in ("content", "message"):
        inner = response.get(member)
        if isinstance(inner, dict) and ("role" in inner or "parts" in inner):
            reason = finish_reason(response.get("finish_reason"))
            return [{**message(inner, "assistant"), **present({"finish_reason": reason})}]
    streamed = response.get("combined_chunk_content")
    return [_build("assistant", parts(streamed))] if isinstance(streamed, str) and streamed else None


def _alternatives(response: Mapping[str, Any]) -> list[Message] | None:
    """OpenAI's choices, or LangChain's generations."""
    choices, generations = response.get("choices"), response.get("generations")
    if isinstance(choices, list):
        return [_choice(choice) for choice in choices if isinstance(choice, dict)]
    if not isinstance(generations, list):
        return None
    inner = generations[0] if len(generations) == 1 and isinstance(generations[0], list) else generations
    return [_generation(item) for item in inner if isinstance(item, dict)]


def _generation(generation: Mapping[str, Any]) -> Message:
    """One of LangChain's generations."""
    body = generation.get("message")
    said = message(body if isinstance(body, dict) else generation.get("text"), "assistant")
    info = generation.get("generation_info") or _response_metadata(body)
    reason = info.get("finish_reason", info.get("stop_reason")) if isinstance(info, dict) else None
    return {**said, **present({"finish_reason": finish_reason(reason)})}


def _response_metadata(body: Any) -> Any:
    """What LangChain keeps of a response beside its message."""
    inner = body.get("kwargs", body) if isinstance(body, dict) else {}
    return inner.get("response_metadata") if isinstance(inner, dict) else None


def _choice(choice: Mapping[str, Any]) -> Message:
    body = choice.get("message", choice.get("text"))
    return {
        **message(body, "assistant"),
        **present({"finish_reason": finish_reason(choice.get("finish_reason"))}),
    }


def of_event(name: str, body: Any) -> Message | None:
    """The message of one per-message event; null where it holds none.

    Args:
        name: the event's name.
        body: body of a log record, or attributes of a span event.
    """
    if isinstance(body, str):
        try:
            body = read_json(body)
        except UnreadableError:
            return None
    if not isinstance(body, dict):
        return None
    body = {member: _member(value) if member in _JSON_MEMBERS else value for member, value in body.items()}
    if name == CHOICE_EVENT:
        inner = body.get("message", body)
        found = {**message(inner, "assistant"), "finish_reason": finish_reason(body.get("finish_reason"))}
        found["parts"] += _tool_calls(body.get("tool_calls")) if inner is not body else []
        return present(found)
    built = message(body, EVENT_ROLES[name])
    return built if built["parts"] else None


_JSON_MEMBERS: Final = frozenset({"message", "tool_calls"})


def _member(value: Any) -> Any:
    """Span events cannot hold maps, so these members travel as JSON text there."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return read_json(value)
        except UnreadableError:
            return value
    return value


def regroup(row: Mapping[str, Any], prefix: str) -> list[Any]:
    """Flattened keys ``<prefix><number>.<member>…`` as a list, in number order, gaps closed.

    Only a purely numeric segment makes a list: ``gen_ai.prompt.name`` is no message.
    """
    tree = _Node()
    for key, value in row.items():
        if not key.startswith(prefix):
            continue
        segments = key[len(prefix) :].split(".")
        if not segments[0].isdecimal():
            continue
        node: dict[str, Any] = tree
        for segment in segments[:-1]:
            below = node.get(segment)
            if not isinstance(below, _Node):
                below = node[segment] = _Node()
            node = below
        node[segments[-1]] = value
    found = _listed(tree)
    return found if isinstance(found, list) else []


class _Node(dict[str, Any]):
    """A level of keys, told apart from a map that was sent as a value."""


def _listed(node: Any) -> Any:
    if not isinstance(node, _Node):
        return node
    if node and all(segment.isdecimal() for segment in node):
        return [_listed(node[segment]) for segment in sorted(node, key=int)]
    return {segment: _listed(value) for segment, value in node.items()}


def of_openinference(entry: Any) -> Message | None:
    """The message under ``llm.input_messages.<n>`` or ``llm.output_messages.<n>``."""
    body = entry.get("message") if isinstance(entry, dict) else None
    if not isinstance(body, dict):
        return None
    calls = _tool_calls(body.get("tool_calls"))
    pieces = []
    contents = body.get("contents")
    for item in contents if isinstance(contents, list) else []:
        content = item.get("message_content") if isinstance(item, dict) else None
        # Anthropic's tool calls stand in both places; those under tool_calls are complete.
        if isinstance(content, dict) and not (calls and content.get("type") == "tool_use"):
            pieces.append(_openinference_part(content))
    role = _role(body.get("role"), "user")
    said = body.get("content")
    if role == "tool" and isinstance(said, str):
        pieces = [tool_response(body.get("tool_call_id"), said)]
    elif isinstance(said, str) and said and not pieces:
        pieces = parts(said)
    return _build(role, pieces + calls, body.get("name"))


def _openinference_part(content: Mapping[str, Any]) -> Part:
    if content.get("type") == "image":
        image = content.get("image")
        while isinstance(image, dict):
            image = image.get("image", image.get("url"))
        return media("image", image)
    return part(dict(content))
