"""Recorded steps in place of live ones: what a replay's function is answered when it calls a step or a tool.

Laws:

* A recorded result is given for the same name and the same arguments, each once, in the order of the record.
  What was recorded incompletely, or cannot be restored as it was, is given for nothing.
* A tool that writes, or does what cannot be undone, never runs in a replay unless it is allowed by name.
* What a replay was refused stays refused though the function catches it: the replay has failed, and says why.
"""

from __future__ import annotations

import builtins
import functools
import json
import sys
import threading
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

from loopgrid.config import CaptureLimits
from loopgrid.definition import Definition
from loopgrid.errors import Invalid, NotReplayable, nearest
from loopgrid.overrides import FAIL, LIVE, MATCHING, RECORDED
from loopgrid.restore import MAX_SHOWN_CHARS, read_back, shaped
from loopgrid.schema import Effect

STEP: Final = "step"
TOOL: Final = "tool"
_DANGEROUS: Final = frozenset({Effect.WRITE, Effect.IRREVERSIBLE})
_WHOLE: Final = CaptureLimits(max_content_bytes=2**30, max_items=2**30, max_capture_s=60.0)
"""Arguments are compared whole, as far as the record has them whole."""


class StepRefused(NotReplayable):
    """A replay was not allowed to run a step or tool, or the record has no answer for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A decorated step or tool.

    Attributes:
        kind: ``step`` or ``tool``.
        name: its name.
        definition: of its function.
        input_key: attribute that carries its arguments.
        effect: of a tool.
        call_id: parameter that is no argument of the tool.
        streams: what it gives comes in chunks.
        reduces: the record has the chunks joined.
    """

    kind: str
    name: str
    definition: Definition
    input_key: str
    effect: Effect | None = None
    call_id: str | None = None
    streams: bool = False
    reduces: bool = False


@dataclass(slots=True)
class Recorded:
    """A recorded call.

    Attributes:
        span_id: its span.
        parent_id: the span that it ran in.
        kind: ``step`` or ``tool``.
        name: its name.
        arguments: JSON by name; None where none are on record.
        canonical: the same as text that equal arguments share.
        result: JSON text; None where none is on record.
        error: type and message of the exception that ended it.
        why_not: why its result stands for nothing; None where it does.
        used: it has been given.
    """

    span_id: str
    parent_id: str | None
    kind: str
    name: str
    arguments: Mapping[str, Any] | None
    canonical: str | None
    result: str | None
    error: tuple[str, str] | None
    why_not: str | None
    used: bool = False


@dataclass(slots=True)
class Answer:
    """What a call is answered from the record: a value, or an exception.

    Attributes:
        span_id: the recorded call.
        value: what it returned.
        error: what it raised; None where it returned.
    """

    span_id: str
    value: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class Tape:
    """The recorded steps of one decision, and how a replay uses them. Threads may share it.

    Attributes:
        steps: as `overrides["steps"]` says.
        recorded: in the order in which they began.
        refusals: what was refused, in order.
        given: how many calls were answered from the record.
        ran: how many ran.
    """

    steps: Mapping[str, Any]
    recorded: Sequence[Recorded]
    refusals: list[str] = field(default_factory=list)
    given: int = 0
    ran: int = 0
    _calls: int = 0
    _of_name: dict[tuple[str, str], list[Recorded]] = field(default_factory=dict)
    _same: dict[tuple[str, str, str], list[Recorded]] = field(default_factory=dict)
    _inside: dict[str | None, list[Recorded]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Index the recorded calls; the next of each kind stands last."""
        for each in reversed(self.recorded):
            self._inside.setdefault(each.parent_id, []).append(each)
            self._of_name.setdefault((each.kind, each.name), []).append(each)
            if each.canonical is not None:
                self._same.setdefault((each.kind, each.name, each.canonical), []).append(each)

    def play(self, known: Known, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer | None:
        """What a call is answered; None where it runs.

        Raises:
            StepRefused: it neither may run nor has an answer.
        """
        with self._lock:
            self._calls += 1
            try:
                answer = self._played(known, args, kwargs)
            except StepRefused as refusal:
                self.refusals.append(str(refusal))
                raise
            if answer is None:
                self.ran += 1
            else:
                self.given += 1
            return answer

    def _played(self, known: Known, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer | None:
        policy = self._policy(known)
        called = f"{known.kind} {known.name!r}"
        if policy == FAIL:
            raise StepRefused(f"{called} was called, and steps says that this replay fails then")
        if policy == LIVE:
            self._check_may_run(known, called)
            return None
        asked = _arguments(known, args, kwargs)
        found = self._found(known, asked)
        if isinstance(found, Recorded):
            try:
                answer = _answered(known, found)
            except NotReplayable as error:
                found = f"its recorded result cannot be restored: {error}"
            else:
                self._use(found)
                return answer
        if policy == MATCHING:
            self._check_may_run(known, called)
            return None
        raise StepRefused(
            f"{called} was called, and the record has no answer: {found}. Let it run with "
            f'overrides={{"steps": {{"of": {{{known.name!r}: "live"}}}}}}'
        )

    def _policy(self, known: Known) -> str:
        if self._calls >= self.steps.get("from", sys.maxsize):
            return LIVE
        of = self.steps.get("of", {})
        if known.name in of:
            return str(of[known.name])
        # Before a fork everything is as it was.
        unsaid = RECORDED if known.kind == TOOL or "from" in self.steps else LIVE
        return str(self.steps.get("default", unsaid))

    def _check_may_run(self, known: Known, called: str) -> None:
        if known.effect in _DANGEROUS and known.name not in self.steps.get("allow", ()):
            raise StepRefused(
                f"{called} is declared {known.effect}, so a replay runs it only where it is allowed by name: "
                f'overrides={{"steps": {{"allow": [{known.name!r}]}}}}'
            )

    def _found(self, known: Known, asked: str | None) -> Recorded | str:
        """The recorded call that answers, or what differs."""
        if asked is None:
            return "these arguments cannot be written whole, so they cannot be compared"
        of_name = self._of_name.get((known.kind, known.name), [])
        if not of_name:
            return "the decision did not call it"
        same = self._same.get((known.kind, known.name, asked), [])
        while same and same[-1].used:
            same.pop()
        if same:
            return same[-1] if same[-1].why_not is None else same[-1].why_not
        times = sum(each.canonical == asked for each in of_name)
        if times:
            return f"it was called with these arguments {times} times, and this is one more"
        left = next((each for each in reversed(of_name) if not each.used), of_name[0])
        return _unlike(json.loads(asked), left)

    def _use(self, found: Recorded) -> None:
        """A call that is not made makes no calls inside it."""
        found.used = True
        for each in self._inside.get(found.span_id, ()):
            if not each.used:
                self._use(each)

    def failure(self) -> str | None:
        """Why the replay has failed whatever its function gave; None where nothing was refused."""
        if not self.refusals:
            return None
        more = len(self.refusals) - 1
        return self.refusals[0] + (f" (and {more} more)" if more else "")


def tape_of(told: Mapping[str, Any], steps: Mapping[str, Any], known: Collection[str]) -> Tape:
    """The tape of a decision.

    Args:
        told: what `GET /v1/decisions/{id}/steps` says.
        steps: `overrides["steps"]`, checked.
        known: names of steps and tools of this process.

    Raises:
        Invalid: `steps` names what neither the record nor this process has.
        NotReplayable: the trace is too long to be replayed from the record.
    """
    if told["truncated"]:
        raise NotReplayable("the trace of this decision has more spans than can be replayed from the record")
    recorded = [_recorded(item) for item in told["items"]]
    names = {each.name for each in recorded} | set(known)
    for name in (*steps.get("of", ()), *steps.get("allow", ())):
        if name not in names:
            raise Invalid(
                f"overrides['steps'] names {name!r}, which this decision does not call: "
                f"{nearest(name, names)}"
            )
    return Tape(steps, recorded)


def _recorded(item: Mapping[str, Any]) -> Recorded:
    arguments = _json(item["arguments"])
    error = item["error"]
    lost = [entry for entry in item["lossiness"] if entry.startswith(("output", "tool.result", "result"))]
    why_not = None
    if not item["ended"]:
        why_not = "its record never came to an end"
    elif lost:
        why_not = f"its result was not recorded as it was ({lost[0]})"
    elif error is None and item["result"] is None:
        why_not = "its result is not on record"
    return Recorded(
        item["span_id"],
        item["parent_span_id"],
        item["kind"],
        item["name"],
        arguments if isinstance(arguments, dict) else None,
        _canonical(arguments) if isinstance(arguments, dict) else None,
        item["result"],
        None if error is None else (error["type"] or "Exception", error["message"] or ""),
        why_not,
    )


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _canonical(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True)


def _arguments(known: Known, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """The arguments as the record would have them; None where they cannot be written whole."""
    opening = known.definition.describe_step(args, kwargs, _WHOLE, known.input_key, known.call_id)
    written = _json(str(opening.attributes[known.input_key]))
    return _canonical(written) if isinstance(written, dict) else None


def _unlike(asked: Mapping[str, Any], nearest_call: Recorded) -> str:
    before = nearest_call.arguments or {}
    unlike = [
        f"{name} is {_briefly(asked.get(name))}, recorded is {_briefly(before.get(name))}"
        for name in sorted({*asked, *before})
        if _canonical({"": asked.get(name)}) != _canonical({"": before.get(name)})
    ]
    return f"it was recorded with other arguments: {'; '.join(unlike)}"


def _briefly(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[:MAX_SHOWN_CHARS]}…"


def _answered(known: Known, found: Recorded) -> Answer:
    if found.error is not None:
        return Answer(found.span_id, error=_raised(*found.error))
    where = f"the result of {known.kind} {known.name!r}"
    written = _json(found.result)
    if known.streams:
        if known.reduces or not isinstance(written, list):
            raise NotReplayable(f"{where} came in chunks, and the record has them joined")
        hint = _item_hint(known)
        return Answer(found.span_id, [shaped(read_back(item, where), hint, where) for item in written])
    return Answer(found.span_id, shaped(read_back(written, where), _return_hint(known), where))


def _return_hint(known: Known) -> Any:
    function = known.definition.function
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise NotReplayable(f"the type hints of {known.name!r} cannot be resolved ({error})") from error


def _item_hint(known: Known) -> Any:
    arguments = typing.get_args(_return_hint(known))
    return arguments[0] if arguments else Any


def _raised(kind: str, message: str) -> Exception:
    """The exception as it was, as far as its class is here and takes its message.

    Raises:
        NotReplayable: it cannot be raised as what it was.
    """
    module, _, name = kind.rpartition(".")
    holder = builtins if not module else sys.modules.get(module)
    found = getattr(holder, name, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise NotReplayable(f"it ended in {kind}, which is no exception of this process")
    try:
        error = found(message)
    except Exception as refused:
        raise NotReplayable(f"it ended in {kind}, which cannot be made of its message alone") from refused
    return error


_current: ContextVar[Tape | None] = ContextVar("loopgrid_tape", default=None)
_of_process: Tape | None = None


def current() -> Tape | None:
    """The tape of the replay that runs here."""
    found = _current.get()
    return found if found is not None else _of_process


@contextmanager
def playing(tape: Tape | None, *, whole_process: bool = False) -> Iterator[None]:
    """Answer steps from a tape for the length of a block.

    Args:
        tape: the tape; None for none.
        whole_process: in every thread, also in those that know nothing of this context: for a process
            that does nothing but run this replay.
    """
    global _of_process  # noqa: PLW0603 - threads without a context have nothing else to look at
    _follow_threads()
    token = _current.set(tape)
    if whole_process:
        _of_process = tape
    try:
        yield
    finally:
        _current.reset(token)
        if whole_process:
            _of_process = None


@functools.cache
def _follow_threads() -> None:
    """Let threads that a replay starts know of it, though Python gives them no context.

    A tool that is called there would run otherwise. What others start is not touched. Processes are not
    followed.
    """
    start: Any = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(start)
    def following_start(thread: Any) -> None:
        if _current.get() is not None:
            thread.run = functools.partial(copy_context().run, thread.run)
        start(thread)

    @functools.wraps(submit)
    def following_submit(pool: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if _current.get() is None:
            return submit(pool, function, *args, **kwargs)
        carried = copy_context()
        # A thread that the pool starts now serves others later: it is not the replay's.
        token = _current.set(None)
        try:
            return submit(pool, carried.run, function, *args, **kwargs)
        finally:
            _current.reset(token)

    threads: Any = threading.Thread
    pools: Any = ThreadPoolExecutor
    threads.start, pools.submit = following_start, following_submit


_names: Final[set[str]] = set()


def register(name: str) -> None:
    """Remember the name of a step or tool of this process."""
    _names.add(name)


def names() -> Collection[str]:
    """Names of the steps and tools of this process."""
    return frozenset(_names)
