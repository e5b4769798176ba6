"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.doors import Doors, running


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    """The real server with an empty ledger."""
    with running(tmp_path) as found:
        yield found
