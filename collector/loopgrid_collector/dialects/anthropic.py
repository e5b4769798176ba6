"""Spans that the anthropic SDK emits itself: OpenTelemetry names, and its own stop reason."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Dialect, Marks, Members, Source, Switch

ANTHROPIC: Final = Dialect(
    name="anthropic",
    marks=Marks(scope_prefixes=("com.anthropic.sdk",), keys=("anthropic.message.stop_reason",)),
    fields={
        "finish_reasons": (Source("anthropic.message.stop_reason", parser="finish_reasons"),),
    },
    members={
        "model_parameters": (
            Members(
                keys={
                    "anthropic.thinking.type": "thinking.type",
                    "anthropic.thinking.budget_tokens": "thinking.budget_tokens",
                }
            ),
        ),
    },
    switches=(Switch("ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content"),),
)
