"""Strands: OpenTelemetry names; content in span events, in the parts of Amazon Bedrock."""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Content, Dialect, Marks, Source

STRANDS: Final = Dialect(
    name="strands",
    marks=Marks(scopes=("strands.telemetry.tracer",)),
    fields={"tags": (Source("tags", parser="labels", only="strands"),)},
    input=(Content(event=True, form="bedrock_events", only="strands"),),
    output=(Content(event=True, form="bedrock_events", only="strands"),),
)
