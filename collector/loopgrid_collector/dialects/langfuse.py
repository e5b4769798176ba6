"""Langfuse: every name its own, most values JSON, no provider and no requested model."""

from __future__ import annotations

from typing import Final

from loopgrid.schema import Kind
from loopgrid_collector.dialects.table import Content, Dialect, KindRule, Marks, Members, Source, Switch

_USAGE: Final = "langfuse.observation.usage_details"

LANGFUSE: Final = Dialect(
    name="langfuse",
    marks=Marks(scopes=("langfuse-sdk",), keys=("langfuse.observation.type",), prefixes=("langfuse.",)),
    kinds=(
        KindRule(
            "langfuse.observation.type",
            kinds={
                "generation": Kind.INFERENCE,
                "agent": Kind.AGENT,
                "chain": Kind.AGENT,
                "span": Kind.AGENT,
                "tool": Kind.TOOL,
                "retriever": Kind.RETRIEVAL,
                "embedding": Kind.EMBEDDING,
            },
        ),
    ),
    fields={
        "prompt_name": (Source("langfuse.observation.prompt.name"),),
        "prompt_version": (Source("langfuse.observation.prompt.version"),),
        # A failed call has no response, so that the model named there is the one asked for.
        "model_name": (Source("langfuse.observation.model.name", failed=True),),
        "model_response_name": (Source("langfuse.observation.model.name", failed=False),),
        "input_tokens": (
            Source(_USAGE, path=("input",)),
            Source(_USAGE, path=("prompt_tokens",)),
            Source(_USAGE, path=("input_tokens",)),
        ),
        "output_tokens": (
            Source(_USAGE, path=("output",)),
            Source(_USAGE, path=("completion_tokens",)),
            Source(_USAGE, path=("output_tokens",)),
        ),
        "cache_read_tokens": (
            Source(_USAGE, path=("cache_read_input_tokens",)),
            Source(_USAGE, path=("input_cached_tokens",)),
            Source(_USAGE, path=("prompt_tokens_details", "cached_tokens")),
            Source(_USAGE, path=("input_tokens_details", "cached_tokens")),
        ),
        "cache_write_tokens": (Source(_USAGE, path=("cache_creation_input_tokens",)),),
        "reasoning_tokens": (
            Source(_USAGE, path=("output_reasoning_tokens",)),
            Source(_USAGE, path=("completion_tokens_details", "reasoning_tokens")),
            Source(_USAGE, path=("output_tokens_details", "reasoning_tokens")),
        ),
        "finish_reasons": (Source("langfuse.observation.metadata.finish_reason", parser="finish_reasons"),),
        "error_message": (Source("langfuse.observation.status_message", failed=True),),
        "tags": (Source("langfuse.trace.tags", parser="labels"),),
    },
    members={
        "model_parameters": (
            Members(
                key="langfuse.observation.model.parameters",
                invented={
                    "temperature": 1,
                    "max_tokens": "Infinity",
                    "top_p": 1,
                    "frequency_penalty": 0,
                    "presence_penalty": 0,
                },
            ),
        ),
        "metadata": (
            Members(
                prefix="langfuse.observation.metadata.",
                json_values=True,
                drop=frozenset({"finish_reason"}),
            ),
            Members(prefix="langfuse.trace.metadata.", json_values=True),
        ),
    },
    input=(Content("langfuse.observation.input", form="document"),),
    output=(Content("langfuse.observation.output", form="document"),),
    tools=(Content("langfuse.observation.input", path=("tools",)),),
    raw_input=(Content("langfuse.observation.input"),),
    raw_output=(Content("langfuse.observation.output"),),
    switches=(Switch("a Langfuse client without a mask function"),),
)
