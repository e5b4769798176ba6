"""The API's methods as requests: what is sent, where to, and what the answer is. Pure.

`LoopGrid` and `AsyncLoopGrid` take signatures and documentation of their methods from here.
"""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

from loopgrid.errors import Invalid
from loopgrid.experimenting import ExperimentCalls
from loopgrid.judging import JudgementCalls
from loopgrid.overrides import Overrides
from loopgrid.prompt import Model, Prompt
from loopgrid.request import ABSENT, Call, as_json
from loopgrid.results import (
    Comparison,
    DecisionBatch,
    DecisionPage,
    DecisionRecord,
    ReplayPage,
    ReplayRecord,
    Result,
    SqlResult,
)
from loopgrid.reviewing import ReviewCalls
from loopgrid.schema import format_decision_id

REPLAY_PREFIX: Final = "rpl_"
"""How every replay id begins, and no decision id."""

F = TypeVar("F", bound=Callable[..., Any])


class Calls(JudgementCalls, ReviewCalls, ExperimentCalls):
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
        body = {name: as_json(value, name) for name, value in fields.items() if value is not None}
        for name, value in (("input", input), ("output", output)):
            if value is not ABSENT:
                body[name] = as_json(value, name)
        return Call("POST", "/v1/decisions", DecisionRecord, body=body, repeatable=True, recorded=True)

    def get_decision(self, decision_id: str) -> Call[DecisionRecord]:
        """One decision with its marks, corrections, replays and ground truth.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: the id is malformed.
        """
        return Call("GET", f"/v1/decisions/{quote(decision_id, safe='')}", DecisionRecord, settles=True)

    def get_decisions(self, decision_ids: Iterable[str]) -> Call[DecisionBatch]:
        """Many decisions, each as `get_decision` gives it.

        Args:
            decision_ids: at most 500 ids.

        Returns:
            `{"items": […], "missing": […]}`: the decisions in the order of the ids, and the ids that are no
            decision on record; the items are also its attribute `decisions`.

        Raises:
            Invalid: an id is malformed, or there are none or too many.
        """
        body = {"ids": list(decision_ids)}
        return Call("POST", "/v1/decisions/batch", DecisionBatch, body=body, settles=True, repeatable=True)

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

    def export(self, policy: str | None, as_of: Any, filters: Mapping[str, Any]) -> Call[Result]:
        """Every decision that `list_decisions` would find with these filters, for `LoopGrid.decisions`.

        Raises:
            Invalid: `limit` or `cursor` is among the filters.
        """
        for name in ("limit", "cursor"):
            if name in filters:
                raise Invalid(
                    f"{name}: a frame holds every decision that is found; use list_decisions() for pages"
                )
        query = dict(self.list_decisions(**filters).query or {})
        more = {"policy": policy, "as_of": as_of}
        query |= {name: _query_text(name, value) for name, value in more.items() if value is not None}
        return Call("GET", "/v1/export", Result, query=query, settles=True)

    @staticmethod
    def recorded_steps(decision_id: str) -> Call[Result]:
        """What `@step` and `@tool` recorded inside a decision."""
        return Call("GET", f"/v1/decisions/{quote(decision_id, safe='')}/steps", Result, settles=True)

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
            executor: `function`, `model` or `external`; by default what the decision allows.
            output: the result, where something outside LoopGrid has run it (executor `external`).
            idempotency_key: asking again with the same key is the same replay.
            requested_by: who asks.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: an override is unknown; the message suggests the nearest.
        """
        Overrides.checked(overrides)
        body = {"decision_id": decision_id, "overrides": as_json(overrides, "overrides")}
        optional = {"executor": executor, "idempotency_key": idempotency_key, "requested_by": requested_by}
        body |= {name: value for name, value in optional.items() if value is not None}
        if output is not ABSENT:
            body["output"] = as_json(output, "output")
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

    def list_replays(
        self,
        *,
        status: str | None = None,
        decision_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Call[ReplayPage]:
        """Replays, newest first.

        Args:
            status: `pending`, `running`, `completed`, `failed`, `refused` or `cancelled`.
            decision_id: only replays of this decision.
            limit: replays on one page.
            cursor: `next_cursor` of the page before.

        Returns:
            `{"items": […], "next_cursor": … or None}`; the items are also its attribute `replays`.

        Raises:
            Invalid: there is no such status.
        """
        filters = {"status": status, "decision_id": decision_id, "limit": limit, "cursor": cursor}
        query = {name: _query_text(name, value) for name, value in filters.items() if value is not None}
        return Call("GET", "/v1/replays", ReplayPage, query=query, settles=True)

    def cancel_replay(
        self, replay_id: str, *, reason: str | None = None, requested_by: str | None = None
    ) -> Call[ReplayRecord]:
        """Keep a replay from running, or stop whoever runs it. Cancelled again, nothing changes.

        Args:
            replay_id: the replay.
            reason: why; it is recorded.
            requested_by: who asks.

        Raises:
            NotFound: the ledger has no such replay.
            Conflict: it has ended otherwise.
        """
        given = {"reason": reason, "requested_by": requested_by}
        body = {name: value for name, value in given.items() if value is not None}
        path = f"/v1/replays/{quote(replay_id, safe='')}/cancel"
        return Call("POST", path, ReplayRecord, body=body, repeatable=True, recorded=True)

    def retry_replay(
        self, replay_id: str, *, attempt: int | None = None, requested_by: str | None = None
    ) -> Call[ReplayRecord]:
        """Let a replay that failed, was refused or cancelled run once more, as a new attempt.

        Args:
            replay_id: the replay.
            attempt: the attempt to repeat (its `attempts`): once a later one has begun, nothing happens.
            requested_by: who asks.

        Raises:
            NotFound: the ledger has no such replay.
            Conflict: it has completed, or nothing can run it.
        """
        given = {"attempt": attempt, "requested_by": requested_by}
        body = {name: value for name, value in given.items() if value is not None}
        path = f"/v1/replays/{quote(replay_id, safe='')}/retry"
        return Call("POST", path, ReplayRecord, body=body, repeatable=attempt is not None, recorded=True)

    def compare(
        self,
        left: str,
        right: str | None = None,
        *,
        equality: str | Mapping[str, Any] | None = None,
        policy: str | None = None,
        equal: Callable[[Any, Any], bool] | None = None,
    ) -> Call[Comparison]:
        """A decision beside its replay, or another decision, with differences, ground truth and verdict.

        Args:
            left: a decision id or a replay id; alone, a replay id, which is compared with what it replays.
            right: a replay id or a decision id.
            equality: when outputs count as equal: `exact`, `normalised`, or an object with `text`,
                `ignore_case`, `fields` (JSON pointers), `absolute` and `relative` (numbers).
            policy: which correction is the ground truth: `latest` (the default), `majority`, `adjudicated`.
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
        rule = None if equality is None else as_json(equality, "equality")
        if right is not None and right.startswith(REPLAY_PREFIX) and not left.startswith(REPLAY_PREFIX):
            path = f"/v1/decisions/{quote(left, safe='')}/compare/{quote(right, safe='')}"
            text = rule if rule is None or isinstance(rule, str) else json.dumps(rule)
            words = {"equality": text, "policy": policy}
            query = {name: word for name, word in words.items() if word is not None}
            return Call("GET", path, result, query=query or None, settles=True)
        body = {"right": left} if right is None else {"left": left, "right": right}
        if rule is not None:
            body["equality"] = rule
        if policy is not None:
            body["policy"] = policy
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
            body["parameters"] = as_json(parameters, "parameters")
        return Call("POST", "/v1/sql", SqlResult, body=body, settles=True, repeatable=True)


def answering(method: F, build: Callable[..., Any]) -> F:
    """The method, shown with what it answers and not with what it was built of."""
    signature = inspect.signature(build)
    answer = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    method.__annotations__ = {**method.__annotations__, "return": answer}
    return method


def _new_decision_id() -> str:
    return format_decision_id(secrets.randbits(128) or 1, secrets.randbits(64) or 1)


def _query_text(name: str, value: Any) -> str:
    written = as_json(value, name)
    if isinstance(written, bool):
        return "true" if written else "false"
    return written if isinstance(written, str) else str(written)
