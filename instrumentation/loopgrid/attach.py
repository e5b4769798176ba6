"""Spans of other instrumentations, through the same spool as decisions.

`attach(provider)` adds a processor to the application's own provider; nothing of the provider is replaced.
What it takes: model, tool, agent and retrieval spans by their attributes, and everything that ran inside a
decision. A span sampled away by the provider never existed; decisions do not depend on that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from opentelemetry import context as contexts

from loopgrid import tracing
from loopgrid.errors import Misconfigured
from loopgrid.health import Count, health, where
from loopgrid.span import is_inside

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

P = ParamSpec("P")
R = TypeVar("R")

PREFIXES: Final = (
    "gen_ai.", "llm.", "openinference.", "traceloop.", "ai.", "mlflow.", "langfuse.", "langsmith.",
    "loopgrid.", "anthropic.", "logfire.", "gcp.vertex.agent.",
)  # fmt: skip
"""Attribute keys by which an instrumentation of model calls shows itself."""
MAX_OPEN: Final = 65_536
"""Open spans remembered to have started inside a decision."""
MAX_GROUPS: Final = 256


class AttachedProcessor:
    """A span processor that hands what concerns decisions to LoopGrid, and never fails its provider."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._lock = threading.Lock()
        self._inside: OrderedDict[int, None] = OrderedDict()
        self._groups: dict[tuple[int, int, int], tuple[Any, Any, Any, tuple[bytes, bytes]]] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember a span that starts inside a decision."""
        if not self._everything and is_inside(parent_context):
            with self._lock:
                self._inside[span.get_span_context().span_id] = None
                while len(self._inside) > MAX_OPEN:
                    self._inside.popitem(last=False)

    def _on_ending(self, span: Span) -> None:
        """OpenTelemetry calls this; there is nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """Hand over a span that concerns decisions."""
        try:
            context = span.get_span_context()
            if context is None:
                return
            inside = False
            if self._inside:
                with self._lock:
                    inside = self._inside.pop(context.span_id, False) is None
            if not (self._everything or inside) and not any(
                key.startswith(PREFIXES) for key in span.attributes or ()
            ):
                return
            pipeline = tracing.active()
            if pipeline is not None:
                pipeline.shipper.put(span, self._group(span, pipeline))
                health.count(Count.ATTACHED)
        except Exception as error:  # noqa: BLE001 - the application's own tracing must not suffer from ours
            health.trouble(Count.ATTACH_FAILED, f"a span of the provider could not be taken: {where(error)}")

    def _group(self, span: ReadableSpan, pipeline: tracing.Pipeline) -> tuple[bytes, bytes]:
        resource, scope = span.resource, span.instrumentation_scope
        key = (id(resource), id(scope), id(pipeline))
        known = self._groups.get(key)
        if known is None:
            described = pipeline.surroundings(
                resource.attributes, (scope.name, scope.version, scope.attributes) if scope else None
            )
            # Kept beside the bytes, so that their addresses are not used again.
            known = (resource, scope, pipeline, described)
            if len(self._groups) >= MAX_GROUPS:
                self._groups.clear()
            self._groups[key] = known
        return known[3]

    def shutdown(self) -> None:
        """The provider ends; LoopGrid goes on."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """As `loopgrid.flush`."""
        return tracing.flush(timeout_millis / 1000)


_attached: Final[list[tuple[object, AttachedProcessor]]] = []


def attach(provider: object = None, *, everything: bool = False) -> None:
    """Carry the spans of other instrumentations through LoopGrid's spool, too.

    Args:
        provider: the application's tracer provider; by default OpenTelemetry's global one. Attaching twice
            is attaching once.
        everything: take every span, not only those that concern decisions.

    Where the application also exports to the same server, nothing is doubled: the ids are the same, and the
    ledger stores a span once.

    Raises:
        Misconfigured: it is no provider that takes span processors.
    """
    if provider is None:
        from opentelemetry.trace import get_tracer_provider  # noqa: PLC0415 - asked for when it is needed

        provider = get_tracer_provider()
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        raise Misconfigured(
            f"loopgrid.attach wants a TracerProvider of opentelemetry.sdk.trace, not a "
            f"{type(provider).__name__}: set one up first, for example with "
            "opentelemetry.trace.set_tracer_provider(TracerProvider())"
        )
    if any(known is provider for known, _ in _attached):
        return
    processor = AttachedProcessor(everything=everything)
    add(processor)
    _attached.append((provider, processor))


def in_context(function: Callable[P, R]) -> Callable[P, R]:
    """The function, bound to the context of this moment: for executors and threads, which do not inherit it.

    `pool.submit(loopgrid.in_context(work), item)` runs `work` inside the decision that is open here.
    """
    captured = contexts.get_current()

    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        token = contexts.attach(captured)
        try:
            return function(*args, **kwargs)
        finally:
            contexts.detach(token)

    return bound


def inject(carrier: dict[str, str] | None = None) -> dict[str, str]:
    """The trace of this moment as W3C headers for another process, written by OpenTelemetry's propagators."""
    # Loading the propagators costs more than all the rest; who does not carry context does not pay.
    from opentelemetry.propagate import inject as write  # noqa: PLC0415

    carried = {} if carrier is None else carrier
    write(carried)
    return carried


def extract(carrier: Mapping[str, str]) -> contexts.Context:
    """The context that `inject` wrote in another process: `opentelemetry.context.attach` makes it current."""
    from opentelemetry.propagate import extract as read  # noqa: PLC0415 - as in `inject`

    return read(dict(carrier))
