"""A decision told to the API as an OTLP span in the ``loopgrid`` dialect. Pure.

What the API records goes through the same door as everything else, in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from loopgrid.schema import RECORD_VERSION, SEMCONV_MODEL_PARAMETERS, Key
from loopgrid_query import jsontext
from loopgrid_query.errors import FieldError, Invalid

SCOPE: Final = "loopgrid.api"
REPLAY_LINK: Final = "replay_of"
MAX_METADATA_DEPTH: Final = 20
"""Levels of a metadata value; each costs three of the hundred that a protobuf reader allows."""

_SIGNED_64: Final = range(-(2**63), 2**63)
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8

_TEXTS: Final = {
    "decision_type": Key.DECISION_TYPE,
    "response_id": Key.RESPONSE_ID,
    "session_id": Key.SESSION_ID,
    "user_id": Key.USER_ID,
    "agent_name": Key.AGENT_NAME,
    "finish_reasons": Key.FINISH_REASONS,
    "tags": Key.TAGS,
}
_CONTENT: Final = {"input": Key.DECISION_INPUT, "output": Key.DECISION_OUTPUT, "tools": Key.TOOL_DEFINITIONS}
_USAGE: Final = {
    "input_tokens": Key.INPUT_TOKENS,
    "output_tokens": Key.OUTPUT_TOKENS,
    "cache_read_tokens": Key.CACHE_READ_TOKENS,
    "cache_write_tokens": Key.CACHE_WRITE_TOKENS,
    "reasoning_tokens": Key.REASONING_TOKENS,
}
_PROMPT: Final = {
    "name": Key.PROMPT_NAME,
    "version": Key.PROMPT_VERSION,
    "template": Key.PROMPT_TEMPLATE,
}
_MODEL: Final = {
    "provider": Key.PROVIDER_NAME,
    "name": Key.REQUEST_MODEL,
    "response_name": Key.RESPONSE_MODEL,
}


@dataclass(frozen=True, slots=True)
class DecisionSpan:
    """A span that is a decision.

    Attributes:
        trace_id: its trace.
        span_id: its own id.
        name: the decision type.
        attributes: Python values by attribute key.
        start_ns: nanoseconds since 1970.
        end_ns: likewise; 0 says that the duration is not known.
        service_name: service it belongs to, if known.
        failed: whether the decision failed. If not, the span says nothing: nobody said that it went well.
        failure: text of the failure.
        replay_of: trace and span id of the decision that this one replays.
    """

    trace_id: int
    span_id: int
    name: str
    attributes: Mapping[str, Any]
    start_ns: int
    end_ns: int = 0
    service_name: str | None = None
    failed: bool = False
    failure: str | None = None
    replay_of: tuple[int, int] | None = None

    def request(self) -> bytes:
        """An ``ExportTraceServiceRequest`` that holds this span and nothing else.

        Raises:
            Invalid: a value cannot be told in OTLP.
        """
        for field, text in (
            ("decision_type", self.name),
            ("service_name", self.service_name),
            ("error.message", self.failure),
        ):
            jsontext.check(text, field)
        request = ExportTraceServiceRequest()
        resource_spans = request.resource_spans.add()
        if self.service_name is not None:
            resource_spans.resource.attributes.append(_attribute(Key.SERVICE_NAME, self.service_name))
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name = SCOPE
        scope_spans.spans.append(self._span())
        return request.SerializeToString()

    def _span(self) -> Span:
        span = Span(
            trace_id=self.trace_id.to_bytes(_TRACE_ID_BYTES, "big"),
            span_id=self.span_id.to_bytes(_SPAN_ID_BYTES, "big"),
            name=self.name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=self.start_ns,
            end_time_unix_nano=self.end_ns,
            attributes=[_attribute(key, value) for key, value in self.attributes.items()],
        )
        if self.failed:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=self.failure or ""))
        if self.replay_of is not None:
            trace_id, span_id = self.replay_of
            span.links.append(
                Span.Link(
                    trace_id=trace_id.to_bytes(_TRACE_ID_BYTES, "big"),
                    span_id=span_id.to_bytes(_SPAN_ID_BYTES, "big"),
                    attributes=[_attribute(Key.LINK_TYPE, REPLAY_LINK)],
                )
            )
        return span


def decision_attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a decision in the ``loopgrid`` dialect.

    Args:
        fields: what is known, in the shape of the API: ``decision_type``, ``input``, ``output``,
            ``tools``, ``prompt``, ``model``, ``usage``, ``metadata`` … A name that is missing stays absent.

    Raises:
        Invalid: a value cannot be recorded; the error names it.
    """
    attributes: dict[str, Any] = {Key.RECORD_VERSION: RECORD_VERSION}
    for name, key in _CONTENT.items():
        if name in fields:
            attributes[key] = jsontext.text_of(fields[name], name)
    for name, key in _TEXTS.items():
        if name in fields:
            attributes[key] = fields[name]
    error_type = fields.get("error", {}).get("type")
    if error_type is not None:
        attributes[Key.ERROR_TYPE] = error_type
    attributes |= _known(_USAGE, fields.get("usage", {}))
    attributes |= _prompt_attributes(fields.get("prompt", {}))
    attributes |= _model_attributes(fields.get("model", {}))
    for name, value in fields.get("metadata", {}).items():
        jsontext.check(value, f"metadata.{name}", max_depth=MAX_METADATA_DEPTH)
        attributes[Key.METADATA_PREFIX + name] = value
    for key, value in attributes.items():
        jsontext.check({key: value}, key)
    return attributes


def _known(keys: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[name] for name, key in keys.items() if values.get(name) is not None}


def _prompt_attributes(prompt: Mapping[str, Any]) -> dict[str, Any]:
    attributes = _known(_PROMPT, prompt)
    for name, value in (prompt.get("variables") or {}).items():
        text = value if isinstance(value, str) else jsontext.text_of(value, f"prompt.variables.{name}")
        attributes[Key.PROMPT_VARIABLE_PREFIX + name] = text
    return attributes


def _model_attributes(model: Mapping[str, Any]) -> dict[str, Any]:
    attributes = _known(_MODEL, model)
    own: dict[str, Any] = {}
    for name, value in (model.get("parameters") or {}).items():
        if name in SEMCONV_MODEL_PARAMETERS and _is_conventional(name, value):
            attributes[Key.REQUEST_PREFIX + name] = value
        else:
            own[name] = value
    if own:
        attributes[Key.MODEL_PARAMETERS] = jsontext.text_of(own, "model.parameters")
    return attributes


def _is_conventional(name: str, value: Any) -> bool:
    """Whether OpenTelemetry's attribute can hold the value as what it is."""
    if name == "stop_sequences":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _SIGNED_64.stop


def _attribute(key: str, value: Any) -> KeyValue:
    return KeyValue(key=key, value=any_value(value, key))


def any_value(value: Any, where: str) -> AnyValue:  # noqa: PLR0911 - one line for each type
    """A JSON value as OTLP value; integers beyond 64 bits have none.

    Raises:
        Invalid: an integer does not fit.
    """
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            if value not in _SIGNED_64:
                raise Invalid.of(
                    [FieldError(where, "holds an integer of more than 64 bits; send it as text")]
                )
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(item, where) for item in value]))
        case dict():
            members = [KeyValue(key=name, value=any_value(item, where)) for name, item in value.items()]
            return AnyValue(kvlist_value=KeyValueList(values=members))
    raise TypeError(f"{where}: no OTLP value for {type(value).__name__}")
