"""Google ADK: OpenTelemetry names; content stands in log records unless it is told otherwise.

Releases before 2 put the provider's own request and response into two attributes of the span.
"""

from __future__ import annotations

from typing import Final

from loopgrid_collector.dialects.table import Content, Dialect, Marks, Source, Switch

_REQUEST: Final = "gcp.vertex.agent.llm_request"
_RESPONSE: Final = "gcp.vertex.agent.llm_response"

GOOGLE_ADK: Final = Dialect(
    name="google_adk",
    marks=Marks(scopes=("gcp.vertex.agent",), prefixes=("gcp.vertex.agent.",)),
    fields={
        "input_tokens": (Source(_RESPONSE, path=("usage_metadata", "prompt_token_count")),),
        "output_tokens": (Source(_RESPONSE, path=("usage_metadata", "candidates_token_count")),),
        "cache_read_tokens": (Source(_RESPONSE, path=("usage_metadata", "cached_content_token_count")),),
        "reasoning_tokens": (Source(_RESPONSE, path=("usage_metadata", "thoughts_token_count")),),
        "finish_reasons": (Source(_RESPONSE, parser="response_finish_reasons"),),
        "session_id": (Source("gcp.vertex.agent.session_id"),),
    },
    input=(Content(_REQUEST, form="document"),),
    output=(Content(_RESPONSE, form="document"),),
    tools=(Content(_REQUEST, path=("config", "tools")),),
    raw_input=(Content("gcp.vertex.agent.tool_call_args"),),
    raw_output=(Content("gcp.vertex.agent.tool_response"),),
    switches=(Switch("ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true"),),
)
