"""Which decisions a page holds, found without reading the whole ledger.

What makes a page dear is to say of every span whether it is a step of a decision. So the page is walked:
the next few spans that may be decisions, in the page's order, then only their traces, which say which of
them are steps. The view ``decisions`` says the same of all spans at once; a test holds the two together,
and where a page would need too much of the ledger it is the view that is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loopgrid.schema import Kind
from loopgrid_query.cursors import Cursor
from loopgrid_query.filters import TEXT_PARAMETERS, Selection
from loopgrid_query.instants import as_stored, to_micros
from loopgrid_query.kin import MODEL, Key, kin_of, steps_among
from loopgrid_query.queries import Reader, Row

MAX_RELATIVES: Final = 20_000
"""Spans read to sort out and complete the decisions of a page; beyond, the ledger reckons."""

MAX_CANDIDATES: Final = 4_000
"""Spans looked at, one trace after the other, for one page; beyond, the ledger reckons."""

_ON_SPANS: Final = {
    # A decision without a model of its own may take one from its kin; Pages checks that.
    "filter_model": "filter_model_unsaid",
    "filter_incorrect": "filter_incorrect_span",
    "filter_corrected": "filter_corrected_span",
}
_FORTH: Final = ("page_candidates", "page_candidates_text", "page_reach")
_BACK: Final = ("page_candidates_back", "page_candidates_text_back", "page_reach_back")
_FEW_PLACES: Final = 128
_WINDOWS_NS: Final = tuple(60**power * 10**9 for power in range(5))
_ROUND: Final = 64
_GROWTH: Final = 4
_MAX_ROUND: Final = 65_536
_NS_PER_US: Final = 1000
_LAST_NS: Final = 2**64 - 1


class _TooFar(Exception):
    """A page needs more of the ledger than is sensible to fetch."""


@dataclass(frozen=True, slots=True)
class Page:
    """The keys of a page, newest first.

    Attributes:
        keys: rows with ``trace_key``, ``span_key``, ``place_key``, ``decision_id`` and ``started_at``.
        next: where the page after it begins, if there is anything.
        previous: where the page before it begins, if there is anything.
    """

    keys: Sequence[Row]
    next: Cursor | None
    previous: Cursor | None


class Pages:
    """The pages of one ledger."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def page(self, selection: Selection) -> Page:
        """The page that a selection asks for."""
        cursor = selection.cursor
        back = cursor is not None and cursor.back
        try:
            found = self._walked(selection, back=back)
        except _TooFar:
            found = self._reckoned(selection, back=back)
        more = len(found) > selection.limit
        keys = found[: selection.limit]
        if back:
            keys = keys[::-1]
        if not keys:
            return Page(keys, None, None)
        after = _cursor(keys[-1], back=False) if more or back else None
        before = _cursor(keys[0], back=True) if (more if back else cursor is not None) else None
        return Page(keys, after, before)

    def relatives(self, traces: Sequence[str]) -> Sequence[Row]:
        """The spans of some traces, one more than ``MAX_RELATIVES`` at most."""
        found = self._reader.rows("trace_places", {"traces": traces, "limit": MAX_RELATIVES + 1})
        if not found:
            return []
        places = [row["place_key"] for row in found]
        if len(places) <= _FEW_PLACES:
            return self._reader.rows(
                "relatives", {"traces": traces}, conditions=["filter_places"], places=places
            )
        reach = {"places": places, "first": places[0], "last": places[-1]}
        return self._reader.rows("relatives", {"traces": traces, **reach}, conditions=["filter_places_many"])

    def surroundings(self, traces: Sequence[str]) -> Sequence[Row] | None:
        """The spans of some traces, and of those with records of the same calls; None: too many."""
        try:
            return self._whole(set(traces), None)
        except _TooFar:
            return None

    def _reckoned(self, selection: Selection, *, back: bool) -> Sequence[Row]:
        conditions, parameters = _from_cursor(selection.cursor)
        return self._reader.rows(
            "page_keys_back" if back else "page_keys",
            {**selection.parameters, **parameters, "limit": selection.limit + 1},
            conditions=(*selection.conditions, *conditions),
        )

    def _walked(self, selection: Selection, *, back: bool) -> Sequence[Row]:
        """One decision more than a page holds, if there are as many, in the order of the walk."""
        wanted = selection.limit + 1
        found: list[Row] = []
        walk = _Walk(self._reader, selection, back=back)
        looked_at = 0
        size = max(_ROUND, wanted)
        while len(found) < wanted and not walk.ended:
            candidates = walk.step(size)
            looked_at += len(candidates)
            if looked_at > MAX_CANDIDATES:
                raise _TooFar
            found += self._decisions(candidates, selection)
            size = min(size * _GROWTH, _MAX_ROUND)
        return found[:wanted]

    def _decisions(self, candidates: Sequence[Row], selection: Selection) -> Sequence[Row]:
        """Those candidates that are decisions, and hold to what the filters say of their kin."""
        model = selection.parameters.get("model")
        unsaid = [each for each in candidates if model is not None and _says_no_model(each)]
        calls = [each for each in candidates if each["kind"] == Kind.INFERENCE]
        if not calls and not unsaid:
            return candidates
        relatives = self._whole({each["trace_key"] for each in (*calls, *unsaid)}, None if unsaid else calls)
        steps: set[Key] = steps_among(relatives) if calls else set()
        kin = kin_of(relatives) if unsaid else {}
        refused = {
            _key(each)
            for each in unsaid
            if _key(each) not in kin or model not in [kin[_key(each)].fields()[name] for name in MODEL[1:]]
        }
        return [each for each in candidates if _key(each) not in steps and _key(each) not in refused]

    def _whole(self, traces: set[str], calls: Sequence[Row] | None) -> Sequence[Row]:
        """The spans of some traces, and of those that hold a record of the same calls.

        Args:
            traces: their keys.
            calls: those that matter; None: all in them.
        """
        relatives = self._within(traces)
        wanted = None if calls is None else {_key(call) for call in calls}
        stated = [
            each
            for each in relatives
            if each["response_id"] is not None and (wanted is None or _key(each) in wanted)
        ]
        others = self._sharing(stated) - traces
        return [*relatives, *self._within(others)] if others else relatives

    def _sharing(self, calls: Sequence[Row]) -> set[str]:
        """Traces with records of some calls: the same response id, at times that hang together."""
        if not calls:
            return set()
        responses = sorted({call["response_id"] for call in calls})
        since = min(call["start_ns"] for call in calls)
        until = max(max(call["start_ns"], call["end_ns"]) for call in calls)
        while True:
            reach = {"since": since, "until": until, "limit": MAX_RELATIVES + 1}
            rows = self._reader.rows("response_traces", {"responses": responses, **reach})
            if len(rows) > MAX_RELATIVES:
                raise _TooFar
            first = min((row["since"] for row in rows), default=since)
            last = max((row["until"] for row in rows), default=until)
            if first >= since and last <= until:
                return {row["trace_key"] for row in rows}
            since, until = min(first, since), max(last, until)

    def _within(self, traces: set[str]) -> Sequence[Row]:
        relatives = self.relatives(sorted(traces))
        if len(relatives) > MAX_RELATIVES:
            raise _TooFar
        return relatives


class _Walk:
    """Spans that may be decisions, a round at a time, in the order of a page or against it."""

    def __init__(self, reader: Reader, selection: Selection, *, back: bool) -> None:
        self.ended = False
        self._reader = reader
        self._back = back
        self._cursor = selection.cursor
        self._parameters = selection.parameters
        self._conditions = [_ON_SPANS.get(name, name) for name in selection.conditions]
        # A scan of content reads much; how far to look must not depend on it.
        self._cheap = [name for name in self._conditions if name != "filter_q"] or ["filter_all"]
        self._floor, self._ceiling = _bounds(selection)

    def step(self, size: int) -> Sequence[Row]:
        """The next candidates, at most so many; few or none if only few of so many hold to the filters."""
        of_spans, of_texts, reach = _BACK if self._back else _FORTH
        conditions, parameters = _from_cursor(self._cursor)
        parameters = {**self._parameters, **parameters}
        reached: Row = {}
        for since, until in self._windows():
            reached = self._reader.rows(
                reach,
                {**_used(self._cheap, parameters), "floor": since, "ceiling": until, "reach": size},
                conditions=(*self._cheap, *conditions),
            )[0]
            if reached["spans"] == size:
                break
        further = reached["spans"] == size
        floor, ceiling = self._floor, self._ceiling
        if further and self._back:
            ceiling = min(ceiling, _last_of_microsecond(reached["start_key"]))
        elif further:
            floor = max(floor, _first_of_microsecond(reached["start_key"]))
        found = self._reader.rows(
            of_texts if "filter_q" in self._conditions else of_spans,
            {**parameters, "floor": floor, "ceiling": ceiling, "limit": size},
            conditions=(*self._conditions, *conditions),
        )
        if len(found) == size:
            # There may be more at the same microsecond.
            self._cursor = _cursor(found[-1], back=self._back)
        elif not further:
            self.ended = True
        elif self._back:
            self._floor = ceiling + 1
        else:
            self._ceiling = floor - 1
        self.ended |= self._floor > self._ceiling
        return found

    def _windows(self) -> Iterator[tuple[int, int]]:
        """Ever longer times from where the walk is; the last one is all of it.

        DuckDB finds the newest of all spans at once, but the newest before some moment only by looking at
        every one before it.
        """
        if (self._floor > 0) if self._back else (self._ceiling < _LAST_NS):
            for window in _WINDOWS_NS:
                if window >= self._ceiling - self._floor:
                    break
                if self._back:
                    yield self._floor, self._floor + window
                else:
                    yield self._ceiling - window, self._ceiling
        yield self._floor, self._ceiling


def _says_no_model(row: Row) -> bool:
    return row["kind"] == Kind.DECISION and row["model_source"] is None


def _key(row: Row) -> Key:
    return row["trace_key"], row["span_key"]


def _cursor(row: Row, *, back: bool) -> Cursor:
    return Cursor(row["started_at"], row["decision_id"], back)


def _from_cursor(cursor: Cursor | None) -> tuple[list[str], dict[str, Any]]:
    """What a page's begin asks for: conditions and their parameters."""
    if cursor is None:
        return [], {}
    name = "filter_before" if cursor.back else "filter_after"
    if cursor.started_at is None:
        return [name + "_undated"], {"after_decision_id": cursor.decision_id}
    moment = as_stored(cursor.started_at)
    return [name], {"after_decision_id": cursor.decision_id, "after_started_at": moment}


def _used(conditions: Sequence[str], parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters without those of a search for text, where there is none."""
    if "filter_q" in conditions:
        return parameters
    return {name: value for name, value in parameters.items() if name not in TEXT_PARAMETERS}


def _bounds(selection: Selection) -> tuple[int, int]:
    """Between which starts, in nanoseconds, all that is asked for lies; a span without one has zero."""
    floor, ceiling = 0, _LAST_NS
    if "from" in selection.parameters:
        floor = to_micros(selection.parameters["from"]) * _NS_PER_US
    if "to" in selection.parameters:
        ceiling = max(to_micros(selection.parameters["to"]) * _NS_PER_US - 1, 0)
    cursor = selection.cursor
    if cursor is not None:
        start_ns = 0 if cursor.started_at is None else to_micros(cursor.started_at) * _NS_PER_US
        if cursor.back:
            floor = max(floor, start_ns)
        else:
            ceiling = min(ceiling, 0 if cursor.started_at is None else start_ns + _NS_PER_US - 1)
    return floor, ceiling


def _first_of_microsecond(start_ns: int) -> int:
    return start_ns and max(1, start_ns // _NS_PER_US * _NS_PER_US)


def _last_of_microsecond(start_ns: int) -> int:
    return start_ns and min(_LAST_NS, start_ns // _NS_PER_US * _NS_PER_US + _NS_PER_US - 1)
