"""What every test stands on: no settings from outside, and the real server when one is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from loopgrid import tracing
from loopgrid.health import health
from tests.support.server import RunningServer, running_server

_OUTSIDE = ("LOOPGRID_", "OTEL_", "OPENAI_", "COLUMNS", "LINES")
# The settings of whoever runs the tests are not ours. Done on import, which is before any test
# module is read, so that nothing can pick one up.
for _name in [name for name in os.environ if name.startswith(_OUTSIDE)]:
    del os.environ[_name]

# The same examples in every run, whatever the machine's speed and whatever an earlier run has found: a
# red test is red for everybody. What a search by chance finds becomes an example of its own.
settings.register_profile("loopgrid", derandomize=True, database=None, deadline=None, print_blob=True)
settings.load_profile("loopgrid")


@pytest.fixture(autouse=True)
def own_spool(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test finds what another one left unsent, and none writes to the user's own folder."""
    folder = tmp_path_factory.mktemp("spool")
    monkeypatch.setenv("LOOPGRID_SPOOL_DIR", str(folder))
    return folder


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


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A real `loopgrid serve` of this test's own, with an empty ledger."""
    with running_server(tmp_path) as running:
        yield running
