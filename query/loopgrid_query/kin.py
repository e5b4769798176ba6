"""What a decision takes from the spans around it: usage and model of the calls inside, the agent above. Pure.

The view ``decisions`` says the same in SQL, for every decision on record at once. A test holds the two
together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from loopgrid.schema import Kind

Relative = Mapping[str, Any]
"""A row of the query ``relatives``."""

Key = tuple[str, int]
"""Trace key as text, and span key."""

TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
MODEL: Final = ("model_provider", "model_name", "model_response_name")
_CALLS: Final = frozenset({Kind.INFERENCE.value, Kind.DECISION.value})
_MOST_TOKENS: Final = 2**63 - 1


@dataclass(slots=True)
class Kin:
    """What one span can take from those around it.

    Attributes:
        agent_name: name of the nearest agent above it.
        calls: the model calls inside it, each once.
    """

    agent_name: str | None = None
    calls: list[Relative] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """Agent, sums, and what all calls that say it agree on; null where nobody says anything."""
        said: dict[str, Any] = {"agent_name": self.agent_name}
        for name in TOKENS:
            counts = [call[name] for call in self.calls if call[name] is not None]
            said[name] = sum(counts) if counts and abs(sum(counts)) <= _MOST_TOKENS else None
        for name in MODEL:
            names = {call[name] for call in self.calls} - {None}
            said[name] = names.pop() if len(names) == 1 else None
        return said


def kin_of(relatives: Iterable[Relative]) -> dict[Key, Kin]:
    """The kin of every span of some whole traces, with those that hold a record of the same calls."""
    found: dict[Key, Kin] = {}
    owners: dict[Key, Key] = {}
    traces = _by_trace(relatives)
    for trace, spans in traces.items():
        for key, (owner, agent) in _above(spans).items():
            found[trace, key] = Kin(agent_name=agent)
            if owner is not None:
                owners[trace, key] = trace, owner
    repeated = _repeats(traces, owners.keys())
    for call, above in owners.items():
        trace, key = call
        if traces[trace][key]["kind"] == Kind.INFERENCE and call not in repeated:
            found[above].calls.append(traces[trace][key])
    return found


def _by_trace(relatives: Iterable[Relative]) -> dict[str, dict[int, Relative]]:
    traces: dict[str, dict[int, Relative]] = defaultdict(dict)
    for relative in relatives:
        traces[relative["trace_key"]][relative["span_key"]] = relative
    return traces


def repeated_calls(relatives: Iterable[Relative]) -> set[int]:
    """Spans of one whole trace that record a model call which another of its spans stands for."""
    traces = _by_trace(relatives)
    owned = {
        (trace, key)
        for trace, spans in traces.items()
        for key, (owner, _) in _above(spans).items()
        if owner is not None
    }
    return {key for _, key in _repeats(traces, owned)}


def steps_among(relatives: Iterable[Relative]) -> set[Key]:
    """Those spans of some whole traces that are part of a decision and none themselves.

    They ran inside one, or another record stands for the same call. Two traces may hold records of one call.
    """
    traces = _by_trace(relatives)
    steps: set[Key] = set()
    for trace, spans in traces.items():
        for key, (owner, _) in _above(spans).items():
            if owner is not None and spans[key]["kind"] != Kind.DECISION:
                steps.add((trace, key))
    return steps | _repeats(traces, steps)


def _repeats(traces: Mapping[str, Mapping[int, Relative]], owned: AbstractSet[Key]) -> set[Key]:
    """The calls that another record stands for (``docs/spec/decision-record.md``)."""
    pairs = [pair for spans in traces.values() for pair in _nested(spans)]
    pairs += _twins(call for spans in traces.values() for call in spans.values())
    lower = [min(pair, key=lambda call: _standing(call, owned=_key(call) in owned)) for pair in pairs]
    return {_key(call) for call in lower if call["kind"] == Kind.INFERENCE}


def _key(call: Relative) -> Key:
    return call["trace_key"], call["span_key"]


def _standing(call: Relative, *, owned: bool) -> tuple[int | str, ...]:
    rank = 2 if call["kind"] == Kind.DECISION else int(owned)
    moment = (-call["start_ns"], call["end_ns"])
    return rank, call["spoken"], call["said"], *moment, call["trace_key"], call["span_key"]


def _above(spans: Mapping[int, Relative]) -> dict[int, tuple[int | None, str | None]]:
    """Span → the nearest decision above it, and the name of the nearest named agent above it.

    Where ancestors form a ring, which no honest producer sends, it is enough that this comes to an end.
    """
    told: dict[int, tuple[int | None, str | None]] = {}
    for start in spans:
        path: list[int] = []
        walked: set[int] = set()
        at = start
        while at not in told and at not in walked:
            path.append(at)
            walked.add(at)
            parent = spans[at]["parent_key"]
            if parent not in spans:
                told[at] = (None, None)
                break
            at = parent
        for key in reversed(path):
            if key not in told:
                told[key] = _below(spans, spans[key]["parent_key"], told)
    return told


def _below(
    spans: Mapping[int, Relative], parent: int, told: Mapping[int, tuple[int | None, str | None]]
) -> tuple[int | None, str | None]:
    """What a child of the parent has above it."""
    owner, agent = told.get(parent, (None, None))
    above = spans[parent]
    if above["kind"] == Kind.DECISION:
        owner = parent
    if above["kind"] == Kind.AGENT and above["agent_name"] is not None:
        agent = above["agent_name"]
    return owner, agent


def _nested(spans: Mapping[int, Relative]) -> Iterable[tuple[Relative, Relative]]:
    for lower in spans.values():
        if lower["kind"] != Kind.INFERENCE:
            continue
        upper = spans.get(lower["parent_key"])
        if upper is not None and upper["kind"] == Kind.OTHER:
            upper = spans.get(upper["parent_key"])
        if upper is None or upper is lower or upper["kind"] != Kind.INFERENCE:
            continue
        if _same(lower, upper):
            yield lower, upper


def _same(lower: Relative, upper: Relative) -> bool:
    if lower["start_ns"] < upper["start_ns"] or lower["end_ns"] > upper["end_ns"]:
        return False
    ids = {lower["response_id"], upper["response_id"]} - {None}
    if len(ids) > 1:
        return False
    for name in ("model_name", "model_response_name"):
        if lower[name] is not None and upper[name] is not None:
            return bool(lower[name] == upper[name])
    return False


def _twins(calls: Iterable[Relative]) -> Iterable[tuple[Relative, Relative]]:
    """Calls with one response id that overlap in time; each scope sees a call once."""
    stated = [call for call in calls if call["kind"] in _CALLS and call["response_id"] is not None]
    stated.sort(key=lambda call: (call["response_id"], call["start_ns"], -call["end_ns"], call["span_key"]))
    for _, repeated in groupby(stated, key=lambda call: call["response_id"]):
        turns: dict[tuple[int, str], int] = defaultdict(int)
        seen: dict[tuple[int, int], list[Relative]] = defaultdict(list)
        placed = []
        island, latest_ns = 0, -1
        for call in repeated:
            island += 0 <= latest_ns < call["start_ns"]
            latest_ns = max(latest_ns, call["end_ns"])
            placed.append((island, call["start_ns"], call["span_key"], call))
        for island, _, _, call in sorted(placed, key=lambda entry: entry[:3]):
            turns[island, call["scope"]] += 1
            place = (island, turns[island, call["scope"]])
            for other in seen[place]:
                models = {_model(call), _model(other)} - {None}
                if call["scope"] != other["scope"] and len(models) <= 1:
                    yield call, other
            seen[place].append(call)


def _model(call: Relative) -> Any:
    return call["model_name"] if call["model_response_name"] is None else call["model_response_name"]
