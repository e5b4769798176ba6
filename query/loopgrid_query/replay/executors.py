"""Who can run a replay. Pure: looks at a decision and a request, and says what will happen.

A replay that ran nothing is never shown as one that did: where nothing can run, the answer is a
refusal with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.nearest import did_you_mean, nearest


class Executor(StrEnum):
    """Ways in which a replay comes to its output."""

    FUNCTION = "function"
    """The decorated function itself runs again, in a process that has it."""
    MODEL = "model"
    """The server sends the recorded messages, tools and parameters to the model's provider."""
    EXTERNAL = "external"
    """The client ran it elsewhere and hands in the output."""


class Status(StrEnum):
    """How far a replay is. It is completed only where the decision that it led to is on record."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"


_ELSEWHERE: Final = "Or run it where it lives and hand in the result as `output`."
_NO_SERVER: Final = "No server is asked."

OPEN: Final = frozenset({Status.PENDING, Status.RUNNING})
"""What may still become something else by itself; the others only by a new attempt."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with a replay request.

    Attributes:
        executor: who runs it; ``None`` where nobody can.
        status: what the request is recorded as.
        reason: why nothing ran, or what must happen for it to run; ``None`` where it ran.
    """

    executor: Executor | None
    status: Status
    reason: str | None


def plan(
    decision: Mapping[str, Any],
    requested: str | None,
    *,
    has_output: bool,
    why_no_model: Callable[[], str | None] = lambda: _NO_SERVER,
) -> Plan:
    """Choose the executor.

    Args:
        decision: the original, with ``decision_id``, ``function`` and ``kind``.
        requested: the executor that the client names, if any.
        has_output: whether the client hands in an output.
        why_no_model: says why no model can be asked again; None where one can.

    Raises:
        Invalid: there is no such executor, or the output and the executor do not go together.
    """
    executor = _chosen(decision, requested, has_output=has_output)
    if executor is Executor.EXTERNAL:
        return Plan(executor, Status.PENDING, None)
    if executor is Executor.MODEL or executor is None:
        return _by_model(decision, why_no_model(), by_default=executor is None)
    if decision["function"] is None:
        return Plan(executor, Status.REFUSED, _nobody_can(decision))
    reason = (
        f"Waiting for a worker that has {decision['function']}: loopgrid worker <module>. Without a worker: "
        f"loopgrid replay {decision['decision_id']} --app <module>, or LoopGrid.replay(…)."
    )
    return Plan(executor, Status.PENDING, reason)


def _by_model(decision: Mapping[str, Any], why_not: str | None, *, by_default: bool) -> Plan:
    if why_not is None:
        chosen = f"This {decision['kind']} has no function, and its messages are on record. "
        reason = f"{chosen if by_default else ''}The server asks the model's provider."
        return Plan(Executor.MODEL, Status.PENDING, reason)
    if not by_default:
        return Plan(Executor.MODEL, Status.REFUSED, f"Nothing ran: {why_not}")
    # What is no model call is not explained by what a model call would lack.
    if decision["kind"] != "inference" and not isinstance(decision["input"], list):
        return Plan(None, Status.REFUSED, _nobody_can(decision))
    return Plan(None, Status.REFUSED, f"Nothing ran: {why_not} {_ELSEWHERE}")


def _chosen(decision: Mapping[str, Any], requested: str | None, *, has_output: bool) -> Executor | None:
    if requested is None:
        if has_output:
            return Executor.EXTERNAL
        return Executor.FUNCTION if decision["function"] is not None else None
    if requested not in set(Executor):
        message = f"there is no executor {requested!r}; {did_you_mean(requested, Executor)}"
        raise Invalid.of([FieldError("executor", message, nearest(requested, Executor))])
    executor = Executor(requested)
    if executor is Executor.EXTERNAL and not has_output:
        raise Invalid.of(
            [FieldError("output", "the executor external needs the output that was got elsewhere")]
        )
    if executor is not Executor.EXTERNAL and has_output:
        message = f"an output is handed in with the executor external, not with {executor}"
        raise Invalid.of([FieldError("output", message)])
    return executor


def _nobody_can(decision: Mapping[str, Any]) -> str:
    return (
        f"Nothing ran: this {decision['kind']} was not recorded by a decorated function, so there is nothing "
        "here that can run again. Run it where it lives and hand in the result as `output`, or record such "
        "decisions with @loopgrid.decision."
    )
