"""The API's methods as requests: what is sent, where to, and what the answer is. Pure.

`LoopGrid` and `AsyncLoopGrid` take signatures and documentation of their methods from here.
"""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from loopgrid.capture import Losses, plain
from loopgrid.config import CaptureLimits
from loopgrid.errors import Invalid
from loopgrid.health import Count, health
from loopgrid.overrides import Overrides
from loopgrid.prompt import Model, Prompt
from loopgrid.redaction import Redaction
from loopgrid.results import (
    Comparison,
    CorrectionRecord,
    DecisionPage,
    DecisionRecord,
    MarkRecord,
    ReplayRecord,
    Result,
    SqlResult,
)
from loopgrid.schema import format_decision_id

ABSENT: Final[Any] = object()
"""Default of a field that JSON null would say something about."""

REPLAY_PREFIX: Final = "rpl_"
"""How every replay id begins, and no decision id."""

_NO_LIMITS: Final = CaptureLimits(
    max_content_bytes=2**40,
    max_depth=64,
    max_items=2**40,
    max_inline_bytes=2**40,
    max_capture_s=3600.0,
    max_array_items=2**40,
)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Result)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request to the API.

    Attributes:
        method: HTTP method.
        path: path and nothing else.
        result: makes what the method returns of the answer.
        query: query parameters.
        body: JSON object to send.
        settles: what this process has decided must have arrived first.
        repeatable: sent twice it does what it does sent once.
        key: the `Idempotency-Key` that makes it so.
        recorded: what it sends enters the ledger, so the redaction rules hold for it. What only asks (SQL, a
            comparison) is sent as it is: changed, it would be another question.
    """

    method: str
    path: str
    result: Callable[[dict[str, Any]], T]
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    settles: bool = False
    repeatable: bool = False
    key: str | None = None
    recorded: bool = False

    @property
    def safe(self) -> bool:
        """Whether it may be sent again where nobody knows what became of it."""
        return self.method == "GET" or self.repeatable or self.key is not None


class Calls:
    """The requests of one client.

    Args:
        service_name: `service.name` of the decisions it records.
    """

    def __init__(self, service_name: str | None) -> None:
        self._service_name = service_name

    def record_decision(
        self,
        *,
        decision_type: str,
        input: Any = ABSENT,  # noqa: A002 - the record's word
        output: Any = ABSENT,
        model: Mapping[str, Any] | Model | None = None,
        prompt: Mapping[str, Any] | Prompt | None = None,
        usage: Mapping[str, int] | None = None,
        finish_reasons: Sequence[str] | None = None,
        error: Mapping[str, str] | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        started_at: Any = None,
        duration_ms: float | None = None,
        decision_id: str | None = None,
    ) -> Call[DecisionRecord]:
        """Record a decision that was made elsewhere.

        Args:
            decision_type: which decision this is; low cardinality.
            input: what it saw; anything JSON can hold, also dataclasses, dates, pydantic models.
            output: what was decided.
            model: `provider`, `name`, `response_name`, `parameters`, or a `Model`.
            prompt: `name`, `version`, `template`, `variables`, or a `Prompt`.
            usage: `input_tokens`, `output_tokens`, `cache_read_tokens`, `cache_write_tokens`,
                `reasoning_tokens`.
            finish_reasons: why the model stopped, one per choice.
            error: `type` and `message`, if it failed.
            session_id: conversation or session.
            user_id: end user on whose behalf it was decided.
            agent_name: agent that decided.
            tags: free labels.
            metadata: free facts by name.
            started_at: start, a datetime with time zone or ISO 8601 text; the server's clock by default.
            duration_ms: milliseconds it took.
            decision_id: `<trace_id>-<span_id>`, to record the same decision again without storing it
                twice; a new one by default.

        Returns:
            The decision as recorded, with its `decision_id`.

        Raises:
            Invalid: a field cannot be written as JSON, or the server refuses it; the message names it.
            Unreachable: no server answers.
        """
        fields = {
            "decision_type": decision_type,
            "service_name": self._service_name,
            "model": model,
            "prompt": prompt,
            "usage": usage,
            "finish_reasons": finish_reasons,
            "error": error,
            "session_id": session_id,
            "user_id": user_id,
            "agent_name": agent_name,
            "tags": tags,
            "metadata": metadata,
            "started_at": started_at,
            "duration_ms": duration_ms,
            # With an id of its own it can be sent twice and is stored once.
            "decision_id": decision_id or _new_decision_id(),
        }
        body = {name: _json(value, name) for name, value in fields.items() if value is not None}
        for name, value in (("input", input), ("output", output)):
            if value is not ABSENT:
                body[name] = _json(value, name)
        return Call("POST", "/v1/decisions", DecisionRecord, body=body, repeatable=True, recorded=True)

    def get_decision(self, decision_id: str) -> Call[DecisionRecord]:
        """One decision with its marks, corrections, replays and ground truth.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: the id is malformed.
        """
        return Call("GET", f"/v1/decisions/{quote(decision_id, safe='')}", DecisionRecord, settles=True)

    def list_decisions(
        self,
        *,
        service_name: str | None = None,
        decision_type: str | None = None,
        model: str | None = None,
        prompt_name: str | None = None,
        prompt_version: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        from_: Any = None,
        to: Any = None,
        incorrect: bool | None = None,
        corrected: bool | None = None,
        q: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        include_replays: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Call[DecisionPage]:
        """Decisions that match every filter given, newest first.

        Args:
            service_name: emitting service.
            decision_type: type of the decision.
            model: name of the model asked for.
            prompt_name: name of the prompt.
            prompt_version: version of the prompt.
            kind: `decision` or `inference`.
            status: `ok` or `error`.
            session_id: conversation or session.
            user_id: end user.
            from_: earliest start, a datetime with time zone or ISO 8601 text.
            to: latest start.
            incorrect: whether it was marked incorrect.
            corrected: whether it has a correction.
            q: text to look for in the content.
            metadata: facts by name that must be equal.
            include_replays: True shows the decisions that replays made, too.
            limit: decisions on one page.
            cursor: `next_cursor` of the page before.

        Returns:
            `{"items": […], "next_cursor": … or None}`; the items are also its attribute `decisions`.

        Raises:
            Invalid: a filter has a value that cannot be meant.
        """
        filters = {
            "service_name": service_name,
            "decision_type": decision_type,
            "model": model,
            "prompt_name": prompt_name,
            "prompt_version": prompt_version,
            "kind": kind,
            "status": status,
            "session_id": session_id,
            "user_id": user_id,
            "from": from_,
            "to": to,
            "incorrect": incorrect,
            "corrected": corrected,
            "q": q,
            **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
            "include_replays": include_replays,
            "limit": limit,
            "cursor": cursor,
        }
        query = {name: _query_text(name, value) for name, value in filters.items() if value is not None}
        return Call("GET", "/v1/decisions", DecisionPage, query=query, settles=True)

    def mark_incorrect(
        self,
        decision_id: str,
        *,
        reason: str,
        marked_by: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[MarkRecord]:
        """Mark a decision incorrect; appended, the decision itself stays as it is.

        Args:
            decision_id: the decision.
            reason: what is wrong with it.
            marked_by: who says so.
            idempotency_key: sent again with the same key it is the same mark; a new one for each call by
                default.

        Raises:
            NotFound: the ledger has no such decision.
        """
        body = {"reason": reason} | ({} if marked_by is None else {"marked_by": marked_by})
        path = f"/v1/decisions/{quote(decision_id, safe='')}/incorrect"
        key = idempotency_key or _new_key()
        return Call("POST", path, MarkRecord, body=body, settles=True, key=key, recorded=True)

    def attach_correction(
        self,
        decision_id: str,
        *,
        correction: Any,
        corrected_by: str,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[CorrectionRecord]:
        """Attach the output a human says is right; the latest correction is the ground truth.

        Args:
            decision_id: the decision.
            correction: the right output; anything JSON can hold.
            corrected_by: who says so.
            reason: why.
            idempotency_key: sent again with the same key it is the same correction; a new one for each call
                by default.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: the correction cannot be written as JSON.
        """
        body = {"correction": _json(correction, "correction"), "corrected_by": corrected_by}
        if reason is not None:
            body["reason"] = reason
        path = f"/v1/decisions/{quote(decision_id, safe='')}/correction"
        key = idempotency_key or _new_key()
        return Call("POST", path, CorrectionRecord, body=body, settles=True, key=key, recorded=True)

    def create_replay(
        self,
        decision_id: str,
        *,
        overrides: Mapping[str, Any],
        executor: str | None = None,
        output: Any = ABSENT,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
    ) -> Call[ReplayRecord]:
        """Ask for a replay. What the answer's `status` says is what happened: `pending` waits for a process
        that has the function (see `replay`), `refused` says why in `reason`, `completed` holds a result.

        Args:
            decision_id: the decision to run again.
            overrides: `{"prompt": {…}, "model": {…}, "input": {…}}`, what to replace.
            executor: `function` or `external`; by default what the decision allows.
            output: the result, where something outside LoopGrid has run it (executor `external`).
            idempotency_key: asking again with the same key is the same replay.
            requested_by: who asks.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: an override is unknown; the message suggests the nearest.
        """
        Overrides.checked(overrides)
        body = {"decision_id": decision_id, "overrides": _json(overrides, "overrides")}
        optional = {"executor": executor, "idempotency_key": idempotency_key, "requested_by": requested_by}
        body |= {name: value for name, value in optional.items() if value is not None}
        if output is not ABSENT:
            body["output"] = _json(output, "output")
        repeatable = idempotency_key is not None
        return Call(
            "POST", "/v1/replays", ReplayRecord, body=body, settles=True, repeatable=repeatable, recorded=True
        )

    def get_replay(self, replay_id: str) -> Call[ReplayRecord]:
        """One replay with its status and, once there is one, its `result_decision_id`.

        Raises:
            NotFound: the ledger has no such replay.
        """
        return Call("GET", f"/v1/replays/{quote(replay_id, safe='')}", ReplayRecord, settles=True)

    def compare(
        self,
        left: str,
        right: str | None = None,
        *,
        equality: str | Mapping[str, Any] | None = None,
        equal: Callable[[Any, Any], bool] | None = None,
    ) -> Call[Comparison]:
        """A decision beside its replay, or another decision, with differences, ground truth and verdict.

        Args:
            left: a decision id or a replay id; alone, a replay id, which is compared with what it replays.
            right: a replay id or a decision id.
            equality: when outputs count as equal: `exact`, `normalised`, or an object with `text`,
                `ignore_case`, `fields` (JSON pointers), `absolute` and `relative` (numbers).
            equal: a function of yours that says it instead. It is given two outputs and runs in this process;
                what it raises is raised here.

        Raises:
            NotFound: the ledger has no such decision or replay.
            Invalid: the equality is none, or both `equality` and `equal` were given.
        """
        if equality is not None and equal is not None:
            raise Invalid("give either equality or equal: both say when outputs count as equal")
        result: Callable[[dict[str, Any]], Comparison] = Comparison
        if equal is not None:
            result = partial(Comparison.judged_by, equal)
        rule = None if equality is None else _json(equality, "equality")
        if right is not None and right.startswith(REPLAY_PREFIX) and not left.startswith(REPLAY_PREFIX):
            path = f"/v1/decisions/{quote(left, safe='')}/compare/{quote(right, safe='')}"
            text = rule if rule is None or isinstance(rule, str) else json.dumps(rule)
            query = None if text is None else {"equality": text}
            return Call("GET", path, result, query=query, settles=True)
        body = {"right": left} if right is None else {"left": left, "right": right}
        if rule is not None:
            body["equality"] = rule
        return Call("POST", "/v1/compare", result, body=body, settles=True, repeatable=True)

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Call[SqlResult]:
        """Read the ledger with SQL.

        Returns:
            `{"columns": [{"name", "type"}], "rows": [[…]], "truncated": bool}`.

        Raises:
            Invalid: the query is not a SELECT the ledger can answer.
        """
        body: dict[str, Any] = {"query": query}
        if parameters is not None:
            body["parameters"] = _json(parameters, "parameters")
        return Call("POST", "/v1/sql", SqlResult, body=body, settles=True, repeatable=True)


def redacted(call: Call[T], redaction: Redaction | None) -> Call[T]:
    """The call as it may leave this process.

    Raises:
        Invalid: an override of a replay that is still to run may not leave; run with the marker in its place,
            the replay would answer another question.
    """
    if redaction is None or not call.recorded or call.body is None:
        return call
    from loopgrid.redact import Redactor  # noqa: PLC0415 - who redacts nothing does not pay for it

    body, taken = Redactor(redaction).body(call.body)
    health.count(Count.REDACTED, len(taken))
    overridden = next((entry for entry in taken if entry.startswith("overrides")), None)
    if overridden is not None and "output" not in body:
        raise Invalid(
            f"{overridden.split(':')[0]} holds what the redaction rules take out, so the replay could not "
            "run with it: give another value, or run it yourself and pass executor='external' and output="
        )
    return replace(call, body=body)


def answering(method: F, build: Callable[..., Any]) -> F:
    """The method, shown with what it answers and not with what it was built of."""
    signature = inspect.signature(build)
    answer = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    method.__annotations__ = {**method.__annotations__, "return": answer}
    return method


def _new_decision_id() -> str:
    return format_decision_id(secrets.randbits(128) or 1, secrets.randbits(64) or 1)


def _new_key() -> str:
    return secrets.token_hex(16)


def _json(value: Any, name: str) -> Any:
    """The value as JSON, complete.

    Raises:
        Invalid: some of it has no JSON form; the message names the place.
    """
    losses = Losses()
    match value:
        case Prompt():
            value = {key: item for key, item in value.__loopgrid_plain__().items() if item is not None}
        case Model():
            value = value.__loopgrid_plain__()
    written = plain(value, name, _NO_LIMITS, losses)
    missing = losses.entries(1)
    if missing:
        raise Invalid(
            f"{missing[0].split(':')[0]} cannot be written as JSON ({':'.join(missing[0].split(':')[1:])}): "
            "give text, "
            "numbers, lists, maps, dataclasses, dates or pydantic models"
        )
    return written


def _query_text(name: str, value: Any) -> str:
    written = _json(value, name)
    if isinstance(written, bool):
        return "true" if written else "false"
    return written if isinstance(written, str) else str(written)
