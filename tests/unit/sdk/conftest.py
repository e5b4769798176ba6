"""A process that has decided nothing yet, and a collector on a real socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

import loopgrid
from loopgrid import tracing
from loopgrid.config import DeliveryLimits
from loopgrid.health import health
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan

QUICK = DeliveryLimits(
    linger_s=0.0,
    full_wait_s=0.05,
    request_timeout_s=5.0,
    first_backoff_s=0.001,
    max_backoff_s=0.01,
    exit_flush_s=5.0,
)


@pytest.fixture(autouse=True)
def fresh_process(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every test starts as a process does: no settings, no pipeline, nothing counted."""
    caplog.set_level(logging.WARNING, "loopgrid")
    health.reset()
    yield
    pipeline = tracing._process.pipeline
    if pipeline is not None:
        pipeline.shipper.close(0.0)
        for thread in (pipeline.shipper.writer._thread, pipeline.shipper._thread):
            if thread is not None:
                # What it still counts must not be counted in the next test.
                thread.join(20)
    tracing._process.pipeline = None
    tracing._process.config = None
    tracing._process.mirror = None
    health.reset()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """A collector."""
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def recording(receiver: OtlpReceiver, fresh_process: None) -> Iterator[OtlpReceiver]:
    """A collector to which this process sends its decisions."""
    loopgrid.configure(endpoint=receiver.url, service_name="test-service", delivery=QUICK)
    yield receiver
    loopgrid.shutdown(0.5)


@pytest.fixture
def decided(recording: OtlpReceiver) -> Callable[[], ReceivedSpan]:
    """The one decision that was recorded so far."""

    def one() -> ReceivedSpan:
        assert loopgrid.flush(10)
        (span,) = recording.spans
        return span

    return one
