"""How single values are read: JSON, numbers, and the spellings of providers and finish reasons.

Laws:

* A value that cannot be read is null, never a default.
* JSON is decoded where a table says that a key holds JSON, and nowhere else: what a user typed may
  look like JSON.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from loopgrid_collector.otlp import values


class UnreadableError(ValueError):
    """Text that should be JSON and is not, or a value that JSON cannot hold."""


def read_json(text: str) -> Any:
    """The value of JSON text.

    Two things that emitters write and JSON forbids are read all the same: ``NaN`` and ``Infinity``
    become null, half a surrogate pair becomes ``?``.

    Raises:
        UnreadableError: it is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(text, parse_constant=lambda _: None)
        sound = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return orjson.loads(sound)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("not JSON") from error


def write_json(value: Any) -> str:
    """JSON text of a value; bytes become base64, numbers that JSON lacks become null.

    Raises:
        UnreadableError: it is nested too deeply, or holds an integer of more than 64 bits.
    """
    try:
        return orjson.dumps(value, default=_foreign).decode()
    except TypeError as error:
        raise UnreadableError("not representable as JSON") from error


def _foreign(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def plain_json(lossless: str) -> str:
    """Ordinary JSON text of lossless JSON text (``values``): what JSON lacks becomes null or base64.

    Raises:
        UnreadableError: it is nested too deeply.
    """
    return write_json(values.from_json(lossless))


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits: an integer, a float without fraction, or digits as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not re.fullmatch(r"[+-]?\d{1,19}(\.0*)?", value):
            return None
        value = int(value.partition(".")[0])
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def text(value: str) -> str | None:
    """The text itself; the empty one says nothing."""
    return value or None


_CLASS: Final = re.compile(r"<class '([\w.]+)'>")


def class_name(value: str) -> str | None:
    """An error type; some emitters write the class as Python shows it, ``<class 'x.Y'>``."""
    match = _CLASS.fullmatch(value)
    return match[1] if match else text(value)


def json_text(value: str) -> str | None:
    """The text of a scalar that was written as JSON: ``"LLM"`` in quotes becomes ``LLM``, ``0.2`` stays."""
    try:
        read = read_json(value)
    except UnreadableError:
        return value or None
    if isinstance(read, str):
        return read or None
    return None if read is None or isinstance(read, list | dict) else value


_PROVIDERS: Final = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "azureopenai": "azure.ai.openai",
    "amazon-bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "aws": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "google": "gcp.gen_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "google.vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "moonshotai": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
    "grok": "x_ai",
}

_FRAMEWORKS: Final = frozenset(
    {
        "agno",
        "autogen",
        "crewai",
        "dspy",
        "gcp.vertex.agent",
        "haystack",
        "langchain",
        "langgraph",
        "litellm",
        "llama_index",
        "llamaindex",
        "microsoft.agent_framework",
        "pydantic_ai",
        "pydantic-ai",
        "semantic_kernel",
        "smolagents",
        "strands",
        "strands-agents",
    }
)
"""Emitters that name themselves where the provider should stand."""

_API_SUFFIX: Final = re.compile(r"\.(chat|responses|completions?|messages|embeddings?|image|generative)$")


def provider(value: str) -> str | None:
    """The provider as OpenTelemetry spells it; null for the name of a framework."""
    name = value.strip().lower()
    for spelling in (name, _API_SUFFIX.sub("", name)):
        if spelling in _FRAMEWORKS:
            return None
        if spelling in _PROVIDERS:
            return _PROVIDERS[spelling]
    return _API_SUFFIX.sub("", name) or None


def provider_json(value: str) -> str | None:
    """The provider, from JSON text."""
    name = json_text(value)
    return None if name is None else provider(name)


_FINISH_REASONS: Final = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "complete": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "tool_call": "tool_call",
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "guardrail_intervened": "content_filter",
    "error": "error",
    "failed": "error",
}


def finish_reason(value: Any) -> str | None:
    """Why the model stopped, in one vocabulary; a reason nobody knows is kept as sent."""
    if not isinstance(value, str):
        return None
    name = value.strip().rpartition(".")[2].lower().replace("-", "_")
    return _FINISH_REASONS.get(name, value.strip() or None)


def _texts(value: Any) -> list[Any]:
    """A list, from a list, from JSON text of one, or from a single word."""
    if isinstance(value, str):
        try:
            value = read_json(value)
        except UnreadableError:
            return [value]
    return value if isinstance(value, list) else [value]


def finish_reasons(value: Any) -> list[str | None] | None:
    """One reason per choice, in the provider's order; null where none is known."""
    if isinstance(value, str) and not value.startswith(("[", '"')):
        reasons = [finish_reason(value)]
    else:
        reasons = [finish_reason(item) for item in _texts(value)]
    return reasons if any(reasons) else None


def response_finish_reasons(response: Any) -> list[str | None] | None:
    """The finish reasons that a provider's own response states."""
    if not isinstance(response, dict):
        return None
    choices = response.get("choices")
    if isinstance(choices, list):
        return finish_reasons([choice.get("finish_reason") for choice in choices if isinstance(choice, dict)])
    if isinstance(response.get("stop_reason"), str):
        return finish_reasons([response["stop_reason"]])
    reason = response.get("finish_reason")
    if isinstance(reason, str):
        return finish_reasons([reason])
    items = response.get("output")
    if isinstance(items, list) and response.get("status") == "completed":
        called = any(isinstance(item, dict) and item.get("type") == "function_call" for item in items)
        return ["tool_call" if called else "stop"]
    return None


def labels(value: Any) -> list[str | None] | None:
    """Free labels: a list, JSON text of one, or words with commas between them."""
    if isinstance(value, str) and not value.startswith("["):
        value = value.split(",")
    words = [item.strip() for item in _texts(value) if isinstance(item, str)]
    found: list[str | None] = [word for word in words if word]
    return found or None


TEXT: Final[dict[str, Callable[[str], str | None]]] = {
    "text": text,
    "json_text": json_text,
    "provider": provider,
    "provider_json": provider_json,
    "flag": text,
    "class_name": class_name,
}
"""Parsers of text fields, by the name that tables use."""

LISTS: Final[dict[str, Callable[[Any], list[str | None] | None]]] = {
    "finish_reasons": finish_reasons,
    "response_finish_reasons": response_finish_reasons,
    "labels": labels,
}
"""Parsers of list fields, by the name that tables use."""
