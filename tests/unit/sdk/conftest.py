"""A process that has decided nothing yet, and a collector on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import loopgrid
from loopgrid.config import DeliveryLimits
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan

QUICK = DeliveryLimits(
    linger_s=0.0,
    full_wait_s=0.05,
    request_timeout_s=5.0,
    first_backoff_s=0.001,
    max_backoff_s=0.01,
    exit_flush_s=5.0,
)


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
