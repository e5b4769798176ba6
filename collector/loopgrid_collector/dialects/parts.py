"""Content items of every convention to the parts of an OpenTelemetry GenAI message.

A part is ``{"type": "text", "content"}``, ``{"type": "tool_call", "id", "name", "arguments"}``,
``{"type": "tool_call_response", "id", "response"}``, ``reasoning``, ``blob``, ``uri`` or, for what
has no counterpart, the item as it was sent. Members that are null are left out: nobody sent them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from loopgrid_collector.dialects.parsers import UnreadableError, read_json

Part = dict[str, Any]

_DATA_URL: Final = re.compile(
    r"data:(?P<mime>[\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,(?P<content>.*)", re.DOTALL
)


def present(members: Mapping[str, Any]) -> Part:
    """The members that are not null."""
    return {name: value for name, value in members.items() if value is not None}


def text(content: Any) -> Part:
    """A text part."""
    return {"type": "text", "content": content}


def tool_call(call_id: Any, name: Any, arguments: Any) -> Part:
    """A tool call; arguments that a model wrote as JSON text are decoded."""
    if isinstance(arguments, str):
        # A model can write arguments that are no JSON, and a cut stream leaves half of them.
        with suppress(UnreadableError):
            arguments = read_json(arguments)
    # Gemini's calls have no id, and some of who records them write an empty one.
    return present({"type": "tool_call", "id": call_id or None, "name": name, "arguments": arguments})


def tool_response(call_id: Any, response: Any) -> Part:
    """What a tool gave back."""
    return present({"type": "tool_call_response", "id": call_id or None, "response": response})


def media(modality: str, location: Any, mime_type: Any = None) -> Part:
    """A blob where the location is a data URL, else a reference."""
    found = _DATA_URL.fullmatch(location) if isinstance(location, str) else None
    if found:
        return {
            "type": "blob",
            "mime_type": found["mime"],
            "modality": modality,
            "content": found["content"],
        }
    return present({"type": "uri", "mime_type": mime_type, "modality": modality, "uri": location})


def _blob(modality: str, content: Any, mime_type: Any) -> Part:
    if isinstance(content, str) and content.startswith(("data:", "http:", "https:")):
        return media(modality, content, mime_type)
    return present({"type": "blob", "mime_type": mime_type, "modality": modality, "content": content})


def _image_url(item: Part) -> Part:
    url = item.get("image_url")
    return media("image", url.get("url") if isinstance(url, dict) else url)


def _sourced_image(item: Part) -> Part:
    """Anthropic's ``source``, Vercel's ``image``, OpenInference's ``image.image.url``."""
    source = item.get("source")
    if isinstance(source, dict):
        if source.get("data") is not None:
            return _blob("image", source["data"], source.get("media_type"))
        return media("image", source.get("url"))
    image = item.get("image")
    while isinstance(image, dict):
        image = image.get("image", image.get("url"))
    return _blob("image", image, item.get("mediaType", item.get("mimeType")))


def _file(item: Part) -> Part:
    if "data" not in item:
        return item
    mime_type = item.get("mediaType", item.get("mimeType"))
    kind = mime_type.partition("/")[0] if isinstance(mime_type, str) else ""
    return _blob(kind if kind in {"image", "audio", "video"} else "document", item["data"], mime_type)


def _tool_result(item: Part) -> Part:
    """Anthropic's ``content``, Vercel's ``output`` (a typed value) or ``result``."""
    response = item.get("content", item.get("result", item.get("output")))
    if isinstance(response, dict) and set(response) == {"type", "value"}:
        response = response["value"]
    return tool_response(item.get("tool_use_id", item.get("toolCallId")), response)


def _summary(item: Part) -> Part:
    summary = item.get("summary")
    if isinstance(summary, list):
        summary = "\n".join(str(entry.get("text", "")) for entry in summary if isinstance(entry, dict))
    content = item.get("content", item.get("text", summary))
    return {"type": "reasoning", "content": content}


_BY_TYPE: Final[dict[str, Callable[[Part], Part]]] = {
    "text": lambda item: text(item.get("content", item.get("text"))),
    "input_text": lambda item: text(item.get("text")),
    "output_text": lambda item: text(item.get("text")),
    "refusal": lambda item: text(item.get("refusal")),
    "thinking": lambda item: {"type": "reasoning", "content": item.get("thinking")},
    "reasoning": _summary,
    "image_url": _image_url,
    "input_image": _image_url,
    "image": _sourced_image,
    "file": _file,
    "tool_use": lambda item: tool_call(item.get("id"), item.get("name"), item.get("input")),
    "tool-call": lambda item: tool_call(
        item.get("toolCallId"), item.get("toolName"), item.get("input", item.get("args"))
    ),
    "tool_call": lambda item: tool_call(item.get("id"), item.get("name"), item.get("arguments")),
    "tool_call_response": lambda item: tool_response(
        item.get("id"), item.get("response", item.get("result"))
    ),
    "function_call": lambda item: tool_call(
        item.get("call_id", item.get("id")), item.get("name"), item.get("arguments")
    ),
    "function_call_output": lambda item: tool_response(item.get("call_id"), item.get("output")),
    "tool_result": _tool_result,
    "tool-result": _tool_result,
}
"""``type`` of a content item → how it becomes a part."""

_BY_MEMBER: Final[dict[str, Callable[[Any], Part]]] = {
    "text": text,
    "toolUse": lambda use: tool_call(use.get("toolUseId"), use.get("name"), use.get("input")),
    "toolResult": lambda result: tool_response(result.get("toolUseId"), result.get("content")),
    "functionCall": lambda call: tool_call(call.get("id"), call.get("name"), call.get("args")),
    "function_call": lambda call: tool_call(call.get("id"), call.get("name"), call.get("args")),
    "functionResponse": lambda result: tool_response(result.get("id"), result.get("response")),
    "function_response": lambda result: tool_response(result.get("id"), result.get("response")),
}
"""The one member of a content item without ``type`` (Bedrock, Gemini) → how it becomes a part."""


def part(item: Any) -> Part:
    """One content item as a part."""
    if isinstance(item, str):
        return text(item)
    if not isinstance(item, dict):
        return {"type": "generic", "generic_type": "json", "content": item}
    kind = item.get("type")
    if isinstance(kind, str):
        build = _BY_TYPE.get(kind)
        return build(item) if build else present(item)
    for member, make in _BY_MEMBER.items():
        value = item.get(member)
        if isinstance(value, dict) or (member == "text" and isinstance(value, str)):
            return make(value)
    return present({"type": "generic", "generic_type": "json", "content": item})


def parts(content: Any) -> list[Part]:
    """The parts of a message's content: a text, a list of items, or one item."""
    if content is None or content in ("", []):
        return []
    return [part(item) for item in content] if isinstance(content, list) else [part(content)]


def is_canonical(item: Any) -> bool:
    """Whether a part already stands as OpenTelemetry defines it, so that it need not be rebuilt."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    if kind == "text":
        return "content" in item
    if kind == "tool_call":
        return not isinstance(item.get("arguments"), str)
    if kind == "tool_call_response":
        return "response" in item
    return isinstance(kind, str) and (kind not in _BY_TYPE or "content" in item)
