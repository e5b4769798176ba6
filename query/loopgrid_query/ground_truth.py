"""Corrected decisions as test cases for the function that decides: what it was given, what is right.

It needs the server's API and nothing of the server's packages.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from loopgrid import LoopGrid
from loopgrid.capture import Losses, plain
from loopgrid.config import CaptureLimits
from loopgrid.definition import definition_of
from loopgrid.errors import NotReplayable
from loopgrid.overrides import LIVE
from loopgrid.replaying import Call, call_now
from loopgrid.results import DecisionRecord
from loopgrid.streams import is_proxy
from loopgrid.tape import Tape, playing
from loopgrid.testing import RecordedDecision, recorded
from loopgrid_query.compare import Equality, differences, equality
from loopgrid_query.errors import Invalid

MAX_PLACES: Final = 20
"""Places that a failure names."""
MAX_VALUE_CHARS: Final = 300
"""Characters of one value in a failure."""
_PAGE: Final = 500
"""Decisions that are asked for at once."""


class GroundTruthCase:
    """One corrected decision.

    Attributes:
        decision: the decision, as `LoopGrid.get_decision` gives it.
        decision_id: its id.
        input: what it was given, as it was recorded.
        expected: the output that is right.
        corrected_by: who says so.
        equality: when an output counts as the one that is right.
        allow: names of tools declared `write` or `irreversible` that a run may call. Others are refused: a
            test of yesterday's refunds must not pay them again.
        made: after `run` or `check` of a decorated function, the decision it made, with its steps; it was
            kept in memory and sent nowhere.
    """

    def __init__(self, decision: DecisionRecord, rule: Equality) -> None:
        truth: Mapping[str, Any] = decision["ground_truth"]
        self.decision = decision
        self.decision_id: str = decision["decision_id"]
        self.input = decision["input"]
        self.expected = truth["output"]
        self.corrected_by: str = truth["corrected_by"]
        self.equality = rule
        self.allow: Sequence[str] = ()
        self.made: RecordedDecision | None = None

    def __repr__(self) -> str:
        return f"GroundTruthCase({self.decision_id})"

    def run(self, function: Callable[..., Any], **given: Any) -> Any:
        """Run a function on what the decision was given, and nothing is sent.

        Arguments are restored by the function's type hints. Its prompt and its model are its own, as they
        are now. A coroutine function is awaited, a stream is read to its end.

        Args:
            function: decorated or not; a method is passed bound to its object.
            **given: arguments that take the place of recorded ones.

        Returns:
            What it decided, as JSON.

        Raises:
            NotReplayable: an argument cannot be restored, a tool was called that is not in `allow`, or the
                output is more than a record holds.
            Invalid: the function takes no argument of that name.
            RuntimeError: decisions are recorded in memory already.
        """
        call = self.call(function, **given)
        played = Tape({"default": LIVE, "allow": list(self.allow)}, [])
        with recorded() as decisions, playing(played):
            returned = run_to_end(call)
        refused = played.failure()
        if refused is not None:
            raise NotReplayable(f"{refused}; in a test: case.allow")
        if definition_of(function) is None:
            return _as_json(returned)
        # The function itself ends last of all that it calls.
        self.made = decisions[-1]
        lost = [loss for loss in self.made["lossiness"] or () if loss.startswith("output")]
        if lost:
            raise NotReplayable(f"the output was not recorded as it was ({lost[0]}), so it cannot be judged")
        return self.made["output"]

    def call(self, function: Callable[..., Any], **given: Any) -> Call:
        """The call that `run` makes, with `args` and `kwargs`, for a test that makes it itself.

        Arguments and errors as `run`.
        """
        return call_now(self.decision, function, given)

    def matches(self, output: Any) -> bool:
        """Whether an output is the one that is right; objects count as they would be recorded."""
        return self.equality.equal(_as_json(output), self.expected)

    def check(self, function: Callable[..., Any], **given: Any) -> None:
        """Run a function, as `run` does, and fail where its output is not the one that is right.

        Raises:
            AssertionError: it is another one; the message names the places.
        """
        __tracebackhide__ = True
        output = self.run(function, **given)
        if not self.equality.equal(output, self.expected):
            raise AssertionError(self.explain(output))

    def explain(self, output: Any) -> str:
        """Where an output is not the one that is right, a line for each place."""
        places = differences({"replay": _as_json(output), "correction": self.expected})
        lines = [
            f"  {place['path']}: got {_told(place, 'replay')}, right is {_told(place, 'correction')}"
            for place in places[:MAX_PLACES]
        ]
        if len(places) > MAX_PLACES:
            lines.append(f"  and {len(places) - MAX_PLACES} more places")
        head = f"decision {self.decision_id}: not the output that {self.corrected_by} says is right"
        return "\n".join([head, *lines])


def cases(
    grid: LoopGrid, *, rule: Any = None, limit: int | None = None, **filters: Any
) -> list[GroundTruthCase]:
    """Corrected decisions, in the order of their ids.

    Args:
        grid: where they are.
        rule: when two outputs count as equal: "exact", "normalised", or an object as `compare` takes it.
        limit: at most so many, the newest; all by default.
        **filters: as `LoopGrid.list_decisions` takes them, but for `corrected` and `cursor`.

    Raises:
        Invalid: the rule is none.
        TypeError: there is no such filter.
        LoopGridError: the server does not answer, or refuses a filter.
    """
    if limit is not None and limit < 1:
        raise Invalid(f"limit is {limit}: give 1 or more")
    asked = equality.parse(rule)
    ids = []
    for decision_id in _ids(grid, filters):
        ids.append(decision_id)
        if len(ids) == limit:
            break
    found = []
    for start in range(0, len(ids), _PAGE):
        batch = grid.get_decisions(ids[start : start + _PAGE]).decisions
        found += [GroundTruthCase(each, asked) for each in batch if each["ground_truth"] is not None]
    return sorted(found, key=lambda case: case.decision_id)


def _ids(grid: LoopGrid, filters: Mapping[str, Any]) -> Iterator[str]:
    cursor = None
    while True:
        page = grid.list_decisions(corrected=True, limit=_PAGE, cursor=cursor, **filters)
        yield from (decision["decision_id"] for decision in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return


def run_to_end(call: Call) -> Any:
    """What a function returns; of a coroutine what it comes to, of a stream its chunks."""
    result = call.function(*call.args, **call.kwargs)
    if inspect.iscoroutine(result) or _streams(result, "__anext__", "__aiter__"):
        return asyncio.run(_finished(result))
    return list(result) if _streams(result, "__next__", "__iter__") else result


async def _finished(result: Any) -> Any:
    if inspect.iscoroutine(result):
        result = await result
    if _streams(result, "__anext__", "__aiter__"):
        return [chunk async for chunk in result]
    return list(result) if _streams(result, "__next__", "__iter__") else result


def _streams(result: Any, of_own: str, of_proxy: str) -> bool:
    return hasattr(type(result), of_proxy if is_proxy(result) else of_own)


def _as_json(value: Any) -> Any:
    losses = Losses()
    written = plain(value, "output", CaptureLimits(), losses)
    lost = losses.entries(1)
    if lost:
        raise NotReplayable(f"the output has no exact form in JSON ({lost[0]}), so it cannot be judged")
    return written


def _told(place: Mapping[str, Any], side: str) -> str:
    if side in place["absent"]:
        return "nothing"
    shown = repr(place[side])
    return shown if len(shown) <= MAX_VALUE_CHARS else f"{shown[:MAX_VALUE_CHARS]}…"
