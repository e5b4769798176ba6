"""The one pipeline of this process: ids, sequence, settings, spool and shipper.

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, TraceFlags, get_current_span
from opentelemetry.util.types import AnyValue

from loopgrid import encode
from loopgrid.config import CaptureLimits, Config, DeliveryLimits
from loopgrid.errors import Misconfigured
from loopgrid.health import Count, health, logger, where
from loopgrid.live import LiveSpan
from loopgrid.mirror import Mirror, mirror_of
from loopgrid.redaction import Redaction
from loopgrid.schema import Key
from loopgrid.version import version

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import TracerProvider

SCOPE: Final = "loopgrid"
SEGMENT_AGE_SHARE: Final = 1 / 16
"""Share of `max_spool_age_s` after which the spool begins another file."""
_SAMPLED_AND_RANDOM: Final = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)


class _OwnIds:
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


class Pipeline:
    """One producer: an id, a sequence, a spool, a shipper.

    Attributes:
        config: the settings it was built from.
        producer_id: `service.instance.id`, a UUID.
        shipper: where ended decisions go.
        redactor: what takes out of a span what must not leave; None where nothing is taken out.
    """

    def __init__(self, config: Config, mirror: Mirror | None = None) -> None:
        # The first decision pays for what an import need not: half of `import loopgrid` would be these.
        with encode.imports:
            from loopgrid.shipper import Shipper  # noqa: PLC0415
            from loopgrid.spool import Writing  # noqa: PLC0415

        self.config = config
        self.producer_id = str(uuid.uuid4())
        root = checked_spool_dir(config)
        limits = config.delivery
        writing = Writing(
            root, self.producer_id, config.endpoint, limits.max_segment_bytes,
            limits.max_spool_age_s * SEGMENT_AGE_SHARE,
        )  # fmt: skip
        resource = _resource(config, self.producer_id)
        self.redactor = _redactor(config)
        redact = None if self.redactor is None else self.redactor.span
        group = self.surroundings(resource.attributes, (SCOPE, version(), None))
        self.shipper = Shipper(config, health, writing, group, self.producer_id, redact)
        self._mirror = mirror
        self._call_flush_s = limits.call_flush_s
        self._process_id = os.getpid()
        self._numbers = itertools.count(1)
        self._ids = _OwnIds()

    def surroundings(
        self, resource: Mapping[str, Any], scope: tuple[str, str | None, Mapping[str, Any] | None] | None
    ) -> tuple[bytes, bytes]:
        """Resource and scope as they may leave."""
        return encode.surroundings(resource, scope, self.redactor, health)

    def admit(self) -> None:
        """Let a decision begin.

        Raises:
            SpoolFull: it could not be kept, and who chose `when_full="raise"` does not act without a record.
        """
        writer = self.shipper.writer
        if writer.refuses():
            health.trouble(Count.TURNED_AWAY, "the spool is full, so calls are refused before they run")
            raise writer.full()

    def next_number(self) -> int:
        """The next `loopgrid.producer.seq`; one that never arrives leaves a gap once a later one arrives."""
        health.tick()
        return next(self._numbers)

    def start(
        self,
        name: str,
        context: Context,
        attributes: dict[str, AnyValue],
        links: Sequence[Link],
        own: tuple[int, int] | None = None,
    ) -> Span:
        """Start the span of a decision in the given context.

        Where the context holds a span, it is the parent, and its trace's sampled flag is passed on unchanged.
        Where it holds none, `own` may say the trace and span id.
        """
        parent: SpanContext | None = get_current_span(context).get_span_context()
        if parent is None or not parent.is_valid:
            parent = None
            trace_id, span_id = own or (self._ids.generate_trace_id(), self._ids.generate_span_id())
            known = SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED_AND_RANDOM)
        else:
            known = SpanContext(
                parent.trace_id, self._ids.generate_span_id(), is_remote=False,
                trace_flags=parent.trace_flags, trace_state=parent.trace_state,
            )  # fmt: skip
        span = LiveSpan(name, known, parent, attributes, links, self.hand_over)
        self.shipper.writer.started(span)
        return span

    def hand_over(self, span: LiveSpan) -> None:
        """Give an ended span to the shipper.

        A decision that was open when the process forked ends twice: the parent's copy is the decision, the
        child's would be a second span with the same ids.
        """
        if os.getpid() == self._process_id:
            try:
                self.shipper.put(span)
                if self._call_flush_s and (span.parent is None or span.parent.is_remote):
                    self.shipper.drain(self._call_flush_s, patient=False)
            finally:
                if self._mirror is not None:
                    self._mirror.show(span)

    def abandon(self) -> None:
        """In a forked child: let go of what the parent goes on with."""
        self.shipper.abandon()


def checked_spool_dir(config: Config) -> Path:
    """The folder of the spool, made if absent and seen to be writable.

    Raises:
        Misconfigured: none of the folders it may use can be written.
    """
    import tempfile  # noqa: PLC0415 - as the pipeline's own imports

    reasons = []
    for name in config.spool_dirs:
        folder = Path(name).expanduser().absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror})")
    raise Misconfigured(
        f"the spool folder cannot be written: {', '.join(reasons)}. Without it decisions would be lost when "
        "the process is killed; make it writable, or name another with LOOPGRID_SPOOL_DIR or "
        "loopgrid.configure(spool_dir=…)"
    )


def _redactor(config: Config) -> encode.Redacting | None:
    if config.redact is None:
        return None
    with encode.imports:
        from loopgrid.redact import Redactor  # noqa: PLC0415 - who redacts nothing does not pay for it

    return Redactor(config.redact)


def _resource(config: Config, producer_id: str) -> Resource:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as the pipeline's own imports

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
        self.mirror: Mirror | None = None
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
        encode.imports.release()
        self.lock = threading.RLock()
        if self.pipeline is not None:
            self.pipeline.abandon()
        self.pipeline = None
        health.reset()


_process: Final = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=encode.imports.acquire,
        after_in_parent=encode.imports.release,
        after_in_child=_process.after_fork_in_child,
    )


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
            _process.adopt(Pipeline(config, _process.mirror))
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
    spool_dir: str | None = None,
    durability: Literal["async", "sync"] | None = None,
    when_full: Literal["block", "raise", "drop"] | None = None,
    mirror: TracerProvider | None = None,
    capture: CaptureLimits | None = None,
    delivery: DeliveryLimits | None = None,
    redact: Redaction | None = None,
) -> None:
    """Set how this process records decisions. Call it once, before the first decision.

    What is left out comes from the environment (docs/settings.md) or has its default. Called again, it
    first delivers what was
    recorded under the old settings, within their `exit_flush_s`.

    Args:
        endpoint: URL of the LoopGrid server, for example `http://127.0.0.1:8000`.
        service_name: `service.name` of this process.
        api_key: key sent to the server.
        disabled: True runs decorated functions as if they were not decorated.
        spool_dir: folder of the durable queue, where decisions wait until the server has them.
        durability: `async` puts a decision on disk within 100 ms; with `sync` the decorated call returns
            after it is there.
        when_full: what happens to a decision that has no room: `block` waits `full_wait_s`, then drops and
            counts it; `drop` counts it; `raise` raises `loopgrid.errors.SpoolFull` out of the decorated call,
            before the function runs where the spool is full already.
        mirror: a tracer provider of OpenTelemetry's SDK that is shown every decision, too.
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
        spool_dirs=None if spool_dir is None else (spool_dir,),
        durability=durability,
        when_full=when_full,
        capture=capture,
        delivery=delivery,
        redact=redact,
    )
    if _process.installed:
        # A test of the program keeps its decisions in memory, whatever the program says.
        return
    if not config.disabled:
        checked_spool_dir(config)
    shown = None if mirror is None else mirror_of(mirror)
    with _process.lock:
        old, _process.pipeline = _process.pipeline, None
        _process.config = config
        _process.mirror = shown
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
        was acknowledged by the collector. False does not mean lost: what is still on its way stays in the
        spool. Once one is lost or refused for good this stays False; `counters` says why.
    """
    pipeline = _process.pipeline
    return pipeline is None or pipeline.shipper.flush(timeout_s)


def recover(timeout_s: float = 60.0) -> bool:
    """Send what ended processes left in the spool, and wait for the answer.

    Any process that records does this in the background; call it where a short one shall not end before.

    Args:
        timeout_s: seconds to wait at most.

    Returns:
        True if nothing of an ended process waits any more.
    """
    pipeline = active()
    return pipeline is None or pipeline.shipper.recover(timeout_s)


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
        if remains.waiting:
            what = "1 decision waits" if remains.waiting == 1 else f"{remains.waiting} decisions wait"
            logger.warning(
                "LoopGrid: %s in %s for the next start: %s",
                what,
                remains.folder,
                f"no server listens at {endpoint}; start one with `loopgrid serve`, or set LOOPGRID_ENDPOINT"
                if remains.absent
                else f"the process ends and {endpoint} has not acknowledged within {timeout_s:g} s",
            )
    except RuntimeError as error:
        logger.warning("decisions may be lost at the end of the process: %s", where(error))
