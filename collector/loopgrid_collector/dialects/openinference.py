"""OpenInference: kinds in their own attribute, messages flattened, the request kept as JSON."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import (
    REQUEST_BODY,
    Content,
    Dialect,
    KindRule,
    Marks,
    Members,
    Source,
    Switch,
)

OPENINFERENCE: Final = Dialect(
    name="openinference",
    marks=Marks(
        scope_prefixes=("openinference.",),
        keys=("openinference.span.kind",),
        prefixes=("llm.input_messages.", "llm.output_messages."),
    ),
    kinds=(
        KindRule(
            "openinference.span.kind",
            kinds={
                "llm": Kind.INFERENCE,
                "decision": Kind.INFERENCE,
                "agent": Kind.AGENT,
                "chain": Kind.AGENT,
                "tool": Kind.TOOL,
                "retriever": Kind.RETRIEVAL,
                "reranker": Kind.RETRIEVAL,
                "embedding": Kind.EMBEDDING,
            },
        ),
    ),
    fields={
        "prompt_name": (Source("prompt.id"),),
        "prompt_version": (Source("llm.prompt_template.version"),),
        "prompt_template": (Source("llm.prompt_template.template"),),
        "model_provider": (
            Source("llm.provider", parser="provider"),
            Source("llm.system", parser="provider"),
            Source("decision.provider", parser="provider"),
            Source("decision.system", parser="provider"),
        ),
        "model_name": (
            Source("llm.request.model_name"),
            Source("decision.request.model_name"),
            Source("llm.invocation_parameters", path=("model",)),
            Source("input.value", path=("model",), only="openinference"),
        ),
        "model_response_name": (
            Source("llm.response.model_name"),
            Source("llm.model_name"),
            Source("decision.response.model_name"),
            Source("decision.model_name"),
            Source("embedding.model_name"),
        ),
        "input_tokens": (Source("llm.token_count.prompt"), Source("decision.token_count.input")),
        "output_tokens": (Source("llm.token_count.completion"), Source("decision.token_count.output")),
        "cache_read_tokens": (
            Source("llm.token_count.prompt_details.cache_read"),
            Source("llm.token_count.prompt_details.cache_input"),
        ),
        "cache_write_tokens": (Source("llm.token_count.prompt_details.cache_write"),),
        "reasoning_tokens": (Source("llm.token_count.completion_details.reasoning"),),
        "finish_reasons": (
            # The response states one reason per choice; the attribute repeats that of the first.
            Source("output.value", parser="response_finish_reasons", only="openinference"),
            Source("llm.finish_reason", parser="finish_reasons"),
        ),
        "response_id": (Source("output.value", path=("id",), only="openinference"),),
        "user_id": (Source("llm.invocation_parameters", path=("user",)),),
        "agent_name": (Source("agent.name"),),
        "tags": (Source("tag.tags", parser="labels"),),
        "streamed": (Source("llm.invocation_parameters", path=("stream",), parser="flag"),),
    },
    members={
        "prompt_variables": (Members(key="llm.prompt_template.variables"),),
        "model_parameters": (Members(key="llm.invocation_parameters", drop=REQUEST_BODY),),
        "metadata": (Members(key="metadata", only="openinference"),),
    },
    input=(
        Content(prefix="llm.input_messages.", form="openinference"),
        Content(
            "input.value",
            form="document",
            only="openinference",
            plain_where=("input.mime_type", "text/plain"),
        ),
    ),
    output=(
        Content(prefix="llm.output_messages.", form="openinference"),
        Content(
            "output.value",
            form="document",
            only="openinference",
            plain_where=("output.mime_type", "text/plain"),
        ),
    ),
    tools=(
        Content(prefix="llm.tools."),
        Content("input.value", path=("tools",), only="openinference"),
    ),
    raw_input=(Content("input.value", plain_where=("input.mime_type", "text/plain")),),
    raw_output=(Content("output.value", plain_where=("output.mime_type", "text/plain")),),
    switches=(Switch("OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false"),),
)
