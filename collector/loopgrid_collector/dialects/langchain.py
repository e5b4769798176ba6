"""LangSmith in OpenTelemetry mode: own kinds and metadata, content as the provider or LangChain has it."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source, Switch

_METADATA: Final = "langsmith.metadata."
_USAGE: Final = "langsmith.metadata.usage_metadata"
"""The usage as JSON. The keys under ``gen_ai.usage`` with the same details hold Python text, not JSON."""

LANGSMITH: Final = Dialect(
    name="langsmith",
    marks=Marks(prefixes=("langsmith.",)),
    kinds=(
        KindRule(
            "langsmith.span.kind",
            kinds={
                "llm": Kind.INFERENCE,
                "chain": Kind.AGENT,
                "tool": Kind.TOOL,
                "retriever": Kind.RETRIEVAL,
                "embedding": Kind.EMBEDDING,
            },
        ),
    ),
    fields={
        "model_provider": (Source(f"{_METADATA}ls_provider", parser="provider"),),
        "model_name": (Source(f"{_METADATA}ls_model_name"),),
        "model_response_name": (
            Source("gen_ai.completion", path=("model",), only="langsmith"),
            Source("gen_ai.completion", path=("llm_output", "model_name"), only="langsmith"),
        ),
        "input_tokens": (Source(_USAGE, path=("input_tokens",)),),
        "output_tokens": (Source(_USAGE, path=("output_tokens",)),),
        "cache_read_tokens": (Source(_USAGE, path=("input_token_details", "cache_read")),),
        "cache_write_tokens": (Source(_USAGE, path=("input_token_details", "cache_creation")),),
        "reasoning_tokens": (Source(_USAGE, path=("output_token_details", "reasoning")),),
        "finish_reasons": (Source("gen_ai.completion", parser="response_finish_reasons", only="langsmith"),),
        "response_id": (Source("gen_ai.completion", path=("id",), only="langsmith"),),
        "session_id": (
            Source(f"{_METADATA}thread_id"),
            Source(f"{_METADATA}session_id"),
            Source("langsmith.trace.session_id"),
        ),
        "user_id": (Source(f"{_METADATA}user_id"),),
        "tags": (Source("langsmith.span.tags", parser="labels"),),
    },
    members={
        "model_parameters": (
            Members(
                keys={
                    f"{_METADATA}ls_temperature": "temperature",
                    f"{_METADATA}ls_max_tokens": "max_tokens",
                    f"{_METADATA}ls_stop": "stop_sequences",
                }
            ),
        ),
        "metadata": (
            Members(
                prefix=_METADATA,
                drop=frozenset(
                    {
                        "ls_max_tokens",
                        "ls_model_name",
                        "ls_provider",
                        "ls_stop",
                        "ls_temperature",
                        "session_id",
                        "thread_id",
                        "usage_metadata",
                        "user_id",
                    }
                ),
            ),
        ),
    },
    tools=(Content("gen_ai.prompt", path=("tools",), only="langsmith"),),
    raw_input=(Content("gen_ai.prompt", only="langsmith"),),
    raw_output=(Content("gen_ai.completion", only="langsmith"),),
    switches=(Switch("LANGSMITH_HIDE_INPUTS=false and LANGSMITH_HIDE_OUTPUTS=false"),),
)
