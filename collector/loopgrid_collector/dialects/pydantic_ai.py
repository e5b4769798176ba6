"""pydantic-ai and Logfire: OpenTelemetry names, and totals under names of their own on agent spans."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Content, Dialect, Marks, Source, Switch

PYDANTIC_AI: Final = Dialect(
    name="pydantic_ai",
    marks=Marks(
        scopes=("pydantic-ai", "logfire"),
        scope_prefixes=("logfire.",),
        keys=("pydantic_ai.all_messages", "logfire.json_schema"),
    ),
    fields={
        "model_name": (Source("model_name", only="pydantic_ai"),),
        "cache_read_tokens": (
            Source("gen_ai.usage.raw", path=("prompt_tokens_details", "cached_tokens"), only="pydantic_ai"),
        ),
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
    input=(
        Content("pydantic_ai.all_messages"),
        Content("request_data", form="document", only="pydantic_ai"),
    ),
    raw_input=(Content("tool_arguments", only="pydantic_ai"), Content("pydantic_ai.all_messages")),
    raw_output=(Content("tool_response", only="pydantic_ai"), Content("final_result", only="pydantic_ai")),
    switches=(Switch("InstrumentationSettings(include_content=True)", unless_failed=True),),
)
