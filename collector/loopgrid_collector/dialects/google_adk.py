"""Google ADK: OpenTelemetry names; content stands in log records unless it is told otherwise."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Dialect, Marks, Switch

GOOGLE_ADK: Final = Dialect(
    name="google_adk",
    marks=Marks(scopes=("gcp.vertex.agent",), prefixes=("gcp.vertex.agent.",)),
    switches=(Switch("ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true"),),
)
