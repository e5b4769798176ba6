"""Decisions: record, get, list, and the trace around one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from loopgrid.schema import Kind, parse_decision_id
from loopgrid_collector.ingest import Ingest
from loopgrid_query import filters, ids
from loopgrid_query.errors import Conflict, FieldError, Invalid, NotFound
from loopgrid_query.instants import parse_instant_ns
from loopgrid_query.kin import MODEL, TOKENS, kin_of, repeated_calls
from loopgrid_query.locks import KeyedLocks
from loopgrid_query.models import DecisionRequest, given
from loopgrid_query.pages import MAX_RELATIVES, Pages
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, entry_record
from loopgrid_query.spans import DecisionSpan, decision_attributes
from loopgrid_query.trace_tree import in_tree_order, totals

MAX_TRACE_SPANS: Final = 10_000

# A span must have a name; a replayed model call has no decision type to give it.
_UNNAMED: Final = "replay"
_NS_PER_MS: Final = 10**6
_NS_PER_US: Final = 1000


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a decision that was handed in.

    Attributes:
        decision_id: its id.
        created: false where the same decision was on record already.
    """

    decision_id: str
    created: bool


class Decisions:
    """The decisions of one ledger."""

    def __init__(self, reader: Reader, ingest: Ingest) -> None:
        self._reader = reader
        self._ingest = ingest
        self._locks = KeyedLocks()
        self._pages = Pages(reader)

    def record(self, request: DecisionRequest) -> Recorded:
        """Record a decision through the ingest door. It is durable when this returns.

        Raises:
            Invalid: a value cannot be recorded.
            Conflict: the decision id is on record with other content; what is there stays.
            CollectorError: the door refuses; nothing is stored.
        """
        fields = _fields(request)
        return self.append(
            request.decision_id or ids.new_decision_id(),
            fields,
            attributes=decision_attributes(fields),
            known_before=request.decision_id is not None,
        )

    def append(
        self,
        decision_id: str,
        fields: Mapping[str, Any],
        *,
        attributes: Mapping[str, Any],
        known_before: bool,
        replay_of: tuple[int, int] | None = None,
    ) -> Recorded:
        """Append a decision under an id.

        Args:
            decision_id: its id.
            fields: the decision in the API's shape; of these ``started_at``, ``duration_ms``,
                ``service_name``, ``error`` and ``decision_type`` are not attributes.
            attributes: as ``spans.decision_attributes`` gives them.
            known_before: whether somebody else may use the same id.
            replay_of: trace and span id of the decision that this one replays.

        Raises:
            as ``record``.
        """
        with self._locks.holding(decision_id):
            start_ns = _start_ns(fields)
            if start_ns is None and known_before:
                # A repeated request must be the same to the nanosecond to count as the same.
                start_ns = self._stored_start_ns(decision_id)
            if start_ns is None:
                start_ns = time.time_ns() // _NS_PER_US * _NS_PER_US
            span = _span(decision_id, fields, attributes, start_ns, replay_of)
            receipt = self._ingest.traces_blocking(span.request())
        if receipt.conflicts:
            raise Conflict(
                f"Decision {decision_id} is on record with other content, which stays as it is. "
                "Record this one under another decision_id, or leave decision_id out."
            )
        if receipt.rejected:
            raise Invalid(f"The decision cannot be stored: {receipt.message}")
        return Recorded(decision_id, created=receipt.stored > 0)

    @staticmethod
    def as_request(
        decision_id: str,
        fields: Mapping[str, Any],
        *,
        attributes: Mapping[str, Any],
        replay_of: tuple[int, int] | None = None,
    ) -> bytes:
        """A decision that says when it began, as a request body of OTLP. Arguments as of ``append``.

        Raises:
            Invalid: a value cannot be told in OTLP.
        """
        start_ns = _start_ns(fields)
        if start_ns is None:
            raise AssertionError("who has run it knows when it began")
        return _span(decision_id, fields, attributes, start_ns, replay_of).request()

    def _stored_start_ns(self, decision_id: str) -> int | None:
        trace_id, _, span_id = decision_id.partition("-")
        row = self._reader.row("span_start", trace_id=trace_id, span_id=span_id)
        return None if row is None else int(row["start_ns"])

    def row(self, decision_id: str) -> Row:
        """One decision as a row of the view.

        Raises:
            Malformed: it is no decision id.
            NotFound: it is none on record.
        """
        ids.split_decision_id(decision_id)
        return self._decision(decision_id, self._spoken_of(decision_id))

    def _spoken_of(self, decision_id: str) -> Row:
        (spoken,) = self._reader.rows("spoken_of", _key(decision_id))
        return spoken

    def _decision(self, decision_id: str, spoken: Row) -> Row:
        place = spoken["place"]
        if place is None:
            raise NotFound(f"No decision {decision_id} is on record. GET /v1/decisions lists those that are.")
        row = None if spoken["entries"] or spoken["logs"] else self._reader.row("plain_record", place=place)
        # A correction that arrives between the two looks is seen by the next reader.
        if row is None or row.pop("says_cost"):
            (row,) = self._reader.rows("record", {"place": place})
        if row["kind"] == Kind.DECISION:
            return row
        if row["parent_span_id"] is not None:
            owner = self._reader.row("owner", **_key(decision_id), max_depth=MAX_TRACE_SPANS)
            if owner is not None:
                decision = f"{row['trace_id']}-{owner['span_id']}"
                raise NotFound(
                    f"{decision_id} is a step ({row['kind']}) of decision {decision}; ask for that one."
                )
        if row["kind"] != Kind.INFERENCE:
            raise NotFound(
                f"{decision_id} is on record as a span of kind {row['kind']!r}, which is no decision; "
                "it can be read with /v1/sql from the view spans."
            )
        return row

    def get(self, decision_id: str) -> Record:
        """One decision with everything said about it since. Raises as ``row``."""
        ids.split_decision_id(decision_id)
        spoken = self._spoken_of(decision_id)
        (row,) = self._completed([self._decision(decision_id, spoken)])
        return {**decision_record(row), **self._said(decision_id, row, nothing=not spoken["entries"])}

    def many(self, decision_ids: Sequence[str]) -> Record:
        """Decisions as ``get`` gives them, in the order asked for, and the ids that are none on record.

        Args:
            decision_ids: ids; one that stands twice is answered twice.

        Raises:
            Malformed: one is no decision id.
        """
        for decision_id in decision_ids:
            ids.split_decision_id(decision_id)
        rows = self.originals(decision_ids)
        said = self._said_of(rows)
        return {
            "items": [{**decision_record(rows[each]), **said[each]} for each in decision_ids if each in rows],
            "missing": [each for each in decision_ids if each not in rows],
        }

    def originals(self, decision_ids: Iterable[str]) -> Mapping[str, Row]:
        """Decisions by their ids as rows of the view, without what was said about them.

        Those that are none on record are left out.
        """
        return {row["decision_id"]: row for row in self._completed(self._records_of(decision_ids))}

    def _records_of(self, decision_ids: Iterable[str]) -> Sequence[Row]:
        """Records of those that are decisions on record."""
        wanted = {(str(UUID(int=trace)), span) for trace, span in map(parse_decision_id, set(decision_ids))}
        parameters = {
            "traces": sorted({trace for trace, _ in wanted}),
            "spans": sorted({span for _, span in wanted}),
        }
        found = self._reader.rows("batch_places", parameters)
        rows = self._records([each for each in found if (each["trace_key"], each["span_key"]) in wanted])
        return [row for row in rows if row["kind"] == Kind.DECISION or not self._is_step(row)]

    def _is_step(self, row: Row) -> bool:
        if row["parent_span_id"] is None:
            return False
        key = _key(row["decision_id"])
        return self._reader.row("owner", **key, max_depth=MAX_TRACE_SPANS) is not None

    def _said_of(self, rows: Mapping[str, Row]) -> dict[str, Record]:
        """What was said about each of some decisions."""
        said: dict[str, Record] = {
            each: {"marks": [], "corrections": [], "replays": [], "ground_truth": None, "outcomes": []}
            for each in rows
        }
        marked = [each for each, row in rows.items() if row["incorrect"]]
        corrected = [each for each, row in rows.items() if row["corrected"]]
        for name, about in (("marks", marked), ("corrections", corrected), ("replays", list(rows))):
            for entry in self._reader.rows(f"batch_{name}", {"decision_ids": about}) if about else ():
                said[entry["decision_id"]][name].append(entry_record(entry))
        for truth in self._reader.rows("batch_truths", {"decision_ids": corrected}) if corrected else ():
            said[truth["decision_id"]]["ground_truth"] = entry_record(truth)
        if self._reader.row("batch_outcomes_known") is not None:
            for each in (each for each, row in rows.items() if self._has_outcome(row)):
                outcomes = self._reader.rows("decision_outcomes", {"decision_id": each})
                said[each]["outcomes"] = [entry_record(outcome) for outcome in outcomes]
        return said

    def _said(self, decision_id: str, row: Row, *, nothing: bool) -> Record:
        said: Record = {"marks": [], "corrections": [], "replays": [], "ground_truth": None}
        parameters = {"decision_id": decision_id}
        # What the record says is not there is not looked for: these read everything that was ever said.
        there = {"marks": row["incorrect"], "corrections": row["corrected"], "replays": not nothing}
        for name in (name for name, any_ in there.items() if any_):
            said[name] = [entry_record(each) for each in self._reader.rows(f"decision_{name}", parameters)]
        if row["corrected"]:
            truth = self._reader.row("decision_ground_truth", **parameters)
            said["ground_truth"] = None if truth is None else entry_record(truth)
        # An outcome speaks of a business key, so it is no entry about this decision.
        outcomes = self._reader.rows("decision_outcomes", parameters) if self._has_outcome(row) else []
        said["outcomes"] = [entry_record(each) for each in outcomes]
        return said

    def _has_outcome(self, row: Row) -> bool:
        metadata = row["metadata"]
        return metadata is not None and self._reader.row("knows_outcome", metadata=metadata) is not None

    def list(self, words: Iterable[tuple[str, str]]) -> Record:
        """A page of decisions, newest first.

        Args:
            words: filters as they stand in the address.

        Raises:
            Malformed: a filter is unknown or its value cannot be read.
        """
        page = self._pages.page(filters.select(words))
        return {
            "items": [decision_record(row) for row in self._completed(self._records(page.keys))],
            "next_cursor": None if page.next is None else page.next.encode(),
            "previous_cursor": None if page.previous is None else page.previous.encode(),
        }

    def _records(self, keys: Sequence[Row]) -> Sequence[Row]:
        """The records of some keys of a page, in the same order."""
        if not keys:
            return []
        places = [key["place_key"] for key in keys]
        rows = self._reader.rows("page_records", {}, conditions=["filter_places"], places=places)
        found = {row.pop("place_key"): row for row in rows}
        return [found[place] for place in places]

    def _completed(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Records of decisions with what they take from the spans around them."""
        lacking = [row for row in rows if _lacks(row)]
        if not lacking:
            return rows
        traces = sorted({str(UUID(row["trace_id"])) for row in lacking})
        # What calls used is told of decisions alone, and only that may depend on other traces.
        counted = any(row["kind"] == Kind.DECISION for row in lacking)
        relatives = self._pages.surroundings(traces) if counted else self._pages.relatives(traces)
        if relatives is None or len(relatives) > MAX_RELATIVES:
            taken = {
                (row["trace_key"], row["span_key"]): row
                for row in self._reader.rows("kin", {"traces": traces})
            }
        else:
            taken = {key: kin.fields() for key, kin in kin_of(relatives).items()}
        for row in lacking:
            _take(row, taken.get((str(UUID(row["trace_id"])), int(row["span_id"], 16)), {}))
        return rows

    def trace(self, decision_id: str) -> Record:
        """The tree of spans that a decision belongs to, with sums. Raises as ``row``."""
        trace_id = self.row(decision_id)["trace_id"]
        rows = self._reader.rows("trace_spans", {"trace_key": trace_id, "limit": MAX_TRACE_SPANS + 1})
        spans = in_tree_order(rows[:MAX_TRACE_SPANS])
        for span in spans:
            owner = span.pop("owner")
            span["owner_decision_id"] = None if owner is None else f"{trace_id}-{owner}"
        return {
            "decision_id": decision_id,
            "trace_id": trace_id,
            "spans": [entry_record(span) for span in spans],
            "totals": totals(spans, self._repeated(trace_id)),
            "truncated": len(rows) > MAX_TRACE_SPANS,
        }

    def steps(self, decision_id: str) -> Record:
        """What `@step` and `@tool` recorded inside a decision, for a replay from the record.

        Raises as ``row``.
        Model calls that others' instrumentations recorded are counted: nothing can answer them.
        """
        row = self.row(decision_id)
        rows = self._reader.rows(
            "decorated_steps", {"trace_key": row["trace_id"], "limit": MAX_TRACE_SPANS + 1}
        )
        inside = {row["span_id"]}
        # A parent starts before its children, but for clocks that jump: it is looked for until nothing comes.
        found = -1
        while len(inside) != found:
            found = len(inside)
            inside |= {each["span_id"] for each in rows if each["parent_span_id"] in inside}
        steps, foreign = [], 0
        for each in rows:
            if each["span_id"] not in inside or each["span_id"] == row["span_id"]:
                continue
            name = each["tool_name"] or each["step_name"]
            if name is None:
                foreign += each["kind"] == Kind.INFERENCE
                continue
            steps.append(_step(each, name))
        return {
            "decision_id": decision_id,
            "items": steps,
            "foreign_model_calls": foreign,
            "truncated": len(rows) > MAX_TRACE_SPANS,
        }

    def _repeated(self, trace_id: str) -> set[str]:
        """Ids of a trace's spans that record a call once more."""
        relatives = self._pages.relatives([str(UUID(trace_id))])
        return {format(key, "016x") for key in repeated_calls(relatives[:MAX_RELATIVES])}


def _step(row: Row, name: str) -> Record:
    failed = row["status_code"] == _ERROR
    return {
        "span_id": row["span_id"],
        "parent_span_id": row["parent_span_id"],
        "kind": "tool" if row["tool_name"] is not None else "step",
        "name": name,
        "effect": row["effect"],
        "arguments": row["arguments"],
        "result": row["result"],
        "ended": row["status_code"] in {_OK, _ERROR},
        "error": {"type": row["error_type"], "message": row["error_message"]} if failed else None,
        "lossiness": row["lossiness"] or [],
    }


_OK: Final = 1
_ERROR: Final = 2
"""Status codes of spans."""


def _lacks(row: Row) -> bool:
    """Whether spans around a decision may say what it does not say itself."""
    if row["agent_name"] is None and row["parent_span_id"] is not None:
        return True
    return row["kind"] == Kind.DECISION and (row["model_source"] is None or row["usage_source"] is None)


def _take(row: Row, kin: Mapping[str, Any]) -> None:
    if row["agent_name"] is None:
        row["agent_name"] = kin.get("agent_name")
    for source, names in (("model_source", MODEL), ("usage_source", TOKENS)):
        taken = {name: kin.get(name) for name in names}
        if row[source] is None and any(value is not None for value in taken.values()):
            row.update(taken)
            row[source] = "steps"


def _key(decision_id: str) -> dict[str, Any]:
    trace_id, span_id = parse_decision_id(decision_id)
    return {"trace_key": f"{trace_id:032x}", "span_key": span_id}


def _fields(request: DecisionRequest) -> dict[str, Any]:
    fields = given(request)
    # Null is an input and an output like any other: what was sent is recorded.
    fields |= {
        name: getattr(request, name) for name in ("input", "output") if name in request.model_fields_set
    }
    for name in ("model", "prompt", "usage", "error"):
        if name in fields:
            fields[name] = given(fields[name])
    return fields


def _start_ns(fields: Mapping[str, Any]) -> int | None:
    return parse_instant_ns(fields["started_at"]) if "started_at" in fields else None


def _span(
    decision_id: str,
    fields: Mapping[str, Any],
    attributes: Mapping[str, Any],
    start_ns: int,
    replay_of: tuple[int, int] | None,
) -> DecisionSpan:
    trace_id, span_id = parse_decision_id(decision_id)
    duration_ms = fields.get("duration_ms")
    # An end of zero is how a span says that its end is not known.
    end_ns = 0 if duration_ms is None else start_ns + round(duration_ms * _NS_PER_MS)
    if end_ns >= 2**63:
        raise Invalid.of([FieldError("duration_ms", "ends later than times can be written")])
    return DecisionSpan(
        trace_id=trace_id,
        span_id=span_id,
        name=fields.get("decision_type", _UNNAMED),
        attributes=attributes,
        start_ns=start_ns,
        end_ns=end_ns,
        service_name=fields.get("service_name"),
        failed="error" in fields,
        failure=fields.get("error", {}).get("message"),
        replay_of=replay_of,
    )
