"""The filter before the look-up never forgets a key, and hardly ever suspects a new one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def test_keys_that_differ_in_one_bit_do_not_collide() -> None:
    trace = bytes(15)
    keys = [(trace + bytes([a]), b) for a in range(256) for b in range(256)]

    assert len(keys) == len(np.unique(marks(keys)))
