"""The self-test of a replay: from the record alone, a decision comes out as it was. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from loopgrid.errors import Invalid, NotReplayable
from loopgrid.overrides import RECORDED
from loopgrid.tape import Tape

OVERRIDES: Final[Mapping[str, Any]] = {"steps": {"default": RECORDED}}
"""Everything from the record."""


def check(told: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> None:
    """Refuse a self-test that would call something or change something.

    Args:
        told: what `GET /v1/decisions/{id}/steps` says.
        overrides: what the caller wants replaced.

    Raises:
        Invalid: there are overrides.
        NotReplayable: the decision called models in a way that no record can answer.
    """
    if overrides:
        raise Invalid("verify runs a decision again as it was: leave the overrides out")
    calls = told["foreign_model_calls"]
    if calls:
        raise NotReplayable(
            f"the decision made {calls} model calls that no record can answer, so they would be made again: "
            "put the code that calls the model into a function with @loopgrid.step"
        )


def differences(before: Mapping[str, Any], after: Mapping[str, Any] | None, steps: Tape | None) -> list[str]:
    """What came out otherwise; nothing where the replay is the decision again, to the byte.

    Args:
        before: the decision.
        after: the decision that the replay led to; None where there is none.
        steps: the steps that it was answered.
    """
    found = list(steps.refusals) if steps is not None else []
    if steps is not None and steps.ran:
        found.append(f"{steps.ran} steps ran")
    unused = [] if steps is None else [each for each in steps.recorded if not each.used]
    if unused:
        found.append(
            f"{len(unused)} recorded calls were not made, the first is {unused[0].kind} {unused[0].name!r}"
        )
    if after is None:
        return [*found, "no result is on record"]
    for name in ("output", "status"):
        if json.dumps(before[name]) != json.dumps(after[name]):
            found.append(f"{name} differs")
    if (before["error"] or {}).get("type") != (after["error"] or {}).get("type"):
        found.append("error differs")
    return found
