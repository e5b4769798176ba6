"""MLflow: every value JSON text, the provider's own request and response as input and output."""

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
)

_USAGE: Final = "mlflow.chat.tokenUsage"

MLFLOW: Final = Dialect(
    name="mlflow",
    marks=Marks(scope_prefixes=("mlflow.",), keys=("mlflow.spanType",)),
    kinds=(
        KindRule(
            "mlflow.spanType",
            kinds={
                "llm": Kind.INFERENCE,
                "chat_model": Kind.INFERENCE,
                "agent": Kind.AGENT,
                "chain": Kind.AGENT,
                "workflow": Kind.AGENT,
                "task": Kind.AGENT,
                "tool": Kind.TOOL,
                "retriever": Kind.RETRIEVAL,
                "reranker": Kind.RETRIEVAL,
                "embedding": Kind.EMBEDDING,
            },
            parser="json_text",
        ),
    ),
    fields={
        "model_provider": (Source("mlflow.llm.provider", parser="provider_json"),),
        "model_name": (
            Source("model", parser="json_text", only="mlflow"),
            Source("mlflow.spanInputs", path=("model",)),
        ),
        "model_response_name": (
            Source("mlflow.llm.model", parser="json_text"),
            # Its translation to OpenTelemetry's names puts the model that answered there.
            Source("gen_ai.request.model", parser="json_text", only="mlflow"),
        ),
        "input_tokens": (Source(_USAGE, path=("input_tokens",)),),
        "output_tokens": (Source(_USAGE, path=("output_tokens",)),),
        "cache_read_tokens": (
            Source(_USAGE, path=("cache_read_input_tokens",)),
            Source("mlflow.spanOutputs", path=("usage", "prompt_tokens_details", "cached_tokens")),
            Source("mlflow.spanOutputs", path=("usage", "input_tokens_details", "cached_tokens")),
        ),
        "cache_write_tokens": (Source(_USAGE, path=("cache_creation_input_tokens",)),),
        "reasoning_tokens": (
            Source("mlflow.spanOutputs", path=("usage", "completion_tokens_details", "reasoning_tokens")),
            Source("mlflow.spanOutputs", path=("usage", "output_tokens_details", "reasoning_tokens")),
        ),
        "finish_reasons": (Source("mlflow.spanOutputs", parser="response_finish_reasons"),),
        "response_id": (Source("mlflow.spanOutputs", path=("id",)),),
        "streamed": (Source("stream", parser="json_text", only="mlflow"),),
    },
    members={
        "model_parameters": (
            Members(key="mlflow.spanInputs", drop=REQUEST_BODY, request_with=REQUEST_CONTENT),
        ),
        "metadata": (Members(prefix="mlflow.traceTag.", json_values=True),),
    },
    input=(Content("mlflow.spanInputs", form="document"),),
    output=(Content("mlflow.spanOutputs", form="document"),),
    tools=(Content("mlflow.chat.tools"), Content("mlflow.spanInputs", path=("tools",))),
    raw_input=(Content("mlflow.spanInputs"),),
    raw_output=(Content("mlflow.spanOutputs"),),
)
