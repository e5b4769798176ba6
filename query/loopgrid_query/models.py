"""The API's shapes. Requests are spelled out here; the decision in an answer is derived from
``loopgrid.schema.FIELDS``, so that the record has one home.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from loopgrid.schema import FIELDS, is_replay_id
from loopgrid_query.ids import DECISION_ID_PATTERN, REPLAY_ID_PATTERN, decision_id_fault
from loopgrid_query.instants import FORM, parse_instant_ns
from loopgrid_query.jsontext import printable
from loopgrid_query.nearest import did_you_mean, nearest

UNKNOWN_FIELD: Final = "unknown_field"

_EXAMPLE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


class Request(BaseModel):
    """A body a client sends: unknown fields are refused, with the nearest name that exists."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name in map(printable, map(str, data)):
                if name not in cls.model_fields:
                    # The name is a parameter, because pydantic reads braces in a message.
                    raise PydanticCustomError(
                        UNKNOWN_FIELD,
                        "there is no such field; {hint}",
                        {
                            "name": name,
                            "hint": did_you_mean(name, cls.model_fields),
                            "suggestion": nearest(name, cls.model_fields) or "",
                        },
                    )
        return data


def _decision_id(text: str) -> str:
    fault = decision_id_fault(text)
    if fault is not None:
        raise PydanticCustomError("decision_id", "{fault}", {"fault": fault})
    return text


def _decision_or_replay_id(text: str) -> str:
    return text if is_replay_id(text) else _decision_id(text)


def _instant(text: str) -> str:
    try:
        moment_ns = parse_instant_ns(text)
    except ValueError as error:
        raise PydanticCustomError("instant", "{fault}", {"fault": str(error)}) from error
    if moment_ns == 0:
        raise PydanticCustomError(
            "instant", "the first moment of 1970 means “not known” on a span; leave it out"
        )
    return text


def not_blank(text: Any) -> Any:
    """A field's value, where text says something."""
    if isinstance(text, str) and not text.strip():
        raise PydanticCustomError("blank", "must say something")
    return text


def _list_or_object(value: Any) -> Any:
    if not isinstance(value, list | dict):
        raise PydanticCustomError("parameters", "must be a list or a JSON object")
    return value


Parameters = Annotated[list[Any] | dict[str, Any], BeforeValidator(_list_or_object)]
# What the validators refuse, said in the schemas too, so that a client is told before it asks.
DecisionId = Annotated[
    str,
    AfterValidator(_decision_id),
    Field(examples=[_EXAMPLE_ID], json_schema_extra={"pattern": f"^{DECISION_ID_PATTERN}$"}),
]
DecisionOrReplayId = Annotated[
    str,
    AfterValidator(_decision_or_replay_id),
    Field(json_schema_extra={"pattern": f"^({DECISION_ID_PATTERN}|{REPLAY_ID_PATTERN})$"}),
]
Instant = Annotated[
    str,
    AfterValidator(_instant),
    Field(description=FORM, examples=["2026-03-01T09:30:00Z"], json_schema_extra={"format": "date-time"}),
]
Said = Annotated[str, BeforeValidator(not_blank), Field(json_schema_extra={"pattern": r"\S"})]
Tokens = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1)]
Policy = Literal["latest", "majority", "adjudicated"]
POLICY: Final = "which correction is the ground truth: `latest`, `majority` or `adjudicated`"


class ModelGiven(Request):
    """The model of a decision, as far as it is known."""

    provider: str | None = Field(
        None, description="who served it, as OpenTelemetry spells it", examples=["openai"]
    )
    name: str | None = Field(None, description="the model that was asked for", examples=["gpt-4o-mini"])
    response_name: str | None = Field(None, description="the model that answered")
    parameters: dict[Name, Any] | None = Field(None, examples=[{"temperature": 0.2}])


class PromptGiven(Request):
    """The prompt of a decision, as far as it is known."""

    name: str | None = Field(None, examples=["support"])
    version: str | None = Field(None, examples=["1"])
    template: str | None = Field(None, description="its text before the variables are filled in")
    variables: dict[Name, Any] | None = Field(
        None, description="values by name; what is no text becomes its JSON text"
    )


class UsageGiven(Request):
    """Tokens of a decision."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_read_tokens: Tokens | None = None
    cache_write_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None


class ErrorGiven(Request):
    """Why the decision failed."""

    type: str | None = Field(None, examples=["TimeoutError"])
    message: str | None = None


class DecisionRequest(Request):
    """A decision to record. What is left out stays absent; nothing is filled in."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "service_name": "support-agent",
                    "decision_type": "customer_support_reply",
                    "input": {"message": "I was charged twice"},
                    "model": {"provider": "openai", "name": "gpt-4"},
                    "prompt": {"template": "support_v1"},
                    "output": {"response": "Your account looks fine."},
                }
            ]
        },
    )

    decision_type: Said = Field(description="which decision this is; low cardinality")
    input: Any = Field(None, description="what the decision saw; any JSON")
    output: Any = Field(None, description="what was decided; any JSON")
    model: ModelGiven | None = None
    prompt: PromptGiven | None = None
    usage: UsageGiven | None = None
    finish_reasons: list[str] | None = None
    response_id: str | None = None
    error: ErrorGiven | None = None
    session_id: str | None = None
    user_id: str | None = None
    agent_name: str | None = None
    tags: list[str] | None = None
    metadata: dict[Name, Any] | None = Field(None, description="free facts by name")
    service_name: str | None = None
    started_at: Instant | None = Field(None, description="when it began; when it is recorded, if left out")
    duration_ms: float | None = Field(None, ge=0, le=1e12, allow_inf_nan=False)
    decision_id: DecisionId | None = Field(
        None, description="makes sending it again harmless; random if left out", examples=[_EXAMPLE_ID]
    )


class MarkRequest(Request):
    """Says that a decision was incorrect."""

    reason: Said = Field(examples=["Missed billing issue"])
    category: Said | None = Field(None, max_length=200, description="kind of fault", examples=["policy"])
    severity: Said | None = Field(None, max_length=200, examples=["high"])
    marked_by: Said | None = Field(None, examples=["agent_42"])


class CorrectionRequest(Request):
    """Says what the decision's output should have been."""

    correction: Any = Field(
        None,
        description="the right output; any JSON",
        examples=[{"response": "I see the duplicate charge. Refund initiated."}],
    )
    corrected_by: Said | None = Field(
        None,
        description="the API key's person, if left out; needed where there are no keys",
        examples=["agent_42"],
    )
    patch: list[dict[str, Any]] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="instead of `correction`: JSON Patch (RFC 6902) of the recorded output",
        examples=[[{"op": "replace", "path": "/response", "value": "Refund initiated."}]],
    )
    reason: Said | None = None
    category: Said | None = Field(None, max_length=200, description="kind of fault", examples=["policy"])
    severity: Said | None = Field(None, max_length=200, examples=["high"])


class CompareRequest(Request):
    """Asks what differs between two decisions, or between a replay and the decision it replays."""

    left: DecisionOrReplayId | None = Field(
        None,
        description="a decision id or a replay id; if left out, what the replay on the right replays",
        examples=[_EXAMPLE_ID],
    )
    right: DecisionOrReplayId = Field(description="a decision id or a replay id", examples=[_EXAMPLE_ID])
    equality: Any = Field(
        None,
        description="when outputs count as equal: `exact`, `normalised`, or an object with `text`, "
        "`ignore_case`, `fields`, `absolute`, `relative`",
        examples=["normalised", {"fields": ["/action", "/amount"], "absolute": 0.01}],
    )
    policy: Policy = Field("latest", description=POLICY)


class SqlRequest(Request):
    """One statement that reads the public views."""

    query: Said = Field(examples=["SELECT decision_type, count(*) AS decisions FROM decisions GROUP BY ALL"])
    parameters: Parameters | None = Field(
        None, description="values for ? and $1 (a list), or $name (an object)"
    )


class KeyRequest(Request):
    """Asks for an API key."""

    name: Said = Field(description="what it is for", examples=["support-agent in production"])
    scopes: list[str] = Field(
        description="`ingest`, `read`, `review`, `replay`; `admin` may do everything", examples=[["ingest"]]
    )
    person: Said | None = Field(None, description="who uses it; named in marks and corrections")
    services: list[Said] | None = Field(
        None,
        description="the only `service.name` values it may send decisions of; needs `ingest` as only scope",
    )
    expires_at: Instant | None = None


class KeyRotation(Request):
    """How the old key ends when a new one takes its place."""

    old_valid_for_s: int = Field(
        0, ge=0, le=31 * 86_400, description="seconds that the old key is good still"
    )


_TYPES: Final[dict[str, Any]] = {
    "VARCHAR": str | None,
    "JSON": Any,
    "BIGINT": int | None,
    "INTEGER": int | None,
    "DOUBLE": float | None,
    "BOOLEAN": bool | None,
    "VARCHAR[]": list[str] | None,
    "TIMESTAMP": datetime | None,
}
_ALWAYS: Final = {
    **dict.fromkeys(("decision_id", "trace_id", "span_id", "kind", "digest"), str),
    **dict.fromkeys(("incorrect", "corrected"), bool),
    "recorded_at": datetime,
    "commit_id": int,
    "mapping_version": int,
}


def _decision_model() -> type[BaseModel]:
    """The decision as JSON object: one member per field of the schema, at its path."""
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for field in FIELDS:
        parent, _, leaf = field.path.rpartition(".")
        kind = _ALWAYS.get(field.column, _TYPES[field.sql_type])
        place = own if not parent else nested.setdefault(parent, {})
        if parent and parent not in own:
            own[parent] = None
        place[leaf] = (kind, Field(description=field.meaning))
    for parent, members in nested.items():
        own[parent] = (create_model(f"Decision{parent.title()}", **members), Field())
    return create_model("Decision", __doc__="One recorded decision; what is not known is null.", **own)


Decision = _decision_model()


class MarkMade(BaseModel):
    """A mark that is on record."""

    mark_id: str
    decision_id: str
    reason: str
    category: str | None
    severity: str | None
    marked_by: str | None
    recorded_at: datetime


class CorrectionMade(BaseModel):
    """A correction that is on record."""

    correction_id: str
    decision_id: str
    output: Any = Field(description="the output that is right")
    patch: Any = Field(description="the JSON Patch that made it; null where it came whole")
    corrected_by: str
    reason: str | None
    category: str | None
    severity: str | None
    supersedes: str | None = Field(description="the correction that stood before this one")
    recorded_at: datetime


class GroundTruth(BaseModel):
    """The effective correction of a decision."""

    decision_id: str
    output: Any
    correction_id: str
    corrected_by: str
    recorded_at: datetime
    policy: str = Field(description="`latest`, `majority` or `adjudicated`")
    disputed: bool = Field(description="somebody disputes what was said, and nobody has adjudicated since")


class ReplayEvent(BaseModel):
    """What a replay became, and when."""

    status: str
    at: datetime
    attempt: int
    worker: str | None
    reason: str | None


class Replay(BaseModel):
    """A fork of a decision, and what became of it."""

    replay_id: str
    decision_id: str = Field(description="the decision that is replayed")
    executor: str | None = Field(
        description="`function`, `model` or `external`; null where nothing can run it"
    )
    function: str | None = Field(description="the recorded function that runs again (executor `function`)")
    overrides: dict[str, Any]
    status: str = Field(description="`pending`, `running`, `completed`, `failed`, `refused` or `cancelled`")
    reason: str | None = Field(
        description="why nothing ran, what must happen for it to run, or why it failed"
    )
    result_decision_id: str | None = Field(description="the decision it led to; null while nothing ran")
    attempts: int = Field(description="how many times it was begun; the newest attempt's number")
    worker: str | None = Field(description="who runs it, or ran it last")
    requested_by: str | None
    idempotency_key: str | None
    requested_at: datetime
    completed_at: datetime | None
    history: list[ReplayEvent] = Field(description="what happened to it, oldest first")
    commit_id: int


class Outcome(BaseModel):
    """An outcome that is on record, beside a decision that states its business key."""

    outcome_id: str
    decision_id: str | None = Field(description="null while no decision states the key")
    key: str
    value: str
    outcome: Any
    occurred_at: datetime | None
    reported_by: str | None
    decisions: int = Field(description="decisions that state this key and value: more than 1 is ambiguous")
    outcomes: int = Field(description="outcomes that this decision has under this key")
    recorded_at: datetime
    commit_id: int
    source: str = Field(
        description="`entry`: reported here; `sender`: a log record said so, nobody knows whose"
    )


class DecisionWhole(Decision):  # type: ignore[misc, valid-type]  # made at run time from the schema
    """One recorded decision with everything said about it since."""

    marks: list[MarkMade]
    corrections: list[CorrectionMade]
    replays: list[Replay]
    ground_truth: GroundTruth | None
    outcomes: list[Outcome]
    withheld_for_review: bool | None = Field(
        None, description="there only where `true`: answers of other reviewers are not shown to this key yet"
    )


MAX_BATCH: Final = 500
"""Decisions that one request may ask for by id."""


class BatchRequest(Request):
    """Asks for decisions by their ids."""

    ids: list[DecisionId] = Field(min_length=1, max_length=MAX_BATCH, examples=[[_EXAMPLE_ID]])


class DecisionBatch(BaseModel):
    """Decisions that were asked for by id."""

    items: list[DecisionWhole] = Field(description="in the order of the ids")
    missing: list[str] = Field(description="ids that are no decision on record, in the order of the ids")


class DecisionPage(BaseModel):
    """A page of decisions, newest first."""

    items: list[Decision]  # type: ignore[valid-type]  # made at run time from the schema
    next_cursor: str | None = Field(description="gives the next page, older decisions; null on the last")
    previous_cursor: str | None = Field(
        description="gives the page before, newer decisions; null where there was none yet"
    )


class TraceSpan(BaseModel):
    """One span of a trace, in the order of a tree: parents before children."""

    decision_id: str = Field(description="`<trace_id>-<span_id>` of this span")
    span_id: str
    parent_span_id: str | None
    owner_decision_id: str | None = Field(description="the decision it ran in, where it is a step")
    depth: int = Field(description="0 for a span whose parent is not in the trace")
    kind: str
    dialect: str | None
    name: str
    service_name: str | None
    status: str | None
    status_message: str | None
    started_at: datetime | None
    duration_ms: float | None
    model_name: str | None
    input: Any
    output: Any
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None


class TraceTotals(BaseModel):
    """Sums over a trace. A token that several spans report is counted once."""

    spans: int
    model_calls: int
    input_tokens: int | None = Field(description="null where no span says")
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None


class Trace(BaseModel):
    """The whole tree that a decision belongs to."""

    decision_id: str
    trace_id: str
    spans: list[TraceSpan]
    totals: TraceTotals
    truncated: bool = Field(description="the trace has more spans than are shown")


class Column(BaseModel):
    """A column of an SQL result."""

    name: str
    type: str = Field(description="its DuckDB type")


class SqlResult(BaseModel):
    """Rows of an SQL result; values by the order of the columns."""

    columns: list[Column]
    rows: list[list[Any]]
    truncated: bool = Field(description="there are more rows than are shown")


class ApiKey(BaseModel):
    """An API key, without its secret."""

    key_id: str
    name: str
    person: str | None
    scopes: list[str]
    services: list[str] = Field(description="empty for any")
    status: str = Field(description="`active`, `expired` or `revoked`")
    created_at: datetime
    created_by: str | None = Field(description="id of the key that asked for it")
    rotated_from: str | None = Field(description="id of the key whose place it takes")
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyMade(ApiKey):
    """A new API key."""

    key: str = Field(description="the key itself; nothing shows it again")


class KeyList(BaseModel):
    """All API keys, oldest first."""

    items: list[ApiKey]


class ProblemField(BaseModel):
    """One thing wrong with one part of a request."""

    field: str
    message: str
    suggestion: str | None = None


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["urn:loopgrid:problem:not-found"])
    title: str
    status: int
    detail: str = Field(description="what happened and what to do")
    errors: list[ProblemField] | None = None


class Health(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


def given(model: Request | None) -> dict[str, Any]:
    """The fields a client sent, nulls left out; what it did not send is not there."""
    if model is None:
        return {}
    return {name: getattr(model, name) for name in model.model_fields_set if getattr(model, name) is not None}
