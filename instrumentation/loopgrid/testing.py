"""Decisions in memory, for tests of programs that decide: nothing is sent, ids and times are always the same.

```python
from loopgrid.testing import recorded


def test_a_double_charge_is_refunded():
    with recorded() as decisions:
        answer("I was charged twice")

    assert decisions.only("refund").output == {"refund": True}
```

With pytest, `pytest_plugins = ["loopgrid.pytest_plugin"]` in `conftest.py` gives the fixture
`loopgrid_decisions`, which is the same object.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, cast, overload

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, StatusCode
from opentelemetry.util.types import AnyValue

from loopgrid import tracing
from loopgrid.config import CaptureLimits, Config
from loopgrid.live import LiveSpan
from loopgrid.results import DecisionRecord, Result
from loopgrid.schema import FIELDS, Key, format_decision_id
from loopgrid.shipper import Remains

FIRST_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: where the clock of a test starts."""
TICK_NS: Final = 1_000_000
"""Nanoseconds that pass between two looks at the clock: one millisecond."""
PRODUCER_ID: Final = "00000000-0000-4000-8000-000000000001"
_NS_PER_S: Final = 10**9
_NS_PER_MS: Final = 10**6

_TEXTS: Final[Mapping[str, str]] = {
    Key.DECISION_TYPE: "decision_type",
    Key.PROMPT_NAME: "prompt.name",
    Key.PROMPT_VERSION: "prompt.version",
    Key.PROMPT_TEMPLATE: "prompt.template",
    Key.PROVIDER_NAME: "model.provider",
    Key.REQUEST_MODEL: "model.name",
    Key.RESPONSE_MODEL: "model.response_name",
    Key.INPUT_TOKENS: "usage.input_tokens",
    Key.OUTPUT_TOKENS: "usage.output_tokens",
    Key.CACHE_READ_TOKENS: "usage.cache_read_tokens",
    Key.CACHE_WRITE_TOKENS: "usage.cache_write_tokens",
    Key.REASONING_TOKENS: "usage.reasoning_tokens",
    Key.RESPONSE_ID: "response_id",
    Key.ERROR_TYPE: "error.type",
    Key.SESSION_ID: "session_id",
    Key.USER_ID: "user_id",
    Key.AGENT_NAME: "agent_name",
    Key.FUNCTION_NAME: "function",
    Key.REPLAY_ID: "replay_id",
    Key.REPLAY_OF: "replay_of",
    Key.PRODUCER_ID: "producer.id",
    Key.PRODUCER_SEQ: "producer.seq",
    Key.RECORD_VERSION: "record_version",
}
"""Attributes that are a field as they stand, by its path."""
_FROM_LEDGER: Final = frozenset(
    {
        "incorrect",
        "corrected",
        "replayability",
        "mapping_version",
        "recorded_at",
        "commit_id",
        "digest",
        "tools",
    }
)
"""Fields that only a ledger can fill."""


class RecordedStep(Result):
    """A step or tool call that ran in a test."""

    name: str
    effect: str | None
    status: str | None
    input: Any
    output: Any
    error_type: str | None


class RecordedDecision(DecisionRecord):
    """A decision that was made in a test, in the shape the API shows it in.

    Fields that only a ledger can fill (`recorded_at`, `digest`, …) are not there.
    """

    steps: list[RecordedStep]
    attributes: dict[str, Any]

    _nested: ClassVar[dict[str, type[Result]]] = {**DecisionRecord._nested, "steps": RecordedStep}  # noqa: SLF001 - its base


class Recorded(Sequence[RecordedDecision]):
    """The decisions of one test, in the order in which they ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[tuple[LiveSpan, int, int]] = []

    @overload
    def __getitem__(self, index: int) -> RecordedDecision: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RecordedDecision]: ...

    def __getitem__(self, index: int | slice) -> RecordedDecision | Sequence[RecordedDecision]:
        return self._decisions()[index]

    def __len__(self) -> int:
        return len(self._decisions())

    def __repr__(self) -> str:
        return f"Recorded({[decision['decision_type'] for decision in self]})"

    def of(self, decision_type: str) -> list[RecordedDecision]:
        """The decisions of one type."""
        return [decision for decision in self if decision["decision_type"] == decision_type]

    def only(self, decision_type: str | None = None) -> RecordedDecision:
        """The one decision, or the one of that type.

        Raises:
            AssertionError: there is none, or more than one; the message lists what was recorded.
        """
        found = list(self) if decision_type is None else self.of(decision_type)
        if len(found) != 1:
            wanted = "decision" if decision_type is None else f"decision of type {decision_type!r}"
            made = [decision["decision_type"] for decision in self]
            raise AssertionError(f"expected one {wanted}, found {len(found)}; recorded: {made or 'none'}")
        return found[0]

    def clear(self) -> None:
        """Forget what was recorded so far."""
        with self._lock:
            self._spans.clear()

    def _add(self, span: LiveSpan, started_ns: int, ended_ns: int) -> None:
        with self._lock:
            self._spans.append((span, started_ns, ended_ns))

    def _decisions(self) -> list[RecordedDecision]:
        with self._lock:
            spans = list(self._spans)
        owners = _owners([span for span, _, _ in spans])
        made = [_decision(span, started, ended) for span, started, ended in spans if _is_decision(span)]
        for decision in made:
            decision["steps"] = [
                _step(span) for span, _, _ in spans if owners.get(_id(span)) == decision["decision_id"]
            ]
        return made


@contextlib.contextmanager
def recorded(
    *, capture: CaptureLimits | None = None, clock_ns: Callable[[], int] | None = None
) -> Iterator[Recorded]:
    """Keep the decisions of this block in memory, whatever `configure` and the environment say.

    Args:
        capture: limits on what is recorded.
        clock_ns: gives nanoseconds since 1970; by default a clock that starts at 2026-01-01T00:00:00Z and
            goes on by one millisecond each time it is looked at.

    Raises:
        RuntimeError: it is entered within another such block.
    """
    kept = Recorded()
    ticks = itertools.count(FIRST_NS, TICK_NS)
    pipeline = _InMemory(kept, capture or CaptureLimits(), clock_ns or (lambda: next(ticks)))
    with tracing.installed(pipeline):
        yield kept


class _InMemory(tracing.Pipeline):
    """A pipeline that keeps what it is given."""

    def __init__(self, kept: Recorded, capture: CaptureLimits, clock_ns: Callable[[], int]) -> None:
        # Nothing of the real one is built: no spool, no shipper, no thread, no random ids.
        self.config = Config(capture=capture)
        self.producer_id = PRODUCER_ID
        self.redactor = None
        self.shipper = cast("Any", _Delivered())
        self._kept = kept
        self._clock_ns = clock_ns
        self._numbers = itertools.count(1)
        self._ids = cast("Any", _Counted())

    def admit(self) -> None:
        """Memory has room."""

    def next_number(self) -> int:
        return next(self._numbers)

    def start(
        self,
        name: str,
        context: Context,
        attributes: dict[str, AnyValue],
        links: Sequence[Link],
        own: tuple[int, int] | None = None,
    ) -> Span:
        span = super().start(name, context, attributes, links, own)
        if isinstance(span, LiveSpan):
            span.start_time = self._clock_ns()
        return span

    def hand_over(self, span: LiveSpan) -> None:
        self._kept._add(span, span.start_time, self._clock_ns())  # noqa: SLF001 - the two halves of one recorder

    def abandon(self) -> None:
        """A forked child keeps what it was given, in its own memory."""


class _Unspooled:
    """There is no spool for a start to be noted in."""

    def started(self, _span: LiveSpan) -> None:
        pass


class _Delivered:
    """What is kept in memory has arrived."""

    writer = _Unspooled()

    def flush(self, _timeout_s: float) -> bool:
        return True

    def drain(self, _timeout_s: float) -> bool:
        return True

    def close(self, _timeout_s: float) -> bool:
        return True

    def finish(self, _timeout_s: float) -> Remains:
        return Remains(waiting=0, absent=False, folder=Path())


class _Counted:
    """Ids that count from one."""

    def __init__(self) -> None:
        self._traces = itertools.count(1)
        self._spans = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._spans)

    def generate_trace_id(self) -> int:
        return next(self._traces)


def _is_decision(span: LiveSpan) -> bool:
    return Key.RECORD_VERSION in (span.attributes or {})


def _id(span: LiveSpan) -> str:
    context = span.get_span_context()
    return format_decision_id(context.trace_id, context.span_id)


def _owners(spans: Sequence[LiveSpan]) -> dict[str, str]:
    """The decision that each step ran in."""
    by_id = {_id(span): span for span in spans}
    owners: dict[str, str] = {}
    for span in spans:
        if _is_decision(span):
            continue
        above = span
        while above.parent is not None:
            parent = by_id.get(format_decision_id(above.parent.trace_id, above.parent.span_id))
            if parent is None:
                break
            if _is_decision(parent):
                owners[_id(span)] = _id(parent)
                break
            above = parent
    return owners


def _status(span: LiveSpan) -> str | None:
    return {StatusCode.OK: "ok", StatusCode.ERROR: "error"}.get(span.status.status_code)


def _json(attributes: Mapping[str, Any], *keys: str) -> Any:
    text = next((attributes[key] for key in keys if key in attributes), None)
    return None if text is None else json.loads(text)


def _step(span: LiveSpan) -> RecordedStep:
    said: dict[str, Any] = dict(span.attributes or {})
    return RecordedStep(
        name=said.get(Key.TOOL_NAME) or said.get(Key.STEP_NAME) or span.name,
        effect=said.get(Key.TOOL_EFFECT),
        status=_status(span),
        input=_json(said, Key.STEP_INPUT, Key.TOOL_ARGUMENTS),
        output=_json(said, Key.STEP_OUTPUT, Key.TOOL_RESULT),
        error_type=said.get(Key.ERROR_TYPE),
    )


def _decision(span: LiveSpan, started_ns: int, ended_ns: int) -> RecordedDecision:
    said: dict[str, Any] = dict(span.attributes or {})
    context = span.get_span_context()
    values: dict[str, Any] = {path: said.get(key) for key, path in _TEXTS.items()}
    parent = span.parent
    parameters = _json(said, Key.MODEL_PARAMETERS) or {}
    named = _below(said, Key.REQUEST_PREFIX, leave=Key.REQUEST_MODEL)
    variables = _below(said, Key.PROMPT_VARIABLE_PREFIX)
    values |= {
        "decision_id": _id(span),
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": None if parent is None else f"{parent.span_id:016x}",
        "kind": "decision",
        "dialect": "loopgrid",
        "service_name": None,
        "status": _status(span),
        "input": _json(said, Key.DECISION_INPUT),
        "output": _json(said, Key.DECISION_OUTPUT),
        "prompt.variables": variables or None,
        "model.parameters": {**parameters, **named} or None,
        "finish_reasons": _list(said.get(Key.FINISH_REASONS)),
        "error.message": span.status.description if _status(span) == "error" else None,
        "tags": _list(said.get(Key.TAGS)),
        "metadata": {**_below(said, Key.BUSINESS_KEY_PREFIX), **_below(said, Key.METADATA_PREFIX)} or None,
        "started_at": datetime.fromtimestamp(started_ns / _NS_PER_S, UTC).isoformat(),
        "duration_ms": (ended_ns - started_ns) / _NS_PER_MS,
        "lossiness": _list(said.get(Key.LOSSINESS)),
        "model_source": _stated(values, "model.provider", "model.name"),
        "usage_source": _stated(values, *(path for path in values if path.startswith("usage."))),
        "cost_usd": None,
    }
    shown = RecordedDecision(attributes=said)
    for field in FIELDS:
        if field.column in _FROM_LEDGER:
            continue
        *parents, leaf = field.path.split(".")
        place: dict[str, Any] = shown
        for name in parents:
            place = place.setdefault(name, {})
        place[leaf] = values[field.path]
    return shown


def _stated(values: Mapping[str, Any], *paths: str) -> str | None:
    """As the ledger has it; what a decision would take from its steps is not reckoned here."""
    return "stated" if any(values[path] is not None for path in paths) else None


def _below(said: Mapping[str, Any], prefix: str, leave: str = "") -> dict[str, Any]:
    return {
        key[len(prefix) :]: value for key, value in said.items() if key.startswith(prefix) and key != leave
    }


def _list(value: Any) -> list[str] | None:
    return None if value is None else list(value)
