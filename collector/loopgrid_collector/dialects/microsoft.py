"""Semantic Kernel and Microsoft Agent Framework: OpenTelemetry names of two ages, content off by default."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Dialect, Marks, Switch

SEMANTIC_KERNEL: Final = Dialect(
    name="semantic_kernel",
    marks=Marks(scope_prefixes=("semantic_kernel", "Microsoft.SemanticKernel")),
    switches=(Switch("SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE=true"),),
)

AGENT_FRAMEWORK: Final = Dialect(
    name="agent_framework",
    marks=Marks(scope_prefixes=("agent_framework", "microsoft.agent_framework")),
    switches=(Switch("ENABLE_SENSITIVE_DATA=true"),),
)
