"""The one choke point: every span that leaves this process passes here, whoever made it.

Laws:

* It fails closed, value by value: what cannot be looked at (a callback that raises, JSON that nests too
  deeply, no time left) leaves as a marker. A span is never dropped.
* What was taken out is named in the span's `loopgrid.capture.lossiness`, as `<where>:redacted` or
  `<where>:redaction_failed:<why>`: a replay refuses to run on such an argument.
* JSON text inside an attribute is looked at as JSON, also where it holds JSON text again. Where nothing is
  taken out, the text stays as it was to the last byte.
* What the ledger counts and links by (producer, sequence, replay) is not touched.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loopgrid.capture import utf8
from loopgrid.redaction import Redaction
from loopgrid.schema import Key

MAX_JSON_IN_JSON: Final = 4
"""Levels of JSON text inside JSON text that are looked into; deeper ones do not leave."""
MAX_ENTRIES: Final = 64
"""Entries in one span's list of what was taken out."""
MAX_INT_DIGITS: Final = 4000
"""Digits up to which an integer is read as one."""
REDACTED: Final = "[redacted]"

_UNTOUCHED: Final = frozenset(
    {
        Key.RECORD_VERSION,
        Key.PRODUCER_ID,
        Key.PRODUCER_SEQ,
        Key.REPLAY_ID,
        Key.REPLAY_OF,
        Key.LINK_TYPE,
        "service.instance.id",
        Key.LOSSINESS,
    }
)
_WHERE: Final = {
    Key.DECISION_INPUT: "input",
    Key.DECISION_OUTPUT: "output",
    Key.STEP_INPUT: "input",
    Key.STEP_OUTPUT: "output",
    Key.TOOL_ARGUMENTS: "input",
    Key.TOOL_RESULT: "output",
    Key.PROMPT_TEMPLATE: "prompt.template",
    Key.PROMPT_RENDERED: "prompt.rendered",
    Key.MODEL_PARAMETERS: "model.parameters",
}
"""How the record names what these attributes carry; others go by their key."""
_BODY_IDS: Final = frozenset(
    {
        "decision_id", "replay_id", "idempotency_key", "decision_type", "executor", "started_at",
        "duration_ms", "usage", "subject_id", "correction_id", "occurred_at", "verdict", "sample",
        "reviewers_per_item", "lease_s", "worker", "attempt",
    }
)  # fmt: skip
_BODY_AUTHORS: Final = frozenset(
    {"marked_by", "corrected_by", "requested_by", "said_by", "reported_by", "created_by", "reviewer"}
)
_BODY_STRUCTURE: Final = frozenset({"model", "prompt", "error", "overrides"})
"""Fields of API bodies whose members are named by the API, too."""
_GIVEN: Final = frozenset(key for name, key in vars(Key).items() if name.isupper())
_VARIABLE: Final = Key.PROMPT_VARIABLE_PREFIX
_JSON_BEGINS: Final = re.compile(r'\s*[\[{"]')
_BROKEN_JSON: Final = re.compile(r"\s*[\[{]")
_MEMBER: Final = re.compile(
    r'"(?P<key>[^"\\]{1,128})"\s*:\s*(?:"(?:[^"\\]|\\.)*"?|[\[{].*|[^,}\]\s]+)', re.DOTALL
)
"""A member of an object; of a value that is a list or an object itself, everything to the end of the text."""
_INSIGNIFICANT: Final = re.compile(r"[\s_-]+")
_dump: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _FailedError(Exception):
    """A value cannot be looked at; the text says why."""


class Redactor:
    """Carries out one `Redaction`. Thread-safe."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._keys = frozenset(_folded(key) for key in redaction.keys if "." not in key)
        self._attribute_keys = frozenset(key.lower() for key in redaction.keys if "." in key)

    def request(self, request: ExportTraceServiceRequest) -> int:
        """Redact a whole request in place: spans, resources, scopes.

        Returns:
            How many values were taken out.
        """
        number = 0
        for resource in request.resource_spans:
            number += self.attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                number += self.attributes(scope.scope.attributes)
                number += sum(self.span(span) for span in scope.spans)
        return number

    def attributes(self, attributes: Iterable[KeyValue]) -> int:
        """Redact attributes in place; how many values were taken out."""
        pass_ = _Pass(self._redaction, self._keys, self._attribute_keys)
        pass_.attributes(attributes, "")
        return pass_.number

    def body(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, None]]:
        """A JSON body of the API as it may leave, and what was taken out of it, as in `lossiness`.

        The names of fields are the API's and not the application's, so `keys` means those of metadata, prompt
        variables and content. Ids and numbers are not looked at, and who says something only by `keys`: a
        correction nobody stands behind would be none.
        """
        pass_ = _Pass(self._redaction, self._keys, self._attribute_keys)
        return pass_.fields(body, ""), pass_.entries

    def span(self, span: Span) -> int:
        """Redact a span in place: name, status message, and the attributes of span, events and links.

        Returns:
            How many values were taken out.
        """
        pass_ = _Pass(self._redaction, self._keys, self._attribute_keys)
        try:
            self._look_through(span, pass_)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            # A defect of ours: nothing of the span that could hold content leaves.
            pass_.blank(span, type(error).__name__)
        if pass_.entries:
            _note(span, pass_.entries)
        return pass_.number

    @staticmethod
    def _look_through(span: Span, pass_: _Pass) -> None:
        span.name = pass_.text(span.name, "span.name")
        if span.HasField("status") and span.status.message:
            span.status.message = pass_.text(span.status.message, "error.message")
        pass_.attributes(span.attributes, "")
        for event in span.events:
            event.name = pass_.text(event.name, "event.name")
            pass_.attributes(event.attributes, "event.")
        for link in span.links:
            pass_.attributes(link.attributes, "link.")


class _Pass:
    """One pass over one span, with its time and what it took out."""

    def __init__(self, redaction: Redaction, keys: frozenset[str], attribute_keys: frozenset[str]) -> None:
        self._redaction = redaction
        self._keys = keys
        self._attribute_keys = attribute_keys
        self._stop_at_s = time.monotonic() + redaction.max_span_s
        self._rewrite = False
        self.number = 0
        self.entries: dict[str, None] = {}

    def attributes(self, attributes: Iterable[KeyValue], prefix: str) -> None:
        """Redact attributes in place."""
        for attribute in attributes:
            key = attribute.key
            if key in _UNTOUCHED:
                if key == Key.LOSSINESS:
                    self._paths(attribute.value)
                continue
            written = self._patterned(key, f"{prefix}key")
            if written != key:
                attribute.key = written
            where = prefix + _WHERE.get(written, written)
            if self._is_secret(key):
                self._took(where)
                attribute.value.CopyFrom(AnyValue(string_value=REDACTED))
            else:
                self._any(attribute.value, where, key)

    def _paths(self, entries: AnyValue) -> None:
        """What is missing is told by paths, and those hold names of the application's data."""
        for entry in entries.array_value.values:
            entry.string_value = self._patterned(entry.string_value, Key.LOSSINESS)

    def fields(self, body: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """The fields of an API body as they may leave."""
        written: dict[str, Any] = {}
        for name, value in body.items():
            where = prefix + name
            if name in _BODY_IDS:
                written[name] = value
            elif name in _BODY_AUTHORS:
                secret = _folded(name) in self._keys
                written[name] = REDACTED if secret else value
                if secret:
                    self._took(where)
            elif name in _BODY_STRUCTURE and isinstance(value, Mapping):
                written[name] = self.fields(value, f"{where}.")
            else:
                try:
                    written[name] = self._json(value, where, name, 0)
                except _FailedError as failed:
                    written[name] = self._failed(where, str(failed))
        return written

    def blank(self, span: Span, why: str) -> None:
        """Take out everything that could hold content."""
        for attribute in span.attributes:
            if attribute.key not in _UNTOUCHED:
                attribute.value.CopyFrom(AnyValue(string_value=REDACTED))
        del span.events[:]
        for link in span.links:
            del link.attributes[:]
        span.status.message = ""
        self._failed("span", why)

    def text(self, value: str, where: str) -> str:
        """The text without what may not leave; in its place a marker."""
        try:
            return self._text(value, where, where, 0)
        except _FailedError as failed:
            return self._failed(where, str(failed))

    def _is_secret(self, key: str) -> bool:
        """Whether the value of an attribute may not leave because of its key.

        Names that OpenTelemetry or the record gave are meant only where they are named in full: `name` is no
        reason to take out the name of the service.
        """
        if key.lower() in self._attribute_keys:
            return True
        if not self._keys or key in _GIVEN or (key.startswith("gen_ai.") and not key.startswith(_VARIABLE)):
            return False
        return _folded(key.rpartition(".")[2]) in self._keys

    def _any(self, value: AnyValue, where: str, key: str) -> None:
        try:
            self._look(value, where, key)
        except _FailedError as failed:
            value.CopyFrom(AnyValue(string_value=self._failed(where, str(failed))))

    def _look(self, value: AnyValue, where: str, key: str) -> None:
        match value.WhichOneof("value"):
            case "string_value":
                value.string_value = self._text(value.string_value, where, key, 0)
            case "bytes_value":
                if self._in_bytes(value.bytes_value, where):
                    value.string_value = REDACTED
            case "int_value":
                self._put(value, value.int_value, self._leaf(value.int_value, where, key))
            case "double_value":
                self._put(value, value.double_value, self._leaf(value.double_value, where, key))
            case "bool_value":
                self._put(value, value.bool_value, self._leaf(value.bool_value, where, key))
            case "array_value":
                for index, item in enumerate(value.array_value.values):
                    self._any(item, f"{where}[{index}]", key)
            case "kvlist_value":
                for member in value.kvlist_value.values:
                    name, member.key = member.key, self._patterned(member.key, where)
                    inner = f"{where}.{member.key}"
                    if _folded(name) in self._keys:
                        self._took(inner)
                        member.value.CopyFrom(AnyValue(string_value=REDACTED))
                    else:
                        self._any(member.value, inner, name)

    def _put(self, place: AnyValue, before: object, after: Any) -> None:
        if after is before:
            return
        if isinstance(after, bool):
            place.bool_value = after
        elif isinstance(after, int):
            place.int_value = after
        elif isinstance(after, float):
            place.double_value = after
        else:
            place.string_value = utf8(str(after))

    def _text(self, value: str, where: str, key: str, depth: int) -> str:
        if not value:
            return value
        self._check_time()
        if _JSON_BEGINS.match(value) and (structure := self._parsed(value)) is not None:
            if depth >= MAX_JSON_IN_JSON:
                raise _FailedError("json_in_json")
            rewrite, self._rewrite = self._rewrite, False
            written = self._json(structure[0], where, key, depth)
            changed, self._rewrite = self._rewrite or structure[1], rewrite or self._rewrite or structure[1]
            return utf8(_dump(written)) if changed else value
        if self._keys and _BROKEN_JSON.match(value):
            value = _MEMBER.sub(lambda member: self._broken_member(member, where), value)
        return utf8(str(self._leaf(value, where, key)))

    def _broken_member(self, member: re.Match[str], where: str) -> str:
        """A member of a JSON object in text that is cut off or is no JSON as a whole."""
        if _folded(member["key"]) not in self._keys:
            return member[0]
        self._took(where)
        return f'"{member["key"]}":"{REDACTED}"'

    def _parsed(self, value: str) -> tuple[Any, bool] | None:
        """The JSON of a text, and whether the text hides something that its value does not show."""
        repeated = False

        def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            found = dict(pairs)
            repeated = repeated or len(found) != len(pairs)
            return found

        try:
            return json.loads(value, object_pairs_hook=members, parse_int=_integer), repeated
        except RecursionError:
            raise _FailedError("nesting") from None
        except ValueError:
            return None

    def _json(self, value: Any, where: str, key: str, depth: int) -> Any:
        try:
            return self._json_part(value, where, key, depth)
        except RecursionError:
            raise _FailedError("nesting") from None

    def _json_part(self, value: Any, where: str, key: str, depth: int) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"$bytes"}:
                return self._json_bytes(value, where)
            return dict(self._json_member(name, inner, where, depth) for name, inner in value.items())
        if isinstance(value, list):
            return [
                self._json_part(item, f"{where}[{index}]", key, depth) for index, item in enumerate(value)
            ]
        if value is None:
            return None
        if not isinstance(value, str):
            written = self._leaf(value, where, key)
        elif value:
            written = self._json_text(value, where, key, depth)
        else:
            return value
        if written is not value and written != value:
            self._rewrite = True
        return written

    def _json_text(self, value: str, where: str, key: str, depth: int) -> str:
        try:
            return self._text(value, where, key, depth + 1)
        except _FailedError as failed:
            return self._failed(where, str(failed))

    def _json_member(self, name: str, value: Any, where: str, depth: int) -> tuple[str, Any]:
        written = self._patterned(name, where)
        if written != name:
            self._rewrite = True
        inner = f"{where}.{written}"
        if _folded(name) in self._keys:
            self._took(inner)
            self._rewrite = True
            return written, REDACTED
        return written, self._json_part(value, inner, name, depth)

    def _json_bytes(self, value: dict[str, Any], where: str) -> Any:
        """Bytes as `capture` writes them."""
        try:
            data = base64.b64decode(value["$bytes"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            data = str(value["$bytes"]).encode(errors="replace")
        if not self._in_bytes(data, where):
            return value
        self._rewrite = True
        return REDACTED

    def _in_bytes(self, data: bytes, where: str) -> bool:
        """Whether bytes hold, as text, what may not leave; then they do not leave at all."""
        self._check_time()
        readable = data.decode(errors="replace")
        found = any(
            one.holds is None or self._holds(one.holds, match[0])
            for one in self._redaction.compiled
            for match in one.expression.finditer(readable)
        )
        if found:
            self._took(where)
        return found

    def _leaf(self, value: Any, where: str, key: str) -> Any:
        """A text, number or truth value, as it may leave."""
        self._check_time()
        written: Any = value
        if isinstance(value, str):
            written = self._patterned(value, where)
        elif not isinstance(value, bool) and self._patterned(str(value), where) != str(value):
            written = REDACTED
        if self._redaction.callback is None:
            return written
        self._check_time()
        try:
            answer = self._redaction.callback(key, written)
        except Exception as error:  # noqa: BLE001 - the application's code: what it could not judge does not leave
            return self._failed(where, type(error).__name__)
        if answer is written or (type(answer) is type(written) and answer == written):
            return written
        if not isinstance(answer, (str, int, float)):
            return self._failed(where, f"returned_{type(answer).__name__}")
        self._took(where)
        return answer

    def _patterned(self, value: str, where: str) -> str:
        for pattern in self._redaction.compiled:
            value = self._replaced(pattern.expression, pattern.name, pattern.holds, value, where)
        return value

    def _replaced(self, expression: re.Pattern[str], name: str, holds: Any, value: str, where: str) -> str:
        def marked(match: re.Match[str]) -> str:
            if not match[0] or (holds is not None and not self._holds(holds, match[0])):
                return match[0]
            self._took(where)
            return f"[redacted: {name}]"

        return expression.sub(marked, value)

    @staticmethod
    def _holds(holds: Any, text: str) -> bool:
        try:
            return bool(holds(text))
        except Exception:  # noqa: BLE001 - the application's code: in doubt it is what was looked for
            return True

    def _check_time(self) -> None:
        if time.monotonic() > self._stop_at_s:
            raise _FailedError("time")

    def _took(self, where: str) -> None:
        self.number += 1
        self._enter(f"{where}:redacted")

    def _failed(self, where: str, why: str) -> str:
        self.number += 1
        self._rewrite = True
        self._enter(f"{where}:redaction_failed:{why}")
        return f"[redacted: failed, {why}]"

    def _enter(self, entry: str) -> None:
        if len(self.entries) < MAX_ENTRIES:
            self.entries[entry] = None


def _integer(digits: str) -> int | str:
    # Python refuses to read longer ones; as text they are looked at like the rest.
    return int(digits) if len(digits) <= MAX_INT_DIGITS else digits


def _folded(key: str) -> str:
    return _INSIGNIFICANT.sub("", key).lower()


def _note(span: Span, entries: Iterable[str]) -> None:
    for attribute in span.attributes:
        if attribute.key == Key.LOSSINESS and attribute.value.WhichOneof("value") == "array_value":
            break
    else:
        attribute = span.attributes.add(key=Key.LOSSINESS)
    attribute.value.array_value.values.extend(AnyValue(string_value=entry) for entry in entries)
