"""The life of one span that LoopGrid opens: started, made current, annotated and always ended.

Laws:

* A failure in LoopGrid costs the record, never the call. `guarded` is the one boundary: it counts the
  failure and logs its cause once, without payload. KeyboardInterrupt, SystemExit and their like pass: they
  are meant for the application.
* Context is attached while the application's code runs inside, and detached before control goes back: at the
  end of a call, and before each `yield`.
* It ends once, and says how: with a result (OK), an exception (ERROR), or unfinished, which is neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass, field
from typing import ClassVar, Final, ParamSpec, Protocol, TypeVar

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, Span, Status, StatusCode
from opentelemetry.util.types import AnyValue

from loopgrid.capture import Losses, capture, text
from loopgrid.chunks import Chunks
from loopgrid.config import CaptureLimits, Config
from loopgrid.errors import SpoolFull
from loopgrid.health import Count, health, where
from loopgrid.schema import Key

P = ParamSpec("P")
R = TypeVar("R")

ABANDONED: Final = "abandoned"
"""Nobody consumed it to its end, and nothing refers to it any more."""
CLOSED_EARLY: Final = "closed"
"""Whoever consumed it closed it before its end."""


class Producer(Protocol):
    """What a life needs of the pipeline: numbers and spans."""

    @property
    def config(self) -> Config:
        """The settings it was built from."""

    @property
    def producer_id(self) -> str:
        """`service.instance.id`."""

    def next_number(self) -> int:
        """The next `loopgrid.producer.seq`."""

    def start(
        self,
        name: str,
        context: Context,
        attributes: dict[str, AnyValue],
        links: Sequence[Link],
        own: tuple[int, int] | None = None,
    ) -> Span:
        """Start a span in the given context; the first of a trace may be given its ids."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """A prompt as the record names it; the same three values are the same prompt."""

    name: str
    version: str | None
    template: str


@dataclass(slots=True)
class Opening:
    """What is known of a call before its function runs."""

    attributes: dict[str, AnyValue] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)
    prompt: PromptFacts | None = None
    late: Callable[[], Mapping[str, AnyValue]] | None = None
    """Attributes that may be known by the end only."""


def guarded(what: Count, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Run a part of LoopGrid; if it fails, count that and return None."""
    try:
        return action(*args, **kwargs)
    except SpoolFull:
        # The settings ask for it to be raised (`when_full="raise"`).
        raise
    except Exception as error:  # noqa: BLE001 - the one boundary between our failures and the application
        health.trouble(what, f"LoopGrid failed and the record suffers, the call does not: {where(error)}")
        return None


class Life:
    """One open span. Without a span (recording is disabled, or opening failed) every method does nothing."""

    __slots__ = ("__weakref__", "_ended", "_inside", "_limits", "_losses", "_span", "vague")

    output_key: ClassVar[str] = Key.STEP_OUTPUT
    """Attribute that carries what was returned."""

    def __init__(
        self, span: Span | None, opening: Opening, limits: CaptureLimits, inside: Context | None = None
    ) -> None:
        self._span = span
        self._limits = limits
        self._losses = opening.losses
        self._inside = inside
        self._ended = False
        self.vague = False
        """Whether no hint could restore what is returned: a type that JSON does not keep is noted then."""

    @property
    def recording(self) -> bool:
        """Whether what happens inside is recorded."""
        return self._span is not None and not self._ended

    def enter(self) -> Token[Context] | None:
        """Make the span current; the token undoes that."""
        return None if self._inside is None else attach(self._inside)

    @staticmethod
    def leave(token: Token[Context] | None) -> None:
        """Make current what was so before `enter`."""
        if token is not None:
            detach(token)

    def pause(self, token: Token[Context] | None) -> None:
        """`leave`, to enter again later: what the code inside made current by then will be so again."""
        if token is not None:
            if not self._ended:
                self._inside = get_current()
            detach(token)

    def chunks(self, reduce: Callable[[list[object]], object] | None) -> Chunks:
        """An empty record of what this call will yield."""
        return Chunks("output", self._limits, self._losses, reduce)

    def answered(self, span_id: str) -> None:
        """Say that the call was not made: a replay answered it from the record of another span."""
        span = self._span
        if span is not None and not self._ended:
            guarded(Count.OUTPUT_FAILED, span.set_attribute, Key.STEP_FROM_RECORD, span_id)

    def succeed(self, output: object) -> None:
        """End it with what its function returned."""
        span = self._span
        if span is None or self._ended:
            return
        if guarded(Count.OUTPUT_FAILED, self._record, span, self.output_key, output) is None:
            self._losses.note("output", "failed")
        self._end(span, Status(StatusCode.OK))

    def fail(self, error: BaseException, chunks: Chunks | None = None) -> None:
        """End it with the exception its function raised, and what had been yielded until then."""
        span = self._span
        if span is None or self._ended:
            return
        if chunks is not None and chunks.count:
            guarded(Count.OUTPUT_FAILED, self._record_chunks, span, chunks)
        guarded(Count.OUTPUT_FAILED, span.set_attribute, Key.ERROR_TYPE, error_type(error))
        message = guarded(Count.OUTPUT_FAILED, self._message_of, error)
        # What the function raised comes first; that the record is lost is counted.
        with contextlib.suppress(SpoolFull):
            self._end(span, Status(StatusCode.ERROR, message))

    def complete(self, chunks: Chunks, returned: object = None) -> None:
        """End it after its last chunk."""
        span = self._span
        if span is None or self._ended:
            return
        if guarded(Count.OUTPUT_FAILED, self._record_chunks, span, chunks) is None:
            self._losses.note("output", "failed")
        if returned is not None:
            guarded(Count.OUTPUT_FAILED, self._record, span, Key.DECISION_RETURNED, returned)
        self._end(span, Status(StatusCode.OK))

    def abandon(self, how: str, chunks: Chunks | None = None) -> None:
        """End it unfinished, neither OK nor failed; `lossiness` says how."""
        span = self._span
        if span is None or self._ended:
            return
        if chunks is not None:
            guarded(Count.OUTPUT_FAILED, self._record_chunks, span, chunks)
        self._losses.note("output", f"incomplete:{how}", first=True)
        # Nobody stands at the end of what is closed or dropped to be told.
        with contextlib.suppress(SpoolFull):
            self._end(span, None)

    def _record(self, span: Span, key: str, output: object) -> bool:
        span.set_attribute(key, capture(output, "output", self._limits, self._losses, vague=self.vague))
        return True

    def _record_chunks(self, span: Span, chunks: Chunks) -> bool:
        span.set_attribute(self.output_key, chunks.written())
        return True

    def _message_of(self, error: BaseException) -> str:
        return text(str(error), "error.message", self._limits.max_message_bytes, self._losses)

    def _end(self, span: Span, status: Status | None) -> None:
        self._ended = True
        # The context holds this object: the cycle is cut here, not left to the collector of garbage.
        self._inside = None
        guarded(Count.END_FAILED, self._close, span, status)

    def _close(self, span: Span, status: Status | None) -> None:
        losses = self._losses.entries(self._limits.max_losses)
        if losses:
            span.set_attribute(Key.LOSSINESS, losses)
        if status is not None:
            span.set_status(status)
        span.end()


def error_type(error: BaseException) -> str:
    """`error.type` of an exception: its class with its module, bare for builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
