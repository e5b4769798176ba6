"""Vercel AI SDK: ``ai.*`` keys (5.x and the legacy exporter of 7.x); 7.x else speaks OpenTelemetry."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source, Switch

VERCEL: Final = Dialect(
    name="vercel",
    marks=Marks(scopes=("ai", "gen_ai"), keys=("ai.operationId",)),
    kinds=(
        KindRule(
            "ai.operationId",
            kinds={
                "ai.generatetext": Kind.AGENT,
                "ai.streamtext": Kind.AGENT,
                "ai.generateobject": Kind.AGENT,
                "ai.streamobject": Kind.AGENT,
                "ai.toolcall": Kind.TOOL,
                "ai.embed": Kind.EMBEDDING,
                "ai.embedmany": Kind.EMBEDDING,
            },
            endings={
                ".dogenerate": Kind.INFERENCE,
                ".dostream": Kind.INFERENCE,
                ".doembed": Kind.EMBEDDING,
            },
        ),
    ),
    fields={
        "model_provider": (Source("ai.model.provider", parser="provider"),),
        "model_name": (Source("ai.model.id"),),
        "model_response_name": (Source("ai.response.model"),),
        "input_tokens": (Source("ai.usage.inputTokens"), Source("ai.usage.promptTokens")),
        "output_tokens": (Source("ai.usage.outputTokens"), Source("ai.usage.completionTokens")),
        "cache_read_tokens": (
            Source("ai.usage.cachedInputTokens"),
            Source("ai.usage.inputTokenDetails.cacheReadTokens"),
        ),
        "cache_write_tokens": (
            Source("ai.usage.cacheWriteTokens"),
            Source("ai.usage.inputTokenDetails.cacheWriteTokens"),
        ),
        "reasoning_tokens": (
            Source("ai.usage.reasoningTokens"),
            Source("ai.usage.outputTokenDetails.reasoningTokens"),
        ),
        "finish_reasons": (
            Source("ai.response.finishReason", parser="finish_reasons"),
            Source("ai.finishReason", parser="finish_reasons"),
        ),
        "response_id": (Source("ai.response.id"),),
        "session_id": (Source("ai.telemetry.metadata.sessionId"),),
        "user_id": (Source("ai.telemetry.metadata.userId"),),
        "agent_name": (Source("ai.telemetry.functionId"),),
    },
    members={
        "model_parameters": (
            Members(prefix="ai.settings."),
            Members(keys={"ai.prompt.toolChoice": "tool_choice", "ai.schema": "schema"}, json_values=True),
            Members(keys={"ai.schema.name": "schema.name", "ai.schema.description": "schema.description"}),
        ),
        "metadata": (Members(prefix="ai.telemetry.metadata.", drop=frozenset({"sessionId", "userId"})),),
    },
    input=(Content("ai.prompt.messages", form="document"), Content("ai.prompt", form="document")),
    output=(
        Content(prefix="ai.response.", form="vercel_answer"),
        Content(prefix="ai.result.", form="vercel_answer"),
    ),
    tools=(Content("ai.prompt.tools"),),
    raw_input=(Content("ai.toolCall.args"), Content("ai.prompt")),
    raw_output=(
        Content("ai.toolCall.result"),
        Content("ai.response.object"),
        Content("ai.response.text", plain=True),
        Content("ai.response.toolCalls"),
    ),
    switches=(Switch("experimental_telemetry: { recordInputs: true, recordOutputs: true }"),),
)
