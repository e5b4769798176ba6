"""Comparisons: two decisions, or a decision and its replay, read and put beside each other."""

from __future__ import annotations

from typing import Any, Final

from loopgrid import judgement
from loopgrid.schema import is_replay_id
from loopgrid_query import compare, jsontext
from loopgrid_query.compare import ABSENT, Large, Side, equality
from loopgrid_query.compare.content import MAX_TOOL_CALLS
from loopgrid_query.compare.parts import Around
from loopgrid_query.decisions import MAX_TRACE_SPANS, Decisions
from loopgrid_query.errors import FieldError, Invalid, NotFound
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, entry_record
from loopgrid_query.replay.replays import Replays
from loopgrid_query.trace_tree import in_tree_order

LATEST: Final = "latest"
_VALUES: Final = frozenset(compare.SIDES)
_DIFFS: Final = (
    "output_diff",
    "correction_diff",
    "prompt_diff",
    "message_diff",
    "tool_call_diff",
    "measures",
    "notes",
)


class Comparisons:
    """The comparisons that one ledger allows. Nothing is appended."""

    def __init__(self, reader: Reader, decisions: Decisions, replays: Replays) -> None:
        self._reader = reader
        self._decisions = decisions
        self._replays = replays

    def replay(self, decision_id: str, replay_id: str, rule: Any = None, policy: str = LATEST) -> Record:
        """A decision, a replay of it and the human correction side by side.

        Args:
            decision_id: the decision.
            replay_id: a replay of it.
            rule: when outputs count as equal (``equality.parse``).
            policy: which correction is the ground truth: one of ``judgement.POLICIES``.

        Raises:
            Malformed, NotFound: there is no such decision, or no such replay of it.
            Invalid: the rule is none, or content is nested too deeply to be looked into.
        """
        asked = equality.parse(rule)
        decision_row, replay_row = self._decisions.row(decision_id), self._replays.row(replay_id)
        if replay_row["decision_id"] != decision_id:
            raise NotFound(
                f"Replay {replay_id} is a replay of decision {replay_row['decision_id']}, "
                f"not of {decision_id}; compare it with that one."
            )
        truth_row = self._reader.row("decision_ground_truth_by", decision_id=decision_id, policy=policy)
        return self._beside(decision_row, replay_row, self._result(replay_row), truth_row, asked)

    def between(self, left: str | None, right: str, rule: Any = None, policy: str = LATEST) -> Record:
        """Two decisions, each named by its own id or by the replay that led to it, side by side.

        Args:
            left: a decision id or a replay id; None for the decision that the replay on the right replays.
            right: a decision id or a replay id.
            rule: when outputs count as equal (``equality.parse``).
            policy: as ``replay``.

        Raises:
            Malformed, NotFound: there is no such decision or replay.
            Invalid: as ``replay``; or a replay that has led to no decision is to be compared with something
                else than what it replays.
        """
        if is_replay_id(right):
            replays = self._replays.row(right)["decision_id"]
            if left is None or left == replays:
                return self.replay(replays, right, rule, policy)
        if left is None:
            raise Invalid.of([FieldError("left", "is missing: only a replay says what it is compared with")])
        asked = equality.parse(rule)
        left_row, right_row = self._decision(left, "left"), self._decision(right, "right")
        return self._beside(left_row, None, right_row, self._truth(left_row, right_row, policy), asked)

    def _decision(self, named: str, field: str) -> Row:
        if not is_replay_id(named):
            return self._decisions.row(named)
        found = self._result(self._replays.row(named))
        if found is None:
            raise Invalid.of([FieldError(field, f"replay {named} has led to no decision")])
        return found

    def _result(self, replay_row: Row) -> Row | None:
        decision_id = replay_row["result_decision_id"]
        return None if decision_id is None else self._decisions.row(decision_id)

    def _truth(self, left: Row, right: Row, policy: str) -> Row | None:
        """The correction that both can be held against: that of the left decision, or else of the right one.

        What is right for one input is not right for another one.
        """
        related = left["decision_id"] == right["replay_of"] or right["decision_id"] == left["replay_of"]
        if not related and not compare.same(_content(left["input"]), _content(right["input"])):
            return None
        for row in (left, right):
            found = self._reader.row(
                "decision_ground_truth_by", decision_id=row["decision_id"], policy=policy
            )
            if found is not None:
                return found
        return None

    def _beside(
        self,
        decision_row: Row,
        replay_row: Row | None,
        result_row: Row | None,
        truth_row: Row | None,
        asked: compare.Equality,
    ) -> Record:
        try:
            told = self._compared(decision_row, replay_row, result_row, truth_row, asked)
        except RecursionError as error:
            raise Invalid(
                "The content is nested too deeply to be compared; read it through /v1/sql."
            ) from error
        return {
            **told,
            "equality": asked.written(),
            "decision": decision_record(decision_row),
            "replay": None if replay_row is None else entry_record(replay_row),
            "result": None if result_row is None else decision_record(result_row),
            "ground_truth": None if truth_row is None else entry_record(truth_row),
            "overrides": None if replay_row is None else jsontext.stored(replay_row["overrides"]),
        }

    def _compared(
        self,
        decision_row: Row,
        replay_row: Row | None,
        result_row: Row | None,
        truth_row: Row | None,
        asked: compare.Equality,
    ) -> Record:
        decision = decision_record(decision_row, _content)
        result = None if result_row is None else decision_record(result_row, _content)
        truth = ABSENT if truth_row is None else _content(truth_row["output"])
        overrides = {} if replay_row is None else _content(replay_row["overrides"])
        ended = replay_row is None or replay_row["status"] == "completed"
        verdict = compare.judge(
            _side(decision, decision_row),
            _side(result, result_row) if ended and result is not None and result_row is not None else None,
            truth,
            equality=asked,
            sides=judgement.DECISIONS if replay_row is None else judgement.REPLAY,
            nothing="" if replay_row is None else compare.why_nothing(replay_row),
        )
        outputs = {"decision": decision["output"]}
        if result is not None:
            outputs["replay"] = result["output"]
        if truth is not ABSENT:
            outputs["correction"] = truth
        around = (self._around(decision_row), Around() if result_row is None else self._around(result_row))
        parts = compare.parts(decision, result, truth, around)
        changes = [] if result is None else compare.changes(decision, result, overrides)
        return {
            "verdict": verdict.judgement,
            "why": verdict.why,
            "agreement": verdict.agreement(),
            "differences": [_told(place) for place in compare.differences(outputs)],
            "changes": [_told(place) for place in changes],
            **{name: jsontext.write(parts[name]) for name in _DIFFS},
        }

    def _around(self, row: Row) -> Around:
        """What the spans around a decision say: its tools, and its prompt as it was sent."""
        found = self._reader.rows(
            "comparison_spans", {"trace_key": row["trace_id"], "limit": MAX_TRACE_SPANS}
        )
        spans = in_tree_order(found)
        rendered = next((span["rendered"] for span in spans if span["span_id"] == row["span_id"]), None)
        tools = [
            {"name": span["name"], "arguments": _content(span["input"])}
            for span in spans
            if span["kind"] == "tool" and span["owner"] == row["span_id"]
        ]
        return Around(rendered, tools[: MAX_TOOL_CALLS + 1])


def _side(record: Record, row: Row) -> Side:
    failure = record["error"]["message"] or record["error"]["type"]
    if failure is None and record["status"] == "error":
        failure = "it does not say why."
    return Side(
        output=ABSENT if row["output"] is None else record["output"],
        failure=failure,
        lossiness=tuple(record["lossiness"] or ()),
        marked=bool(record["incorrect"]),
    )


def _content(text: str | None) -> Any:
    """A JSON column's value, or what stands for one that is too large to be looked into."""
    if text is None:
        return None
    return Large.of(text) if len(text) > compare.MAX_COMPARED_CHARS else jsontext.parse(text)


def _told(place: Record) -> Record:
    """A difference as part of an answer: its values are content, and content is passed on whole."""
    return {name: jsontext.write(value) if name in _VALUES else value for name, value in place.items()}
