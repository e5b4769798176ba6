"""OpenAI Agents: OpenTelemetry names for agents and tools; its model calls come from another scope."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Dialect, Marks

OPENAI_AGENTS: Final = Dialect(
    name="openai_agents",
    marks=Marks(
        scopes=("openai_agents", "agents"),
        scope_prefixes=(
            "opentelemetry.instrumentation.openai_agents",
            "opentelemetry.instrumentation.genai.openai_agents",
        ),
    ),
)
