"""Replays over the API: what is asked, and what workers are told."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from loopgrid_query.models import Decision, DecisionId, Replay, Request, Said, not_blank

MAX_WAIT_S: Final = 60.0
MAX_NAMES: Final = 2000
"""Functions that a worker may offer."""
DEFAULT_LEASE_S: Final = 30.0
Worker = Annotated[
    str,
    BeforeValidator(not_blank),
    Field(max_length=200, json_schema_extra={"pattern": r"\S"}, examples=["worker-1"]),
]
LeaseSeconds = Annotated[
    float,
    Field(ge=1, le=3600, description="seconds without a heartbeat after which somebody else may run it"),
]


class ReplayRequest(Request):
    """Asks for a fork of a past decision."""

    decision_id: DecisionId
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            'what to change: {"prompt": {"name", "version", "template", "variables"}, '
            '"model": {"provider", "name", "parameters"}, "input": {argument: value}}'
        ),
        examples=[{"prompt": {"template": "support_v2"}}],
    )
    executor: str | None = Field(
        None,
        description="`function`, `model` or `external`; chosen from the decision if left out",
        examples=["function"],
    )
    output: Any = Field(None, description="the result, where it ran elsewhere (executor `external`)")
    idempotency_key: Said | None = Field(
        None, max_length=200, description="the same key gives the same replay again"
    )
    requested_by: Said | None = None
    worker: Worker | None = Field(
        None, description="who runs it at once (executor `function`): no other worker is given it"
    )
    lease_s: LeaseSeconds = DEFAULT_LEASE_S


class ReplayList(BaseModel):
    """Replays, the newest first."""

    items: list[Replay]
    next_cursor: str | None = Field(description="for the next page; null where this is the last")


class ReplayClaim(Request):
    """Asks for a replay to run."""

    worker: Worker
    functions: list[Annotated[str, Field(max_length=1000)]] = Field(
        max_length=MAX_NAMES, description="decorated functions that the worker has", examples=[["app.reply"]]
    )
    modules: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="modules that it has imported: a function of theirs that it does not have is gone",
        examples=[["app"]],
    )
    wait_s: float = Field(0.0, ge=0, le=MAX_WAIT_S, description="seconds to wait until there is one")
    lease_s: LeaseSeconds = DEFAULT_LEASE_S


class ClaimedReplay(BaseModel):
    """A replay to run, or nothing."""

    replay: Replay | None = Field(description="null where there is none to run")
    attempt: int | None = Field(description="which attempt it is; heartbeat and finish name it")
    run_as: str | None = Field(description="id of the decision that this attempt is recorded as")
    decision: Decision | None = Field(description="the decision that is replayed")  # type: ignore[valid-type]
    lease_s: float


class WorkerGiven(Request):
    """Says which worker it is."""

    worker: Worker


class Left(BaseModel):
    """A worker asks for nothing any more."""

    worker: str
    ended: int = Field(description="requests of it that waited, and have been answered with nothing")


class Heartbeat(Request):
    """Says that an attempt still runs."""

    worker: Worker
    attempt: int = Field(ge=1, lt=2**31)


class HeartbeatTaken(BaseModel):
    """The lease has its full length again."""

    replay_id: str
    attempt: int
    lease_s: float | None


class ReplayEnd(Heartbeat):
    """Says what became of an attempt."""

    outcome: Literal["ran", "failed", "refused", "given_back"] = Field(
        description="`ran`: its decision is on record, and says whether it failed; `failed`: it was ended "
        "before; `refused`: nothing ran; `given_back`: somebody else shall run it"
    )
    reason: Said | None = Field(None, max_length=10_000, description="needed for `failed` and `refused`")


class ReplayCancel(Request):
    """Asks that a replay not run, or not go on."""

    reason: Said | None = Field(None, max_length=10_000)
    requested_by: Said | None = None


class ReplayRetry(Request):
    """Asks for a new attempt."""

    attempt: int | None = Field(
        None, ge=0, lt=2**31, description="the attempt to repeat: once a later one has begun, nothing happens"
    )
    requested_by: Said | None = None


class RecordedError(BaseModel):
    """The exception that ended a step."""

    type: str | None
    message: str | None


class RecordedStep(BaseModel):
    """A call of a function decorated with `@step` or `@tool`, as it was recorded."""

    span_id: str
    parent_span_id: str | None
    kind: Literal["step", "tool"]
    name: str
    effect: str | None = Field(description="of a tool: `read`, `idempotent`, `write` or `irreversible`")
    arguments: str | None = Field(description="JSON text: arguments by name")
    result: str | None = Field(description="JSON text; null where none is on record")
    ended: bool = Field(description="it came to its end, with a result or an exception")
    error: RecordedError | None
    lossiness: list[str]


class RecordedSteps(BaseModel):
    """What happened inside a decision, for a replay from the record."""

    decision_id: str
    items: list[RecordedStep] = Field(description="in the order in which they began")
    foreign_model_calls: int = Field(
        description="model calls that others' instrumentations recorded; no replay can answer them"
    )
    truncated: bool = Field(description="the trace has more spans than are looked at")
