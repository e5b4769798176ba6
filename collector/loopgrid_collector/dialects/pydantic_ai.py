"""pydantic-ai and Logfire: OpenTelemetry names, and totals under names of their own on agent spans."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import (
    REQUEST_BODY,
    REQUEST_CONTENT,
    Content,
    Dialect,
    KindRule,
    Marks,
    Members,
    Source,
    Switch,
)

_RESPONSE: Final = "response_data"
"""What Logfire's own integrations keep of a response: the message, or the chunks of a stream as one text."""

PYDANTIC_AI: Final = Dialect(
    name="pydantic_ai",
    marks=Marks(
        scopes=("pydantic-ai", "logfire"),
        scope_prefixes=("logfire.",),
        keys=("pydantic_ai.all_messages", "logfire.json_schema"),
    ),
    kinds=(
        # Spans of the first formats say nothing else about what they are.
        KindRule("pydantic_ai.all_messages", present=Kind.AGENT),
        KindRule("all_messages_events", present=Kind.AGENT),
    ),
    fields={
        "model_name": (
            Source("model_name", only="pydantic_ai"),
            Source("request_data", path=("model",), only="pydantic_ai"),
        ),
        "input_tokens": (
            Source(_RESPONSE, path=("usage", "prompt_tokens"), only="pydantic_ai"),
            Source(_RESPONSE, path=("usage", "input_tokens"), only="pydantic_ai"),
        ),
        "output_tokens": (
            Source(_RESPONSE, path=("usage", "completion_tokens"), only="pydantic_ai"),
            Source(_RESPONSE, path=("usage", "output_tokens"), only="pydantic_ai"),
        ),
        "cache_read_tokens": (
            Source("gen_ai.usage.details.cache_read_tokens"),
            Source(_RESPONSE, path=("usage", "prompt_tokens_details", "cached_tokens"), only="pydantic_ai"),
            Source("gen_ai.usage.raw", path=("prompt_tokens_details", "cached_tokens"), only="pydantic_ai"),
        ),
        "cache_write_tokens": (Source("gen_ai.usage.details.cache_write_tokens"),),
        "reasoning_tokens": (
            Source("gen_ai.usage.details.reasoning_tokens"),
            Source(
                "gen_ai.usage.raw",
                path=("completion_tokens_details", "reasoning_tokens"),
                only="pydantic_ai",
            ),
        ),
        "agent_name": (Source("agent_name", only="pydantic_ai"),),
        "tags": (Source("logfire.tags", parser="labels"),),
    },
    members={
        "model_parameters": (
            Members(
                key="request_data",
                drop=REQUEST_BODY | {"stream"},
                request_with=REQUEST_CONTENT,
                only="pydantic_ai",
            ),
        ),
    },
    input=(
        Content("events", form="listed_events", only="pydantic_ai"),
        Content("pydantic_ai.all_messages"),
        Content("request_data", form="document", only="pydantic_ai"),
    ),
    output=(
        Content("events", form="listed_events", only="pydantic_ai"),
        Content(_RESPONSE, form="document", only="pydantic_ai"),
    ),
    tools=(
        Content("request_data", path=("tools",), only="pydantic_ai"),
        Content("model_request_parameters", path=("function_tools",), only="pydantic_ai"),
    ),
    raw_input=(
        Content("tool_arguments", only="pydantic_ai"),
        Content("pydantic_ai.all_messages"),
        Content("all_messages_events", only="pydantic_ai"),
    ),
    raw_output=(Content("tool_response", only="pydantic_ai"), Content("final_result", only="pydantic_ai")),
    switches=(Switch("InstrumentationSettings(include_content=True)", unless_failed=True),),
)
