"""What an agent is called where no attribute says it: some conventions name it by its span.

Calls below an agent take its name when the ledger is read (``docs/spec/decision-record.md``).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects.arrow import equal, only_where, without_empty
from loopgrid_collector.dialects.columns import Spans

_AGENTS: Final = (
    ("openinference.span.kind", "AGENT", None),
    ("langfuse.observation.type", "agent", None),
    ("traceloop.span.kind", "agent", "traceloop.entity.name"),
)
"""Attribute, its value on an agent, and the attribute that holds the name; None for the span's own."""


def agent_names(spans: Spans, stated: pa.StringArray) -> pa.StringArray:
    """Names of agents: the stated one, else the one by which its convention calls it."""
    names = stated
    for key, value, holder in _AGENTS:
        if key in spans.keys:
            agents = equal(spans.attributes.text(key), value)
            if agents.any():
                called = spans.facts.name if holder is None else spans.attributes.text(holder)
                names = pc.coalesce(names, only_where(agents, without_empty(called)))
    return names
