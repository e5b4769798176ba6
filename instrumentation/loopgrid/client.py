"""`LoopGrid`: the API's methods, in Python.

Results are the API's JSON objects as plain dicts. Before a method that refers to a decision it waits until
what this process itself has decided has arrived, so that one reads what one wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from loopgrid import tracing
from loopgrid.capture import Losses, plain
from loopgrid.config import CaptureLimits, checked_endpoint
from loopgrid.errors import Fatal, Invalid, Misconfigured, NotFound, Unavailable
from loopgrid.overrides import Overrides, unknown_version
from loopgrid.prompt import Model, Prompt, registered_prompt, registered_prompts
from loopgrid.replaying import Replay, prepare, refuse_running_loop, run
from loopgrid.rest import Rest

ABSENT: Final[Any] = object()
"""Default of a field that JSON null would say something about."""

_NO_LIMITS: Final = CaptureLimits(
    max_content_bytes=2**40,
    max_depth=64,
    max_items=2**40,
    max_inline_bytes=2**40,
)


class LoopGrid:
    """A client of one LoopGrid server. Thread-safe; usable as a context manager."""

    def __init__(
        self,
        service_name: str | None = None,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
            service_name: `service.name` of the decisions it records; by default that of this process.
            endpoint: URL of the server; by default `LOOPGRID_ENDPOINT` or what `configure` was given.
            api_key: by default `LOOPGRID_API_KEY` or what `configure` was given.
            timeout_s: seconds one method may take, retries included.

        Raises:
            Misconfigured: a value cannot be meant.
        """
        settings = tracing.settings()
        if timeout_s <= 0:
            raise Misconfigured(f"timeout_s is {timeout_s!r}: give a positive number of seconds")
        self._service_name = service_name if service_name is not None else settings.service_name
        self._timeout_s = timeout_s
        self._rest = Rest(
            settings.endpoint if endpoint is None else checked_endpoint(endpoint),
            settings.api_key if api_key is None else api_key,
            timeout_s,
        )

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
    ) -> dict[str, Any]:
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
            decision_id: `<trace_id>-<span_id>`, to record the same decision again without storing it twice.

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
            "decision_id": decision_id,
        }
        body = {name: _json(value, name) for name, value in fields.items() if value is not None}
        for name, value in (("input", input), ("output", output)):
            if value is not ABSENT:
                body[name] = _json(value, name)
        return _dict(self._rest.post("/v1/decisions", body))

    def get_decision(self, decision_id: str) -> dict[str, Any]:
        """One decision with its marks, corrections, replays and ground truth.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: the id is malformed.
        """
        return _dict(self._about(f"/v1/decisions/{quote(decision_id, safe='')}"))

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
    ) -> dict[str, Any]:
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
            `{"items": […], "next_cursor": … or None}`.

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
        self._settle()
        query = {name: _query_text(name, value) for name, value in filters.items() if value is not None}
        return _dict(self._rest.get("/v1/decisions", query))

    def mark_incorrect(
        self, decision_id: str, *, reason: str, marked_by: str | None = None
    ) -> dict[str, Any]:
        """Mark a decision incorrect; appended, the decision itself stays as it is.

        Raises:
            NotFound: the ledger has no such decision.
        """
        body = {"reason": reason} | ({} if marked_by is None else {"marked_by": marked_by})
        return _dict(self._about(f"/v1/decisions/{quote(decision_id, safe='')}/incorrect", body))

    def attach_correction(
        self, decision_id: str, *, correction: Any, corrected_by: str, reason: str | None = None
    ) -> dict[str, Any]:
        """Attach the output a human says is right; the latest correction is the ground truth.

        Raises:
            NotFound: the ledger has no such decision.
            Invalid: the correction cannot be written as JSON.
        """
        body = {"correction": _json(correction, "correction"), "corrected_by": corrected_by}
        if reason is not None:
            body["reason"] = reason
        return _dict(self._about(f"/v1/decisions/{quote(decision_id, safe='')}/correction", body))

    def create_replay(
        self,
        decision_id: str,
        *,
        overrides: Mapping[str, Any],
        executor: str | None = None,
        output: Any = ABSENT,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
    ) -> dict[str, Any]:
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
        return _dict(self._about("/v1/replays", body))

    def get_replay(self, replay_id: str) -> dict[str, Any]:
        """One replay with its status and, once there is one, its `result_decision_id`.

        Raises:
            NotFound: the ledger has no such replay.
        """
        return _dict(self._about(f"/v1/replays/{quote(replay_id, safe='')}"))

    def compare(self, decision_id: str, replay_id: str) -> dict[str, Any]:
        """A decision, its replay and its ground truth side by side, with differences and verdict.

        Raises:
            NotFound: the ledger has no such decision or replay.
        """
        path = f"/v1/decisions/{quote(decision_id, safe='')}/compare/{quote(replay_id, safe='')}"
        return _dict(self._about(path))

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the ledger with SQL.

        Returns:
            `{"columns": [{"name", "type"}], "rows": [[…]], "truncated": bool}`.

        Raises:
            Invalid: the query is not a SELECT the ledger can answer.
        """
        self._settle()
        body = {"query": query}
        if parameters is not None:
            body["parameters"] = _json(parameters, "parameters")
        return _dict(self._rest.post("/v1/sql", body))

    def replay(
        self,
        decision_id: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        function: Callable[..., Any] | None = None,
    ) -> Replay:
        """Run a decision's function again, in this process, with overrides.

        Arguments come from the record, restored by the function's type hints. The run is recorded as a
        decision in a new trace, linked to the original. If the function raises, the replay's status is
        `failed` and its `exception` holds what was raised.

        Args:
            decision_id: the decision to run again.
            overrides: `{"prompt": {name, version, template, variables}, "model": {provider, name,
                parameters}, "input": {argument: value}}`, all optional.
            function: the decorated function; by default the one in this process with the recorded name. A
                method is passed bound to its object.

        Returns:
            The replay, as `get_replay` shows it.

        Raises:
            NotReplayable: the function is not here, or an argument cannot be restored; nothing was recorded.
            Invalid: an override is unknown; the message suggests the nearest.
            Unavailable: it ran, and its record has not arrived within `timeout_s`.
        """
        self._check_recording_goes_here()
        checked = Overrides.checked(overrides or {})
        call = prepare(self.get_decision(decision_id), checked, function, self._find_prompt)
        refuse_running_loop(call)
        requested = self.create_replay(decision_id, overrides=overrides or {}, executor="function")
        if requested["status"] != "pending":
            return Replay(requested)
        exception = run(call, requested["replay_id"], decision_id)
        if not tracing.drain(self._timeout_s):
            raise Unavailable(
                f"replay {requested['replay_id']} ran, but its record has not reached {self._rest.endpoint} "
                "within "
                f"{self._timeout_s:g} s: call loopgrid.flush() and then get_replay()"
            ) from exception
        return Replay(self.get_replay(requested["replay_id"]), exception)

    def close(self) -> None:
        """Close the connections; the client may be used again."""
        self._rest.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def _settle(self) -> bool:
        """Let what this process decided arrive first, if it goes where this client asks."""
        return tracing.settings().endpoint != self._rest.endpoint or tracing.drain(self._timeout_s)

    def _about(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        settled = self._settle()
        try:
            return self._rest.get(path) if body is None else self._rest.post(path, body)
        except NotFound as error:
            if settled:
                raise
            message = (
                f"{error.message} (decisions of this process are still on their way to the server: try again)"
            )
            raise NotFound(message, status=error.status, problem=error.problem) from error

    def _check_recording_goes_here(self) -> None:
        settings = tracing.settings()
        if settings.disabled:
            raise Fatal(
                "recording is disabled in this process, so a replay would leave no record: unset "
                "LOOPGRID_DISABLED"
            )
        if settings.endpoint != self._rest.endpoint:
            raise Misconfigured(
                f"this process records to {settings.endpoint}, this client talks to {self._rest.endpoint}: "
                "call "
                f"loopgrid.configure(endpoint={self._rest.endpoint!r}) first"
            )

    def _find_prompt(self, name: str, version: str | None) -> Prompt:
        """The prompt of that name and version: from this process, else as the ledger has seen it.

        Without a version, the only prompt of that name this process defines.
        """
        here = [prompt for prompt in registered_prompts() if prompt.name == name]
        found = registered_prompt(name, version) or (here[0] if version is None and len(here) == 1 else None)
        if found is not None:
            return found
        if version is not None:
            for seen in self._seen_prompts(name, version):
                if seen.get("template") is not None:
                    return Prompt.recorded(name, version=version, template=seen["template"])
        raise unknown_version(name, version, [*here, *self._seen_prompts(name)])

    def _seen_prompts(self, name: str, version: str | None = None) -> list[dict[str, Any]]:
        """Prompts of that name in the latest decisions that used one."""
        page = self.list_decisions(prompt_name=name, prompt_version=version, include_replays=True, limit=100)
        return [decision["prompt"] for decision in page["items"]]


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


def _dict(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise Invalid(
            f"the server answered {type(answer).__name__} where a JSON object was expected: check the "
            "endpoint"
        )
    return answer
