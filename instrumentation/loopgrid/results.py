"""What the API answers with: JSON objects as dicts whose members are attributes, too.

`decision["decision_id"]` and `decision.decision_id` are the same; a member that the server has and this
release does not know is there in both ways. The fields of a decision are compared with the schema by a test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from loopgrid.errors import Invalid, nearest
from loopgrid.judgement import DECISIONS, REPLAY, judge
from loopgrid.notebook import comparison_html


class Result(dict[str, Any]):
    """A JSON object of the API."""

    _nested: ClassVar[dict[str, type[Result]]] = {}
    """What the members are that are objects themselves, or lists of them."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no member {name!r}: {nearest(name, self)}"
            ) from None
        kind = self._nested.get(name)
        if kind is None or value is None:
            return value
        if isinstance(value, list):
            if not all(isinstance(item, kind) for item in value):
                value = self[name] = [kind(item) for item in value]
        elif not isinstance(value, kind):
            value = self[name] = kind(value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})


class PromptFacts(Result):
    """The prompt of a decision."""

    name: str | None
    version: str | None
    template: str | None
    variables: Any


class ModelFacts(Result):
    """The model of a decision."""

    provider: str | None
    name: str | None
    response_name: str | None
    parameters: Any


class Usage(Result):
    """Tokens of a decision."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None


class Failure(Result):
    """How a decision failed."""

    type: str | None
    message: str | None


class ProducerFacts(Result):
    """Who emitted a decision."""

    id: str | None
    seq: int | None


class MarkRecord(Result):
    """A mark that is on record."""

    mark_id: str
    decision_id: str
    reason: str
    category: str | None
    severity: str | None
    marked_by: str | None
    recorded_at: str


class CorrectionRecord(Result):
    """A correction that is on record."""

    correction_id: str
    decision_id: str
    output: Any
    patch: list[dict[str, Any]] | None
    corrected_by: str
    reason: str | None
    category: str | None
    severity: str | None
    supersedes: str | None
    recorded_at: str


class GroundTruth(Result):
    """The effective correction of a decision."""

    decision_id: str
    output: Any
    correction_id: str
    corrected_by: str
    recorded_at: str
    policy: str
    disputed: bool


class JudgementRecord(Result):
    """Something that a person said about a decision, or about what somebody else said."""

    judgement_id: str
    decision_id: str
    event: str
    subject_id: str | None
    said_by: str | None
    reason: str | None
    category: str | None
    severity: str | None
    output: Any
    patch: list[dict[str, Any]] | None
    withdrawn: bool
    recorded_at: str
    commit_id: int
    digest: str
    evaluation: dict[str, Any] | None


class OutcomeRecord(Result):
    """An outcome beside a decision that states its business key; `decision_id` is None while none does."""

    outcome_id: str
    decision_id: str | None
    key: str
    value: str
    outcome: Any
    occurred_at: str | None
    reported_by: str | None
    decisions: int
    outcomes: int
    recorded_at: str
    commit_id: int
    source: str


class HistoryEvent(Result):
    """One event of a decision's history."""

    event: str
    id: str
    subject_id: str | None
    said_by: str | None
    reason: str | None
    category: str | None
    severity: str | None
    output: Any
    patch: list[dict[str, Any]] | None
    withdrawn: bool
    recorded_at: str
    commit_id: int
    digest: str


class History(Result):
    """Everything that happened to a decision, oldest first."""

    decision_id: str

    _nested: ClassVar[dict[str, type[Result]]] = {"items": HistoryEvent}

    @property
    def events(self) -> list[HistoryEvent]:
        """`history["items"]`; `history.items` is the method that every dict has."""
        found: list[HistoryEvent] = self.__getattr__("items")
        return found


class OutcomePage(Result):
    """An outcome beside every decision that it is about."""

    _nested: ClassVar[dict[str, type[Result]]] = {"items": OutcomeRecord}

    @property
    def outcomes(self) -> list[OutcomeRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[OutcomeRecord] = self.__getattr__("items")
        return found


class ReplayEvent(Result):
    """What a replay became, and when."""

    status: str
    at: str
    attempt: int
    worker: str | None
    reason: str | None


class ReplayRecord(Result):
    """A replay, and what became of it."""

    replay_id: str
    decision_id: str
    executor: str | None
    function: str | None
    overrides: dict[str, Any]
    status: str
    reason: str | None
    result_decision_id: str | None
    attempts: int
    worker: str | None
    requested_by: str | None
    idempotency_key: str | None
    requested_at: str
    completed_at: str | None
    history: list[ReplayEvent]
    commit_id: int

    _nested: ClassVar[dict[str, type[Result]]] = {"history": ReplayEvent}


class ReplayPage(Result):
    """A page of replays, newest first."""

    next_cursor: str | None

    _nested: ClassVar[dict[str, type[Result]]] = {"items": ReplayRecord}

    @property
    def replays(self) -> list[ReplayRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[ReplayRecord] = self.__getattr__("items")
        return found


class DecisionRecord(Result):
    """A decision. In a list it has no `marks`, `corrections`, `replays` and `ground_truth`."""

    decision_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    kind: str
    dialect: str | None
    decision_type: str | None
    service_name: str | None
    status: str | None
    input: Any
    output: Any
    prompt: PromptFacts
    model: ModelFacts
    tools: Any
    model_source: str | None
    usage: Usage
    usage_source: str | None
    cost_usd: float | None
    finish_reasons: list[str] | None
    response_id: str | None
    error: Failure
    session_id: str | None
    user_id: str | None
    agent_name: str | None
    function: str | None
    tags: list[str] | None
    metadata: Any
    started_at: str
    duration_ms: float | None
    incorrect: bool
    corrected: bool
    replay_id: str | None
    replay_of: str | None
    replayability: str
    lossiness: list[str] | None
    producer: ProducerFacts
    record_version: int | None
    mapping_version: int
    recorded_at: str
    commit_id: int
    digest: str
    marks: list[MarkRecord]
    corrections: list[CorrectionRecord]
    replays: list[ReplayRecord]
    ground_truth: GroundTruth | None
    outcomes: list[OutcomeRecord]

    _nested: ClassVar[dict[str, type[Result]]] = {
        "outcomes": OutcomeRecord,
        "prompt": PromptFacts,
        "model": ModelFacts,
        "usage": Usage,
        "error": Failure,
        "producer": ProducerFacts,
        "marks": MarkRecord,
        "corrections": CorrectionRecord,
        "replays": ReplayRecord,
        "ground_truth": GroundTruth,
    }


class DecisionPage(Result):
    """A page of decisions, newest first."""

    next_cursor: str | None
    previous_cursor: str | None

    _nested: ClassVar[dict[str, type[Result]]] = {"items": DecisionRecord}

    @property
    def decisions(self) -> list[DecisionRecord]:
        """`page["items"]`; `page.items` is the method that every dict has."""
        found: list[DecisionRecord] = self.__getattr__("items")
        return found


class DecisionBatch(Result):
    """Decisions that were asked for by id, in that order.

    Attributes:
        missing: ids that are no decision on record.
    """

    missing: list[str]

    _nested: ClassVar[dict[str, type[Result]]] = {"items": DecisionRecord}

    @property
    def decisions(self) -> list[DecisionRecord]:
        """`batch["items"]`; `batch.items` is the method that every dict has."""
        found: list[DecisionRecord] = self.__getattr__("items")
        return found


class Comparison(Result):
    """A decision beside a replay of it, or beside another decision, and the human correction.

    A notebook shows it as a table; `loopgrid compare --html` writes all of it as a page.
    """

    verdict: str
    why: str
    equality: dict[str, Any]
    agreement: dict[str, bool | None]
    decision: DecisionRecord
    replay: ReplayRecord | None
    result: DecisionRecord | None
    ground_truth: GroundTruth | None
    overrides: dict[str, Any] | None
    differences: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    output_diff: dict[str, Any] | None
    correction_diff: dict[str, Any] | None
    prompt_diff: dict[str, Any] | None
    message_diff: dict[str, Any] | None
    tool_call_diff: dict[str, Any] | None
    measures: dict[str, Any] | None
    notes: list[str]

    _nested: ClassVar[dict[str, type[Result]]] = {
        "decision": DecisionRecord,
        "replay": ReplayRecord,
        "result": DecisionRecord,
        "ground_truth": GroundTruth,
    }

    @classmethod
    def judged_by(cls, equal: Callable[[Any, Any], bool], answer: dict[str, Any]) -> Comparison:
        """The comparison with the verdict that follows from somebody's own equality.

        What the server could not compare stays not comparable. Whatever `equal` raises is raised.

        Args:
            equal: whether two outputs are equal.
            answer: the API's comparison by exact equality.

        Raises:
            Invalid: `equal` is no function of two outputs that answers at once.
        """
        said = cls(answer)
        name = getattr(equal, "__qualname__", type(equal).__qualname__)
        said["equality"] = {"function": f"{getattr(equal, '__module__', '?')}:{name}"}
        agreement = said["agreement"]
        if agreement["outputs"] is None:
            return said
        left, right = said["decision"]["output"], said["result"]["output"]
        agreement["outputs"] = _answer(equal, left, right)
        against = None
        if agreement["left"] is not None:
            truth = said["ground_truth"]["output"]
            against = (_answer(equal, left, truth), _answer(equal, right, truth))
            agreement["left"], agreement["right"] = against
        said["verdict"], said["why"] = judge(
            DECISIONS if said["replay"] is None else REPLAY,
            same=agreement["outputs"],
            left_right=against,
            marked=said["decision"]["incorrect"],
        )
        return said

    def _repr_html_(self) -> str:
        return comparison_html(self)


def _answer(equal: Callable[[Any, Any], object], one: Any, other: Any) -> bool:
    answer = equal(one, other)
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise Invalid("equal must answer at once; a coroutine function does not")
    return bool(answer)


class SqlResult(Result):
    """Rows of an SQL result; values by the order of the columns."""

    columns: list[dict[str, str]]
    rows: list[list[Any]]
    truncated: bool
