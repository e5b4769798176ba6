"""What a span is (its kind) and which convention it speaks (its dialect).

Rules go from the most to the least telling, and the first that applies decides:

====  =====================================================================================
rank  a span that
====  =====================================================================================
0     carries the decision record: decision
1     says that it is a model call, in any dialect: inference
2     has a decision type and is nothing above: decision
3     says that it groups others (agent, chain, workflow): agent
4     says that it is a tool, a search or an embedding: that
5     says that it is something else: other
6     says nothing, but carries messages and a model, or lost attributes: inference, flagged
====  =====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid.schema import Key, Kind
from loopgrid_collector.dialects import parsers
from loopgrid_collector.dialects.arrow import TEXT, Mask, equal, true
from loopgrid_collector.dialects.catalogue import DIALECTS, NAMED_FIRST
from loopgrid_collector.dialects.columns import Spans
from loopgrid_collector.dialects.table import KindRule, Marks

_KINDS: Final = tuple(Kind)
_RANKS: Final = {
    Kind.DECISION: 0,
    Kind.INFERENCE: 1,
    Kind.AGENT: 3,
    Kind.TOOL: 4,
    Kind.RETRIEVAL: 4,
    Kind.EMBEDDING: 4,
    Kind.OTHER: 5,
}
_LATE_RANK: Final = 2
_NO_RANK: Final = 6

_MESSAGE_PREFIXES: Final = ("llm.input_messages.", "llm.output_messages.", "gen_ai.prompt.")
_MESSAGE_KEYS: Final = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gcp.vertex.agent.llm_request",
    "request_data",
)
_MODEL_KEYS: Final = (
    "gen_ai.request.model",
    "gen_ai.response.model",
    "llm.model_name",
    "llm.request.model_name",
    "llm.response.model_name",
    "llm.invocation_parameters",
)

_NO_CALLS: Final = (("openinference.instrumentation.llama_index", "._prepare_chat_with_tools"),)
"""Scope and ending of the span's name: what prepares a call and says that it is one."""

CONTENT_OFF: Final = "content_off"
"""Loss code: the source does not capture content."""

KIND_INFERRED: Final = "kind_inferred"
"""Loss code: nothing on the span says what it is."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """Kinds and dialects of some spans.

    Attributes:
        code: row → index into ``tuple(Kind)``.
        speaks: dialect → which rows speak it.
        dialect: row → name of its dialect; null where it speaks none.
    """

    code: npt.NDArray[np.int8]
    speaks: dict[str, Mask]
    dialect: pa.StringArray

    def are(self, *kinds: Kind) -> Mask:
        """Which rows are of one of the kinds."""
        mask = np.zeros(len(self.code), dtype=np.bool_)
        for kind in kinds:
            mask |= self.code == _KINDS.index(kind)
        return mask

    @property
    def kind(self) -> pa.StringArray:
        """Row → kind."""
        names = pa.array([str(kind) for kind in _KINDS], TEXT)
        return names.take(pa.array(self.code))


def recognise(spans: Spans) -> Recognised:
    """Find each span's kind and dialect."""
    encoded = spans.facts.scope_name.dictionary_encode()
    scopes = _Scopes(encoded.dictionary.to_pylist(), np.array(encoded.indices.fill_null(0)))
    speaks = {dialect.name: _marked(spans, scopes, dialect.marks) for dialect in DIALECTS}
    code = _kinds(spans)
    for scope, ending in _NO_CALLS:
        if scope in scopes.names:
            prepares = true(pc.ends_with(spans.facts.name, ending)) & equal(spans.facts.scope_name, scope)
            code[prepares] = _KINDS.index(Kind.OTHER)
    return Recognised(code=code, speaks=speaks, dialect=_dialects(spans, speaks))


@dataclass(frozen=True, slots=True)
class _Scopes:
    names: list[str]
    index: npt.NDArray[np.int32]


def _marked(spans: Spans, scopes: _Scopes, marks: Marks) -> Mask:
    mask = np.zeros(spans.rows, dtype=np.bool_)
    for key in marks.keys:
        if key in spans.keys:
            mask |= spans.attributes.has(key)
    for key in spans.attributes.keys if marks.prefixes else ():
        if key.startswith(marks.prefixes) and not mask.all():
            mask |= spans.attributes.has(key)
    hits = [name in marks.scopes or name.startswith(marks.scope_prefixes) for name in scopes.names]
    if not any(hits):
        return mask
    of_scope = np.array(hits, dtype=np.bool_)[scopes.index]
    if marks.span_names:
        of_scope &= true(pc.is_in(spans.facts.name, pa.array(marks.span_names, TEXT)))
    for key in marks.beside:
        of_scope &= spans.attributes.has(key)
    return mask | of_scope


def _dialects(spans: Spans, speaks: dict[str, Mask]) -> pa.StringArray:
    code = np.full(spans.rows, -1, dtype=np.int8)
    for position, name in reversed(list(enumerate(NAMED_FIRST))):
        code[speaks[name]] = position
    if Key.DECISION_TYPE in spans.keys:
        code[(code < 0) & spans.attributes.has(Key.DECISION_TYPE)] = NAMED_FIRST.index("loopgrid")
    names = pa.array(NAMED_FIRST, TEXT)
    return names.take(pa.array(code, mask=code < 0))


def _kinds(spans: Spans) -> npt.NDArray[np.int8]:
    code = np.full(spans.rows, _KINDS.index(Kind.OTHER), dtype=np.int8)
    rank = np.full(spans.rows, _NO_RANK, dtype=np.int8)
    for dialect in DIALECTS:
        for rule in dialect.kinds:
            if rule.key in spans.keys:
                _apply(spans, rule, code, rank)
    unsaid = rank == _NO_RANK
    for row in np.flatnonzero(unsaid & _looks_like_a_call(spans)).tolist() if unsaid.any() else ():
        code[row] = _KINDS.index(Kind.INFERENCE)
        spans.lose(row, KIND_INFERRED)
    return code


def _apply(spans: Spans, rule: KindRule, code: npt.NDArray[np.int8], rank: npt.NDArray[np.int8]) -> None:
    carries = spans.attributes.has(rule.key)
    if rule.present is not None:
        kinds = np.full(spans.rows, _KINDS.index(rule.present), dtype=np.int8)
        ranks = np.full(spans.rows, _LATE_RANK if rule.late else _RANKS[rule.present], dtype=np.int8)
    else:
        encoded = spans.attributes.text(rule.key).dictionary_encode()
        named = [_kind(rule, value) for value in encoded.dictionary.to_pylist()] or [Kind.OTHER]
        indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        kinds = np.array([_KINDS.index(kind) for kind in named], dtype=np.int8)[indices]
        ranks = np.array([_RANKS[kind] for kind in named], dtype=np.int8)[indices]
    better = carries & (ranks < rank)
    code[better] = kinds[better]
    rank[better] = ranks[better]


def _kind(rule: KindRule, value: str) -> Kind:
    name = (parsers.TEXT[rule.parser](value) or "").lower()
    if name in rule.kinds:
        return rule.kinds[name]
    return next((kind for ending, kind in rule.endings.items() if name.endswith(ending)), Kind.OTHER)


def _looks_like_a_call(spans: Spans) -> Mask:
    """Messages together with a model; lost attributes excuse the missing model."""
    messages = np.zeros(spans.rows, dtype=np.bool_)
    for prefix in _MESSAGE_PREFIXES:
        for key in spans.attributes.keys_with_prefix(prefix):
            # `gen_ai.prompt.name` shares the prefix of flattened messages and is none.
            if key[len(prefix) :].partition(".")[0].isdecimal():
                messages |= spans.attributes.has(key)
    for key in _MESSAGE_KEYS:
        if key in spans.keys:
            messages |= spans.attributes.has(key)
    if not messages.any():
        return messages
    model = np.asarray(spans.facts.dropped_attributes) > 0
    for key in _MODEL_KEYS:
        if key in spans.keys:
            model |= spans.attributes.has(key)
    return messages & model


def capture_off(spans: Spans, row: int, dialect: str | None) -> str:
    """The loss code of a model call without content: capture is off, or this call never has any."""
    scope = spans.facts.scope_name[row].as_py() or ""
    switches = next((table.switches for table in DIALECTS if table.name == dialect), ())
    switch = next((switch for switch in switches if scope.startswith(switch.scope_prefix)), None)
    if switch is None:
        return CONTENT_OFF
    if switch.unless_failed and spans.failed[row]:
        return "input_missing"
    return f"{CONTENT_OFF}:{switch.setting}"
