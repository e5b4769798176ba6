"""The filter before the look-up never forgets a key, and hardly ever suspects a new one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.ledger import known as module
from loopgrid_collector.ledger.known import KnownKeys, fingerprints

key = st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1))


def marks(keys: list[tuple[bytes, int]]) -> np.ndarray:
    return fingerprints(b"".join(trace for trace, _ in keys), np.array([span for _, span in keys], np.uint64))


@given(st.lists(st.lists(key, max_size=20), max_size=8), st.lists(key, max_size=20))
def test_every_added_key_is_known_and_no_other(
    batches: list[list[tuple[bytes, int]]], others: list[tuple[bytes, int]]
) -> None:
    known = KnownKeys()
    for batch in batches:
        known.add(marks(batch))
    added = {each for batch in batches for each in batch}

    assert all(known.maybe(marks(batch)).all() for batch in batches if batch)
    assert [each in added for each in others] == known.maybe(marks(others)).tolist()


@pytest.mark.parametrize("asked", [1, 16, 17, 3_000])
def test_what_stands_in_packed_runs_is_known_and_nothing_else(monkeypatch: pytest.MonkeyPatch, asked: int):
    monkeypatch.setattr(module, "RUN_KEYS", 50_000)
    noise = np.random.default_rng(asked)
    fingers = noise.integers(0, 2**64, 270_000, dtype=np.uint64)
    stored, others = fingers[:230_000], fingers[230_000:]
    known = KnownKeys()
    for batch in np.split(stored, 23):
        known.add(batch)

    assert 230_000 == len(known)
    assert all(known.maybe(part).all() for part in np.split(stored, range(asked, len(stored), asked))[:2_000])
    found = sum(
        known.maybe(part).sum() for part in np.split(others, range(asked, len(others), asked))[:2_000]
    )
    assert 0 == found


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60), st.lists(st.integers(0, 2**64 - 1)))
def test_a_packed_run_finds_its_keys_wherever_they_stand(keys: list[int], others: list[int]) -> None:
    """First and last bucket, empty buckets before and after, many in one."""
    near = [each for key in keys for each in (key, key ^ 1 << 20, key >> 48 << 48)]
    run = np.sort(np.array(near, np.uint64))
    packed = module._Packed.of(run)
    kept = {each >> 16 for each in near}

    for asked in (run, run[:3], np.array([*others, *range(20)], np.uint64)):
        assert [int(each) >> 16 in kept for each in asked] == packed.maybe(asked).tolist()


def test_keys_that_differ_in_one_bit_do_not_collide() -> None:
    trace = bytes(15)
    keys = [(trace + bytes([a]), b) for a in range(256) for b in range(256)]

    assert len(keys) == len(np.unique(marks(keys)))
