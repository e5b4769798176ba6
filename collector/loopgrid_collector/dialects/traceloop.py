"""OpenLLMetry (Traceloop): OpenTelemetry names in new releases, flattened messages in old ones."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source, Switch

_ASSOCIATION: Final = "traceloop.association.properties."

TRACELOOP: Final = Dialect(
    name="traceloop",
    marks=Marks(
        keys=("llm.request.type", "llm.is_streaming", "gen_ai.is_streaming"),
        prefixes=("traceloop.",),
    ),
    kinds=(
        KindRule(
            "llm.request.type",
            kinds={
                "chat": Kind.INFERENCE,
                "completion": Kind.INFERENCE,
                "embedding": Kind.EMBEDDING,
                "rerank": Kind.RETRIEVAL,
            },
        ),
        KindRule(
            "traceloop.span.kind",
            kinds={
                "workflow": Kind.AGENT,
                "agent": Kind.AGENT,
                "task": Kind.AGENT,
                "tool": Kind.TOOL,
            },
        ),
    ),
    fields={
        "prompt_name": (Source("traceloop.prompt.key"),),
        "prompt_version": (Source("traceloop.prompt.version"), Source("traceloop.prompt.version_hash")),
        "prompt_template": (Source("traceloop.prompt.template"),),
        "finish_reasons": (Source("llm.response.finish_reason", parser="finish_reasons"),),
        "session_id": (Source(f"{_ASSOCIATION}session_id"),),
        "user_id": (Source(f"{_ASSOCIATION}user_id"), Source("gen_ai.user"), Source("llm.user")),
        "streamed": (Source("gen_ai.is_streaming"), Source("llm.is_streaming")),
    },
    members={
        "prompt_variables": (Members(prefix="traceloop.prompt.template_variables."),),
        "model_parameters": (
            Members(
                keys={
                    "llm.frequency_penalty": "frequency_penalty",
                    "llm.presence_penalty": "presence_penalty",
                    "llm.top_k": "top_k",
                    "llm.chat.stop_sequences": "stop_sequences",
                    "llm.request.repetition_penalty": "repetition_penalty",
                }
            ),
        ),
        "metadata": (Members(prefix=_ASSOCIATION, drop=frozenset({"session_id", "user_id"})),),
    },
    input=(Content("traceloop.entity.input", form="document"),),
    output=(Content("traceloop.entity.output", form="document"),),
    tools=(Content(prefix="llm.request.functions."),),
    raw_input=(Content("traceloop.entity.input"),),
    raw_output=(Content("traceloop.entity.output"),),
    switches=(Switch("TRACELOOP_TRACE_CONTENT=true"),),
)
