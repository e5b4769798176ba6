"""A deciding process killed at any moment keeps what it promised; the long run is `tests.crash.emit_kill`."""

from __future__ import annotations

import random

import pytest

from tests.crash.emit_kill import one_round

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("collector_up", [True, False])
@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_process_loses_nothing_it_promised_and_leaves_no_hole(
    tmp_path, durability, collector_up, seed
):
    found = one_round(tmp_path, durability, random.Random(seed), collector_up=collector_up)

    assert (found.lost, found.holes) == ([], 0)
