"""The fixture `loopgrid_decisions`: write `pytest_plugins = ["loopgrid.pytest_plugin"]` in `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loopgrid.testing import Recorded, recorded


@pytest.fixture
def loopgrid_decisions() -> Iterator[Recorded]:
    """The decisions of this test, in memory: nothing is sent, ids and times are the same in every run."""
    with recorded() as decisions:
        yield decisions
