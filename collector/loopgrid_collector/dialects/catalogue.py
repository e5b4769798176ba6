"""All dialects, and what they say about each field, in the order in which they are believed.

A span may speak several dialects at once, and each of them fills what the ones before it left open:
precedence is per field, not per span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from loopgrid_collector.dialects.anthropic import ANTHROPIC
from loopgrid_collector.dialects.genai import GENAI, LITELLM_CALLBACK
from loopgrid_collector.dialects.google_adk import GOOGLE_ADK
from loopgrid_collector.dialects.langchain import LANGSMITH
from loopgrid_collector.dialects.langfuse import LANGFUSE
from loopgrid_collector.dialects.loopgrid import LOOPGRID
from loopgrid_collector.dialects.microsoft import AGENT_FRAMEWORK, SEMANTIC_KERNEL
from loopgrid_collector.dialects.mlflow import MLFLOW
from loopgrid_collector.dialects.openai_agents import OPENAI_AGENTS
from loopgrid_collector.dialects.openinference import (
    GENERATION_NAMES_REQUESTED,
    NAMES_ANSWERED,
    NAMES_REQUESTED,
    OPENAI_AGENTS_RESPONSE,
    OPENINFERENCE,
)
from loopgrid_collector.dialects.pydantic_ai import PYDANTIC_AI
from loopgrid_collector.dialects.strands import STRANDS
from loopgrid_collector.dialects.table import Content, Dialect, Members, Source
from loopgrid_collector.dialects.traceloop import TRACELOOP
from loopgrid_collector.dialects.vercel import VERCEL

T = TypeVar("T")

DIALECTS: Final[tuple[Dialect, ...]] = (
    LOOPGRID,
    STRANDS,
    GENAI,
    OPENINFERENCE,
    TRACELOOP,
    ANTHROPIC,
    VERCEL,
    PYDANTIC_AI,
    LANGFUSE,
    MLFLOW,
    GOOGLE_ADK,
    LANGSMITH,
    SEMANTIC_KERNEL,
    AGENT_FRAMEWORK,
    OPENAI_AGENTS,
    NAMES_REQUESTED,
    NAMES_ANSWERED,
    OPENAI_AGENTS_RESPONSE,
    GENERATION_NAMES_REQUESTED,
    LITELLM_CALLBACK,
)
"""In order of precedence. Strands goes before OpenTelemetry: it writes other content under the same names.
The last five state no field and name no span: they say which spans others read in another way."""

NAMED_FIRST: Final[tuple[str, ...]] = (
    "loopgrid",
    "openinference",
    "anthropic",
    "vercel",
    "pydantic_ai",
    "langfuse",
    "mlflow",
    "google_adk",
    "langsmith",
    "strands",
    "semantic_kernel",
    "agent_framework",
    "openai_agents",
    "traceloop",
    "genai",
    "openinference_requested",
    "openinference_answered",
    "openinference_openai_agents",
    "openinference_generation",
    "litellm_callback",
)
"""Which dialect a span that speaks several is said to speak: the most particular one."""

PARAMETER_NAMES: Final = {
    "stop": "stop_sequences",
    "stopSequences": "stop_sequences",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "maxTokens": "max_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "n": "choice.count",
    "choice_count": "choice.count",
}
"""Spelling of a model parameter → what OpenTelemetry calls it."""

MEMBER_NAMES: Final = {"model_parameters": PARAMETER_NAMES}


def sources(field: str) -> tuple[Source, ...]:
    """Where a field may stand."""
    return tuple(source for dialect in DIALECTS for source in dialect.fields.get(field, ()))


def members(field: str) -> tuple[Members, ...]:
    """Where the members of an object field may stand."""
    return tuple(place for dialect in DIALECTS for place in dialect.members.get(field, ()))


def _joined(of: Callable[[Dialect], Iterable[T]]) -> tuple[T, ...]:
    return tuple(item for dialect in DIALECTS for item in of(dialect))


INPUT: Final[tuple[Content, ...]] = _joined(lambda dialect: dialect.input)
OUTPUT: Final[tuple[Content, ...]] = _joined(lambda dialect: dialect.output)
SYSTEM: Final[tuple[str, ...]] = _joined(lambda dialect: dialect.system)
TOOLS: Final[tuple[Content, ...]] = _joined(lambda dialect: dialect.tools)
RAW_INPUT: Final[tuple[Content, ...]] = _joined(lambda dialect: dialect.raw_input)
RAW_OUTPUT: Final[tuple[Content, ...]] = _joined(lambda dialect: dialect.raw_output)
