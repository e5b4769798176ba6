"""OpenTelemetry GenAI semantic conventions: today's names, and the older ones still on the wire."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Key, Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source, Switch

_RESPONSE_MODEL_IN_REQUEST: Final = ("openinference", "mlflow")
"""Dialects whose translation to these names puts the model that answered into the requested one."""

_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_OWN_ID_FOR_RESPONSE: Final = "litellm_callback"

LITELLM_CALLBACK: Final = Dialect(name=_OWN_ID_FOR_RESPONSE, marks=Marks(scopes=("litellm",)))
"""LiteLLM's own callback: it gives its own id of a failed call, which has no response, as the response's."""

GENAI: Final = Dialect(
    name="genai",
    marks=Marks(prefixes=("gen_ai.",)),
    kinds=(
        KindRule(
            "gen_ai.operation.name",
            kinds={
                "chat": Kind.INFERENCE,
                "generate_content": Kind.INFERENCE,
                "text_completion": Kind.INFERENCE,
                "invoke_agent": Kind.AGENT,
                "invoke_workflow": Kind.AGENT,
                "handle_conversation_turn": Kind.AGENT,
                "plan": Kind.AGENT,
                "agent_step": Kind.AGENT,
                "execute_event_loop_cycle": Kind.AGENT,
                "chain": Kind.AGENT,
                "execute_tool": Kind.TOOL,
                "retrieval": Kind.RETRIEVAL,
                "search_memory": Kind.RETRIEVAL,
                "embeddings": Kind.EMBEDDING,
            },
        ),
        KindRule("gen_ai.tool.call.id", present=Kind.TOOL),
    ),
    fields={
        "prompt_name": (Source(Key.PROMPT_NAME),),
        "prompt_version": (Source(Key.PROMPT_VERSION),),
        "model_provider": (
            Source(Key.PROVIDER_NAME, parser="provider"),
            Source("gen_ai.system", parser="provider"),
        ),
        "model_name": (Source(Key.REQUEST_MODEL, unless=_RESPONSE_MODEL_IN_REQUEST),),
        "model_response_name": (Source(Key.RESPONSE_MODEL),),
        "input_tokens": (Source(Key.INPUT_TOKENS), Source("gen_ai.usage.prompt_tokens")),
        "output_tokens": (Source(Key.OUTPUT_TOKENS), Source("gen_ai.usage.completion_tokens")),
        "cache_read_tokens": (
            Source(Key.CACHE_READ_TOKENS),
            Source("gen_ai.usage.cache_read_input_tokens"),
        ),
        "cache_write_tokens": (
            Source(Key.CACHE_WRITE_TOKENS),
            Source("gen_ai.usage.cache_creation.input_tokens"),
            Source("gen_ai.usage.cache_write_input_tokens"),
            Source("gen_ai.usage.cache_creation_input_tokens"),
        ),
        "reasoning_tokens": (
            Source(Key.REASONING_TOKENS),
            Source("gen_ai.usage.reasoning_tokens"),
        ),
        "finish_reasons": (
            Source(Key.FINISH_REASONS, parser="finish_reasons"),
            Source("gen_ai.response.finish_reason", parser="finish_reasons"),
        ),
        "response_id": (
            Source(Key.RESPONSE_ID, unless=(_OWN_ID_FOR_RESPONSE,)),
            Source(Key.RESPONSE_ID, only=_OWN_ID_FOR_RESPONSE, failed=False),
        ),
        "error_type": (Source(Key.ERROR_TYPE, parser="class_name"),),
        "session_id": (Source("gen_ai.conversation.id"), Source(Key.SESSION_ID)),
        "user_id": (Source(Key.USER_ID), Source("enduser.id")),
        "agent_name": (Source(Key.AGENT_NAME),),
        "function": (Source(Key.FUNCTION_NAME),),
        "streamed": (Source("gen_ai.request.stream"),),
    },
    members={
        "prompt_variables": (Members(prefix=Key.PROMPT_VARIABLE_PREFIX),),
        "model_parameters": (
            Members(prefix=Key.REQUEST_PREFIX, drop=frozenset({"model", "previous_response.id"})),
            Members(prefix="openai.request."),
            Members(prefix="gen_ai.openai.request."),
            Members(keys={"gen_ai.output.type": "output.type"}),
        ),
    },
    input=(
        Content("gen_ai.input.messages"),
        Content(event=True, form="events"),
        Content(prefix="gen_ai.prompt.", form="flattened"),
        Content("gen_ai.prompt", form="document"),
    ),
    output=(
        Content("gen_ai.output.messages"),
        Content(event=True, form="events"),
        Content(prefix="gen_ai.completion.", form="flattened"),
        Content("gen_ai.completion", form="document"),
    ),
    system=("gen_ai.system_instructions",),
    tools=(Content("gen_ai.tool.definitions"),),
    raw_input=(
        Content("gen_ai.tool.call.arguments"),
        Content("gen_ai.retrieval.query.text"),
        Content("gen_ai.input.messages"),
    ),
    raw_output=(
        Content("gen_ai.tool.call.result"),
        Content("gen_ai.retrieval.documents"),
        Content("gen_ai.output.messages"),
    ),
    switches=(
        Switch(f"{_CAPTURE}=true", scope_prefix="opentelemetry.instrumentation.openai_v2"),
        # OpenLLMetry under OpenTelemetry's names: on by default, and a failed call has none.
        Switch(
            "TRACELOOP_TRACE_CONTENT=true",
            scope_prefix="opentelemetry.instrumentation.bedrock",
            unless_failed=True,
        ),
        Switch(f"{_CAPTURE}=SPAN_AND_EVENT"),
    ),
)
