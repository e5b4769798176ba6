"""Our own tracer provider, and the one pipeline of this process.

Laws:

* The application's global provider, sampler, limits and random numbers are never touched. Context is
  shared, so parents and children connect across providers.
* Every decision is recorded, whatever a sampler decided for the trace it runs in; the sampled flag of that
  trace is passed on unchanged.
* `OTEL_SDK_DISABLED` silences telemetry. A decision record is not telemetry: only `LOOPGRID_DISABLED` (or
  `configure(disabled=True)`) stops it.
* `service.instance.id` is ours, one per process, also after a fork: the sequence counts within it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, AlwaysRecordSampler, ParentBased
from opentelemetry.trace import Link, Span
from opentelemetry.util.types import AnyValue

from loopgrid.config import CaptureLimits, Config, DeliveryLimits
from loopgrid.health import Count, health, logger, where
from loopgrid.redaction import Redaction
from loopgrid.schema import Key
from loopgrid.shipper import Shipper
from loopgrid.version import version

SPAN_LIMITS: Final = SpanLimits(
    max_attributes=SpanLimits.UNSET,
    max_events=1024,
    max_links=1024,
    max_span_attributes=1024,
    max_event_attributes=128,
    max_link_attributes=128,
    max_attribute_length=SpanLimits.UNSET,
    max_span_attribute_length=SpanLimits.UNSET,
)
"""Wider than `CaptureLimits` can fill, so that the SDK, which evicts the oldest keys, never evicts. All are
given, so that no `OTEL_*_LIMIT` variable of the application cuts a record."""


class _OwnIds(IdGenerator):
    """Ids from a generator of our own.

    The SDK's draws from the global `random`: an application that seeds it would get the same ids twice, which
    the ledger takes for the same decision, and would get other random numbers with LoopGrid than without.
    """

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(32))  # noqa: S311 - unique, not secret

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        return True


class _Provider(TracerProvider):
    """A provider that `OTEL_SDK_DISABLED` does not silence (see the laws above)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._disabled = False


class Pipeline:
    """One producer: an id, a sequence, a tracer, a shipper.

    Attributes:
        config: the settings it was built from.
        producer_id: `service.instance.id`, a UUID.
        shipper: where ended decisions go.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.producer_id = str(uuid.uuid4())
        self.shipper = Shipper(config, health)
        self._process_id = os.getpid()
        self._numbers = itertools.count(1)
        provider = _Provider(
            sampler=AlwaysRecordSampler(ParentBased(ALWAYS_ON)),
            resource=_resource(config, self.producer_id),
            shutdown_on_exit=False,
            id_generator=_OwnIds(),
            span_limits=SPAN_LIMITS,
        )
        provider.add_span_processor(_HandOver(self))
        self._tracer = provider.get_tracer("loopgrid", version())

    def next_number(self) -> int:
        """The next `loopgrid.producer.seq`; one that never arrives leaves a gap once a later one arrives."""
        health.count(Count.STARTED)
        return next(self._numbers)

    def start(
        self, name: str, context: Context, attributes: dict[str, AnyValue], links: Sequence[Link]
    ) -> Span:
        """Start the span of a decision in the given context."""
        return self._tracer.start_span(name, context=context, attributes=attributes, links=links)

    def hand_over(self, span: ReadableSpan) -> None:
        """Give an ended span to the shipper.

        A decision that was open when the process forked ends twice: the parent's copy is the decision, the
        child's would be a second span with the same ids.
        """
        if os.getpid() == self._process_id:
            self.shipper.put(span)


class _HandOver(SpanProcessor):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def on_end(self, span: ReadableSpan) -> None:
        self._pipeline.hand_over(span)


def _resource(config: Config, producer_id: str) -> Resource:
    # Resource.create adds what the application says in OTEL_RESOURCE_ATTRIBUTES; ours wins.
    attributes = {"service.instance.id": producer_id}
    if config.service_name is not None:
        attributes[Key.SERVICE_NAME] = config.service_name
    return Resource.create(attributes)


class _Process:
    """The pipeline of this process: built at the first decision, dropped by a fork."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.config: Config | None = None
        self.pipeline: Pipeline | None = None
        self.exit_registered = False
        self.suspended = 0
        self.installed = False

    def adopt(self, pipeline: Pipeline) -> None:
        """Keep the pipeline, unless a signal handler made one while this one was being made."""
        if self.pipeline is None:
            self.pipeline = pipeline

    def after_fork_in_child(self) -> None:
        # The parent sends what it holds. Its lock may be held in this copy, its sockets are shared and its
        # thread is gone: everything is made anew, with a producer id of its own, at the next decision.
        self.lock = threading.RLock()
        self.pipeline = None
        health.reset()


_process: Final = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork_in_child)


def settings() -> Config:
    """The settings in force; the environment is read the first time they are needed.

    Raises:
        Misconfigured: the environment holds a value that cannot be meant.
    """
    config = _process.config
    if config is None:
        config = _process.config = Config.from_env(os.environ)
    return config


def active() -> Pipeline | None:
    """The pipeline of this process, or None where recording is disabled or suspended.

    Raises:
        Misconfigured: the environment holds a value that cannot be meant.
    """
    if _process.suspended:
        return None
    pipeline = _process.pipeline
    if pipeline is not None:
        return pipeline
    config = settings()
    if config.disabled:
        return None
    with _process.lock:
        if _process.pipeline is None:
            _process.adopt(Pipeline(config))
            if not _process.exit_registered:
                _process.exit_registered = True
                atexit.register(_at_exit)
        return _process.pipeline


def configure(
    *,
    endpoint: str | None = None,
    service_name: str | None = None,
    api_key: str | None = None,
    disabled: bool | None = None,
    capture: CaptureLimits | None = None,
    delivery: DeliveryLimits | None = None,
    redact: Redaction | None = None,
) -> None:
    """Set how this process records decisions. Call it once, before the first decision.

    What is left out comes from the environment (`LOOPGRID_ENDPOINT`, `LOOPGRID_SERVICE_NAME`,
    `LOOPGRID_API_KEY`, `LOOPGRID_DISABLED`) or has its default. Called again, it first delivers what was
    recorded under the old settings, within their `exit_flush_s`.

    Args:
        endpoint: URL of the LoopGrid server, for example `http://127.0.0.1:8000`.
        service_name: `service.name` of this process.
        api_key: key sent to the server.
        disabled: True runs decorated functions as if they were not decorated.
        capture: limits on what is recorded.
        delivery: limits on how it is sent.
        redact: what is taken out of every span before it leaves this process.

    Raises:
        Misconfigured: a value cannot be meant.
    """
    config = Config.from_env(
        os.environ,
        endpoint=endpoint,
        service_name=service_name,
        api_key=api_key,
        disabled=disabled,
        capture=capture,
        delivery=delivery,
        redact=redact,
    )
    if _process.installed:
        # A test of the program keeps its decisions in memory, whatever the program says.
        return
    with _process.lock:
        old, _process.pipeline = _process.pipeline, None
        _process.config = config
    if old is not None:
        old.shipper.close(old.config.delivery.exit_flush_s)


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Decorated functions called inside, by any thread of the process, run as if they were not decorated.

    For importing a program only to have its functions: what it does on import is no decision to keep.
    """
    with _process.lock:
        _process.suspended += 1
    try:
        yield
    finally:
        with _process.lock:
            _process.suspended -= 1


@contextlib.contextmanager
def installed(pipeline: Pipeline) -> Iterator[None]:
    """Record with this pipeline inside the block, and as before after it.

    Raises:
        RuntimeError: another one is installed.
    """
    with _process.lock:
        if _process.installed:
            raise RuntimeError("decisions are recorded in memory already: leave the block that does so first")
        before = (_process.pipeline, _process.config)
        _process.pipeline, _process.config, _process.installed = pipeline, pipeline.config, True
    try:
        yield
    finally:
        with _process.lock:
            _process.pipeline, _process.config = before
            _process.installed = False


def flush(timeout_s: float = 10.0) -> bool:
    """Send what was recorded and wait for the answer.

    Args:
        timeout_s: seconds to wait at most.

    Returns:
        True only if every decision that ended in this process so far (since the last `configure` or fork)
        was acknowledged by the collector. Once one is lost this stays False; `counters` says why.
    """
    pipeline = _process.pipeline
    return pipeline is None or pipeline.shipper.flush(timeout_s)


def drain(timeout_s: float) -> bool:
    """Wait until everything recorded before this call is delivered or given up; True if that was in time."""
    pipeline = _process.pipeline
    return pipeline is None or pipeline.shipper.drain(timeout_s)


def shutdown(timeout_s: float = 10.0) -> bool:
    """Flush and stop recording. Decisions that end later are counted as lost, until `configure` is called.

    Returns:
        As `flush`.
    """
    pipeline = active()
    return pipeline is None or pipeline.shipper.close(timeout_s)


def _at_exit() -> None:
    # Flushed, not closed: what runs at exit after this may still decide.
    pipeline = _process.pipeline
    if pipeline is None:
        return
    endpoint, timeout_s = pipeline.config.endpoint, pipeline.config.delivery.exit_flush_s
    try:
        remains = pipeline.shipper.finish(timeout_s)
        if remains.lost:
            what, it = (
                ("1 decision is", "it") if remains.lost == 1 else (f"{remains.lost} decisions are", "them")
            )
            logger.warning(
                "LoopGrid: %s lost: %s",
                what,
                f"no server listens at {endpoint}; start one with `loopgrid serve`, or set LOOPGRID_ENDPOINT"
                if remains.absent
                else f"the process ends and {endpoint} has not acknowledged {it} within {timeout_s:g} s",
            )
    except RuntimeError as error:
        logger.warning("decisions may be lost at the end of the process: %s", where(error))
