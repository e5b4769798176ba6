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

_SWITCH: Final = "OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false"
_REQUESTED: Final = "openinference_requested"
_ANSWERED: Final = "openinference_answered"
_RESPONSE_AS_PARAMETERS: Final = "openinference_openai_agents"
_GENERATION: Final = "openinference_generation"

_NO_PARAMETERS: Final = REQUEST_BODY | {
    # Fields of LangChain's and LlamaIndex's model objects.
    "_type",
    "model_name",
    "context_window",
    "is_chat_model",
    "is_function_calling_model",
    # Fields of a response: OpenAI Agents has the whole of it here.
    "id",
    "created_at",
    "metadata",
}

NAMES_REQUESTED: Final = Dialect(
    name=_REQUESTED,
    marks=Marks(
        scope_prefixes=(
            "openinference.instrumentation.bedrock",
            "openinference.instrumentation.dspy",
            "openinference.instrumentation.litellm",
            "openinference.instrumentation.llama_index",
            "openinference.instrumentation.smolagents",
        )
    ),
)
"""Instrumentations that write the requested model under ``llm.model_name``, where the others write the one
that answered."""

NAMES_ANSWERED: Final = Dialect(
    name=_ANSWERED,
    marks=Marks(
        scope_prefixes=("openinference.instrumentation.bedrock",),
        span_names=("bedrock.invoke_model",),
        beside=("llm.system",),
    ),
)
"""Claude's messages through Bedrock's older door: the one kind of its spans that says whose model it is,
and the one that takes the model's name from the answer."""

GENERATION_NAMES_REQUESTED: Final = Dialect(
    name=_GENERATION,
    marks=Marks(
        scope_prefixes=("openinference.instrumentation.openai_agents",),
        span_names=("generation",),
    ),
)
"""Chat completions of OpenAI Agents: unlike its responses they name the model that was asked for."""

OPENAI_AGENTS_RESPONSE: Final = Dialect(
    name=_RESPONSE_AS_PARAMETERS,
    marks=Marks(scope_prefixes=("openinference.instrumentation.openai_agents",)),
)
"""The instrumentation whose ``llm.invocation_parameters`` are copied from the response."""

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
            Source("llm.invocation_parameters", path=("model",), unless=(_RESPONSE_AS_PARAMETERS,)),
            Source("input.value", path=("model",), only="openinference"),
            # What answered stands under this name, unless nothing did or the scope is one of those below.
            Source("llm.model_name", only=_REQUESTED, unless=(_ANSWERED,), failed=False),
            Source("llm.model_name", only=_GENERATION, failed=False),
            Source("llm.model_name", only="openinference", failed=True),
        ),
        "model_response_name": (
            Source("llm.response.model_name"),
            Source("llm.model_name", only=_ANSWERED, failed=False),
            Source("llm.model_name", unless=(_REQUESTED, _GENERATION), failed=False),
            Source("decision.response.model_name"),
            Source("decision.model_name"),
            Source("embedding.model_name"),
            Source("output.value", path=("model",), only="openinference", failed=False),
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
        "user_id": (
            Source("llm.invocation_parameters", path=("user",)),
            Source("metadata", path=("user_id",), only="openinference"),
        ),
        "agent_name": (Source("agent.name"),),
        "tags": (Source("tag.tags", parser="labels"),),
        "streamed": (Source("llm.invocation_parameters", path=("stream",), parser="flag"),),
    },
    members={
        "prompt_variables": (Members(key="llm.prompt_template.variables"),),
        "model_parameters": (Members(key="llm.invocation_parameters", drop=_NO_PARAMETERS),),
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
    switches=(
        Switch(_SWITCH, scope_prefix="openinference.instrumentation.openai_agents", unless_failed=True),
        Switch(_SWITCH),
    ),
)
