"""Recorded request parameters as members of a chat request. Pure.

A parameter is sent under the name that the provider gives it, with its recorded value. One that has no place
in the request is refused: a call without it would be another call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from loopgrid_query.replay.unsendable import Unsendable

_SPELLINGS: Final = {
    "choice.count": "n",
    "stop_sequences": "stop",
    "reasoning.level": "reasoning_effort",
    "max_output_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "maxTokens": "max_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "stopSequences": "stop",
    "toolChoice": "tool_choice",
}
"""How recorders spell parameters → how a chat request does."""

_NOT_OF_THE_REQUEST: Final = frozenset(
    "stream stream_options stream_cursor maxRetries max_retries num_retries timeout api_base base_url "
    "num_output".split()
)
"""Where it was sent, how often it was tried, how the answer was carried, what a framework noted for itself:
nothing of what was asked. A replay never streams."""

_OPENAI: Final = frozenset(
    "temperature top_p top_k max_tokens max_completion_tokens stop seed n frequency_penalty presence_penalty "
    "logit_bias logprobs top_logprobs user tool_choice parallel_tool_calls response_format reasoning_effort "
    "service_tier verbosity prediction modalities audio metadata store safety_identifier prompt_cache_key "
    "web_search_options min_p repetition_penalty".split()
)
_ANTHROPIC: Final = frozenset("temperature top_p top_k max_tokens stop tool_choice thinking".split())
PARAMETERS: Final = {"openai": _OPENAI, "anthropic": _ANTHROPIC}
"""Protocol → members of its request that a record may state."""

_WHOLE_NUMBERS: Final = frozenset(
    {"n", "seed", "max_tokens", "max_completion_tokens", "top_k", "top_logprobs"}
)
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def sent(recorded: Mapping[str, Any] | None, protocol: str, provider: str) -> dict[str, Any]:
    """The recorded parameters as members of a request; those that are null are not sent.

    Args:
        recorded: parameters of the record with overrides in place.
        protocol: ``openai`` or ``anthropic``.
        provider: the provider as the record names it.

    Raises:
        Unsendable: a parameter has no place in the request, or was not recorded whole.
    """
    members: dict[str, Any] = {}
    for written, value in _regrouped(recorded or {}).items():
        name = _SPELLINGS.get(written, written)
        if value is None or name in _NOT_OF_THE_REQUEST or _is_default(name, value):
            continue
        if name == "output.type":
            if "response_format" not in (recorded or {}):
                raise Unsendable(
                    f"The answer was to be {value}, and the schema it had to follow is not recorded."
                )
            continue
        if name not in PARAMETERS[protocol]:
            raise Unsendable(
                f"The parameter {written} has no place in a request to {provider} that this server knows. "
                f'Override "model.parameters.{written}" with null to leave it out.'
            )
        if name in members and members[name] != value:
            raise Unsendable(f"The record states {name} twice, with different values.")
        members[name] = _value(name, value)
    if "max_tokens" in members and provider in {"openai", "azure.ai.openai"}:
        # Conventions have one name for both of OpenAI's, and OpenAI's newer models take the newer only.
        members.setdefault("max_completion_tokens", members.pop("max_tokens"))
    return members


def _is_default(name: str, value: Any) -> bool:
    return name == "output.type" and value == "text"


def _regrouped(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """``thinking.type`` and ``thinking.budget_tokens`` are members of one parameter."""
    found: dict[str, Any] = {}
    for name, value in recorded.items():
        outer, dot, inner = name.partition(".")
        if dot and outer == "thinking":
            found.setdefault(outer, {})[inner] = value
        else:
            found[name] = value
    return found


def _value(name: str, value: Any) -> Any:
    if name in _WHOLE_NUMBERS and isinstance(value, float) and value.is_integer():
        # Older conventions write these as doubles.
        return int(value)
    if name == "tool_choice":
        return _tool_choice(value)
    if name == "response_format":
        return _response_format(value)
    return value


def _tool_choice(value: Any) -> Any:
    if isinstance(value, str) and value in _CHOICES:
        return _CHOICES[value]
    if isinstance(value, dict):
        kind, function = value.get("type"), value.get("function")
        if kind in _CHOICES and value.keys() == {"type"}:
            return _CHOICES[kind]
        inner = function if isinstance(function, dict) else value
        name = inner.get("name", inner.get("toolName"))
        if kind in {"function", "tool"} and isinstance(name, str):
            return {"type": "function", "function": {"name": name}}
    raise Unsendable("Which tool it had to call is recorded in a form that nobody knows (tool_choice).")


def _response_format(value: Any) -> Any:
    if value in ("text", "json_object"):
        return {"type": value}
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        schema = value.get("json_schema")
        if value["type"] != "json_schema" or (
            isinstance(schema, dict) and isinstance(schema.get("schema"), dict)
        ):
            return value
    raise Unsendable("The schema that the answer had to follow is not recorded (response_format).")
